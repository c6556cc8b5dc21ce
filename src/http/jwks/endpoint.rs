//! The address where an issuer publishes its keys, and one careful question to it.
//!
//! Whoever controls the answer can make tokens: no redirect is followed, and every wait and size has a limit. No error
//! tells the URL, whose query may be a secret.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::ACCEPT;
use reqwest::{Client, StatusCode, Url};

use crate::http::auth::TokenSettingsError;

/// One whole answer, connecting included.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Dozens of keys with their certificates.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Where keys come from.
#[async_trait]
pub(crate) trait Endpoint: Send + Sync {
    /// The document as it is now.
    async fn get(&self) -> Result<Vec<u8>, Fault>;
}

/// Why there is no new set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{0}")]
    Unreachable(&'static str),
    #[error("the answer is {0}, not 200; redirects are not followed")]
    Status(u16),
    #[error("the answer is longer than {BODY_BYTES_MAX} bytes")]
    TooLong,
    #[error("the answer is no JSON Web Key Set")]
    Unreadable,
    #[error("the set has more keys than {}", super::keys::KEYS_MAX)]
    TooMany,
}

impl Fault {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Fault::Unreachable(_) => "unreachable",
            Fault::Status(_) => "status",
            Fault::TooLong => "too_long",
            Fault::Unreadable => "unreadable",
            Fault::TooMany => "too_many",
        }
    }
}

/// An address on the network.
pub(crate) struct HttpEndpoint {
    client: Client,
    url: Url,
}

impl HttpEndpoint {
    pub(crate) fn new(url: &str) -> Result<HttpEndpoint, TokenSettingsError> {
        let url = Url::parse(url).map_err(|_| TokenSettingsError::JwksUrl)?;
        let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        if !plain || !matches!(url.scheme(), "https" | "http") {
            return Err(TokenSettingsError::JwksUrl);
        }
        let mut builder = Client::builder()
            .user_agent(concat!("otpost/", env!("CARGO_PKG_VERSION")))
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER_WITHIN)
            .connect_timeout(CONNECT_WITHIN)
            // Asked every few minutes: a connection that is kept is one that breaks.
            .pool_max_idle_per_host(0);
        if !may_use_proxy(&url) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|_| TokenSettingsError::HttpClient)?;
        Ok(HttpEndpoint { client, url })
    }
}

#[async_trait]
impl Endpoint for HttpEndpoint {
    async fn get(&self) -> Result<Vec<u8>, Fault> {
        let request = self.client.get(self.url.clone());
        let request = request.header(ACCEPT, "application/jwk-set+json, application/json");
        let mut response = request.send().await.map_err(|error| not_reached(&error))?;
        if response.status() != StatusCode::OK {
            return Err(Fault::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| not_reached(&error))? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(Fault::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn not_reached(error: &reqwest::Error) -> Fault {
    Fault::Unreachable(match (error.is_connect(), error.is_timeout()) {
        (_, true) => "no answer in time",
        (true, false) if error.is_dns() => "the host name could not be resolved",
        (true, false) => "no connection, or no TLS that is trusted",
        (false, false) => "the connection broke before the end of the answer",
    })
}

/// A proxy of the environment sees only whom we talk to where it is TLS that goes through it. Of plain HTTP it could
/// change the answer, and an address of this machine is ours.
fn may_use_proxy(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    url.scheme() == "https" && !loopback
}
