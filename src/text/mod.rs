//! The texts of messages: templates by language, greetings, segments.
//!
//! At the start every text is rendered and checked at its longest values, and cut into pieces. So rendering cannot fail for
//! an existing template, and a text contains its code exactly once and nothing that looks like another code. With
//! [`SmsEncoding::Gsm7`] a text is GSM-7 with any name.
//!
//! At run time a text is a concatenation of pieces. The template engine would be fast enough (about 1 µs), but it can fail
//! for an untested value, and it leaves copies of the code in its buffers. Pieces cannot fail, and their one copy is
//! zeroized.

pub mod autofill;
pub mod email;
mod grapheme;
mod greeting_name;
pub mod gsm7;
pub mod lint;
pub mod locale_match;
mod prepare;
mod rendered;
mod settings;
mod sources;

use std::collections::BTreeMap;

use thiserror::Error;

use crate::domain::channel::Channel;
use crate::domain::language_tag::is_bcp47;
use crate::domain::time_zone::Zone;
use crate::text::autofill::{ANDROID_BYTES_MAX, Autofill};
use crate::text::email::{PreparedEmail, RenderedEmail};
use crate::text::greeting_name::greeting_name;
use crate::text::lint::{Place, TemplateCost, TextError};
use crate::text::locale_match::best_match;
use crate::text::prepare::{Prepared, Values};
pub use crate::text::rendered::{Rendered, RenderedSms, TextValues};
use crate::text::settings::MINUTES_MAX;
pub use crate::text::settings::{SmsEncoding, TemplateFile, TextSettings};
use crate::text::sources::{Key, Source, sources};

const DEFAULT_TEMPLATE: &str = "default";

/// Every text that can be sent, prepared.
pub struct Texts {
    sms: BTreeMap<String, Template<Prepared>>,
    emails: BTreeMap<String, Template<PreparedEmail>>,
    encoding: SmsEncoding,
    default_zone: Zone,
    costs: Vec<TemplateCost>,
}

impl Texts {
    /// The built-in texts, replaced or extended by the operator's. All errors are reported together.
    pub fn built_in(settings: TextSettings) -> Result<Texts, Vec<TextError>> {
        let (texts, errors) = Texts::prepared(settings);
        if errors.is_empty() { Ok(texts) } else { Err(errors) }
    }

    /// The cost of each valid text, and the errors of the others.
    pub fn check(settings: TextSettings) -> (Vec<TemplateCost>, Vec<TextError>) {
        let (texts, errors) = Texts::prepared(settings);
        (texts.costs, errors)
    }

    fn prepared(settings: TextSettings) -> (Texts, Vec<TextError>) {
        let mut errors = Vec::new();
        let brand = lint::checked_brand(&settings, &mut errors);
        let mut texts = Texts {
            sms: BTreeMap::new(),
            emails: BTreeMap::new(),
            encoding: settings.sms_encoding,
            default_zone: settings.default_zone,
            costs: Vec::new(),
        };
        for (key, Source { text, file }) in sources(settings.templates, &mut errors) {
            match texts.add(key, &text, &brand, file.clone()) {
                Ok(cost) => texts.costs.push(cost),
                Err(problems) => {
                    // The built-in texts are valid: only the brand can cause an error in one.
                    let place = file.map_or(Place::Brand, Place::File);
                    errors.extend(problems.into_iter().map(|problem| TextError::new(&place, problem)));
                }
            }
        }
        if errors.is_empty() {
            texts.choose_fallbacks(&settings.default_locale, settings.sends_emails, &mut errors);
        }
        (texts, errors)
    }

    /// Checks a text and adds it, or returns its errors.
    fn add(
        &mut self,
        key: Key,
        text: &str,
        brand: &str,
        file: Option<String>,
    ) -> Result<TemplateCost, Vec<String>> {
        let (channel, template, locale) = key;
        let mut cost = TemplateCost {
            channel,
            template: template.clone(),
            locale: locale.clone(),
            file,
            segments: None,
            android_bytes: 0,
        };
        match channel {
            Channel::Sms => {
                let (prepared, segments) = lint::linted(text, brand, self.encoding)?;
                (cost.segments, cost.android_bytes) = (Some(segments), lint::android_bytes(&prepared));
                self.sms.entry(template).or_default().add(locale, prepared);
            }
            Channel::Email => {
                let prepared = PreparedEmail::new(text, brand, &locale)?;
                self.emails.entry(template).or_default().add(locale, prepared);
            }
        }
        Ok(cost)
    }

