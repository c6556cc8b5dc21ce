//! Probes and metrics, on the separate port `OPS_ADDR`.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::telemetry::metrics;

/// The readiness of this process; the error is the reason.
pub type Readiness = Arc<dyn Fn() -> Result<(), &'static str> + Send + Sync>;

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
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}

async fn render_metrics() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render())
}
