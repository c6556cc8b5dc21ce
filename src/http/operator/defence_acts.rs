//! `/api/v1/ops/defence/…`: why a request to a number is refused or not, and the overrides of operators.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};

use super::caller::Caller;
use super::reason::required_reason;
use crate::domain::audit::AuditAct;
use crate::domain::defence_list::{
    OVERRIDE_TIME_RULE, OVERRIDES_MAX, OverrideAction, OverrideTarget, parse_override_time,
};
use crate::flow::defence::DefendedRequest;
use crate::flow::inspect::defence::{self as inspect, DefenceExplanation, OverrideRow};
use crate::flow::operate::defence::{self, OverriddenNumbers};
use crate::http::api::{Api, store_problem};
use crate::http::body::Body;
use crate::http::json::JsonAnswer;
use crate::http::problem::Problem;
use crate::telemetry::events::{self, AdminAction, OperatorAct};

const ACTION_RULE: &str = "must be \"allow\" or \"deny\"";

/// `POST …/explain`, because the recipient is in the body.
pub(crate) async fn explain(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<JsonAnswer<DefenceExplanation>, Problem> {
    let body = Body::read(&headers, &bytes)?;
    body.only(&["to", "user_id", "client_ip"])?;
    let to = api.address_in(&body)?;
    let user = body.optional("user_id", "must be a string", |text| Some(api.recipient_keyring.user(text)))?;
    let ip = body.optional("client_ip", "must be an IP address", |text| text.parse::<IpAddr>().ok())?;
    events::operator_asked(&operator, AdminAction::DefenceExplain, None, Some(&to), false);
    api.record_act(&operator, AuditAct::LookLimits, to.masked()).await?;
    let recipient = api.recipient_keyring.address(to.channel(), to.as_str());
    let network = ip.map(|ip| api.recipient_keyring.network(ip));
    let request = DefendedRequest { to: &to, recipient, user, network };
    let percent = api.console().defence_budget_percent;
    let explained = inspect::explain(api.store.as_ref(), &request, percent).await;
    let explained = explained.map_err(|error| store_problem("defence", &error))?;
    explained.map(JsonAnswer).ok_or_else(|| Problem::invalid("`to` must be a phone number"))
}

/// `POST …/overrides`: allows or denies numbers for a time, whatever is held.
pub(crate) async fn set(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<JsonAnswer<OverrideRow>, Problem> {
    let body = Body::read(&headers, &bytes)?;
    body.only(&["target", "to", "action", "for", "reason"])?;
    let action = body.required("action", ACTION_RULE, |word| match word {
        "allow" => Some(OverrideAction::Allow),
        "deny" => Some(OverrideAction::Deny),
        _ => None,
    })?;
    let duration = body.required("for", OVERRIDE_TIME_RULE, parse_override_time)?;
    let (numbers, reason) = (api.numbers_in(&body)?, required_reason(&body)?);
    let act = OperatorAct {
        numbers: Some(&numbers.shown),
        reason: Some(&reason),
        seconds: Some(duration.as_secs()),
        ..OperatorAct::default()
    };
    let logged = match action {
        OverrideAction::Allow => AdminAction::DefenceAllow,
        OverrideAction::Deny => AdminAction::DefenceDeny,
    };
    events::operator_acts(&operator, logged, &act);
    let (store, by) = (api.store.as_ref(), api.acting(&operator));
    let set = defence::set(store, &numbers, action, duration, &reason, &by).await;
    let set = set.map_err(|error| store_problem("set_defence_override", &error))?;
    set.map(JsonAnswer).ok_or_else(|| {
        Problem::new(StatusCode::CONFLICT, "too_many_overrides")
            .detail(format!("there are {OVERRIDES_MAX} overrides: remove one first"))
    })
}

/// `POST …/overrides/remove`: what was removed.
pub(crate) async fn remove(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<JsonAnswer<OverrideRow>, Problem> {
    let body = Body::read(&headers, &bytes)?;
    body.only(&["target", "to"])?;
    let numbers = api.numbers_in(&body)?;
    let act = OperatorAct { numbers: Some(&numbers.shown), ..OperatorAct::default() };
    events::operator_acts(&operator, AdminAction::DefenceRemove, &act);
    let removed = defence::remove(api.store.as_ref(), &numbers, &api.acting(&operator)).await;
    let removed = removed.map_err(|error| store_problem("set_defence_override", &error))?;
    removed.map(JsonAnswer).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "no_override").detail("there is no override of these numbers")
    })
}

impl Api {
    /// A country or digits in `target`, or one number in `to`.
    fn numbers_in(&self, body: &Body) -> Result<OverriddenNumbers, Problem> {
        match body.optional("target", OverrideTarget::RULE, OverrideTarget::parse)? {
            Some(target) => Ok(OverriddenNumbers::of_target(target)),
            None => Ok(OverriddenNumbers::of_number(&self.recipient_keyring, &self.address_in(body)?)),
        }
    }
}
