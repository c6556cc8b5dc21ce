//! The variables of templates, and their values for one message.

use minijinja::{Value, context};

use crate::domain::gsm7_alphabet::is_gsm7;
use crate::domain::phone::PhoneNumber;
use crate::domain::time::UnixMillis;
use crate::provider::Message;

pub(super) const OF_MESSAGES: [&str; 11] = [
    "to",
    "to_digits",
    "text",
    "unicode",
    "validity_seconds",
    "validity_minutes",
    "validity_ms",
    "attempt",
    "request_id",
    "timestamp",
    "ref",
];
/// Only if the file has senders.
pub(super) const SENDER: &str = "sender";
/// Only if the file has the URL of receipts.
pub(super) const CALLBACK_URL: &str = "callback_url";
pub(super) const REFERENCE: &str = "ref";
/// Of the text that a request is signed over.
pub(super) const OF_SIGNED_REQUESTS: [&str; 5] = ["method", "path", "query", "body", "timestamp"];
/// Of the text that a call is signed over.
pub(super) const OF_SIGNED_CALLS: [&str; 3] = ["body", "query", "timestamp"];

/// The values beside the message.
#[derive(Clone, Copy, Default)]
pub(super) struct Extra<'a> {
    pub(super) sender: &'a str,
    pub(super) reference: &'a str,
    pub(super) callback_url: &'a str,
}

pub(super) fn of_message(
    to: &PhoneNumber,
    message: &Message<'_>,
    extra: Extra<'_>,
    now: UnixMillis,
) -> Value {
    let validity = message.validity;
    context! {
        to => to.e164(),
        to_digits => to.e164().trim_start_matches('+'),
        text => message.body,
        unicode => !is_gsm7(message.body),
        validity_seconds => validity.as_secs().max(1),
        validity_minutes => (validity.as_secs() / 60).max(1),
        validity_ms => validity.as_secs().max(1).saturating_mul(1_000),
        attempt => message.attempt,
        request_id => message.request_id.as_str(),
        timestamp => now.as_seconds(),
        ref => extra.reference,
        sender => extra.sender,
        callback_url => extra.callback_url,
    }
}
