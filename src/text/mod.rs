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
pub mod email;
pub mod gsm7;
pub mod lint;
pub mod locale_match;
mod name;
mod prepare;
mod sources;

use std::collections::BTreeMap;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::domain::channel::Channel;
use crate::domain::language_tag::is_bcp47;
use crate::domain::time::UnixMillis;
use crate::domain::zone::Zone;
use crate::text::autofill::Autofill;
use crate::text::email::{EmailText, Mails, RenderedEmail};
use crate::text::gsm7::Segments;
use crate::text::lint::{Lint, Place, TextFault};
use crate::text::locale_match::best_match;
use crate::text::name::greeting_name;
use crate::text::prepare::{Prepared, Values};
use crate::text::sources::{Source, sources};

const DEFAULT_TEMPLATE: &str = "default";

/// A fourth digit would look like a second code. No code lives that long, and a text that says less is never wrong.
const MINUTES_MAX: u32 = 999;

/// Every text that can be sent, ready to be filled in.
pub struct Texts {
    templates: BTreeMap<String, Template>,
    encoding: SmsEncoding,
    default_zone: Zone,
    lints: Vec<Lint>,
    mails: Mails,
}

impl Texts {
    /// The built-in texts, and the operator's over them. Every fault of every text is reported at once.
    pub fn built_in(settings: TextSettings) -> Result<Texts, Vec<TextFault>> {
        let (texts, faults) = Texts::prepared(settings);
        if faults.is_empty() { Ok(texts) } else { Err(faults) }
    }

    /// What each text costs, as far as it is without fault, and every fault of the others.
    pub fn lint(settings: TextSettings) -> (Vec<Lint>, Vec<TextFault>) {
        let (texts, faults) = Texts::prepared(settings);
        (texts.lints, faults)
    }

    fn prepared(settings: TextSettings) -> (Texts, Vec<TextFault>) {
        let mut faults = Vec::new();
        let brand = lint::checked_brand(&settings, &mut faults);
        let mut texts = Texts {
            templates: BTreeMap::new(),
            encoding: settings.sms_encoding,
            default_zone: settings.default_zone,
            lints: Vec::new(),
            mails: Mails::new(&brand, &settings.default_locale),
        };
        for ((template, locale), Source { text, file }) in sources(settings.templates, &mut faults) {
            match lint::linted(&text, &brand, texts.encoding) {
                Ok((prepared, segments)) => {
                    texts.lints.push(Lint {
                        template: template.clone(),
                        locale: locale.clone(),
                        file,
                        segments,
                    });
                    texts.templates.entry(template).or_default().locales.push((locale, prepared));
                }
                Err(problems) => {
                    // The built-in texts are without fault: what is wrong with one of them is what the brand makes of it.
                    let place = file.map_or(Place::Brand, Place::File);
                    faults.extend(problems.into_iter().map(|problem| TextFault::new(&place, problem)));
                }
            }
        }
        if faults.is_empty() {
            texts.choose_fallbacks(&settings.default_locale, &mut faults);
        }
        (texts, faults)
    }

    /// Fills a text in. An unusable name greets nobody, an unknown language is answered in the default one.
    pub fn render_sms(&self, text: &SmsText<'_>) -> Result<RenderedSms, UnknownTemplate> {
        let template =
            self.templates.get(text.template.unwrap_or(DEFAULT_TEMPLATE)).ok_or(UnknownTemplate)?;
        let name = text.user_name.and_then(|name| greeting_name(name, self.encoding));
        let values = Values {
            name: name.as_deref(),
            code: text.code,
            minutes: text.minutes.min(MINUTES_MAX),
            expires_at: text.zone.unwrap_or(&self.default_zone).clock(text.expires_at),
        };
        let body = template.in_locale(text.locale).fill(&values, text.autofill);
        let segments = gsm7::measure(&body);
        Ok(RenderedSms { body, segments })
    }

    /// Is there a text of this name for a channel? E-mails have the default one.
    pub fn has_template(&self, channel: Channel, name: &str) -> bool {
        match channel {
            Channel::Sms => self.templates.contains_key(name),
            Channel::Email => name == DEFAULT_TEMPLATE,
        }
    }

    /// Fills an e-mail in. An unusable name greets nobody, an unknown language is answered in the default one.
    pub fn render_email(&self, text: &EmailText<'_>) -> RenderedEmail {
        self.mails.render(text)
    }

    /// What each text costs at its longest values, for whoever shows the configuration.
    pub fn lints(&self) -> &[Lint] {
        &self.lints
    }

    fn choose_fallbacks(&mut self, default_locale: &str, faults: &mut Vec<TextFault>) {
        if !is_bcp47(default_locale) {
            return faults.push(TextFault::new(&Place::DefaultLocale, "is not a language tag (BCP 47)"));
        }
        for (name, template) in &mut self.templates {
            match template.position(default_locale) {
                Some(position) => template.fallback = position,
                None => {
                    faults.push(TextFault::new(
                        &Place::DefaultLocale,
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
    /// Whose clock goes where a request names none.
    pub default_zone: Zone,
    /// The operator's own: each replaces the built-in text of its name and locale, or stands beside it.
    pub templates: Vec<TemplateFile>,
}

/// A template as a file has it: `<template>.<locale>.txt` in MiniJinja's language, with `brand`, `user_name` (none: no
/// greeting), `code`, `minutes` and `expires_at`, a time of the day. Of the values a text may only ask whether there is a
/// name and whether it is one minute; anything else is a fault.
#[derive(Clone, Debug)]
pub struct TemplateFile {
    pub name: String,
    /// What stands in it, or why it could not be read.
    pub source: Result<String, String>,
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
    /// When the code's life ends.
    pub expires_at: UnixMillis,
    /// Whose clock that is told by.
    pub zone: Option<&'a Zone>,
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

/// A message ready to be sent, by its channel. It holds a code: no `Debug`.
pub enum Rendered {
    /// A text message.
    Sms(RenderedSms),
    /// An e-mail.
    Email(RenderedEmail),
    /// Nothing of ours: the provider writes the text, with a code of its own.
    Elsewhere,
}

impl Rendered {
    /// The plain text with the code in it.
    pub fn expose(&self) -> &str {
        match self {
            Rendered::Sms(sms) => sms.expose(),
            Rendered::Email(mail) => mail.text(),
            Rendered::Elsewhere => "",
        }
    }

    /// How many parts a text message has; an e-mail has none.
    pub fn segments(&self) -> Option<u32> {
        match self {
            Rendered::Sms(sms) => Some(sms.segments().count),
            Rendered::Email(_) | Rendered::Elsewhere => None,
        }
    }

    /// The e-mail, if it is one.
    pub fn mail(&self) -> Option<&RenderedEmail> {
        match self {
            Rendered::Sms(_) | Rendered::Elsewhere => None,
            Rendered::Email(mail) => Some(mail),
        }
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

#[cfg(test)]
mod tests;
