//! The OpenAPI document of this interface. It is public and holds no secret.

use axum::http::header;
use axum::response::IntoResponse;

/// Written by hand; `tests/it/documents` compares it with the router.
const OPENAPI: &str = include_str!("../../docs/openapi.json");

/// `GET /openapi.json`, without a token.
pub(super) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}
