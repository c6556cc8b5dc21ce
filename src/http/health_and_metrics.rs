//! Probes, metrics and the word of the scaler, on the separate port `OPS_ADDR`.
//!
//! A connection serves one request, so that clients with many requests wait their turn among the probes.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::time::Instant;

use super::scale;
use crate::flow::scaler::Scaler;
use crate::telemetry::metrics::{self, Format};

/// The readiness of this process; the error is the reason.
pub type Readiness = Arc<dyn Fn() -> Result<(), Cow<'static, str>> + Send + Sync>;

/// Metrics are rendered at most once in this time, for all clients.
const RENDERED_FOR: Duration = Duration::from_millis(100);

/// A process that serves the HTTP API also tells how many workers are wanted.
pub fn ops_router(readiness: Readiness, scaler: Option<Arc<Scaler>>) -> Router {
    let rendered = RenderedMetrics::default();
    let scale = scaler.map_or_else(Router::new, scale::routes);
    Router::new()
        .merge(scale)
        .route("/livez", get(live))
        .route("/readyz", get(move || std::future::ready(ready(&readiness))))
        .route("/metrics", get(move |headers: HeaderMap| std::future::ready(rendered.recent(&headers))))
        .layer(map_response(close_behind))
}

async fn close_behind(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

pub(super) async fn live() -> &'static str {
    "ok\n"
}

fn ready(readiness: &Readiness) -> (StatusCode, Cow<'static, str>) {
    match readiness() {
        Ok(()) => (StatusCode::OK, "ok".into()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}

type Rendering = Mutex<Option<(Instant, Bytes)>>;

/// The last rendering in each format, and its time.
#[derive(Clone, Default)]
struct RenderedMetrics(Arc<[Rendering; 2]>);

impl RenderedMetrics {
    fn recent(&self, headers: &HeaderMap) -> impl IntoResponse + use<> {
        // A list may be in several lines.
        let ranges = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
        let format = Format::accepted(ranges);
        let mut last = self.0[format as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let recent = last.as_ref().filter(|(at, _)| at.elapsed() < RENDERED_FOR);
        let rendered = match recent {
            Some((_, rendered)) => rendered.clone(),
            None => last.insert((Instant::now(), format.of(metrics::render()).into())).1.clone(),
        };
        ([(header::CONTENT_TYPE, format.content_type())], rendered)
    }
}
