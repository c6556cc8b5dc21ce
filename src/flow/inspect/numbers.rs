//! Could a code be sent to a number?

use serde::Serialize;

use crate::domain::outcome::ErrorCode;
use crate::domain::phone::PhoneNumber;
use crate::domain::recipient_rules::RecipientRules;

/// What is known of a number. It is shown as it was asked for, and in full: whoever asks wrote it.
#[derive(Serialize)]
pub struct NumberRow {
    /// As it was asked for.
    pub number: String,
    /// It is a number of its country's plan.
    pub valid: bool,
    /// It in E.164.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub formatted: Option<String>,
    /// Its country.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// What kind of line its range is.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// We would send to it.
    pub sendable: bool,
    /// The machine word of why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
}

/// Looks at a number by what needs no store.
pub fn number(rules: &RecipientRules, text: &str) -> NumberRow {
    let number = text.to_owned();
    match PhoneNumber::parse(text, rules.default_region) {
        Ok(phone) => {
            let refusal = rules.rejection_of(&phone);
            NumberRow {
                number,
                valid: true,
                formatted: Some(phone.e164().to_owned()),
                region: phone.region().map(|region| region.to_string()),
                kind: Some(phone.line().as_str()),
                sendable: refusal.is_none(),
                reason: refusal.map(ErrorCode::as_str),
                why_not: refusal.map(|code| code.message().to_owned()),
            }
        }
        Err(fault) => NumberRow {
            number,
            valid: false,
            formatted: None,
            region: None,
            kind: None,
            sendable: false,
            reason: Some(ErrorCode::InvalidRecipient.as_str()),
            why_not: Some(format!("it {fault}")),
        },
    }
}
