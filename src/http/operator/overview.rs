//! `GET /api/v1/ops/overview`: the status, for the console, which reads it every few seconds.

use std::sync::Arc;

use axum::extract::State;

use super::caller::Caller;
use crate::flow::inspect::status::StatusRow;
use crate::http::api::Api;
use crate::http::json::JsonAnswer;
use crate::telemetry::events::{self, AdminAction};

pub(crate) async fn overview(State(api): State<Arc<Api>>, Caller(operator): Caller) -> JsonAnswer<StatusRow> {
    let is_repeated = api.console().readers.is_repeated(&operator);
    events::operator_asked(&operator, AdminAction::Overview, None, None, is_repeated);
    JsonAnswer(api.inspector.status().await)
}
