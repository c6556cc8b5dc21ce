//! Twilio: settings, and the account at the HTTP API.
//!
//! A type that holds a credential has no `Debug`, and no error contains a URL.
//!
//! Paths and authentication: Twilio's OpenAPI file `twilio_api_v2010`, docs page "Requests to Twilio".

pub mod callback;
pub mod errors;
pub mod inbound;
mod lookup;
pub mod messages;
mod redaction;
mod signature;
mod status_url;
pub mod verify;

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Request, Url};
use secrecy::{ExposeSecret as _, SecretString};

use crate::domain::phone::PhoneNumber;
use crate::provider::http_client::{self, Answer, InvalidSettings, base_url, client, fault};

/// Everything needed to send through an account. It holds a secret, hence no `Debug`.
#[derive(Clone)]
pub struct TwilioSettings {
    /// `AC` and 32 hexadecimal digits.
    pub account_sid: String,
    pub authentication: Authentication,
    pub sender: Sender,
    /// `https://api.twilio.com`, a region's host, or a stand-in.
    pub base_url: String,
    /// The limit of one exchange, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// The status callback URL. The request of a message is added to its query.
    pub status_callback: Option<String>,
    pub retention: Retention,
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
    /// True for an API key, which can be revoked alone and may have fewer permissions than the account.
    fn is_api_key(&self) -> bool {
        is_sid("SK", &self.user)
    }
}

/// The parts of our messages that Twilio keeps once they are sent.
#[derive(Clone, Copy)]
pub struct Retention {
    pub keeps_texts: bool,
    /// Without them no message is found by its recipient.
    pub keeps_addresses: bool,
}

impl Retention {
    pub const ALL: Retention = Retention { keeps_texts: true, keeps_addresses: true };
}

#[derive(Clone)]
pub enum Sender {
    /// Numbers of ours, or names. A recipient always gets the same one.
    Numbers(Vec<String>),
    /// A Messaging Service, `MG` and 32 hexadecimal digits, which chooses the number.
    MessagingService(String),
}

/// The name of the account of the settings.
const NAME: &str = "twilio";
/// An API key without a permission; also an unknown one.
const CODE_NOT_AUTHORIZED: u32 = 70051;
/// More than any answer about one resource; the rest of a longer one is not read.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// An account, or a service of one, at a base URL, with the common parts of its requests.
struct Account {
    client: Client,
    /// `<base>/2010-04-01/Accounts/<sid>` or `<base>/v2/Services/<sid>`, without a `/` at its end.
    url: Url,
    headers: HeaderMap,
}

impl Account {
    fn new(settings: &TwilioSettings) -> Result<Account, InvalidSettings> {
        let TwilioSettings { account_sid, authentication, base_url, timeout, .. } = settings;
        Account::at(account_sid, authentication, base_url, ["2010-04-01", "Accounts", account_sid], *timeout)
    }

    fn at(
        account_sid: &str,
        authentication: &Authentication,
        base: &str,
        path: [&str; 3],
        timeout: Duration,
    ) -> Result<Account, InvalidSettings> {
        if !is_sid("AC", account_sid) {
            return Err(fault("the account SID must be AC and 32 hexadecimal digits"));
        }
        let mut url = base_url(base)?;
        url.path_segments_mut().expect("an http URL has a path").pop_if_empty().extend(path);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization(account_sid, authentication)?)]);
        Ok(Account { client: client(&url, timeout)?, url, headers })
    }

    /// The URL of the account or of something below it.
    fn url(&self, below: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{below}", self.url.path()));
        url
    }

    async fn exchange(&self, request: Request, body_bytes_max: usize) -> Result<Answer, reqwest::Error> {
        http_client::exchange(&self.client, request, body_bytes_max).await
    }

    async fn get(&self, url: Url, body_bytes_max: usize) -> Result<Answer, reqwest::Error> {
        self.exchange(self.reading(url), body_bytes_max).await
    }

    fn reading(&self, url: Url) -> Request {
        let mut request = Request::new(Method::GET, url);
        request.headers_mut().clone_from(&self.headers);
        request
    }
}

pub fn check_status_callback(url: &str) -> Result<(), InvalidSettings> {
    status_url::StatusUrl::parse(url).map(|_| ())
}

fn form_headers(account: &Account) -> HeaderMap {
    let mut headers = account.headers.clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers
}

/// The `Authorization` header. It is marked as sensitive: neither printed nor put into an HTTP/2 compression
/// table.
fn authorization(account_sid: &str, authentication: &Authentication) -> Result<HeaderValue, InvalidSettings> {
    let Authentication { user, password } = authentication;
    if !authentication.is_api_key() && user != account_sid {
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

/// True for a prefix and 32 hexadecimal digits, the form of all SIDs of Twilio.
fn is_sid(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_message_sid(text: &str) -> bool {
    is_sid("SM", text) || is_sid("MM", text)
}

/// A phone number as Twilio writes it. Without a `+` the text is another kind of address.
fn phone_number(text: &str) -> Option<PhoneNumber> {
    let unused = "US".parse().expect("a country with a numbering plan");
    text.starts_with('+').then(|| PhoneNumber::parse(text, unused).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authorization_header_is_not_printed() {
        let account_sid = "AC0123456789abcdefABCDEF0123456789".to_owned();
        let authentication = Authentication { user: account_sid.clone(), password: "hunter2".into() };
        let value = authorization(&account_sid, &authentication);
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
