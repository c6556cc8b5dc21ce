//! What do texts cost, and what is wrong with them?

use serde::Serialize;

use crate::text::gsm7::{self, Segments};
use crate::text::lint::{Lint, TextFault};
use crate::text::{TextSettings, Texts};

/// What a text costs.
#[derive(Serialize)]
pub struct Cost {
    /// How it travels: `gsm7` or `ucs2`.
    pub encoding: &'static str,
    /// How long it is in that encoding.
    pub units: u32,
    /// Messages that are paid for.
    pub segments: u32,
}

impl From<Segments> for Cost {
    fn from(Segments { encoding, units, count }: Segments) -> Cost {
        Cost { encoding: encoding.as_str(), units, segments: count }
    }
}

/// A template in one language and what it costs at its longest values, or what is wrong.
#[derive(Serialize)]
pub struct LintRow {
    /// The template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Its language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// The file that it comes from, or `built in`; or the setting that something is wrong with.
    pub from: String,
    /// What it costs, if it is without fault.
    #[serde(flatten)]
    pub cost: Option<Cost>,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl From<Lint> for LintRow {
    fn from(Lint { template, locale, file, segments }: Lint) -> LintRow {
        LintRow {
            template: Some(template),
            locale: Some(locale),
            from: file.unwrap_or_else(|| "built in".to_owned()),
            cost: Some(segments.into()),
            problem: None,
        }
    }
}

impl From<TextFault> for LintRow {
    fn from(TextFault { place, problem }: TextFault) -> LintRow {
        LintRow { template: None, locale: None, from: place.to_string(), cost: None, problem: Some(problem) }
    }
}

/// Every text that could be sent, and then every fault.
pub fn lint(settings: TextSettings) -> Vec<LintRow> {
    let (lints, faults) = Texts::lint(settings);
    lints.into_iter().map(LintRow::from).chain(faults.into_iter().map(LintRow::from)).collect()
}

/// What one text costs, and what it would cost folded.
#[derive(Serialize)]
pub struct CostRow {
    /// The text.
    pub text: String,
    /// What it costs as it is.
    #[serde(flatten)]
    pub cost: Cost,
    /// What it becomes with `SMS_ENCODING=gsm7`.
    pub folded: Folded,
}

/// A text whose letters were replaced by those of the GSM alphabet, as far as there are such.
#[derive(Serialize)]
pub struct Folded {
    /// The text.
    pub text: String,
    /// What it costs.
    #[serde(flatten)]
    pub cost: Cost,
}

/// Counts any text.
pub fn measure(text: String) -> CostRow {
    let folded = gsm7::fold(&text).into_owned();
    let folded = Folded { cost: gsm7::measure(&folded).into(), text: folded };
    CostRow { cost: gsm7::measure(&text).into(), text, folded }
}
