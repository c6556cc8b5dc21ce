//! `GET /api/v1/sms/defence`: the scopes that the pumping defence holds, and the overrides of operators.

use std::sync::Arc;

use axum::extract::State;

use super::caller::Caller;
use crate::flow::inspect::defence::{DefenceReport, defence as read_defence};
use crate::http::api::{Api, store_problem};
use crate::http::json::JsonAnswer;
use crate::http::problem::Problem;
use crate::telemetry::events::{self, AdminAction};

pub(crate) async fn defence(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
) -> Result<JsonAnswer<DefenceReport>, Problem> {
    events::operator_asked(&operator, AdminAction::Defence, None, None, false);
    let report = read_defence(api.store.as_ref(), api.defence_mode, api.clock.now()).await;
    report.map(JsonAnswer).map_err(|error| store_problem("defence", &error))
}
