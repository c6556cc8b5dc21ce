//! The words of a message: templates by language, greetings, segments.
//!
//! Every text was rendered, linted and cut into pieces at its longest values before the first request, so rendering
//! cannot fail for a template that exists, and a text carries its code exactly once and nothing that looks like another
//! one. With [`SmsEncoding::Gsm7`] a text is GSM-7, whatever the name in it.
//!
//! Not a template engine at run time: a text is a concatenation of pieces. The engine would be fast enough (about 1 µs),
//! but it can fail for a value that nobody tried, and it leaves copies of the code behind in its buffers. Pieces cannot
//! fail, and the one copy they make is zeroized.

pub mod autofill;
mod cluster;
pub mod gsm7;
pub mod lint;
pub mod locale;
mod name;
mod prepare;

use std::collections::BTreeMap;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::domain::locale::is_bcp47;
use crate::text::autofill::Autofill;
use crate::text::gsm7::Segments;
use crate::text::lint::{Lint, TextFault};
use crate::text::locale::best_match;
use crate::text::name::greeting_name;
use crate::text::prepare::{Prepared, Values};

const DEFAULT_TEMPLATE: &str = "default";

/// A fourth digit would look like a second code. No code lives that long, and a text that says less is never wrong.
const MINUTES_MAX: u32 = 999;

/// `<template>.<locale>.txt` and its text, as a directory of the operator's has them too.
const BUILT_IN: [(&str, &str); 3] = [
    ("default.es.txt", include_str!("templates/default.es.txt")),
    ("default.en.txt", include_str!("templates/default.en.txt")),
    ("default.pt.txt", include_str!("templates/default.pt.txt")),
];

/// Every text that can be sent, ready to be filled in.
pub struct Texts {
    templates: BTreeMap<String, Template>,
    encoding: SmsEncoding,
    lints: Vec<Lint>,
}

impl Texts {
    /// The built-in texts, and the operator's over them. Every fault of every text is reported at once.
    pub fn built_in(settings: TextSettings) -> Result<Texts, Vec<TextFault>> {
        let mut faults = Vec::new();
        let brand = lint::checked_brand(&settings, &mut faults);
        let mut texts =
            Texts { templates: BTreeMap::new(), encoding: settings.sms_encoding, lints: Vec::new() };
        for ((template, locale), source) in sources(&settings.templates, &mut faults) {
            match lint::linted(&source, &brand, settings.sms_encoding) {
                Ok((prepared, segments)) => {
                    texts.lints.push(Lint { template: template.clone(), locale: locale.clone(), segments });
                    texts.templates.entry(template).or_default().locales.push((locale, prepared));
                }
                Err(problems) => {
                    let place = format!("template {template}.{locale}.txt");
                    faults.extend(problems.into_iter().map(|problem| TextFault::new(&place, problem)));
                }
            }
        }
        if faults.is_empty() {
            texts.choose_fallbacks(&settings.default_locale, &mut faults);
        }
        if faults.is_empty() { Ok(texts) } else { Err(faults) }
    }

    /// Fills a text in. An unusable name greets nobody, an unknown language is answered in the default one.
    pub fn render_sms(&self, text: &SmsText<'_>) -> Result<RenderedSms, UnknownTemplate> {
        let template =
            self.templates.get(text.template.unwrap_or(DEFAULT_TEMPLATE)).ok_or(UnknownTemplate)?;
        let name = text.user_name.and_then(|name| greeting_name(name, self.encoding));
        let values =
            Values { name: name.as_deref(), code: text.code, minutes: text.minutes.min(MINUTES_MAX) };
        let body = template.in_locale(text.locale).fill(&values, text.autofill);
        let segments = gsm7::measure(&body);
        Ok(RenderedSms { body, segments })
    }

    /// Is there a text of this name?
    pub fn has_template(&self, name: &str) -> bool {
        self.templates.contains_key(name)
    }

