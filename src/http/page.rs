//! The page of `otpost dev`: what a front end does with codes, beside a telephone that shows what was sent.
//!
//! It shows codes and gives tokens to whoever asks, so it is there only where a [`Handset`] is: `app/parts.rs` makes
//! one for `otpost dev` with simulated messages, and for nothing else. Another page in the same browser must not get
//! at it: it answers only under a name of this machine, which no name that is turned to it later (DNS rebinding) is,
//! and what is behind `/dev/` only itself. Nor must another machine: whoever asks is on this one, whatever is listened to.

mod handset;
mod token;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use self::handset::Handset;
use self::token::Minter;
use super::problem::Problem;
use crate::config::Settings;

/// How many browsers may look on at once.
const LOOKING_ON_MAX: usize = 16;

/// What the page works with.
pub struct Page {
    handset: Arc<Handset>,
    minter: Option<Minter>,
    listening: IpAddr,
    looking_on: Arc<Semaphore>,
    /// Ends what would keep the process from stopping.
    stop: CancellationToken,
}

impl Page {
    /// A page on an address that is listened to.
    pub fn new(
        handset: Arc<Handset>,
        settings: &Settings,
        listening: SocketAddr,
        stop: CancellationToken,
    ) -> Page {
        Page {
            handset,
            // A secret of somebody's signs nothing here: it may open other doors.
            minter: settings.jwt.as_ref().filter(|_| !is_given(settings, "JWT_SECRET")).and_then(Minter::new),
            listening: listening.ip(),
            looking_on: Arc::new(Semaphore::new(LOOKING_ON_MAX)),
            stop,
        }
    }
}

fn is_given(settings: &Settings, name: &str) -> bool {
    settings.shown.iter().any(|shown| shown.name == name && shown.given)
}

/// Everything below `/` that is the page's.
pub(super) fn routes(page: Page) -> Router {
    let page = Arc::new(page);
    let behind = Router::new()
        .route("/dev/messages", get(handset::messages))
        .route("/dev/token", post(token::token))
        .route_layer(middleware::from_fn(only_for_itself));
    Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("page/index.html")))
        .route("/page.css", file("text/css; charset=utf-8", include_str!("page/page.css")))
        .route("/page.js", file(SCRIPT, include_str!("page/page.js")))
        .route("/gateway.js", file(SCRIPT, include_str!("page/gateway.js")))
        .route("/handset.js", file(SCRIPT, include_str!("page/handset.js")))
        .route("/words.js", file(SCRIPT, include_str!("page/words.js")))
        .route("/texts.js", file(SCRIPT, include_str!("page/texts.js")))
        .merge(behind)
        .route_layer(middleware::from_fn_with_state(page.listening, only_here))
        .layer(middleware::map_response(with_headers))
        .with_state(page)
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Serves a text that is a part of the program.
fn file(kind: &'static str, text: &'static str) -> MethodRouter<Arc<Page>> {
    let kind = HeaderValue::from_static(kind);
    get(move || async move { ([(header::CONTENT_TYPE, kind)], text) })
}

const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Nothing is loaded from elsewhere, run inline, framed, guessed at or kept.
async fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A page that was loaded under another name, which now leads here, asks under that name. Another machine may ask under
/// any.
async fn only_here(State(listening): State<IpAddr>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    if !peer.is_some_and(|peer| is_here(peer, listening)) {
        return refused("foreign_host", "this is there for this machine only");
    }
    match host(request.headers()).is_some_and(|host| is_ours(&host, listening)) {
        true => next.run(request).await,
        false => refused("foreign_host", "this is there under a name of this machine only"),
    }
}

/// Browsers say where a request comes from. What is no browser may say nothing.
async fn only_for_itself(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let from_here = site.is_none_or(|site| site == b"same-origin" || site == b"none");
    let ours = host(headers).map(|host| format!("http://{host}"));
    let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
    let by_us = origin.is_none_or(|origin| ours.is_some_and(|ours| origin == ours.as_bytes()));
    match from_here && by_us {
        true => next.run(request).await,
        false => refused("foreign_origin", "this is for the page of otpost itself"),
    }
}

fn refused(code: &'static str, detail: &str) -> Response {
    Problem::new(StatusCode::FORBIDDEN, code).detail(detail).into_response()
}

fn host(headers: &HeaderMap) -> Option<Authority> {
    headers.get(header::HOST)?.to_str().ok()?.parse().ok()
}

/// True for this machine: it asks itself by the loopback address, or by the one that is listened to.
fn is_here(peer: IpAddr, listening: IpAddr) -> bool {
    let (peer, listening) = (peer.to_canonical(), listening.to_canonical());
    peer.is_loopback() || (peer == listening && !peer.is_unspecified())
}

/// True for this machine by its own names, and for the address that is listened to.
fn is_ours(host: &Authority, listening: IpAddr) -> bool {
    let name = host.host();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|it| it.is_loopback() || (it == listening && !it.is_unspecified()))
}

#[cfg(test)]
mod tests;
