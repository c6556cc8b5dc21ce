//! The response to a request for a code, made from its result or from its record.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::json::JsonAnswer;
use super::problem::Problem;
use crate::domain::channel::Channel;
use crate::domain::outcome::{ErrorCode, Outcome, Status};
use crate::domain::send_result::ResultError;
use crate::domain::time::optional_rfc3339;
use crate::domain::time::{UnixMillis, seconds_rounded_up};

/// The code was sent, may have been sent, or is queued.
#[derive(Serialize)]
pub(super) struct SendResponse {
    pub(super) request_id: String,
    pub(super) status: &'static str,
    pub(super) channel: Channel,
    pub(super) to: String,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_rfc3339")]
    pub(super) expires_at: Option<UnixMillis>,
    pub(super) resend_after: u64,
    pub(super) code_length: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) replayed: bool,
}

impl IntoResponse for SendResponse {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, JsonAnswer(self)).into_response()
    }
}

#[derive(Deserialize)]
pub(super) struct ReceivedResult {
    pub(super) status: Status,
    at: String,
    expires_at: Option<String>,
    resend_after: Option<u64>,
    error: Option<ReceivedError>,
    #[serde(default)]
    pub(super) replayed: bool,
}

#[derive(Deserialize)]
struct ReceivedError {
    code: ErrorCode,
    message: String,
    retry_after: Option<u64>,
}

impl ReceivedResult {
    /// The recorded outcome, as a worker publishes it for a repeated request.
    pub(super) fn stored(outcome: &Outcome) -> ReceivedResult {
        let error = outcome.error.as_ref().map(ResultError::from);
        ReceivedResult {
            status: outcome.status,
            at: outcome.at.to_string(),
            expires_at: outcome.expires_at.as_ref().map(UnixMillis::to_string),
            resend_after: outcome.resend_after,
            error: error.map(|ResultError { code, message, retry_after, .. }| ReceivedError {
                code,
                message: message.to_owned(),
                retry_after,
            }),
            replayed: true,
        }
    }

    /// `None` if the body is not a result.
    pub(super) fn read(body: &[u8]) -> Option<ReceivedResult> {
        serde_json::from_slice(body).ok()
    }

    pub(super) fn expires_at(&self) -> Option<UnixMillis> {
        UnixMillis::parse_rfc3339(self.expires_at.as_deref()?)
    }

    /// In seconds from now. The stored value counts from the time of the result.
    pub(super) fn resend_after(&self, now: UnixMillis) -> Option<u64> {
        let at = UnixMillis::parse_rfc3339(&self.at)?;
        self.resend_after.map(|seconds| seconds_left(seconds, at, now))
    }

    /// The error response, if no code was sent. `recipient` names the recipient's field in it.
    pub(super) fn problem(&self, recipient: &str, now: UnixMillis) -> Option<Problem> {
        let error = match (self.status, &self.error) {
            (Status::Sent | Status::Unknown, _) => return None,
            (Status::Rejected | Status::Failed, Some(error)) => error,
            (Status::Rejected | Status::Failed, None) => {
                return Some(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal"));
            }
        };
        let detail = error.message.replace("`to`", recipient);
        let at = UnixMillis::parse_rfc3339(&self.at).unwrap_or(now);
        let left = error.retry_after.map(|seconds| seconds_left(seconds, at, now));
        let problem = Problem::new(http_status(error.code), error.code.as_str())
            .detail(&detail)
            .replayed(self.replayed);
        Some(match left {
            // `Retry-After: 0` would make a client repeat the same key and get the same outcome.
            Some(0) => problem.detail(format!("{detail}; {USE_NEW_KEY}")),
            Some(seconds) => problem.retry_after(Duration::from_secs(seconds)),
            None => problem,
        })
    }
}

const USE_NEW_KEY: &str = "that time has passed: send a new request with another `Idempotency-Key`";

/// 429: retry later. 422: the recipient or the request is not accepted. 503: the gateway or a provider cannot send now.
pub(super) fn http_status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::RateLimited | ErrorCode::Cooldown => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::InvalidRequest
        | ErrorCode::InvalidRecipient
        | ErrorCode::Landline
        | ErrorCode::CountryNotAllowed
        | ErrorCode::Suppressed
        | ErrorCode::Blocked
        | ErrorCode::Expired
        | ErrorCode::ChannelDisabled
        | ErrorCode::ProviderRejected => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::ProviderMisconfigured | ErrorCode::ProviderUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::InDoubt | ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The rest of a period of `seconds` that began `at`.
pub(super) fn seconds_left(seconds: u64, at: UnixMillis, now: UnixMillis) -> u64 {
    seconds_rounded_up(at.plus(Duration::from_secs(seconds)).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_010_000);

    fn result(body: serde_json::Value) -> ReceivedResult {
        ReceivedResult::read(body.to_string().as_bytes()).expect("a result")
    }

    #[test]
    fn a_stored_result_counts_from_when_it_was_made() {
        let at = UnixMillis(1_800_000_000_000).to_string();
        let sent = result(serde_json::json!({"status": "sent", "at": at, "resend_after": 30}));
        assert_eq!(sent.resend_after(NOW), Some(20));
        assert!(sent.problem("`to`", NOW).is_none());
        for (retry_after, left) in [(30, Some("20")), (11, Some("1")), (10, None), (5, None)] {
            let limited = serde_json::json!({"status": "rejected", "at": at,
                "error": {"code": "cooldown", "message": "m", "retry_after": retry_after}});
            let response = result(limited).problem("`to`", NOW).expect("a rejection").into_response();
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            let header = response.headers().get("retry-after").map(|value| value.to_str().expect("digits"));
            assert_eq!(header, left);
        }
    }

    #[test]
    fn a_body_that_is_not_a_result_is_ignored() {
        for body in [b"" as &[u8], b"{}", b"[]", b"{\"status\":\"odd\",\"at\":\"\"}"] {
            assert!(ReceivedResult::read(body).is_none());
        }
    }

    #[test]
    fn an_unknown_outcome_is_no_problem_because_the_code_may_arrive() {
        let at = NOW.to_string();
        let unknown = result(
            serde_json::json!({"status": "unknown", "at": at, "error": {"code": "in_doubt", "message": "m"}}),
        );
        assert!(unknown.problem("`to`", NOW).is_none());
    }

    #[test]
    fn a_failure_that_a_new_request_may_fix_has_another_status_than_a_rejection() {
        assert_eq!(http_status(ErrorCode::ProviderRejected), 422);
        assert_eq!(http_status(ErrorCode::ProviderUnavailable), 503);
        assert_eq!(http_status(ErrorCode::RateLimited), 429);
        assert_eq!(http_status(ErrorCode::Internal), 500);
    }
}
