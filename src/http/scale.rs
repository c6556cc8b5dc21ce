//! `GET /scale` on `OPS_ADDR`: how many workers are wanted. KEDA's `metrics-api` trigger reads it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use super::json::JsonAnswer;
use super::problem::Problem;
use crate::domain::scaling::Scale;
use crate::flow::scaler::Scaler;

pub(super) fn routes(scaler: Arc<Scaler>) -> Router {
    Router::new().route("/scale", get(scale)).with_state(scaler)
}

/// A reader of the error keeps the present number.
async fn scale(State(scaler): State<Arc<Scaler>>) -> Result<JsonAnswer<Scale>, Problem> {
    scaler.answer().await.map(JsonAnswer).map_err(|unknown| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "scale_unknown")
            .detail(unknown)
            .retry_after(Duration::from_secs(5))
    })
}
