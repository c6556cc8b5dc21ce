//! The result of a request: the JSON body that is published on the results exchange.
//!
//! A result is an [`Outcome`] with the request and the masked recipient.

use serde::Serialize;

use super::channel::Channel;
use super::defence::DefenceRule;
use super::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use super::reached_limit::ReachedLimit;
use super::time::{UnixMillis, optional_rfc3339, serialize_rfc3339};

/// The result: the JSON body of a message on the results exchange.
#[derive(Serialize, schemars::JsonSchema)]
pub struct SendResult<'a> {
    /// The request's idempotency key.
    pub request_id: &'a str,
    /// The channel of the code.
    pub channel: Channel,
    /// The purpose of the code.
    pub purpose: &'a str,
    /// The recipient, masked.
    pub to: &'a str,
    /// The terminal status.
    pub status: Status,
    /// When the request ended (RFC 3339).
    #[serde(serialize_with = "serialize_rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: UnixMillis,
    /// The provider of the attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<&'a str>,
    /// The provider's id of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_message_id: Option<&'a str>,
    /// The attempts made.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// The segments of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments: Option<u32>,
    /// When the code's life ends (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_rfc3339")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub expires_at: Option<UnixMillis>,
    /// Seconds from `at` until the same recipient may ask again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resend_after: Option<u64>,
    /// Why it was not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ResultError<'a>>,
    /// Nothing was sent for this copy of the request.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
    /// The recipient is a test number: nothing was sent, and its code is a fixed one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub test: bool,
}

/// The `error` of a result.
#[derive(Serialize, schemars::JsonSchema)]
pub struct ResultError<'a> {
    /// The machine word.
    pub code: ErrorCode,
    /// A sentence for people. It names no secret and no address.
    pub message: &'a str,
    /// The provider's own error number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_code: Option<u32>,
    /// Seconds until a new request could succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The limit that refused the request, of `rate_limited` and `cooldown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<ReachedLimit>,
    /// The rule of the pumping defence that refused the request, of `blocked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<DefenceRule>,
}

impl<'a> From<&'a OutcomeError> for ResultError<'a> {
    fn from(error: &'a OutcomeError) -> ResultError<'a> {
        ResultError {
            code: error.code,
            message: error.detail.as_deref().unwrap_or(error.message()),
            provider_code: error.provider_code,
            retry_after: error.retry_after,
            limit: error.limit,
            rule: error.rule,
        }
    }
}

impl<'a> SendResult<'a> {
    /// The result of an outcome, for a request and its masked recipient.
    pub fn new(
        channel: Channel,
        request_id: &'a str,
        to_masked: &'a str,
        outcome: &'a Outcome,
        replayed: bool,
    ) -> SendResult<'a> {
        SendResult {
            request_id,
            channel,
            purpose: &outcome.purpose,
            to: to_masked,
            status: outcome.status,
            at: outcome.at,
            provider: outcome.provider.as_deref(),
            provider_message_id: outcome.provider_message_id.as_deref(),
            attempts: outcome.attempts,
            segments: outcome.segments,
            expires_at: outcome.expires_at,
            resend_after: outcome.resend_after,
            error: outcome.error.as_ref().map(ResultError::from),
            replayed,
            test: outcome.history.is_test(),
        }
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
