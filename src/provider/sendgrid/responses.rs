//! Classifies SendGrid's answers.
//!
//! Everything is decided from the HTTP status and, of an error's body, from the name of the field that it is about; never
//! from a text, because texts change and hold addresses. SendGrid has no error numbers. A 429 was not processed, a 5xx may
//! have been.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap};

use crate::domain::json::Json;
use crate::domain::send_failure::{Scope, SendFailure};
use crate::provider::CredentialError;
use crate::provider::http_client::Answer;
use crate::provider::http_client::failure;
use crate::provider::http_client::retry_after_header::{RETRY_AFTER_MAX, http_date, retry_after};

const MESSAGE_ID: &str = "x-message-id";
/// When the current window of the rate limit ends, in seconds since 1970.
const RATE_LIMIT_RESET: &str = "x-ratelimit-reset";
/// The permission that a key needs.
const MAY_SEND: &str = "mail.send";
/// Longer than any message id.
const MESSAGE_ID_BYTES_MAX: usize = 128;

/// SendGrid's id of the e-mail, if the answer has one.
pub(super) fn message_id(headers: &HeaderMap) -> Option<String> {
    text(headers, MESSAGE_ID).filter(|id| is_message_id(id)).map(str::to_owned)
}

/// Letters, digits and a few signs.
pub(super) fn is_message_id(text: &str) -> bool {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=".contains(&byte);
    (1..=MESSAGE_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(usual)
}

/// The failure that an answer other than 2xx stands for. `now` is our clock, for an answer without a date.
pub(super) fn refusal(answer: &Answer, now: Timestamp) -> SendFailure {
    let scope = match answer.status {
        StatusCode::TOO_MANY_REQUESTS => {
            return SendFailure::Throttled {
                provider_code: None,
                retry_after: wait_asked_for(&answer.headers, now),
            };
        }
        // Something on the way gave up waiting for the request (RFC 9110 §15.5.9); SendGrid may have got it.
        StatusCode::REQUEST_TIMEOUT => return in_doubt(answer.status),
        status if status.as_u16() >= 500 => return in_doubt(status),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            Scope::Account
        }
        // The path is the same for all e-mails: the base URL is not SendGrid's. Nothing is redirected in this API.
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Scope::Account,
        status if status.as_u16() < 400 => Scope::Account,
        StatusCode::BAD_REQUEST if is_about_sender(&answer.body) => Scope::Account,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => Scope::Request,
        _ => Scope::Unrecognised,
    };
    SendFailure::refused(scope, None)
}

fn in_doubt(status: StatusCode) -> SendFailure {
    SendFailure::InDoubt { detail: failure::answered(status, None) }
}

/// The sender is one of our settings, so its error concerns every e-mail.
fn is_about_sender(body: &[u8]) -> bool {
    let errors = Json::read(body).ok().and_then(|body| body.pick(["errors"])[0]);
    errors
        .into_iter()
        .flat_map(Json::elements)
        .map_while(Result::ok)
        .filter_map(|problem| problem.pick(["field"])[0]?.text())
        .any(|field| field == "from" || field.starts_with("from."))
}

