//! Fetches the key set from the URL where an issuer publishes it.
//!
//! Control over the response is control over all tokens: no redirect is followed, and time and size are bounded. No
//! error contains the URL, whose query may be a secret.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::ACCEPT;
use reqwest::{Client, StatusCode, Url};

use super::fetch_error::{BODY_BYTES_MAX, FetchError};

/// For one complete response, including the connection.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

#[async_trait]
pub(crate) trait Endpoint: Send + Sync {
    async fn get(&self) -> Result<Vec<u8>, FetchError>;
}

pub(crate) enum InvalidEndpoint {
    Url,
    HttpClient,
}

pub(crate) struct HttpEndpoint {
    client: Client,
    url: Url,
}

impl HttpEndpoint {
    pub(crate) fn new(url: &str) -> Result<HttpEndpoint, InvalidEndpoint> {
        let url = Url::parse(url).map_err(|_| InvalidEndpoint::Url)?;
        let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        if !plain || !matches!(url.scheme(), "https" | "http") {
            return Err(InvalidEndpoint::Url);
        }
        let mut builder = Client::builder()
            .user_agent(concat!("otpost/", env!("CARGO_PKG_VERSION")))
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER_WITHIN)
            .connect_timeout(CONNECT_WITHIN)
            // Requests are minutes apart: a kept connection would break in between.
            .pool_max_idle_per_host(0);
        if !may_use_proxy(&url) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|_| InvalidEndpoint::HttpClient)?;
        Ok(HttpEndpoint { client, url })
    }
}

#[async_trait]
impl Endpoint for HttpEndpoint {
    async fn get(&self) -> Result<Vec<u8>, FetchError> {
        let request = self.client.get(self.url.clone());
        let request = request.header(ACCEPT, "application/jwk-set+json, application/json");
        let mut response = request.send().await.map_err(|error| unreachable_error(&error))?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unreachable_error(&error))? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(FetchError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn unreachable_error(error: &reqwest::Error) -> FetchError {
    FetchError::Unreachable(match (error.is_connect(), error.is_timeout()) {
        (_, true) => "no answer in time",
        (true, false) if error.is_dns() => "the host name could not be resolved",
        (true, false) => "no connection, or no trusted TLS certificate",
        (false, false) => "the connection broke before the end of the response",
    })
}

/// With TLS, a proxy from the environment sees only the host name. With plain HTTP it could change the response, and
/// loopback addresses never need one.
fn may_use_proxy(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    url.scheme() == "https" && !loopback
}
