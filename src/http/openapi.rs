//! This interface as a document that machines read, from which clients are made. It holds nothing that is secret.

use axum::http::header;
use axum::response::IntoResponse;

/// Written by hand; `tests/it/documents` holds it and the router to each other.
const OPENAPI: &str = include_str!("../../docs/openapi.json");

/// `GET /openapi.json`, for whoever comes.
pub(super) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}
