//! `POST /api/v1/sms/validate`: whether a code could be sent to each of some numbers.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::caller::Caller;
use crate::flow::inspect::numbers::{self, NumberRow};
use crate::http::api::Api;
use crate::http::body::Body;
use crate::http::json::JsonAnswer;
use crate::http::problem::Problem;
use crate::telemetry::events::{self, AdminAction};

/// Numbers in one request. The first number of a country takes milliseconds: its numbering plan is parsed then.
const NUMBERS_MAX: usize = 100;

#[derive(Serialize)]
pub(crate) struct ValidateResponse {
    numbers: Vec<NumberRow>,
}

pub(crate) async fn validate(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<JsonAnswer<ValidateResponse>, Problem> {
    let body = Body::read(&headers, &bytes)?;
    let numbers = body.texts("numbers", NUMBERS_MAX, "must be a list of 1 to 100 strings")?;
    events::operator_asked(&operator, AdminAction::Validate, None, None, false);
    // Validation uses the processor: it runs on a blocking thread, and one batch at a time.
    let Ok(permit) = api.validations.clone().try_acquire_owned() else {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy")
            .detail("other numbers are being validated")
            .retry_after(Duration::from_secs(1)));
    };
    let rules = api.rules.clone();
    let validation = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        numbers.iter().map(|number| numbers::check_number(&rules, number)).collect()
    });
    let numbers =
        validation.await.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal"))?;
    Ok(JsonAnswer(ValidateResponse { numbers }))
}
