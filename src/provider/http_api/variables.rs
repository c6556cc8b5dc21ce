//! The variables of templates, and their values for one message.

use minijinja::{Value, context};

use crate::domain::gsm7_alphabet::is_gsm7;
use crate::domain::phone::PhoneNumber;
use crate::domain::time::UnixMillis;
use crate::provider::Message;

pub(super) const OF_MESSAGES: [&str; 12] = [
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
    "idempotency_key",
];
/// Of a request that checks the account.
pub(super) const OF_CHECKS: [&str; 1] = [TIMESTAMP];
/// Of a request that lists the messages to a number since a time.
pub(super) const OF_LOOKUPS: [&str; 6] = ["to", "to_digits", "since", "since_ms", "since_text", TIMESTAMP];
/// Of a request that reads one message.
pub(super) const OF_FETCHES: [&str; 2] = [MESSAGE_ID, TIMESTAMP];
/// Only if the file has senders.
pub(super) const SENDER: &str = "sender";
/// Only if the file has the URL of receipts.
pub(super) const CALLBACK_URL: &str = "callback_url";
pub(super) const REFERENCE: &str = "ref";
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency_key";
pub(super) const MESSAGE_ID: &str = "message_id";
pub(super) const TEXT: &str = "text";
pub(super) const TIMESTAMP: &str = "timestamp";
pub(super) const TO: [&str; 2] = ["to", "to_digits"];
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
    pub(super) idempotency_key: &'a str,
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
        idempotency_key => extra.idempotency_key,
    }
}

/// Values for the templates of checks and lookups, to try them.
pub(super) fn example() -> Value {
    context! {
        to => "+573001234567",
        to_digits => "573001234567",
        since => 1_700_000_000,
        since_ms => 1_700_000_000_000_u64,
        since_text => "2023-11-14T22:13:20Z",
        message_id => "m1",
        timestamp => 1_700_000_000,
    }
}
