//! `/api/v1/ops/suppressions`: lists, adds and removes suppressed recipients.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::caller::Caller;
use super::reason::optional_reason;
use crate::flow::operate::suppressions::{self, HOURS_MAX, SuppressedRecipient, SuppressionRow};
use crate::http::api::{Api, store_problem};
use crate::http::body::Body;
use crate::http::json::JsonAnswer;
use crate::http::problem::Problem;
use crate::store::retention::SUPPRESSIONS_MAX;
use crate::telemetry::events::{self, AdminAction, OperatorAct};

const LISTED_MAX: u32 = 200;

#[derive(Serialize)]
pub(crate) struct SuppressionsResponse {
    suppressions: Vec<SuppressionRow>,
    /// There are more than the listed ones.
    more: bool,
}

/// `GET`: first those without an end, then those that end last.
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
) -> Result<JsonAnswer<SuppressionsResponse>, Problem> {
    const _: () = assert!(LISTED_MAX < SUPPRESSIONS_MAX);
    events::operator_asked(&operator, AdminAction::Suppressions, None, None, false);
    let mut suppressions = suppressions::list(api.store.as_ref(), LISTED_MAX + 1)
        .await
        .map_err(|error| store_problem("suppressions", &error))?;
    let more = suppressions.len() > LISTED_MAX as usize;
    suppressions.truncate(LISTED_MAX as usize);
    Ok(JsonAnswer(SuppressionsResponse { suppressions, more }))
}

/// `POST`: returns the suppression in force.
pub(crate) async fn add(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<JsonAnswer<SuppressionRow>, Problem> {
    let body = Body::read(&headers, &bytes)?;
    body.only(&["to", "channel", "reason", "hours"])?;
    let to = api.address_in(&body)?;
    let (reason, hours) = (optional_reason(&body)?, body.whole_number("hours", 1, HOURS_MAX)?);
    let act = OperatorAct { to: Some(&to), reason: reason.as_deref(), hours, ..OperatorAct::default() };
    events::operator_acts(&operator, AdminAction::Suppress, &act);
    let recipient = SuppressedRecipient::new(&api.recipient_keyring, &to);
    let added =
        suppressions::add(api.store.as_ref(), &recipient, reason.as_deref(), hours, &api.acting(&operator))
            .await;
    added.map(JsonAnswer).map_err(|error| store_problem("suppress", &error))
}

/// `POST …/remove`, because the recipient is in the body.
pub(crate) async fn remove(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<JsonAnswer<SuppressionRow>, Problem> {
    let body = Body::read(&headers, &bytes)?;
    body.only(&["to", "channel"])?;
    let to = api.address_in(&body)?;
    let act = OperatorAct { to: Some(&to), ..OperatorAct::default() };
    events::operator_acts(&operator, AdminAction::EndSuppression, &act);
    let recipient = SuppressedRecipient::new(&api.recipient_keyring, &to);
    let removed = suppressions::remove(api.store.as_ref(), &recipient, &api.acting(&operator)).await;
    let removed = removed.map_err(|error| store_problem("suppress", &error))?;
    removed.map(JsonAnswer).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "not_suppressed").detail("this recipient is not suppressed")
    })
}
