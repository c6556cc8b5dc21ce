//! `GET /api/v1/sms/status`: servers, providers, kill switch and limits.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;

use crate::flow::inspect::status::StatusRow;
use crate::http::api::Api;
use crate::http::json::JsonAnswer;
use crate::http::problem::Problem;
use crate::telemetry::events::{self, AdminAction};

pub(crate) async fn status(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<JsonAnswer<StatusRow>, Problem> {
    let sub = api.tokens.admin(&headers).await?;
    events::admin_asked(&sub, AdminAction::Status, None, None);
    Ok(JsonAnswer(api.inspector.status().await))
}
