//! Classifies Twilio's answers other than 2xx.
//!
//! The HTTP status and Twilio's error number decide, never a text, because texts change and hold addresses. A message that
//! may have been sent is in doubt. An unknown number gets a cautious default, as Twilio's OpenAPI warns that numbers may
//! change.
//!
//! Retries and the consequences of a refusal are decisions of the caller.
//!
//! Numbers: Twilio's error pages (`docs/api/errors/<number>`). Since July 2024 21211, 21212, 21606 and 21614 have
//! narrower ones beside them: 21265 to 21268, 21635, and 21659 to 21661. A 429 was never processed (Twilio's page
//! 20429), a 5xx may have been.

use jiff::Timestamp;
use reqwest::StatusCode;

use crate::domain::json::Json;
use crate::domain::send_failure::{RefusalReason, Scope, SendFailure};
use crate::provider::http_client::Answer;
use crate::provider::http_client::failure::answered;
use crate::provider::http_client::retry_after_header::retry_after;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Final, for everything in the scope.
    Refused(Scope),
    Throttled,
    /// Possibly processed.
    InDoubt,
}

/// The failure that an answer other than 2xx stands for. `now` is our clock, for an answer without a date.
pub(super) fn refusal(answer: &Answer, now: Timestamp) -> SendFailure {
    let provider_code = error_code(&answer.body);
    match class_of(answer.status, provider_code) {
        Class::Refused(scope) => {
            SendFailure::Refused { scope, reason: refusal_reason(provider_code), provider_code }
        }
        Class::Throttled => {
            SendFailure::Throttled { provider_code, retry_after: retry_after(&answer.headers, now) }
        }
        Class::InDoubt => SendFailure::InDoubt { detail: answered(answer.status, provider_code) },
    }
}

/// The reason that an error number of a refusal or a receipt stands for.
pub fn refusal_reason(provider_code: Option<u32>) -> RefusalReason {
    match provider_code {
        Some(21610) => RefusalReason::OptedOut,
        // An unknown number; a landline, or a phone that no carrier reaches.
        Some(30005 | 30006) => RefusalReason::Unreachable,
        Some(30007) => RefusalReason::FilteredAsSpam,
        Some(30034) => RefusalReason::NotRegistered,
        Some(60410) => RefusalReason::FraudBlocked,
        Some(21408 | 60605) => RefusalReason::CountryDisabled,
        Some(21611) => RefusalReason::QueueFull,
        _ => RefusalReason::Other,
    }
}

/// The error number in the JSON body of an error, if the body is whole.
pub(super) fn error_code(body: &[u8]) -> Option<u32> {
    let [code] = Json::read(body).ok()?.pick(["code"]);
    u32::try_from(code?.whole_number()?).ok()
}

/// A known number counts for more than the status, except after a 5xx, which is always in doubt.
fn class_of(status: StatusCode, provider_code: Option<u32>) -> Class {
    match status.as_u16() {
        500.. => Class::InDoubt,
        429 => Class::Throttled,
        // This API never redirects: the base URL is not Twilio's.
        ..400 => Class::Refused(Scope::Account),
        400.. => {
            provider_code.and_then(class_of_code).unwrap_or_else(|| class_of_status(status, provider_code))
        }
    }
}

/// The class of a 4xx without a known number.
fn class_of_status(status: StatusCode, provider_code: Option<u32>) -> Class {
    match (status, provider_code) {
        // A proxy that asks for a password is an error of our settings.
        (StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED, _) => {
            Class::Refused(Scope::Account)
        }
        // With a number these may concern one message; without one they concern the path or the account.
        (StatusCode::FORBIDDEN | StatusCode::NOT_FOUND, None) => Class::Refused(Scope::Account),
        // A proxy stopped waiting for the request (RFC 9110 §15.5.9); Twilio may have received it.
        (StatusCode::REQUEST_TIMEOUT, None) => Class::InDoubt,
        _ => Class::Refused(Scope::Unrecognised),
    }
}