    /// What each text costs at its longest values, for whoever shows the configuration.
    pub fn lints(&self) -> &[Lint] {
        &self.lints
    }

    fn choose_fallbacks(&mut self, default_locale: &str, faults: &mut Vec<TextFault>) {
        if !is_bcp47(default_locale) {
            return faults.push(TextFault::new("DEFAULT_LOCALE", "is not a language tag (BCP 47)"));
        }
        for (name, template) in &mut self.templates {
            match template.position(default_locale) {
                Some(position) => template.fallback = position,
                None => {
                    faults.push(TextFault::new(
                        "DEFAULT_LOCALE",
                        format!("template {name} has no text for it"),
                    ));
                }
            }
        }
    }
}

/// What texts are made from.
#[derive(Clone, Debug)]
pub struct TextSettings {
    pub brand: String,
    pub sms_encoding: SmsEncoding,
    pub default_locale: String,
    /// The operator's own: each replaces the built-in text of its name and locale, or stands beside it.
    pub templates: Vec<TemplateFile>,
}

/// A template as a file has it: `<template>.<locale>.txt` in MiniJinja's language, with `brand`, `user_name` (none: no
/// greeting), `code` and `minutes`. Of the values a text may only ask whether there is a name and whether it is one
/// minute; anything else is a fault.
#[derive(Clone, Debug)]
pub struct TemplateFile {
    pub name: String,
    pub source: String,
}

/// What an SMS may consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmsEncoding {
    /// Only the GSM alphabet: characters outside of it are folded, names that cannot be are left out.
    Gsm7,
    /// The text as it was written, at whatever it costs.
    Unicode,
}

/// A text to be filled in. It holds a code: no `Debug`.
pub struct SmsText<'a> {
    pub template: Option<&'a str>,
    /// A language tag; [`is_bcp47`] is the caller's check.
    pub locale: Option<&'a str>,
    pub code: &'a str,
    pub user_name: Option<&'a str>,
    pub minutes: u32,
    pub autofill: Option<&'a Autofill>,
}

/// A text ready to be sent. It holds a code: no `Debug`, no `Display`, zeroized when dropped.
pub struct RenderedSms {
    body: Zeroizing<String>,
    segments: Segments,
}

impl RenderedSms {
    /// The text with the code in it: for the provider and the simulation's console.
    pub fn expose(&self) -> &str {
        &self.body
    }

    pub fn segments(&self) -> Segments {
        self.segments
    }
}

/// A request names a template that nobody wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there is no template of this name")]
pub struct UnknownTemplate;

/// One template in every language it is written in.
#[derive(Default)]
struct Template {
    locales: Vec<(String, Prepared)>,
    /// Where the default locale's text is.
    fallback: usize,
}

impl Template {
    fn in_locale(&self, wanted: Option<&str>) -> &Prepared {
        let position = wanted.and_then(|wanted| self.position(wanted)).unwrap_or(self.fallback);
        &self.locales[position].1
    }

    fn position(&self, wanted: &str) -> Option<usize> {
        best_match(wanted, self.locales.iter().map(|(locale, _)| locale.as_str()))
    }
}

/// Every source by template and locale; a file of the operator's comes over the built-in one.
fn sources(files: &[TemplateFile], faults: &mut Vec<TextFault>) -> BTreeMap<(String, String), String> {
    let files = files.iter().map(|file| (file.name.as_str(), file.source.as_str()));
    let mut sources = BTreeMap::new();
    for (file, source) in BUILT_IN.into_iter().chain(files) {
        match lint::template_and_locale(file) {
            Some(key) => {
                sources.insert(key, source.trim_end().to_owned());
            }
            None => faults.push(TextFault::new(
                file,
                "is not named <template>.<locale>.txt with a template of a-z, 0-9, _ and -",
            )),
        }
    }
    sources
}

#[cfg(test)]
mod tests;
