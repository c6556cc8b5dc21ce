//! `/api/v1/sms/requests`: the history of a request, and the last requests of a recipient.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::caller::Caller;
use crate::domain::audit::AuditAct;
use crate::domain::operator_reason::masked_id;
use crate::flow::explain::{self, RecentRequest, RequestExplanation};
use crate::http::api::{Api, store_problem};
use crate::http::body::Body;
use crate::http::json::JsonAnswer;
use crate::http::problem::Problem;
use crate::http::request_ids::request_id_in;
use crate::telemetry::events::{self, AdminAction};

#[derive(Serialize)]
pub(crate) struct RecentRequestsResponse {
    to: String,
    requests: Vec<RecentRequest>,
}

/// `GET /api/v1/sms/requests/{request_id}`: the history of a request.
pub(crate) async fn explain_request(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<JsonAnswer<RequestExplanation>, Problem> {
    let request_id = request_id_in(path)?;
    // It may be typed, so it may be a number or an address.
    let shown = masked_id(request_id.as_str());
    events::operator_asked(&operator, AdminAction::Request, Some(&shown), None, false);
    api.record_act(&operator, AuditAct::LookRequest, &shown).await?;
    let record = api.request_record(&request_id, None).await?.ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "unknown_request").detail(
            "no record of this request is kept: it never arrived, was rejected without a record, or is too old",
        )
    })?;
    let checks_max = api.limits.wrong_per_challenge;
    Ok(JsonAnswer(explain::explain_request(&request_id, &record, checks_max, api.clock.now())))
}

/// `POST /api/v1/sms/requests`: the last requests of a recipient. The recipient is in the body because URLs are logged.
pub(crate) async fn recent_requests(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<JsonAnswer<RecentRequestsResponse>, Problem> {
    let body = Body::read(&headers, &bytes)?;
    let to = api.address_in(&body)?;
    events::operator_asked(&operator, AdminAction::Requests, None, Some(&to), false);
    api.record_act(&operator, AuditAct::LookRecipient, to.masked()).await?;
    let recipient = api.recipient_keyring.address(to.channel(), to.as_str());
    let requests = explain::recent_requests(api.store.as_ref(), recipient)
        .await
        .map_err(|error| store_problem("recent", &error))?;
    Ok(JsonAnswer(RecentRequestsResponse { to: to.masked(), requests }))
}