    /// Renders a text message, without a greeting for an unusable name, and in the default language for an unknown one.
    pub fn render_sms(&self, text: &TextValues<'_>) -> Result<RenderedSms, UnknownTemplate> {
        let template = self.sms.get(text.template.unwrap_or(DEFAULT_TEMPLATE)).ok_or(UnknownTemplate)?;
        let name = text.user_name.and_then(|name| greeting_name(name, self.encoding));
        let values = Values { name: name.as_deref(), ..self.values(text) };
        let prepared = template.in_locale(text.locale);
        let mut body = prepared.fill(&values, text.autofill);
        if matches!(text.autofill, Some(Autofill::AndroidHash { .. })) && body.len() > ANDROID_BYTES_MAX {
            body = prepared.fill(&Values { name: None, ..values }, text.autofill);
        }
        Ok(RenderedSms::new(body))
    }

    /// Renders an e-mail, likewise.
    pub fn render_email(&self, text: &TextValues<'_>) -> Result<RenderedEmail, UnknownTemplate> {
        let template = self.emails.get(text.template.unwrap_or(DEFAULT_TEMPLATE)).ok_or(UnknownTemplate)?;
        Ok(template.in_locale(text.locale).fill(text.user_name, self.values(text)))
    }

    fn values<'a>(&self, text: &TextValues<'a>) -> Values<'a> {
        Values {
            name: None,
            code: text.code,
            minutes: text.minutes.min(MINUTES_MAX),
            expires_at: text.zone.unwrap_or(&self.default_zone).clock(text.expires_at),
        }
    }

    /// True if the channel has a template of this name.
    pub fn has_template(&self, channel: Channel, name: &str) -> bool {
        match channel {
            Channel::Sms => self.sms.contains_key(name),
            Channel::Email => self.emails.contains_key(name),
        }
    }

    /// The most segments of a text message, in any of its languages; 1 for an unknown template. `None` without text messages.
    pub fn segments_max(&self, template: Option<&str>, autofill: Option<&Autofill>) -> Option<u32> {
        let template = template.unwrap_or(DEFAULT_TEMPLATE);
        let costs = self.costs.iter().filter(|cost| cost.template == template);
        let longest = costs.filter_map(|cost| cost.segments).map(|segments| segments.count).max();
        longest.map(|segments| segments + autofill.map_or(0, Autofill::segments_max))
    }

    /// The cost of each text at its longest values.
    pub fn costs(&self) -> &[TemplateCost] {
        &self.costs
    }

    fn choose_fallbacks(&mut self, default_locale: &str, sends_emails: bool, errors: &mut Vec<TextError>) {
        if !is_bcp47(default_locale) {
            return errors.push(TextError::new(&Place::DefaultLocale, "is not a language tag (BCP 47)"));
        }
        for (name, template) in &mut self.sms {
            if !template.falls_back_to(default_locale) {
                let problem = format!("template {name} has no text for it");
                errors.push(TextError::new(&Place::DefaultLocale, problem));
            }
        }
        for (name, template) in &mut self.emails {
            if !template.falls_back_to(default_locale) && sends_emails {
                let problem =
                    format!("template {name} has no e-mail for it: add {name}.{default_locale}.email.txt");
                errors.push(TextError::new(&Place::DefaultLocale, problem));
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there is no template of this name")]
pub struct UnknownTemplate;

struct Template<T> {
    locales: Vec<(String, T)>,
    /// The position of the default locale.
    fallback: usize,
}

impl<T> Default for Template<T> {
    fn default() -> Template<T> {
        Template { locales: Vec::new(), fallback: 0 }
    }
}

impl<T> Template<T> {
    fn add(&mut self, locale: String, prepared: T) {
        self.locales.push((locale, prepared));
    }

    /// False if there is no text for the default locale.
    fn falls_back_to(&mut self, default_locale: &str) -> bool {
        let position = self.position(default_locale);
        self.fallback = position.unwrap_or(0);
        position.is_some()
    }

    fn in_locale(&self, wanted: Option<&str>) -> &T {
        let position = wanted.and_then(|wanted| self.position(wanted)).unwrap_or(self.fallback);
        &self.locales[position].1
    }

    fn position(&self, wanted: &str) -> Option<usize> {
        best_match(wanted, self.locales.iter().map(|(locale, _)| locale.as_str()))
    }
}

#[cfg(test)]
mod tests;
