//! Sends through Twilio SendGrid.
//!
//! `POST /v3/mail/send` once for each e-mail. It has no idempotency key, and accepted e-mails cannot be looked up:
//! most accounts do not have the list of messages. So an attempt in doubt stays in doubt, unless a signed event comes in
//! time. 202 means that SendGrid has the e-mail, and says nothing about the mailbox.
//!
//! Fields and answers: SendGrid's OpenAPI file (`POST_mail-send`, `GET_scopes`).

pub mod events;
mod mail;
mod responses;
mod signature;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Body, Client, Method, Request, Url};
use secrecy::{ExposeSecret as _, SecretString};

use self::mail::Template;
use crate::domain::address::Address;
use crate::domain::email_sender::Mailbox;
use crate::domain::send_failure::SendFailure;
use crate::domain::time::UnixMillis;
use crate::provider::http_client::{self, InvalidSettings, base_url, client, failure, fault};
use crate::provider::{
    Accepted, CredentialError, FetchedMessage, LOOKUP_UNSUPPORTED, LookupError, Message, Provider,
    ProviderMessage, WRONG_CHANNEL,
};

/// Everything needed to send through an account. It holds a secret, hence no `Debug`.
#[derive(Clone)]
pub struct SendGridSettings {
    /// `SG.…`; it must be allowed to send.
    pub api_key: SecretString,
    /// An address of a domain that SendGrid has authenticated.
    pub from: Mailbox,
    /// `https://api.sendgrid.com`, a region's host, or a stand-in.
    pub base_url: String,
    /// The limit of one exchange, from connecting to the last byte of the answer.
    pub timeout: Duration,
}

/// SendGrid's v3 API. It holds a credential, hence no `Debug`.
pub struct SendGridMail {
    client: Client,
    send: Url,
    scopes: Url,
    headers: HeaderMap,
    template: Template,
}

/// More than any answer to us; the rest of a longer one is not read.
const BODY_BYTES_MAX: usize = 64 * 1024;

impl SendGridMail {
    /// Checks the settings and prepares the client. Nothing is connected yet.
    pub fn new(settings: SendGridSettings) -> Result<SendGridMail, InvalidSettings> {
        let base = base_url(&settings.base_url)?;
        let headers = HeaderMap::from_iter([
            (AUTHORIZATION, authorization(&settings.api_key)?),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ]);
        Ok(SendGridMail {
            client: client(&base, settings.timeout)?,
            send: below(&base, &["v3", "mail", "send"]),
            scopes: below(&base, &["v3", "scopes"]),
            headers,
            template: Template::new(settings.from),
        })
    }

    fn request(&self, method: Method, url: &Url, body: Option<Vec<u8>>) -> Request {
        let mut request = Request::new(method, url.clone());
        request.headers_mut().clone_from(&self.headers);
        *request.body_mut() = body.map(Body::from);
        request
    }
}

#[async_trait]
impl Provider for SendGridMail {
    fn name(&self) -> &'static str {
        "sendgrid"
    }

    async fn send(&self, message: &Message<'_>) -> Result<Accepted, SendFailure> {
        let (Some(mail), Address::Email(to)) = (message.mail, message.to) else {
            return Err(WRONG_CHANNEL);
        };
        let body = self.template.body(message, to, mail);
        let request = self.request(Method::POST, &self.send, Some(body));
        let answer = http_client::exchange(&self.client, request, BODY_BYTES_MAX)
            .await
            .map_err(|error| failure::transport(&error))?;
        if answer.status.is_success() {
            return Ok(Accepted {
                message_id: responses::message_id(&answer.headers),
                segments: None,
                verification_sid: None,
            });
        }
        Err(responses::refusal(&answer, Timestamp::now()))
    }

    async fn check_credentials(&self) -> Result<(), CredentialError> {
        let request = self.request(Method::GET, &self.scopes, None);
        let answer = http_client::exchange(&self.client, request, BODY_BYTES_MAX)
            .await
            .map_err(|error| CredentialError::Unanswered(failure::transport_detail(&error).to_owned()))?;
        responses::credential_verdict(&answer)
    }

    async fn find(&self, _to: &Address, _since: UnixMillis) -> Result<Vec<ProviderMessage>, LookupError> {
        Err(LOOKUP_UNSUPPORTED)
    }

    async fn fetch(&self, _message_id: &str) -> Result<FetchedMessage, LookupError> {
        Err(LOOKUP_UNSUPPORTED)
    }
}

fn below(base: &Url, segments: &[&str]) -> Url {
    let mut url = base.clone();
    url.path_segments_mut().expect("an http URL has a path").pop_if_empty().extend(segments);
    url
}

/// The `Authorization` header. It is marked as sensitive: neither printed nor put into an HTTP/2 compression table.
fn authorization(api_key: &SecretString) -> Result<HeaderValue, InvalidSettings> {
    let key = api_key.expose_secret();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(fault("the API key must be visible ASCII characters"));
    }
    let mut value = HeaderValue::try_from(format!("Bearer {key}")).expect("visible ASCII fits in a header");
    value.set_sensitive(true);
    Ok(value)
}