/// `Retry-After`, or else the end of the window, at most an hour.
fn wait_asked_for(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    retry_after(headers, now).or_else(|| {
        let reset = Timestamp::from_second(text(headers, RATE_LIMIT_RESET)?.parse().ok()?).ok()?;
        let now = text(headers, DATE.as_str()).and_then(http_date).unwrap_or(now);
        let wait = Duration::try_from(reset.duration_since(now)).unwrap_or(Duration::ZERO);
        Some(wait.min(RETRY_AFTER_MAX))
    })
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

/// The verdict on a key, by the answer to the request for its scopes.
pub(super) fn credential_verdict(answer: &Answer) -> Result<(), CredentialError> {
    match answer.status {
        StatusCode::OK => match may_send(&answer.body) {
            Some(true) => Ok(()),
            Some(false) => Err(CredentialError::MayNotSend),
            None => Err(CredentialError::Unanswered("answered with no list of scopes".to_owned())),
        },
        StatusCode::UNAUTHORIZED => Err(CredentialError::Refused { status: 401, provider_code: None }),
        // It may still be able to send: not every key may read its scopes.
        StatusCode::FORBIDDEN => Err(CredentialError::MayNotRead { provider_code: 403 }),
        status => Err(CredentialError::Unanswered(failure::answered(status, None))),
    }
}

/// `None` without a list of scopes.
fn may_send(body: &[u8]) -> Option<bool> {
    let scopes =
        Json::read(body).ok()?.pick(["scopes"])[0]?.elements().collect::<Result<Vec<_>, _>>().ok()?;
    Some(scopes.into_iter().filter_map(Json::text).any(|scope| scope == MAY_SEND))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a value"));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        Answer { status, headers: map, body: body.as_bytes().to_vec() }
    }

    fn refused(status: u16, body: &str) -> SendFailure {
        refusal(&answer(status, &[], body), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_status_decides_the_scope_of_a_refusal() {
        for (status, scope) in [
            (301, Scope::Account),
            (400, Scope::Request),
            (401, Scope::Account),
            (403, Scope::Account),
            (404, Scope::Account),
            (405, Scope::Account),
            (407, Scope::Account),
            (409, Scope::Unrecognised),
            (413, Scope::Request),
        ] {
            assert_eq!(refused(status, ""), SendFailure::refused(scope, None), "{status}");
        }
        for status in [408, 500, 502, 503, 504] {
            assert!(matches!(refused(status, ""), SendFailure::InDoubt { .. }), "{status}");
        }
    }

    #[test]
    fn a_sender_that_is_refused_is_a_setting_and_a_recipient_is_not() {
        let about = |field: &str| {
            let body = format!(r#"{{"errors":[{{"message":"x","field":{field},"help":null}}]}}"#);
            refused(400, &body)
        };
        let rejected = |scope| SendFailure::refused(scope, None);
        for (field, scope) in [
            (r#""from.email""#, Scope::Account),
            (r#""from""#, Scope::Account),
            (r#""personalizations.0.to.0.email""#, Scope::Request),
            (r#""fromage""#, Scope::Request),
            ("null", Scope::Request),
        ] {
            assert_eq!(about(field), rejected(scope), "{field}");
        }
        for odd in [r#"{"field":7}"#, "null", r#"{"message":"\ud83d"}"#] {
            let body = format!(r#"{{"errors":[{odd},{{"field":"from","message":"\ud83d"}}]}}"#);
            assert_eq!(refused(400, &body), rejected(Scope::Account), "{body}");
        }
        for body in ["", "<html>", "{}", "[]", r#"{"errors":{}}"#, r#"{"errors":["from"]}"#] {
            assert_eq!(refused(400, body), rejected(Scope::Request), "{body}");
        }
    }

    #[test]
    fn a_throttled_send_waits_as_long_as_either_header_asks() {
        let now = Timestamp::from_second(1_000_000).expect("a time");
        for (headers, seconds) in [
            (&[("retry-after", "7"), ("x-ratelimit-reset", "1000099")][..], Some(7)),
            (&[("x-ratelimit-reset", "1000030")], Some(30)),
            (&[("x-ratelimit-reset", "1000030"), ("date", "Mon, 12 Jan 1970 13:46:20 GMT")], Some(50)),
            (&[("x-ratelimit-reset", "999")], Some(0)),
            (&[("x-ratelimit-reset", "99000000")], Some(3600)),
            (&[("x-ratelimit-reset", "soon")], None),
            (&[("x-ratelimit-reset", "99999999999999999999")], None),
            (&[], None),
        ] {
            let retry_after = seconds.map(Duration::from_secs);
            let expected = SendFailure::Throttled { provider_code: None, retry_after };
            assert_eq!(refusal(&answer(429, headers, ""), now), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_message_has_the_id_of_the_header_if_it_is_valid() {
        let named = |name: &str| message_id(&answer(202, &[("x-message-id", name)], "").headers);
        assert_eq!(named(" LRzXl_NHStOGhQ4kofSm_A ").as_deref(), Some("LRzXl_NHStOGhQ4kofSm_A"));
        assert_eq!(named("14c5d75ce93.dfd.64b469").as_deref(), Some("14c5d75ce93.dfd.64b469"));
        for no_name in ["", "a b", "a,b", "<a@b>", &"a".repeat(129)] {
            assert_eq!(named(no_name), None, "{no_name}");
        }
        assert_eq!(message_id(&HeaderMap::new()), None);
    }
}
