//! The sources of texts: the built-in ones, replaced or extended by the operator's.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::lint::{Place, TextError};
use super::settings::TemplateFile;
use crate::domain::channel::Channel;
use crate::domain::language_tag::is_bcp47;

/// Files as in the operator's directory: each language has a text message and an e-mail.
pub(super) const BUILT_IN: [(&str, &str); 6] = [
    ("default.es.txt", include_str!("templates/default.es.txt")),
    ("default.en.txt", include_str!("templates/default.en.txt")),
    ("default.pt.txt", include_str!("templates/default.pt.txt")),
    ("default.es.email.txt", include_str!("templates/default.es.email.txt")),
    ("default.en.email.txt", include_str!("templates/default.en.email.txt")),
    ("default.pt.email.txt", include_str!("templates/default.pt.email.txt")),
];

pub(super) struct Source {
    pub(super) text: String,
    /// The operator's file; `None` for a built-in text.
    pub(super) file: Option<String>,
}

/// A text is identified by its channel, template and locale.
pub(super) type Key = (Channel, String, String);

/// Every source. The operator's file replaces a built-in text, but no other file.
pub(super) fn sources(files: Vec<TemplateFile>, errors: &mut Vec<TextError>) -> BTreeMap<Key, Source> {
    let mut sources = BTreeMap::new();
    for (name, text) in BUILT_IN {
        let key = key_of(name).expect("built-in names follow the rule");
        sources.insert(key, Source { text: tidied(text), file: None });
    }
    for TemplateFile { name, source } in files {
        let place = Place::File(name.clone());
        let mut error = |problem: String| errors.push(TextError::new(&place, problem));
        let Some(key) = key_of(&name) else {
            error(
                "is not named <template>.<locale>.txt or <template>.<locale>.email.txt with a template of 1 to 64 of \
                 a-z, 0-9, _ and -"
                    .to_owned(),
            );
            continue;
        };
        let text = match source {
            Ok(text) => tidied(&text),
            Err(problem) => {
                error(problem);
                continue;
            }
        };
        let source = Source { text, file: Some(name) };
        match sources.entry(key) {
            Entry::Occupied(mut taken) => match &taken.get().file {
                Some(other) => error(format!("is of the same template and language as {other}")),
                None => drop(taken.insert(source)),
            },
            Entry::Vacant(free) => drop(free.insert(source)),
        }
    }
    sources
}

/// Splits `<template>.<locale>.txt`, a text message, or `<template>.<locale>.email.txt`. A template's name follows the rule
/// of requests.
pub(super) fn key_of(file: &str) -> Option<Key> {
    let name = file.strip_suffix(".txt")?;
    let (channel, name) = match name.strip_suffix(".email") {
        Some(name) => (Channel::Email, name),
        None => (Channel::Sms, name),
    };
    let (template, locale) = name.split_once('.')?;
    let named = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    let fits = (1..=64).contains(&template.len()) && template.bytes().all(named) && is_bcp47(locale);
    fits.then(|| (channel, template.to_owned(), locale.to_ascii_lowercase().replace('_', "-")))
}

/// Removes the traces of editors: a byte order mark, carriage returns, trailing lines.
fn tidied(text: &str) -> String {
    text.trim_start_matches('\u{feff}').replace("\r\n", "\n").trim_end().to_owned()
}
