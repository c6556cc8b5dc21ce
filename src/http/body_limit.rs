//! Bounds the bodies of requests.

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use tower_http::limit::RequestBodyLimitLayer;

use super::problem::Problem;

/// Refuses longer bodies. The layer itself answers in plain text, which becomes a problem in JSON here.
pub(super) fn bounded(routes: Router, bytes_max: usize) -> Router {
    let as_problem = move |response| std::future::ready(as_problem(response, bytes_max));
    routes.layer(RequestBodyLimitLayer::new(bytes_max)).layer(middleware::map_response(as_problem))
}

fn as_problem(response: Response, bytes_max: usize) -> Response {
    if response.status() != StatusCode::PAYLOAD_TOO_LARGE {
        return response;
    }
    let detail = format!("a body has at most {bytes_max} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large").detail(detail).into_response()
}
