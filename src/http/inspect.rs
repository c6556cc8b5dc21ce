//! For operators: the status, a recipient's limits, and whether numbers can be sent to. Whoever asks is written down.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::Api;
use super::body::Body;
use super::problem::Problem;
use crate::flow::inspect::limits::{self, LimitsRow};
use crate::flow::inspect::numbers::{self, NumberRow};
use crate::flow::inspect::status::StatusRow;
use crate::telemetry::events::{self, AdminAction};

/// Numbers in one question. One of a country that was not met before takes milliseconds of reading its plan.
const NUMBERS_MAX: usize = 100;

/// What is known of numbers.
#[derive(Serialize)]
pub(super) struct Numbers {
    numbers: Vec<NumberRow>,
}

/// `GET /api/v1/sms/status`: how everything is.
pub(super) async fn status(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<StatusRow>, Problem> {
    let sub = api.tokens.admin(&headers).await?;
    events::admin_asked(&sub, AdminAction::Status, None, None);
    Ok(Json(api.inspector.status().await))
}

/// `POST /api/v1/sms/rate-limit`: how much of its limits a recipient has used.
pub(super) async fn rate_limit(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Json<LimitsRow>, Problem> {
    let sub = api.tokens.admin(&headers).await?;
    let body = Body::read(&headers, &bytes)?;
    let to = api.address_in(&body)?;
    events::admin_asked(&sub, AdminAction::RateLimit, None, Some(&to));
    let row = limits::limits(api.store.as_ref(), &api.recipients, &api.limits, &to, api.clock.now()).await;
    row.map(Json).map_err(|error| {
        events::store_failed("usage", &error, None);
        Problem::store_unavailable()
    })
}

/// `POST /api/v1/sms/validate`: whether a code could be sent to each number.
pub(super) async fn validate(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Json<Numbers>, Problem> {
    let sub = api.tokens.admin(&headers).await?;
    let body = Body::read(&headers, &bytes)?;
    let numbers = body.texts("numbers", NUMBERS_MAX, "must be a list of 1 to 100 strings")?;
    events::admin_asked(&sub, AdminAction::Validate, None, None);
    // It takes a processor, not a wait: beside what else this process does, and one question at a time.
    let Ok(turn) = api.validating.clone().try_acquire_owned() else {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy")
            .detail("other numbers are being looked at")
            .retry_after(std::time::Duration::from_secs(1)));
    };
    let rules = api.rules.clone();
    let looked_at = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        numbers.iter().map(|number| numbers::number(&rules, number)).collect()
    });
    let numbers = looked_at.await.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal"))?;
    Ok(Json(Numbers { numbers }))
}
