//! Twilio: settings, and the one HTTP client that talks to it.
//!
//! Nothing is ever sent twice by this layer: no retries, no redirects, and every wait has a limit. Connecting
//! always gives up before the whole exchange does, so that a failure to connect is never taken for a lost
//! answer. Whatever holds a credential has no `Debug`, and no error tells a URL.
//!
//! A connection is not used again after 20 s of rest: load balancers close theirs after about a minute, and a
//! request that meets the closing is in doubt for nothing.
//!
//! Paths and authentication: Twilio's OpenAPI file `twilio_api_v2010`, docs page "Requests to Twilio".

pub mod callback;
mod errors;
mod lookup;
pub mod messages;
mod signature;
mod status_url;

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Request, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};

use crate::domain::phone::PhoneNumber;

/// Everything needed to send through an account. It holds a secret, hence no `Debug`.
#[derive(Clone)]
pub struct TwilioSettings {
    /// `AC` and 32 hexadecimal digits.
    pub account_sid: String,
    /// How we prove who we are.
    pub authentication: Authentication,
    /// Whom messages come from.
    pub sender: Sender,
    /// `https://api.twilio.com`, a region's host, or a stand-in.
    pub base_url: String,
    /// The limit of one exchange, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// Where Twilio reports what became of a message. Which message it is about is added to the URL's query.
    pub status_callback: Option<String>,
}

/// A user name and a password of HTTP Basic.
#[derive(Clone)]
pub struct Authentication {
    /// The account's SID, or that of an API key: `SK` and 32 hexadecimal digits.
    pub user: String,
    /// The account's token, or the API key's secret.
    pub password: SecretString,
}

impl Authentication {
    /// Whether this is an API key, which can be revoked alone and may do less than the account.
    fn is_api_key(&self) -> bool {
        is_sid("SK", &self.user)
    }
}

/// Whom messages come from.
#[derive(Clone)]
pub enum Sender {
    /// Numbers of ours, or names. A recipient always gets the same one.
    Numbers(Vec<String>),
    /// A Messaging Service, `MG` and 32 hexadecimal digits; it chooses.
    MessagingService(String),
}

/// Settings that cannot work. It names the setting and the rule, never the value.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct TwilioSettingsFault {
    problem: &'static str,
    #[source]
    source: Option<reqwest::Error>,
}

/// The longest wait for a connection, TLS included.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(3);
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// An API key without a permission; also an unknown one.
const CODE_NOT_AUTHORIZED: u32 = 70051;
/// More than any answer about one thing; the rest of a longer one is not read.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// An account at a base URL, with what its requests have in common made once.
struct Account {
    client: Client,
    /// `<base>/2010-04-01/Accounts/<sid>`, without a `/` at its end.
    url: Url,
    headers: HeaderMap,
}

/// A status that came, with as much of the body as came with it.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Account {
    fn new(settings: &TwilioSettings) -> Result<Account, TwilioSettingsFault> {
        if !is_sid("AC", &settings.account_sid) {
            return Err(fault("the account SID must be AC and 32 hexadecimal digits"));
        }
        let mut url = base_url(&settings.base_url)?;
        url.path_segments_mut().expect("an http URL has a path").pop_if_empty().extend([
            "2010-04-01",
            "Accounts",
            &settings.account_sid,
        ]);
        let authorization = authorization(settings)?;
        let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization)]);
        Ok(Account { client: client(&url, settings.timeout)?, url, headers })
    }

    /// The URL of the account or of something below it.
    fn url(&self, below: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{below}", self.url.path()));
        url
    }

    /// Asks once. An answer whose body breaks off or never ends is an answer: its status has come.
    async fn exchange(&self, request: Request, body_bytes_max: usize) -> Result<Answer, reqwest::Error> {
        let mut response = self.client.execute(request).await?;
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

    async fn get(&self, url: Url, body_bytes_max: usize) -> Result<Answer, reqwest::Error> {
        let mut request = Request::new(Method::GET, url);
        request.headers_mut().clone_from(&self.headers);
        self.exchange(request, body_bytes_max).await
    }
}

