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
use crate::telemetry::events::{self, AdminAction, Operator, OperatorAct};

pub(crate) async fn turn_on(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<JsonAnswer<KillSwitchChange>, Problem> {
    let reason = required_reason(&body(&headers, &bytes)?)?;
    change(&api, &operator, AdminAction::KillSwitchOn, Some(reason)).await
}

pub(crate) async fn turn_off(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<JsonAnswer<KillSwitchChange>, Problem> {
    let reason = optional_reason(&body(&headers, &bytes)?)?;
    change(&api, &operator, AdminAction::KillSwitchOff, reason).await
}

fn body(headers: &HeaderMap, bytes: &Bytes) -> Result<Body, Problem> {
    let body = Body::read(headers, bytes)?;
    body.only(&["reason"])?;
    Ok(body)
}

async fn change(
    api: &Api,
    operator: &Operator,
    action: AdminAction,
    reason: Option<String>,
) -> Result<JsonAnswer<KillSwitchChange>, Problem> {
    let act = OperatorAct { reason: reason.as_deref(), ..OperatorAct::default() };
    events::operator_acts(operator, action, &act);
    let (store, by) = (api.store.as_ref(), api.acting(operator));
    let changed = match action {
        AdminAction::KillSwitchOn => kill_switch::turn_on(store, reason, &by).await,
        _ => kill_switch::turn_off(store, reason.as_deref(), &by).await,
    };
    changed.map(JsonAnswer).map_err(|error| store_problem("kill_switch", &error))
}
