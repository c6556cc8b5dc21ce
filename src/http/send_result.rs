//! What a person is told of a request: how it ended, or that it is still on its way.

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::domain::channel::Channel;
use crate::domain::outcome::{ErrorCode, Outcome, ResultError, Status, optional_rfc3339};
use crate::domain::time::{UnixMillis, seconds_rounded_up};

/// The answer when a code was sent, may have been, or will be.
#[derive(Serialize)]
pub(super) struct SendAnswer {
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

impl IntoResponse for SendAnswer {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, Json(self)).into_response()
    }
}

/// A result as its reader needs it.
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
    /// What is stored of a request that has ended, as a worker would tell it to a repeat.
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

    /// Reads a result. `None` if it is none.
    pub(super) fn read(body: &[u8]) -> Option<ReceivedResult> {
        serde_json::from_slice(body).ok()
    }

    pub(super) fn expires_at(&self) -> Option<UnixMillis> {
        UnixMillis::parse_rfc3339(self.expires_at.as_deref()?)
    }

    /// Seconds from now: a stored result counts from when it was made.
    pub(super) fn resend_after(&self, now: UnixMillis) -> Option<u64> {
        let at = UnixMillis::parse_rfc3339(&self.at)?;
        self.resend_after.map(|seconds| seconds_left(seconds, at, now))
    }

    /// Why no code comes, if none does.
    pub(super) fn problem(&self, now: UnixMillis) -> Option<Problem> {
        let error = match (self.status, &self.error) {
            (Status::Sent | Status::Unknown, _) => return None,
            (Status::Rejected | Status::Failed, Some(error)) => error,
            (Status::Rejected | Status::Failed, None) => {
                return Some(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal"));
            }
        };
        let detail = error.message.replace("`to`", "the recipient in the token");
        let at = UnixMillis::parse_rfc3339(&self.at).unwrap_or(now);
        let left = error.retry_after.map(|seconds| seconds_left(seconds, at, now));
        let problem =
            Problem::new(status_of(error.code), error.code.as_str()).detail(&detail).replayed(self.replayed);
        Some(match left {
            // The same key would be told the same at once, again and again.
            Some(0) => problem.detail(format!("{detail}; {WAIT_OVER}")),
            Some(seconds) => problem.retry_after(Duration::from_secs(seconds)),
            None => problem,
        })
    }
}

/// A request that has ended stays so.
const WAIT_OVER: &str = "the wait for that is over: a request with another `Idempotency-Key` is judged anew";

/// 429: later. 422: not for this recipient, or not like this. 503: not now, through nobody's fault who asks.
pub(super) fn status_of(code: ErrorCode) -> StatusCode {
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

/// What is left of some seconds that began `at`.
pub(super) fn seconds_left(seconds: u64, at: UnixMillis, now: UnixMillis) -> u64 {
    seconds_rounded_up(at.plus(Duration::from_secs(seconds)).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_010_000);

    fn heard(body: serde_json::Value) -> ReceivedResult {
        ReceivedResult::read(body.to_string().as_bytes()).expect("a result")
    }

    #[test]
    fn a_stored_result_counts_from_when_it_was_made() {
        let at = UnixMillis(1_800_000_000_000).to_string();
        let sent = heard(serde_json::json!({"status": "sent", "at": at, "resend_after": 30}));
        assert_eq!(sent.resend_after(NOW), Some(20));
        assert!(sent.problem(NOW).is_none());
        for (retry_after, left) in [(30, Some("20")), (11, Some("1")), (10, None), (5, None)] {
            let limited = serde_json::json!({"status": "rejected", "at": at,
                "error": {"code": "cooldown", "message": "m", "retry_after": retry_after}});
            let response = heard(limited).problem(NOW).expect("a refusal").into_response();
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            let told = response.headers().get("retry-after").map(|value| value.to_str().expect("digits"));
            assert_eq!(told, left);
        }
    }

    #[test]
    fn what_is_no_result_is_not_believed() {
        for body in [b"" as &[u8], b"{}", b"[]", b"{\"status\":\"odd\",\"at\":\"\"}"] {
            assert!(ReceivedResult::read(body).is_none());
        }
    }

    #[test]
    fn an_unknown_end_is_no_problem_because_the_code_may_come() {
        let at = NOW.to_string();
        let unknown = heard(
            serde_json::json!({"status": "unknown", "at": at, "error": {"code": "in_doubt", "message": "m"}}),
        );
        assert!(unknown.problem(NOW).is_none());
    }

    #[test]
    fn a_failure_that_a_new_request_may_mend_is_told_apart_from_a_refusal() {
        assert_eq!(status_of(ErrorCode::ProviderRejected), 422);
        assert_eq!(status_of(ErrorCode::ProviderUnavailable), 503);
        assert_eq!(status_of(ErrorCode::RateLimited), 429);
        assert_eq!(status_of(ErrorCode::Internal), 500);
    }
}
