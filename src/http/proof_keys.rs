//! The endpoint that publishes the keys of proofs.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::api::Api;
use super::proof::ProofSigner;

/// Receivers fetch the keys again after this time at the latest: a new key is published that long before it signs.
const CACHE_CONTROL: &str = "public, max-age=300";
const NO_KEYS: &[u8] = b"{\"keys\":[]}\n";

/// `GET /.well-known/jwks.json`, without a token.
pub(super) async fn key_set(State(api): State<Arc<Api>>) -> impl IntoResponse {
    let keys = api.proofs.as_ref().map_or(Bytes::from_static(NO_KEYS), ProofSigner::key_set);
    ([(header::CONTENT_TYPE, "application/jwk-set+json"), (header::CACHE_CONTROL, CACHE_CONTROL)], keys)
}
