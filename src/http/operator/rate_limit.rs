//! `POST /api/v1/sms/rate-limit`: how much of its limits a recipient has used.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;

use super::caller::Caller;
use crate::domain::audit::AuditAct;
use crate::flow::inspect::limits::{LimitUsageRow, limit_usage};
use crate::http::api::{Api, store_problem};
use crate::http::body::Body;
use crate::http::json::JsonAnswer;
use crate::http::problem::Problem;
use crate::telemetry::events::{self, AdminAction};

pub(crate) async fn rate_limit(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<JsonAnswer<LimitUsageRow>, Problem> {
    let body = Body::read(&headers, &bytes)?;
    let to = api.address_in(&body)?;
    events::operator_asked(&operator, AdminAction::RateLimit, None, Some(&to), false);
    api.record_act(&operator, AuditAct::LookLimits, to.masked()).await?;
    let row =
        limit_usage(api.store.as_ref(), &api.recipient_keyring, &api.limits, &to, api.clock.now()).await;
    row.map(JsonAnswer).map_err(|error| store_problem("usage", &error))
}
