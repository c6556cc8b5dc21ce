//! The cost of texts, and the errors in templates.

use serde::Serialize;

use crate::domain::channel::Channel;
use crate::text::gsm7::{self, Segments};
use crate::text::lint::{TemplateCost, TextError};
use crate::text::{TextSettings, Texts};

#[derive(Serialize)]
pub struct Cost {
    pub encoding: &'static str,
    /// Septets in GSM-7, code units in UCS-2.
    pub units: u32,
    pub segments: u32,
}

impl From<Segments> for Cost {
    fn from(Segments { encoding, units, count }: Segments) -> Cost {
        Cost { encoding: encoding.as_str(), units, segments: count }
    }
}

/// A template in one language, with its cost at its longest values; or an error.
#[derive(Serialize)]
pub struct TemplateRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<Channel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// The file, `built in`, or a wrong setting.
    pub from: String,
    #[serde(flatten)]
    pub cost: Option<Cost>,
    /// With an app's hash the text exceeds the 140 bytes that Android reads.
    #[serde(rename = "too_long_for_android", skip_serializing_if = "std::ops::Not::not")]
    pub is_too_long_for_android: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl From<TemplateCost> for TemplateRow {
    fn from(cost: TemplateCost) -> TemplateRow {
        let is_too_long_for_android = cost.is_too_long_for_android();
        let TemplateCost { channel, template, locale, file, segments, .. } = cost;
        TemplateRow {
            channel: Some(channel),
            template: Some(template),
            locale: Some(locale),
            from: file.unwrap_or_else(|| "built in".to_owned()),
            cost: segments.map(Cost::from),
            is_too_long_for_android,
            problem: None,
        }
    }
}

impl From<TextError> for TemplateRow {
    fn from(TextError { place, problem }: TextError) -> TemplateRow {
        TemplateRow {
            channel: None,
            template: None,
            locale: None,
            from: place.to_string(),
            cost: None,
            is_too_long_for_android: false,
            problem: Some(problem),
        }
    }
}

/// All texts that could be sent, then all errors.
pub fn check_texts(settings: TextSettings) -> Vec<TemplateRow> {
    let (costs, errors) = Texts::check(settings);
    costs.into_iter().map(TemplateRow::from).chain(errors.into_iter().map(TemplateRow::from)).collect()
}

#[derive(Serialize)]
pub struct CostRow {
    pub text: String,
    #[serde(flatten)]
    pub cost: Cost,
    /// As `SMS_ENCODING=gsm7` sends it.
    pub folded: Folded,
}

#[derive(Serialize)]
pub struct Folded {
    pub text: String,
    #[serde(flatten)]
    pub cost: Cost,
}

pub fn measure(text: String) -> CostRow {
    let folded = gsm7::fold(&text).into_owned();
    let folded = Folded { cost: gsm7::measure(&folded).into(), text: folded };
    CostRow { cost: gsm7::measure(&text).into(), text, folded }
}
