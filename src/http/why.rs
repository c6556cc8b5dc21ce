//! For operators: what happened to a request, and which were the last ones of a recipient. Whoever asks is written down.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::Api;
use super::body::Body;
use super::problem::Problem;
use crate::domain::request_id::RequestId;
use crate::flow::explain::{self, Explanation, Glimpse};
use crate::store::StoreError;
use crate::telemetry::events::{self, AdminAction};

/// The last requests of a recipient.
#[derive(Serialize)]
pub(super) struct LastRequests {
    to: String,
    requests: Vec<Glimpse>,
}

/// `GET /api/v1/sms/requests/{request_id}`: what happened to a request.
pub(super) async fn explain_request(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Explanation>, Problem> {
    let sub = api.tokens.admin(&headers).await?;
    let request = path
        .ok()
        .and_then(|Path(id)| RequestId::parse(&id))
        .ok_or_else(|| Problem::invalid(format!("`request_id` {}", RequestId::RULE)))?;
    events::admin_asked(&sub, AdminAction::Request, Some(request.as_str()), None);
    let story =
        api.store.request_record(&request, None).await.map_err(|error| unanswered("story", &error))?;
    let story = story.ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "unknown_request")
            .detail("no record of this request is kept: it never came, was refused unrecorded, or is too old")
    })?;
    let tries_max = api.limits.wrong_per_challenge;
    Ok(Json(explain::explain(&request, &story, tries_max, api.clock.now())))
}

/// `POST /api/v1/sms/requests`: the last requests of a recipient. Whoever that is does not belong in a URL, which others log.
pub(super) async fn last_requests(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Json<LastRequests>, Problem> {
    let sub = api.tokens.admin(&headers).await?;
    let body = Body::read(&headers, &bytes)?;
    let to = api.address_in(&body)?;
    events::admin_asked(&sub, AdminAction::Requests, None, Some(&to));
    let recipient = api.recipients.address(to.channel(), to.as_str());
    let requests = explain::last_requests(api.store.as_ref(), recipient)
        .await
        .map_err(|error| unanswered("recent", &error))?;
    Ok(Json(LastRequests { to: to.to_string(), requests }))
}

fn unanswered(step: &'static str, error: &StoreError) -> Problem {
    events::store_failed(step, error, None);
    Problem::store_unavailable()
}
