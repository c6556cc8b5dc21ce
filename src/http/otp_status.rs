//! The state of a request: `GET /api/v1/auth/otp-status/{request_id}` for the person who made it,
//! `GET /api/v1/otp/status/{request_id}` for the service that did.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::api::Api;
use super::json::JsonAnswer;
use super::problem::Problem;
use super::received_result::seconds_left;
use super::request_ids::request_id_in;
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::domain::outcome::Outcome;
use crate::domain::request_id::RequestId;
use crate::domain::send_result::ResultError;
use crate::domain::time::optional_rfc3339;
use crate::domain::time::{UnixMillis, serialize_rfc3339};
use crate::store::{RecordedReceipt, RequestRecord, RequestState};

/// It does not repeat the recipient: the person knows it.
#[derive(Serialize)]
pub(super) struct OtpStatusResponse {
    request_id: String,
    status: &'static str,
    channel: Channel,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_rfc3339")]
    at: Option<UnixMillis>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_rfc3339")]
    expires_at: Option<UnixMillis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resend_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<DeliveryInfo>,
}

#[derive(Serialize)]
struct ErrorInfo {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

#[derive(Serialize)]
struct DeliveryInfo {
    status: &'static str,
    #[serde(serialize_with = "serialize_rfc3339")]
    at: UnixMillis,
}

pub(super) async fn otp_status(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<JsonAnswer<OtpStatusResponse>, Problem> {
    let user = api.tokens.user(&headers).await?;
    let recipients: Vec<Address> =
        Channel::ALL.into_iter().filter_map(|channel| api.token_recipient(&user, channel).ok()).collect();
    if recipients.is_empty() {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_recipient")
            .detail("the token has no valid `phone_number` and no valid `email`"));
    }
    let request_id = request_id_in(path)?;
    if api.is_request_of(&request_id, &user.sub) {
        // The id does not name its channel. It belongs to one recipient only.
        for to in recipients {
            let recipient = api.recipient_keyring.address(to.channel(), to.as_str());
            if let Some(record) = api.request_record(&request_id, Some(recipient)).await? {
                return Ok(JsonAnswer(OtpStatusResponse::of(
                    &request_id,
                    to.channel(),
                    &record,
                    api.clock.now(),
                )));
            }
        }
    }
    Err(unknown_request())
}

/// A request of another service has the same answer as an unknown one.
pub(super) async fn otp_status_for_service(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<JsonAnswer<OtpStatusResponse>, Problem> {
    let service = api.tokens.named_service(&headers, "otp:send").await?;
    let request_id = request_id_in(path)?;
    if let Some(channel) = api.channel_of_request(&request_id, &service)
        && let Some(record) = api.request_record(&request_id, None).await?
    {
        return Ok(JsonAnswer(OtpStatusResponse::of(&request_id, channel, &record, api.clock.now())));
    }
    Err(unknown_request())
}

fn unknown_request() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_request").detail(
        "no record of this request is kept: it waits in the queue, was rejected without a record, is too old, or is not yours",
    )
}

impl OtpStatusResponse {
    fn of(
        request_id: &RequestId,
        channel: Channel,
        record: &RequestRecord,
        now: UnixMillis,
    ) -> OtpStatusResponse {
        let queued = OtpStatusResponse {
            request_id: request_id.to_string(),
            status: "queued",
            channel,
            at: None,
            expires_at: None,
            resend_after: None,
            error: None,
            delivery: record.receipt.as_ref().map(DeliveryInfo::of),
        };
        match &record.state {
            RequestState::InProgress { .. } => queued,
            RequestState::Completed(outcome) => OtpStatusResponse {
                status: outcome.status.as_str(),
                at: Some(outcome.at),
                expires_at: outcome.expires_at,
                resend_after: outcome.resend_after.map(|seconds| seconds_left(seconds, outcome.at, now)),
                error: ErrorInfo::of(outcome, now),
                ..queued
            },
        }
    }
}

impl ErrorInfo {
    fn of(outcome: &Outcome, now: UnixMillis) -> Option<ErrorInfo> {
        let error = ResultError::from(outcome.error.as_ref()?);
        Some(ErrorInfo {
            code: error.code.as_str(),
            message: error.message.to_owned(),
            retry_after: error.retry_after.map(|seconds| seconds_left(seconds, outcome.at, now)),
        })
    }
}

impl DeliveryInfo {
    fn of(receipt: &RecordedReceipt) -> DeliveryInfo {
        DeliveryInfo { status: receipt.status.as_str(), at: receipt.at }
    }
}
