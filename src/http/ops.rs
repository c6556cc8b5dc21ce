//! Probes and metrics, on a port of their own.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::telemetry::metrics;

/// Is this process ready for work? Answers why not.
pub type Readiness = Arc<dyn Fn() -> Result<(), &'static str> + Send + Sync>;

/// The routes for orchestrators and operators.
pub fn ops_router(readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(move || std::future::ready(ready(&readiness))))
        .route("/metrics", get(render_metrics))
}

pub(super) async fn live() -> &'static str {
    "ok\n"
}

fn ready(readiness: &Readiness) -> (StatusCode, &'static str) {
    match readiness() {
        Ok(()) => (StatusCode::OK, "ok"),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn render_metrics() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render())
}
