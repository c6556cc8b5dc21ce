//! The meaning of a vendor's answers: the first rule that matches decides. Any other answer leaves the message in doubt.

use std::borrow::Cow;

use jiff::Timestamp;
use regex::bytes::Regex;
use toml::de::DeValue;

use super::place::{self, OF_ANSWERS, Parts, Place};
use super::table::{Faults, Item, Table};
use crate::domain::json::Json;
use crate::domain::send_failure::{RefusalReason, Scope, SendFailure};
use crate::provider::Accepted;
use crate::provider::http_client::Answer;
use crate::provider::http_client::failure::answered;
use crate::provider::http_client::retry_after_header::retry_after;

const RULES_MAX: usize = 64;
const WORDS_MAX: usize = 128;

pub(super) struct Answers {
    id: Option<Place>,
    code: Option<Place>,
    rules: Vec<Rule>,
}

struct Rule {
    /// Empty: any.
    statuses: Vec<Statuses>,
    condition: Option<Condition>,
    class: Class,
}

#[derive(Clone, Copy)]
enum Statuses {
    One(u16),
    /// `4xx`.
    Hundred(u16),
}

struct Condition {
    place: Place,
    test: Test,
}

enum Test {
    Is(Vec<String>),
    Matches(Regex),
}

#[derive(Clone, Copy)]
enum Class {
    Accepted,
    Refused(Scope, RefusalReason),
    Throttled,
    Unreachable,
    InDoubt,
}

const CLASSES: [(&str, Class); 10] = [
    ("accepted", Class::Accepted),
    ("recipient", Class::Refused(Scope::Recipient, RefusalReason::Other)),
    ("opted_out", Class::Refused(Scope::Recipient, RefusalReason::OptedOut)),
    ("request", Class::Refused(Scope::Request, RefusalReason::Other)),
    ("country", Class::Refused(Scope::Country, RefusalReason::Other)),
    ("sender", Class::Refused(Scope::Sender, RefusalReason::Other)),
    ("account", Class::Refused(Scope::Account, RefusalReason::Other)),
    ("throttled", Class::Throttled),
    ("unreachable", Class::Unreachable),
    ("in_doubt", Class::InDoubt),
];

impl Answers {
    pub(super) fn read(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Option<Answers> {
        let id = place_of(table, "id", &OF_ANSWERS, faults);
        let code = place_of(table, "code", &OF_ANSWERS, faults);
        let Some(rules) = table.take("rules") else {
            faults.add(table.at, "`rules` is missing: without a rule every message is in doubt");
            return None;
        };
        let items = rules.elements("rules", faults);
        if items.len() > RULES_MAX {
            faults.add(rules.at, format!("`rules` has more than {RULES_MAX} elements"));
        }
        let rules: Vec<Rule> = items.into_iter().filter_map(|item| Rule::read(item, faults)).collect();
        if !rules.is_empty() && !rules.iter().any(|rule| matches!(rule.class, Class::Accepted)) {
            faults.add(table.at, "no rule has class = \"accepted\"");
        }
        Some(Answers { id, code, rules })
    }

    /// `now` is our clock, for an answer without a date.
    pub(super) fn meaning(&self, answer: &Answer, now: Timestamp) -> Result<Accepted, SendFailure> {
        let parts = Parts {
            json: Json::read(&answer.body).ok(),
            body: &answer.body,
            headers: Some(&answer.headers),
            query: "",
        };
        let status = answer.status.as_u16();
        let rule = self.rules.iter().find(|rule| rule.matches(status, &parts));
        let provider_code = self.code.as_ref().and_then(|place| number(&place.read(&parts)?));
        match rule.map_or(Class::InDoubt, |rule| rule.class) {
            Class::Accepted => {
                let id = self.id.as_ref().and_then(|place| place.read(&parts));
                let message_id = id.filter(|id| is_message_id(id)).map(Cow::into_owned);
                Ok(Accepted { message_id, segments: None, verification_sid: None })
            }
            Class::Refused(scope, reason) => Err(SendFailure::Refused { scope, reason, provider_code }),
            Class::Throttled => {
                Err(SendFailure::Throttled { provider_code, retry_after: retry_after(&answer.headers, now) })
            }
            Class::Unreachable => {
                Err(SendFailure::NotConnected { detail: answered(answer.status, provider_code) })
            }
            Class::InDoubt => Err(SendFailure::InDoubt { detail: answered(answer.status, provider_code) }),
        }
    }
}

impl Rule {
    fn read(item: Item<'_>, faults: &mut Faults<'_>) -> Option<Rule> {
        let mut table = Table::of(item, "rules", faults)?;
        let statuses = table.take("status").map_or(Vec::new(), |item| statuses(item, faults));
        let place = place_of(&mut table, "value", &OF_ANSWERS, faults);
        let is = table.take("is").map(|item| (item.at, words(item, faults)));
        let matches = table.text("matches", faults);
        let pattern = matches.and_then(|text| faults.ok(text.at, place::regex(text.text)));
        let class = table.choice("class", &CLASSES.map(|(word, _)| word), faults);
        let has_value = place.is_some();
        let condition = match (place, is, matches) {
            (None, None, None) => None,
            (Some(place), Some((_, words)), None) => Some(Condition { place, test: Test::Is(words) }),
            (Some(place), None, Some(_)) => {
                pattern.map(|regex| Condition { place, test: Test::Matches(regex) })
            }
            _ => {
                faults.add(item.at, "a rule with `value` has `is` or `matches`, and no other has");
                None
            }
        };
        if statuses.is_empty() && !has_value {
            faults.add(
                item.at,
                "a rule has `status`, `value` or both: one that matches everything hides doubt",
            );
        }
        table.finish(faults);
        Some(Rule { statuses, condition, class: CLASSES[class?].1 })
    }

