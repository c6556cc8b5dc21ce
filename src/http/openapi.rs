//! The OpenAPI document of this interface. It is public and holds no secret.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Written by hand; `tests/it/documents` compares it with the router.
const OPENAPI: &str = include_str!("../../docs/openapi.json");

#[derive(Deserialize)]
struct Document {
    paths: BTreeMap<String, IgnoredAny>,
}

static PATHS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let document: Document = serde_json::from_str(OPENAPI).expect("a document of this repository");
    document.paths.into_keys().collect()
});

/// The paths of the document, with their parameters in braces as in the router.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    PATHS.iter().map(String::as_str)
}

/// `GET /openapi.json`, without a token.
pub(super) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}
