//! The operator who calls: a token with the scope `otp:admin`, and the address of the client.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;

use crate::http::api::Api;
use crate::http::client_address::client_address;
use crate::http::problem::Problem;
use crate::telemetry::events::Operator;

/// An argument of every handler for operators.
pub(crate) struct Caller(pub(super) Operator);

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Caller, Problem> {
        let admin = api.tokens.admin(&parts.headers).await?;
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        let client = peer.map(|peer| client_address(peer, &parts.headers, &api.trusted_proxies));
        Ok(Caller(Operator { sub: admin.sub, jti: admin.jti, client }))
    }
}
