//! Checks whether a code could be sent to a number.

use serde::Serialize;

use crate::domain::outcome::ErrorCode;
use crate::domain::phone::PhoneNumber;
use crate::domain::recipient_rules::RecipientRules;

/// The number is repeated in full: the operator wrote it.
#[derive(Serialize)]
pub struct NumberRow {
    pub number: String,
    /// It is in the numbering plan of its country.
    pub valid: bool,
    /// In E.164.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub formatted: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    pub sendable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
}

/// By the rules that need no store.
pub fn check_number(rules: &RecipientRules, text: &str) -> NumberRow {
    let number = text.to_owned();
    match PhoneNumber::parse(text, rules.default_region) {
        Ok(phone) => {
            let rejection = rules.rejection_of(&phone);
            NumberRow {
                number,
                valid: true,
                formatted: Some(phone.e164().to_owned()),
                region: phone.region().map(|region| region.to_string()),
                kind: Some(phone.line().as_str()),
                sendable: rejection.is_none(),
                reason: rejection.as_ref().map(|error| error.code.as_str()),
                why_not: rejection
                    .map(|error| error.detail.unwrap_or_else(|| error.code.message().to_owned())),
            }
        }
        Err(error) => NumberRow {
            number,
            valid: false,
            formatted: None,
            region: None,
            kind: None,
            sendable: false,
            reason: Some(ErrorCode::InvalidRecipient.as_str()),
            why_not: Some(format!("it {error}")),
        },
    }
}
