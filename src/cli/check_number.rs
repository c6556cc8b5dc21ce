//! `otpost check-number`: could a code be sent there?

use serde::Serialize;

use super::{Exit, print_json, say};
use crate::app;
use crate::config::Settings;
use crate::domain::phone::PhoneNumber;

/// What is known of a number. Numbers are shown in full: whoever asks wrote them.
#[derive(Serialize)]
struct Row {
    number: String,
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    formatted: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    sendable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
}

pub(super) fn run(settings: &Settings, numbers: &[String], json: bool) -> Exit {
    let rules = app::parts::rules(settings);
    let rows: Vec<Row> = numbers
        .iter()
        .map(|number| match PhoneNumber::parse(number, settings.default_region) {
            Ok(phone) => {
                let refusal = rules.refusal(&phone);
                Row {
                    number: number.clone(),
                    valid: true,
                    formatted: Some(phone.e164().to_owned()),
                    region: phone.region().map(|region| region.to_string()),
                    kind: Some(phone.line().as_str()),
                    sendable: refusal.is_none(),
                    why_not: refusal.map(|code| code.message().to_owned()),
                }
            }
            Err(fault) => Row {
                number: number.clone(),
                valid: false,
                formatted: None,
                region: None,
                kind: None,
                sendable: false,
                why_not: Some(format!("it {fault}")),
            },
        })
        .collect();
    if json {
        print_json(&rows);
    } else {
        rows.iter().for_each(print_row);
    }
    if rows.iter().all(|row| row.sendable) { Exit::Done } else { Exit::No }
}

fn print_row(row: &Row) {
    let known = [row.formatted.as_deref(), row.region.as_deref(), row.kind];
    let known: Vec<&str> = known.into_iter().flatten().collect();
    let known = if known.is_empty() { "not valid".to_owned() } else { known.join(", ") };
    let verdict = match &row.why_not {
        None => "sendable".to_owned(),
        Some(why) => format!("not sendable: {why}"),
    };
    say(&format!("{:<20} {known}; {verdict}", row.number));
}