/// Is this an address that Twilio can be told to report to?
pub fn check_status_callback(url: &str) -> Result<(), TwilioSettingsFault> {
    status_url::StatusUrl::parse(url).map(|_| ())
}

/// The headers of a request that carries a form.
fn form_headers(account: &Account) -> HeaderMap {
    let mut headers = account.headers.clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers
}

fn client(base: &Url, timeout: Duration) -> Result<Client, TwilioSettingsFault> {
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
    builder.build().map_err(|source| TwilioSettingsFault { problem, source: Some(source) })
}

/// Whether the environment's `HTTPS_PROXY` counts. Locked-down networks have no other way out, and a proxy of
/// an `https` URL only sees whom we talk to. Of a plain `http` one it would see the credential, and a
/// loopback address is ours.
fn may_use_proxy(base: &Url) -> bool {
    let host = base.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    base.scheme() == "https" && !loopback
}

/// A URL as the API is found by, or the rule that it breaks.
pub(crate) fn base_url(text: &str) -> Result<Url, TwilioSettingsFault> {
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

/// The `Authorization` header. It is marked as sensitive: neither printed nor put into an HTTP/2 compression
/// table.
fn authorization(settings: &TwilioSettings) -> Result<HeaderValue, TwilioSettingsFault> {
    let Authentication { user, password } = &settings.authentication;
    if !settings.authentication.is_api_key() && *user != settings.account_sid {
        return Err(fault("the user must be the account SID, or an API key: SK and 32 hexadecimal digits"));
    }
    if password.expose_secret().is_empty() {
        return Err(fault("the auth token or API key secret is empty"));
    }
    let encoded = BASE64_STANDARD.encode(format!("{user}:{}", password.expose_secret()));
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).expect("base64 is ASCII");
    value.set_sensitive(true);
    Ok(value)
}

/// Whether the text is a prefix and 32 hexadecimal digits, as all of Twilio's names for things are.
fn is_sid(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether the text names a message.
fn is_message_sid(text: &str) -> bool {
    is_sid("SM", text) || is_sid("MM", text)
}

/// A number as Twilio writes it. Without a `+` it is something else.
fn phone_number(text: &str) -> Option<PhoneNumber> {
    let unused = "US".parse().expect("a country with a numbering plan");
    text.starts_with('+').then(|| PhoneNumber::parse(text, unused).ok()).flatten()
}

fn fault(problem: &'static str) -> TwilioSettingsFault {
    TwilioSettingsFault { problem, source: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    #[test]
    fn only_an_https_host_elsewhere_is_reached_through_a_proxy() {
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

    #[test]
    fn the_authorization_header_is_not_printed() {
        let account_sid = "AC0123456789abcdefABCDEF0123456789".to_owned();
        let authentication = Authentication { user: account_sid.clone(), password: "hunter2".into() };
        let value = authorization(&TwilioSettings {
            account_sid,
            authentication,
            sender: Sender::Numbers(vec![]),
            base_url: String::new(),
            timeout: Duration::ZERO,
            status_callback: None,
        });
        let value = value.expect("a valid credential");
        assert_eq!(value, "Basic QUMwMTIzNDU2Nzg5YWJjZGVmQUJDREVGMDEyMzQ1Njc4OTpodW50ZXIy");
        assert_eq!(format!("{value:?}"), "Sensitive");
    }

    #[test]
    fn a_sid_is_a_prefix_and_32_hexadecimal_digits() {
        assert!(is_sid("AC", "AC0123456789abcdefABCDEF0123456789"));
        for text in ["", "AC", "SK0123456789abcdefABCDEF0123456789", "AC0123456789abcdefABCDEF012345678g"] {
            assert!(!is_sid("AC", text), "{text}");
        }
    }
}
