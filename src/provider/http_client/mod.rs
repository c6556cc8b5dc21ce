//! The HTTP client of all HTTP providers, with answers of a bounded size.
//!
//! Nothing is ever sent twice by this layer: no retries, no redirects, and every wait has a limit. Connecting
//! always gives up before the whole exchange does, so that a failure to connect is never taken for a lost
//! answer. No error contains a URL.
//!
//! A connection is not used again after 20 s of idleness: load balancers close theirs after about a minute, and a
//! request that meets the closing is in doubt for nothing.

pub(super) mod failure;
pub(super) mod retry_after_header;

use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Request, StatusCode, Url};

use crate::telemetry::trace::spans;

/// Invalid settings. The text names the setting and the rule, never the value.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct InvalidSettings {
    problem: &'static str,
    #[source]
    source: Option<reqwest::Error>,
}

/// The longest wait for a connection, TLS included.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(3);
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// A status, with as much of the body as arrived.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// Sends a request once. An answer whose body breaks off or never ends still counts: its status has arrived.
pub(super) async fn exchange(
    client: &Client,
    request: Request,
    body_bytes_max: usize,
) -> Result<Answer, reqwest::Error> {
    let url = request.url();
    let mut span =
        spans::provider_request(request.method().as_str(), url.host_str(), url.port_or_known_default());
    let answered = client.execute(request).await;
    let mut response = answered.inspect_err(|error| span.failed(error_type(error)))?;
    span.answered(response.status().as_u16());
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = body_bytes_max - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == body_bytes_max {
            break;
        }
    }
    Ok(Answer { status, headers, body })
}

/// The lines of a request, for people. Values of headers that are marked as sensitive are left out.
pub(super) fn shown(request: &Request) -> Vec<String> {
    let mut lines = vec![format!("{} {}", request.method(), request.url())];
    for (name, value) in request.headers() {
        let shown = if value.is_sensitive() { "***" } else { value.to_str().unwrap_or("***") };
        lines.push(format!("{name}: {shown}"));
    }
    let body = request.body().and_then(reqwest::Body::as_bytes);
    lines.extend(body.map(|body| String::from_utf8_lossy(body).into_owned()));
    lines
}

fn error_type(error: &reqwest::Error) -> &'static str {
    match (error.is_connect(), error.is_timeout()) {
        (true, _) => "connection",
        (false, true) => "timeout",
        (false, false) => "broken_connection",
    }
}

/// A client for one base URL. Nothing is connected yet.
pub(super) fn client(base: &Url, timeout: Duration) -> Result<Client, InvalidSettings> {
    if timeout.is_zero() {
        return Err(fault("the time-out must be longer than nothing"));
    }
    let mut builder = Client::builder()
        .user_agent(concat!("otpost/", env!("CARGO_PKG_VERSION")))
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none())
        .timeout(timeout)
        .connect_timeout(CONNECT_TIMEOUT_MAX.min(timeout / 2))
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .tcp_nodelay(true);
    if !may_use_proxy(base) {
        builder = builder.no_proxy();
    }
    let problem = "the HTTP client could not be set up";
    builder.build().map_err(|source| InvalidSettings { problem, source: Some(source) })
}

/// True if the environment's `HTTPS_PROXY` counts. Locked-down networks have no other way out, and a proxy of
/// an `https` URL sees only the host name. Of a plain `http` one it would see the credential, and a
/// loopback address is ours.
fn may_use_proxy(base: &Url) -> bool {
    let host = base.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    base.scheme() == "https" && !loopback
}

/// The base URL of an API, or the rule that it breaks.
pub(crate) fn base_url(text: &str) -> Result<Url, InvalidSettings> {
    let url = Url::parse(text).map_err(|_| fault("the base URL is not a URL"))?;
    let plain = url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "https" | "http") {
        return Err(fault("the base URL must start with https:// or http://"));
    }
    if !plain || url.query().is_some() || url.fragment().is_some() {
        return Err(fault("the base URL must have no user, query or fragment"));
    }
    Ok(url)
}

pub(super) fn fault(problem: &'static str) -> InvalidSettings {
    InvalidSettings { problem, source: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_https_host_elsewhere_is_reached_through_a_proxy() {
        let url = |text: &str| Url::parse(text).expect("a URL");
        assert!(may_use_proxy(&url("https://api.twilio.com")));
        for direct in [
            "http://api.twilio.com",
            "http://127.0.0.1:8080",
            "https://127.0.0.1:8443",
            "https://localhost",
            "https://[::1]:1",
        ] {
            assert!(!may_use_proxy(&url(direct)), "{direct}");
        }
    }
}
