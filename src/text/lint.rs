//! What is checked of a text before it is ever sent.

use minijinja::{Error, Value};

use super::gsm7::{self, Encoding, Segments};
use super::name::NAME_UNITS_MAX;
use super::prepare::{Prepared, Source, Values};
use super::{MINUTES_MAX, SmsEncoding, TextSettings};
use crate::domain::locale::is_bcp47;

/// Longer bodies are refused by the provider (Twilio error 21617).
const CHARS_MAX: usize = 1600;

/// The longest code; its digits appear in no sensible text.
const LONGEST_CODE: &str = "9876543210";

/// Somebody who waits for a code takes this many digits in a row for one, and so do phones.
const CODE_DIGITS_MIN: usize = 4;

/// What a text costs at its longest values: brand as configured, longest name, ten digits, three-digit minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    pub template: String,
    pub locale: String,
    pub segments: Segments,
}

/// What is wrong with a text or a setting, for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct TextFault {
    /// A setting's name, or a template's file.
    pub place: String,
    pub problem: String,
}

impl TextFault {
    pub(super) fn new(place: &str, problem: impl Into<String>) -> TextFault {
        TextFault { place: place.to_owned(), problem: problem.into() }
    }
}

/// The brand, or one that stands in for it so that the templates' own faults are still found.
pub(super) fn checked_brand(settings: &TextSettings, faults: &mut Vec<TextFault>) -> String {
    let brand = settings.brand.trim();
    let folded = gsm7::fold(brand);
    let problem = if brand.is_empty() {
        "is empty"
    } else if brand.chars().any(char::is_control) {
        "contains control characters"
    } else if digit_runs(brand).next().is_some() {
        "contains four digits in a row, which look like a code"
    } else if settings.sms_encoding == SmsEncoding::Gsm7 && !gsm7::is_gsm7(&folded) {
        "cannot be written in GSM-7; set SMS_ENCODING=unicode, or write it in Latin letters"
    } else {
        return brand.to_owned();
    };
    faults.push(TextFault::new("SMS_BRAND", problem));
    "Brand".to_owned()
}

/// Cuts `<template>.<locale>.txt` up.
pub(super) fn template_and_locale(file: &str) -> Option<(String, String)> {
    let (template, locale) = file.strip_suffix(".txt")?.split_once('.')?;
    let named = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    let fits = (1..=32).contains(&template.len()) && template.bytes().all(named) && is_bcp47(locale);
    fits.then(|| (template.to_owned(), locale.to_ascii_lowercase().replace('_', "-")))
}

/// Prepares a text and says what it costs at most, or all that is wrong with it.
pub(super) fn linted(
    source: &str,
    brand: &str,
    encoding: SmsEncoding,
) -> Result<(Prepared, Segments), Vec<String>> {
    let source = Source::parse(source, brand).map_err(|error| vec![explain(&error)])?;
    let prepared = Prepared::new(&source, encoding).map_err(|error| vec![explain(&error)])?;
    let mut problems = Vec::new();
    if prepared.codes() != [1; 4] {
        problems.push("{{ code }} must stand in it exactly once, with and without a name".to_owned());
    }
    let name = longest_name(encoding);
    let mut longest = gsm7::measure("");
    for name in [None, Some("Al"), Some(name.as_str())] {
        for (code, minutes) in [("4321", 1), ("4321", 2), (LONGEST_CODE, 10), (LONGEST_CODE, MINUTES_MAX)] {
            let values = Values { name, code, minutes };
            let body = prepared.fill(&values, None);
            problems.extend(problems_of(&body, code, encoding));
            if !engine_agrees(&source, &values, &body, encoding) {
                problems
                    .push("may only ask whether there is a user_name and whether minutes == 1".to_owned());
            }
            let segments = gsm7::measure(&body);
            if (segments.count, segments.units) > (longest.count, longest.units) {
                longest = segments;
            }
        }
    }
    problems.sort();
    problems.dedup();
    if problems.is_empty() { Ok((prepared, longest)) } else { Err(problems) }
}

/// The name that costs most: outside of GSM-7 where that is allowed, since one such letter makes the text UCS-2.
fn longest_name(encoding: SmsEncoding) -> String {
    let letter = match encoding {
        SmsEncoding::Gsm7 => "M",
        SmsEncoding::Unicode => "Ł",
    };
    letter.repeat(NAME_UNITS_MAX)
}

/// What is wrong with one rendered text.
fn problems_of(body: &str, code: &str, encoding: SmsEncoding) -> Vec<String> {
    let mut problems = Vec::new();
    if digit_runs(body).any(|run| run != code) {
        problems.push(
            "has four or more digits in a row beside the code, which look like a second one".to_owned(),
        );
    }
    if body.chars().count() > CHARS_MAX {
        problems.push(format!("is longer than {CHARS_MAX} characters at its longest values"));
    }
    if encoding == SmsEncoding::Gsm7 && gsm7::measure(body).encoding != Encoding::Gsm7 {
        let foreign = body.chars().find(|&character| !gsm7::is_gsm7(character.encode_utf8(&mut [0; 4])));
        let foreign = foreign.map_or(0, u32::from);
        problems.push(format!(
            "U+{foreign:04X} cannot be written in GSM-7; replace it, or set SMS_ENCODING=unicode"
        ));
    }
    problems
}

/// Whether the pieces say what the engine says: a template that looked at a value would give them away here.
fn engine_agrees(source: &Source<'_>, values: &Values<'_>, body: &str, encoding: SmsEncoding) -> bool {
    let Ok(rendered) = source.render(values.name, values.code, Value::from(values.minutes)) else {
        return false;
    };
    match encoding {
        SmsEncoding::Gsm7 => gsm7::fold(&rendered) == body,
        SmsEncoding::Unicode => rendered == body,
    }
}

/// Runs of digits that are long enough for a code, in any script.
fn digit_runs(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_numeric()).filter(|run| run.chars().count() >= CODE_DIGITS_MIN)
}

fn explain(error: &Error) -> String {
    let line = error.line().map_or(String::new(), |line| format!("line {line}: "));
    match error.detail() {
        Some(detail) => format!("{line}{}: {detail}", error.kind()),
        None => format!("{line}{}", error.kind()),
    }
}