fn class_of_code(provider_code: u32) -> Option<Class> {
    let scope = match provider_code {
        // Not a number, a short code, the sender itself, a premium number, not reachable, not a mobile, unverified
        // (trial account), opted out, unknown or landline.
        21211 | 21217 | 21265 | 21266 | 21268 | 21608 | 21610 | 21612 | 21614 | 21635 | 30005 | 30006
        | 60205 => Scope::Recipient,
        // The message itself: no body, no recipient, too long, wrong parameters.
        21602 | 21604 | 21605 | 21617 | 21618 | 21619 | 60200 | 60206 | 60224 => Scope::Request,
        // A country that is not switched on, or a range that is blocked for pumping.
        21408 | 30450 | 30453 | 60238 | 60410 | 60605 => Scope::Country,
        // A sender that is missing, not ours, not Twilio's, sends no texts, is not allowed there, or has a full queue.
        21212 | 21267 | 21603 | 21606 | 21611 | 21659 | 21660 | 21661 | 30034 => Scope::Sender,
        // Credentials, suspension, test credentials, a path or a service that is not there.
        10001 | 20003 | 20005 | 20006 | 20008 | 20404 | 30002 | 60204 | 60217 | 60220 | 60223 => {
            Scope::Account
        }
        14107 | 20429 | 30001 | 30022 | 30023 | 30027 | 60202 | 60203 | 60212 => {
            return Some(Class::Throttled);
        }
        _ => return None,
    };
    Some(Class::Refused(scope))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::provider_code;

    #[test]
    fn an_error_number_is_read_beside_odd_members() {
        for body in [
            r#"{"code":21211,"message":"The 'To' number \ud83d is not valid"}"#,
            r#"{"message":["\ud83d",1e999],"code":21211}"#,
        ] {
            assert_eq!(error_code(body.as_bytes()), Some(21211), "{body}");
        }
        for body in
            ["", "[]", "{}", r#"{"code":"21211"}"#, r#"{"code":-1}"#, r#"{"code":1.5}"#, r#"{"code":21211"#]
        {
            assert_eq!(error_code(body.as_bytes()), None, "{body}");
        }
    }

    const UNKNOWN: u32 = 29_999;

    #[track_caller]
    fn check(status: u16, provider_code: impl Into<Option<u32>>, expected: Class) {
        let status = StatusCode::from_u16(status).expect("a status");
        let provider_code = provider_code.into();
        assert_eq!(
            class_of(status, provider_code),
            expected,
            "HTTP {status}, provider_code {provider_code:?}"
        );
    }

    #[test]
    fn every_known_number_has_its_scope() {
        let table: [(Scope, &[u32]); 5] = [
            (
                Scope::Recipient,
                &[21211, 21217, 21265, 21266, 21268, 21608, 21610, 21612, 21614, 21635, 30005, 30006, 60205],
            ),
            (Scope::Request, &[21602, 21604, 21605, 21617, 21618, 21619, 60200, 60206, 60224]),
            (Scope::Country, &[21408, 30450, 30453, 60238, 60410, 60605]),
            (Scope::Sender, &[21212, 21267, 21603, 21606, 21611, 21659, 21660, 21661, 30034]),
            (Scope::Account, &[10001, 20003, 20005, 20006, 20008, 20404, 30002, 60204, 60217, 60220, 60223]),
        ];
        for (scope, codes) in table {
            for &provider_code in codes {
                // With any 4xx.
                for status in [400, 401, 403, 404] {
                    check(status, provider_code, Class::Refused(scope));
                }
            }
        }
        for provider_code in [14107, 20429, 30001, 30022, 30023, 30027, 60202, 60203, 60212] {
            check(400, provider_code, Class::Throttled);
        }
    }

    #[test]
    fn every_number_that_changes_a_decision_has_its_reason() {
        use RefusalReason as Reason;
        for (provider_code, reason) in [
            (21610, Reason::OptedOut),
            (30005, Reason::Unreachable),
            (30006, Reason::Unreachable),
            (30007, Reason::FilteredAsSpam),
            (30034, Reason::NotRegistered),
            (60410, Reason::FraudBlocked),
            (21408, Reason::CountryDisabled),
            (60605, Reason::CountryDisabled),
            (21611, Reason::QueueFull),
            (30003, Reason::Other),
            (UNKNOWN, Reason::Other),
        ] {
            assert_eq!(refusal_reason(Some(provider_code)), reason, "{provider_code}");
        }
        assert_eq!(refusal_reason(None), Reason::Other);
    }

    #[test]
    fn the_documentation_lists_every_number_that_concerns_a_sender() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbook.md");
        let page = std::fs::read_to_string(path).expect("a file of text");
        let (_, section) = page.split_once("\n### Senders\n").expect("a section on senders");
        let rows = section.lines().skip_while(|line| !line.starts_with('|'));
        let mut on_page: Vec<u32> = rows
            .take_while(|line| line.starts_with('|'))
            .flat_map(|row| row.split(|c: char| !c.is_ascii_digit()).filter(|word| word.len() == 5))
            .map(|number| number.parse().expect("digits"))
            .collect();
        on_page.sort_unstable();
        let is_senders =
            |provider_code: &u32| class_of_code(*provider_code) == Some(Class::Refused(Scope::Sender));
        assert_eq!(on_page, (10_000..100_000).filter(is_senders).collect::<Vec<_>>());
    }

    #[test]
    fn the_metrics_count_every_number_that_decides_by_itself() {
        let decides = |code: &u32| {
            class_of_code(*code).is_some() || refusal_reason(Some(*code)) != RefusalReason::Other
        };
        let is_unknown = |code: &u32| provider_code::known(*code).is_none();
        let unknown: Vec<u32> = (10_000..100_000).filter(decides).filter(is_unknown).collect();
        assert_eq!(unknown, [0_u32; 0]);
    }

    #[test]
    fn every_number_that_decides_has_words() {
        let decides = |provider_code: &u32| class_of_code(*provider_code).is_some();
        let silent = |provider_code: &u32| provider_code::words(*provider_code).is_none();
        let without_words: Vec<u32> = (10_000..100_000).filter(decides).filter(silent).collect();
        assert!(without_words.is_empty(), "{without_words:?}");
    }

    #[test]
    fn without_a_known_number_the_status_decides() {
        for status in [401, 403, 404, 407] {
            check(status, None, Class::Refused(Scope::Account));
        }
        check(401, UNKNOWN, Class::Refused(Scope::Account));
        for status in [400, 403, 404, 409, 422] {
            check(status, UNKNOWN, Class::Refused(Scope::Unrecognised));
        }
        check(400, None, Class::Refused(Scope::Unrecognised));
        for status in [301, 302, 307, 308] {
            check(status, None, Class::Refused(Scope::Account));
        }
    }

    #[test]
    fn a_429_was_not_processed_and_a_5xx_may_have_been_whatever_their_number() {
        for provider_code in [None, Some(20429), Some(21211), Some(UNKNOWN)] {
            check(429, provider_code, Class::Throttled);
            for status in [500, 502, 503, 504] {
                check(status, provider_code, Class::InDoubt);
            }
        }
        check(408, None, Class::InDoubt);
    }

    #[test]
    fn an_error_number_is_read_from_a_whole_body_only() {
        assert_eq!(error_code(br#"{"code":21211,"message":"x","status":400}"#), Some(21211));
        for body in
            [&b""[..], b"<html>", b"{\"code\":212", b"{}", b"{\"code\":null}", b"{\"code\":-1}", b"[21211]"]
        {
            assert_eq!(error_code(body), None);
        }
    }
}