    fn matches(&self, status: u16, parts: &Parts<'_>) -> bool {
        let has_status = self.statuses.is_empty()
            || self.statuses.iter().any(|known| match known {
                Statuses::One(one) => *one == status,
                Statuses::Hundred(hundred) => *hundred == status / 100,
            });
        has_status && self.condition.as_ref().is_none_or(|condition| condition.holds(parts))
    }
}

impl Condition {
    fn holds(&self, parts: &Parts<'_>) -> bool {
        let Some(value) = self.place.read(parts) else { return false };
        match &self.test {
            Test::Is(words) => words.iter().any(|word| *word == value),
            Test::Matches(regex) => regex.is_match(value.as_bytes()),
        }
    }
}

/// A whole number of a vendor, in digits.
pub(super) fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&number| number > 0)
}

/// Visible ASCII without quotation marks: the id goes into results, logs and JSON.
pub(super) fn is_message_id(text: &str) -> bool {
    let is_usual = |byte: u8| byte.is_ascii_graphic() && !b"\"'\\<>&".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(is_usual)
}

pub(super) fn place_of(
    table: &mut Table<'_>,
    key: &str,
    kinds: &[&str],
    faults: &mut Faults<'_>,
) -> Option<Place> {
    let text = table.text(key, faults)?;
    faults.ok(text.at, Place::parse(text.text, kinds).map_err(|problem| format!("`{key}` {problem}")))
}

/// The place of a member that must be there.
pub(super) fn required_place(
    table: &mut Table<'_>,
    key: &str,
    kinds: &[&str],
    faults: &mut Faults<'_>,
) -> Option<Place> {
    let text = table.required(key, faults)?;
    faults.ok(text.at, Place::parse(text.text, kinds).map_err(|problem| format!("`{key}` {problem}")))
}

/// A status such as `429` or `"4xx"`, or a list of them.
fn statuses(item: Item<'_>, faults: &mut Faults<'_>) -> Vec<Statuses> {
    let items = match item.value {
        DeValue::Array(_) => item.elements("status", faults),
        _ => vec![item],
    };
    let status = |item: &Item<'_>| match item.value {
        DeValue::Integer(number) => {
            number.as_str().parse().ok().filter(|s| (100..600).contains(s)).map(Statuses::One)
        }
        DeValue::String(text) => {
            let hundred = text.strip_suffix("xx")?.parse().ok()?;
            (1..6).contains(&hundred).then_some(Statuses::Hundred(hundred))
        }
        _ => None,
    };
    let read: Option<Vec<Statuses>> = items.iter().map(status).collect();
    read.unwrap_or_else(|| {
        faults.add(item.at, "`status` must be a status such as 429 or \"4xx\", or a list of them");
        Vec::new()
    })
}

/// Texts or whole numbers.
fn words(item: Item<'_>, faults: &mut Faults<'_>) -> Vec<String> {
    let items = match item.value {
        DeValue::Array(_) => item.elements("is", faults),
        _ => vec![item],
    };
    let word = |item: &Item<'_>| match item.value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        _ => None,
    };
    let read: Option<Vec<String>> = items.iter().map(word).collect();
    read.filter(|words| (1..=WORDS_MAX).contains(&words.len())).unwrap_or_else(|| {
        faults
            .add(item.at, format!("`is` must be a text or a number, or a list of 1 to {WORDS_MAX} of them"));
        Vec::new()
    })
}
