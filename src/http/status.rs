//! What became of a request, for the person who made it and for nobody else.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::Api;
use super::problem::Problem;
use super::send_result::seconds_left;
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::domain::keyed_digest::Digest16;
use crate::domain::outcome::{Outcome, ResultError, optional_rfc3339};
use crate::domain::request_id::RequestId;
use crate::domain::time::{UnixMillis, serialize_rfc3339};
use crate::store::{RecordedReceipt, RequestRecord, RequestState};
use crate::telemetry::events;

/// What is told of a request. No more of its recipient than the person knows.
#[derive(Serialize)]
pub(super) struct StatusAnswer {
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
    error: Option<ErrorAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<DeliveryAnswer>,
}

#[derive(Serialize)]
struct ErrorAnswer {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

#[derive(Serialize)]
struct DeliveryAnswer {
    status: &'static str,
    #[serde(serialize_with = "serialize_rfc3339")]
    at: UnixMillis,
}

/// `GET /api/v1/auth/otp-status/{request_id}`.
pub(super) async fn otp_status(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<StatusAnswer>, Problem> {
    let user = api.tokens.user(&headers).await?;
    let own = Channel::ALL.into_iter().filter_map(|channel| api.own_address(&user, channel).ok());
    let own: Vec<Address> = own.collect();
    if own.is_empty() {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_recipient")
            .detail("the token has no valid `phone_number` and no valid `email`"));
    }
    let request = path
        .ok()
        .and_then(|Path(id)| RequestId::parse(&id))
        .ok_or_else(|| Problem::invalid(format!("`request_id` {}", RequestId::RULE)))?;
    if api.is_of(&request, &user.sub) {
        // An id says nothing of its channel, and is of one recipient only.
        for to in own {
            let recipient = api.recipients.address(to.channel(), to.as_str());
            if let Some(story) = api.story(&request, recipient).await? {
                return Ok(Json(StatusAnswer::of(&request, to.channel(), &story, api.clock.now())));
            }
        }
    }
    Err(Problem::new(StatusCode::NOT_FOUND, "unknown_request").detail(
        "no record of this request is kept: it waits in the queue, was refused unrecorded, is too old, or is not yours",
    ))
}

impl Api {
    pub(super) async fn story(
        &self,
        request: &RequestId,
        recipient: Digest16,
    ) -> Result<Option<RequestRecord>, Problem> {
        self.store.request_record(request, Some(recipient)).await.map_err(|error| {
            events::store_failed("story", &error, None);
            Problem::store_unavailable()
        })
    }
}

impl StatusAnswer {
    fn of(request: &RequestId, channel: Channel, story: &RequestRecord, now: UnixMillis) -> StatusAnswer {
        let answer = StatusAnswer {
            request_id: request.to_string(),
            status: "queued",
            channel,
            at: None,
            expires_at: None,
            resend_after: None,
            error: None,
            delivery: story.receipt.as_ref().map(DeliveryAnswer::of),
        };
        match &story.state {
            RequestState::Live { .. } => answer,
            RequestState::Ended(outcome) => StatusAnswer {
                status: outcome.status.as_str(),
                at: Some(outcome.at),
                expires_at: outcome.expires_at,
                resend_after: outcome.resend_after.map(|seconds| seconds_left(seconds, outcome.at, now)),
                error: ErrorAnswer::of(outcome, now),
                ..answer
            },
        }
    }
}

impl ErrorAnswer {
    fn of(outcome: &Outcome, now: UnixMillis) -> Option<ErrorAnswer> {
        let error = ResultError::from(outcome.error.as_ref()?);
        Some(ErrorAnswer {
            code: error.code.as_str(),
            message: error.message.to_owned(),
            retry_after: error.retry_after.map(|seconds| seconds_left(seconds, outcome.at, now)),
        })
    }
}

impl DeliveryAnswer {
    fn of(receipt: &RecordedReceipt) -> DeliveryAnswer {
        DeliveryAnswer { status: receipt.status.as_str(), at: receipt.at }
    }
}
