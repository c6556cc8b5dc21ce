//! Builds the texts of the settings, and reports errors in them.

use anyhow::anyhow;

use crate::config::{ConfigError, Settings, TemplateText};
use crate::domain::channel::Channel;
use crate::telemetry::events;
use crate::text::lint::{Place, TemplateCost, TextError};
use crate::text::{SmsEncoding, TemplateFile, TextSettings, Texts};

/// The texts of a channel. Text messages are billed by segment, so a template of several segments causes a notice.
pub(super) fn texts(settings: &Settings, channel: Channel) -> anyhow::Result<Texts> {
    let texts = Texts::built_in(text_settings(settings))
        .map_err(|errors| anyhow!("the texts cannot be used: {errors:?}"))?;
    for TemplateCost { template, locale, segments, .. } in texts.costs() {
        let Some(segments) = segments.filter(|segments| channel == Channel::Sms && segments.count > 1) else {
            continue;
        };
        let (count, encoding) = (segments.count, segments.encoding.as_str());
        events::notice(&format!("template {template}.{locale} costs up to {count} segments as {encoding}"));
    }
    Ok(texts)
}

pub(crate) fn text_settings(settings: &Settings) -> TextSettings {
    let sms_encoding = if settings.gsm7 { SmsEncoding::Gsm7 } else { SmsEncoding::Unicode };
    TextSettings {
        brand: settings.brand.clone(),
        sms_encoding,
        default_locale: settings.default_locale.clone(),
        default_zone: settings.default_zone.clone(),
        sends_emails: settings.email_enabled,
        templates: settings.templates.iter().flatten().map(template_file).collect(),
    }
}

/// The errors in texts: one per file, as there is one per variable.
pub(super) fn config_errors(settings: &Settings) -> Vec<ConfigError> {
    let mut errors: Vec<ConfigError> = Vec::new();
    for TextError { place, problem } in Texts::check(text_settings(settings)).1 {
        let name = match &place {
            // A process that makes no texts does not read the templates, so it cannot know their languages.
            Place::DefaultLocale if settings.templates.is_none() => continue,
            Place::File(file) => format!("TEMPLATES_DIR/{file}"),
            place => place.to_string(),
        };
        match errors.iter_mut().find(|error| error.name == name) {
            Some(error) if matches!(place, Place::File(_)) => {
                error.problem = format!("{}; {problem}", error.problem);
            }
            Some(_) => {}
            None => errors.push(ConfigError::new(&name, problem)),
        }
    }
    errors
}

fn template_file(template: &TemplateText) -> TemplateFile {
    TemplateFile { name: template.name.clone(), source: template.text.clone() }
}
