//! `POST /api/v1/ops/kill-switch/on` and `/off`: stops all sending in every worker, or resumes it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;

use super::caller::Caller;
use super::reason::{optional_reason, required_reason};
use crate::flow::operate::kill_switch::{self, KillSwitchChange};
use crate::http::api::{Api, store_problem};
use crate::http::body::Body;
use crate::http::json::JsonAnswer;
use crate::http::problem::Problem;
use crate::telemetry::events::{self, AdminAction, OperatorAct};

pub(crate) async fn turn_on(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<JsonAnswer<KillSwitchChange>, Problem> {
    let body = Body::read(&headers, &bytes)?;
    body.only(&["reason"])?;
    let reason = required_reason(&body)?;
    let act = OperatorAct { reason: Some(&reason), ..OperatorAct::default() };
    events::operator_acts(&operator, AdminAction::KillSwitchOn, &act);
    let changed = kill_switch::turn_on(api.store.as_ref(), Some(reason)).await;
    changed.map(JsonAnswer).map_err(|error| store_problem("kill_switch", &error))
}

/// The reason is for the audit log.
pub(crate) async fn turn_off(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<JsonAnswer<KillSwitchChange>, Problem> {
    let body = Body::read(&headers, &bytes)?;
    body.only(&["reason"])?;
    let reason = optional_reason(&body)?;
    let act = OperatorAct { reason: reason.as_deref(), ..OperatorAct::default() };
    events::operator_acts(&operator, AdminAction::KillSwitchOff, &act);
    let changed = kill_switch::turn_off(api.store.as_ref()).await;
    changed.map(JsonAnswer).map_err(|error| store_problem("kill_switch", &error))
}
