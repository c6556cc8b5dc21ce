//! `GET /api/v1/sms/status`: servers, providers, kill switch and limits.

use std::sync::Arc;

use axum::extract::State;

use super::caller::Caller;
use crate::flow::inspect::status::StatusRow;
use crate::http::api::Api;
use crate::http::json::JsonAnswer;
use crate::telemetry::events::{self, AdminAction};

pub(crate) async fn status(State(api): State<Arc<Api>>, Caller(operator): Caller) -> JsonAnswer<StatusRow> {
    events::operator_asked(&operator, AdminAction::Status, None, None, false);
    JsonAnswer(api.inspector.status().await)
}
