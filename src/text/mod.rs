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
use crate::text::email::{EmailValues, Mails, RenderedEmail};
use crate::text::greeting_name::greeting_name;
use crate::text::lint::{Place, TemplateCost, TextError};
use crate::text::locale_match::best_match;
use crate::text::prepare::{Prepared, Values};
pub use crate::text::rendered::{Rendered, RenderedSms, SmsValues};
use crate::text::settings::MINUTES_MAX;
pub use crate::text::settings::{SmsEncoding, TemplateFile, TextSettings};
use crate::text::sources::{Source, sources};

const DEFAULT_TEMPLATE: &str = "default";

/// Every text that can be sent, prepared.
pub struct Texts {
    templates: BTreeMap<String, Template>,
    encoding: SmsEncoding,
    default_zone: Zone,
    costs: Vec<TemplateCost>,
    mails: Mails,
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
            templates: BTreeMap::new(),
            encoding: settings.sms_encoding,
            default_zone: settings.default_zone,
            costs: Vec::new(),
            mails: Mails::new(&brand, &settings.default_locale),
        };
        for ((template, locale), Source { text, file }) in sources(settings.templates, &mut errors) {
            match lint::linted(&text, &brand, texts.encoding) {
                Ok((prepared, segments)) => {
                    texts.costs.push(TemplateCost {
                        template: template.clone(),
                        locale: locale.clone(),
                        file,
                        segments,
                    });
                    texts.templates.entry(template).or_default().locales.push((locale, prepared));
                }
                Err(problems) => {
                    // The built-in texts are valid: only the brand can cause an error in one.
                    let place = file.map_or(Place::Brand, Place::File);
                    errors.extend(problems.into_iter().map(|problem| TextError::new(&place, problem)));
                }
            }
        }
        if errors.is_empty() {
            texts.choose_fallbacks(&settings.default_locale, &mut errors);
        }
        (texts, errors)
    }

    /// Renders a text message, without a greeting for an unusable name, and in the default language for an unknown one.
    pub fn render_sms(&self, text: &SmsValues<'_>) -> Result<RenderedSms, UnknownTemplate> {
        let template =
            self.templates.get(text.template.unwrap_or(DEFAULT_TEMPLATE)).ok_or(UnknownTemplate)?;
        let name = text.user_name.and_then(|name| greeting_name(name, self.encoding));
        let values = Values {
            name: name.as_deref(),
            code: text.code,
            minutes: text.minutes.min(MINUTES_MAX),
            expires_at: text.zone.unwrap_or(&self.default_zone).clock(text.expires_at),
        };
        Ok(RenderedSms::new(template.in_locale(text.locale).fill(&values, text.autofill)))
    }

    /// True if the channel has a template of this name. E-mails have the default one only.
    pub fn has_template(&self, channel: Channel, name: &str) -> bool {
        match channel {
            Channel::Sms => self.templates.contains_key(name),
            Channel::Email => name == DEFAULT_TEMPLATE,
        }
    }

    /// Renders an e-mail, without a greeting for an unusable name, and in the default language for an unknown one.
    pub fn render_email(&self, text: &EmailValues<'_>) -> RenderedEmail {
        self.mails.render(text)
    }

    /// The cost of each text at its longest values.
    pub fn costs(&self) -> &[TemplateCost] {
        &self.costs
    }

    fn choose_fallbacks(&mut self, default_locale: &str, errors: &mut Vec<TextError>) {
        if !is_bcp47(default_locale) {
            return errors.push(TextError::new(&Place::DefaultLocale, "is not a language tag (BCP 47)"));
        }
        for (name, template) in &mut self.templates {
            match template.position(default_locale) {
                Some(position) => template.fallback = position,
                None => {
                    errors.push(TextError::new(
                        &Place::DefaultLocale,
                        format!("template {name} has no text for it"),
                    ));
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there is no template of this name")]
pub struct UnknownTemplate;

#[derive(Default)]
struct Template {
    locales: Vec<(String, Prepared)>,
    /// The position of the default locale.
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
