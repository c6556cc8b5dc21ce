//! `GET /scale` on `OPS_ADDR`: how many workers are wanted. KEDA's `metrics-api` trigger reads it.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use super::json::JsonAnswer;
use crate::domain::scaling::Scale;
use crate::flow::scaler::Scaler;

pub(super) fn routes(scaler: Arc<Scaler>) -> Router {
    Router::new().route("/scale", get(scale)).with_state(scaler)
}

/// A reader of the error keeps the present number.
async fn scale(State(scaler): State<Arc<Scaler>>) -> Result<JsonAnswer<Scale>, (StatusCode, String)> {
    let unknown = |unknown| (StatusCode::SERVICE_UNAVAILABLE, format!("the number is unknown: {unknown}\n"));
    scaler.answer().await.map(JsonAnswer).map_err(unknown)
}
