//! The page of `otpost dev`: a sample front end beside a phone that shows the simulated messages.
//!
//! It shows codes and issues tokens without authentication, so it exists only with a [`Handset`], which `app` creates
//! for `otpost dev` with simulated messages only. Other machines are refused by the address of the peer. Other pages in
//! the same browser are refused by `Host`, against DNS rebinding, and on `/dev/` also by `Sec-Fetch-Site` and `Origin`.

mod dev_token;
mod handset;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::http::uri::Authority;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use tokio_util::sync::CancellationToken;

use self::dev_token::TokenSigner;
pub use self::handset::Handset;
use self::handset::MessageStreams;
use super::problem::Problem;
use super::same_origin::{host, require_same_http_origin};
use super::static_files::{SCRIPT, file, with_headers};
use crate::config::Settings;

pub struct Page {
    streams: MessageStreams,
    signer: Option<TokenSigner>,
    listening: IpAddr,
}

impl Page {
    /// `listening` is the address that the page is served on. `shutdown` ends the open message streams.
    pub fn new(
        handset: Arc<Handset>,
        settings: &Settings,
        listening: SocketAddr,
        shutdown: CancellationToken,
    ) -> Page {
        // A configured secret may be valid elsewhere, so the page signs nothing with it.
        let jwt = settings.jwt.as_ref().filter(|_| !is_given(settings, "JWT_SECRET"));
        Page {
            streams: MessageStreams::new(handset, shutdown),
            signer: jwt.and_then(|jwt| TokenSigner::new(jwt, settings.default_region)),
            listening: listening.ip(),
        }
    }
}

fn is_given(settings: &Settings, name: &str) -> bool {
    settings.shown.iter().any(|shown| shown.name == name && shown.given)
}

pub(super) fn routes(page: Page) -> Router {
    let Page { streams, signer, listening } = page;
    let dev = Router::new()
        .route("/dev/messages", get(handset::messages).with_state(streams))
        .route("/dev/token", post(dev_token::token).with_state(Arc::new(signer)))
        .route_layer(middleware::from_fn(require_same_http_origin));
    Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("page/index.html")))
        .route("/page.css", file("text/css; charset=utf-8", include_str!("page/page.css")))
        .route("/page.js", file(SCRIPT, include_str!("page/page.js")))
        .route("/gateway.js", file(SCRIPT, include_str!("page/gateway.js")))
        .route("/handset.js", file(SCRIPT, include_str!("page/handset.js")))
        .route("/words.js", file(SCRIPT, include_str!("page/words.js")))
        .route("/texts.js", file(SCRIPT, include_str!("page/texts.js")))
        .merge(dev)
        .route_layer(middleware::from_fn_with_state(listening, require_this_machine))
        .layer(middleware::map_response(with_headers))
}

/// Checks the peer, because another machine can send any `Host`; and the `Host`, because a page loaded under a foreign
/// name that now resolves to this machine sends that name.
async fn require_this_machine(State(listening): State<IpAddr>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    if !peer.is_some_and(|peer| is_this_machine(peer, listening)) {
        return refused("foreign_host", "this page answers only this machine");
    }
    match host(request.headers()).is_some_and(|host| is_own_name(&host, listening)) {
        true => next.run(request).await,
        false => refused("foreign_host", "this page answers only under a name of this machine"),
    }
}

fn refused(code: &'static str, detail: &str) -> Response {
    Problem::new(StatusCode::FORBIDDEN, code).detail(detail).into_response()
}

/// True for loopback addresses and for the address that is listened on.
fn is_this_machine(peer: IpAddr, listening: IpAddr) -> bool {
    let (peer, listening) = (peer.to_canonical(), listening.to_canonical());
    peer.is_loopback() || (peer == listening && !peer.is_unspecified())
}

/// True for `localhost`, loopback addresses and the address that is listened on.
fn is_own_name(host: &Authority, listening: IpAddr) -> bool {
    let name = host.host();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|it| it.is_loopback() || (it == listening && !it.is_unspecified()))
}

#[cfg(test)]
mod tests;
