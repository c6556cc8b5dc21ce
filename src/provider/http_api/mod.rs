//! A vendor's HTTP API, as a file describes it: any vendor of text messages without code for it.
//!
//! The file names the request, the authentication, the meaning of answers, and receipts. Its templates reach the values of
//! the message and nothing else. An answer that no rule of the file matches leaves the message in doubt. A vendor's messages
//! cannot be looked up: a receipt settles a doubt, or nothing does.
//!
//! A type that holds a secret has no `Debug`, and no error contains a URL.

mod answers;
mod authentication;
mod digest;
pub mod file;
mod place;
mod proof;
pub mod receipts;
mod reference;
mod request;
pub mod secrets;
pub mod table;
mod template;
mod variables;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::{Client, Request};

use self::answers::Answers;
use self::authentication::Authentication;
use self::request::RequestTemplate;
use self::template::CannotFill;
use self::variables::Extra;
use crate::clock::Clock;
use crate::domain::address::Address;
use crate::domain::encryption::ReferenceKey;
use crate::domain::phone::PhoneNumber;
use crate::domain::request_id::RequestId;
use crate::domain::send_failure::{Scope, SendFailure};
use crate::domain::time::UnixMillis;
use crate::provider::http_client::{self, failure};
use crate::provider::{
    Accepted, CredentialError, FetchedMessage, LOOKUP_UNSUPPORTED, LookupError, Message, Provider,
    ProviderMessage, WRONG_CHANNEL,
};

/// More than any answer about one message; the rest of a longer one is not read.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A provider of a file. It holds secrets: no `Debug`.
pub struct HttpApi {
    name: &'static str,
    /// Empty if the vendor chooses.
    senders: Vec<String>,
    client: Client,
    send: RequestTemplate,
    /// Shows if the credentials are valid.
    check: Option<RequestTemplate>,
    authentication: Authentication,
    answers: Answers,
    /// The public URL of the webhook.
    url: Option<String>,
    key: Option<ReferenceKey>,
}

impl HttpApi {
    fn request(&self, to: &PhoneNumber, message: &Message<'_>) -> Result<Request, CannotFill> {
        let now = Clock::System.now();
        let is_named = self.send.uses(variables::REFERENCE) || self.send.uses(variables::CALLBACK_URL);
        let key = self.key.as_ref().filter(|_| is_named);
        let reference = key.map_or_else(String::new, |key| reference::seal(key, to, message.request_id));
        let callback_url = self.url.as_ref().map_or_else(String::new, |url| format!("{url}?ref={reference}"));
        let sender = self.senders.get(message.sender).map_or("", String::as_str);
        let extra = Extra { sender, reference: &reference, callback_url: &callback_url };
        let filled = self.send.fill(&variables::of_message(to, message, extra, now))?;
        self.authentication.complete(filled, now)
    }

    /// The lines of the request that would be sent, without secrets.
    pub fn shown_request(&self, message: &Message<'_>) -> Option<Vec<String>> {
        let request = self.request(message.to.phone()?, message).ok()?;
        let mut lines = vec![format!("{} {}", request.method(), request.url())];
        for (name, value) in request.headers() {
            let shown = if value.is_sensitive() { "***" } else { value.to_str().unwrap_or("***") };
            lines.push(format!("{name}: {shown}"));
        }
        if let Some(body) = request.body().and_then(reqwest::Body::as_bytes) {
            lines.push(String::from_utf8_lossy(body).into_owned());
        }
        Some(lines)
    }

    /// Without a check nothing shows if the account is good: the refusal of one recipient must not stop all messages.
    fn checkable(&self, mut failure: SendFailure) -> SendFailure {
        if let SendFailure::Refused { scope: scope @ Scope::Account, .. } = &mut failure
            && self.check.is_none()
        {
            *scope = Scope::Unrecognised;
        }
        failure
    }

    /// Tries both alphabets of texts.
    fn cannot_be_filled(&self) -> bool {
        let request_id = RequestId::parse("r1").expect("an id");
        let region = "CO".parse().expect("a country with a numbering plan");
        let to = Address::Phone(PhoneNumber::parse("+573001234567", region).expect("a number"));
        ["text", "текст"].iter().any(|body| {
            let message = Message {
                request_id: &request_id,
                to: &to,
                sender: 0,
                body,
                mail: None,
                code: None,
                locale: None,
                user_name: None,
                validity: Duration::from_secs(600),
                attempt: 1,
            };
            self.request(to.phone().expect("a number"), &message).is_err()
        })
    }
}

#[async_trait]
impl Provider for HttpApi {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn send(&self, message: &Message<'_>) -> Result<Accepted, SendFailure> {
        let to = message.to.phone().ok_or(WRONG_CHANNEL)?;
        // A template that this message does not fit: another attempt is no use.
        let request =
            self.request(to, message).map_err(|CannotFill| SendFailure::refused(Scope::Request, None))?;
        let answer = http_client::exchange(&self.client, request, BODY_BYTES_MAX)
            .await
            .map_err(|error| failure::transport(&error))?;
        let meaning = self.answers.meaning(&answer, Timestamp::now());
        meaning.map_err(|failure| self.checkable(failure))
    }

    async fn check_credentials(&self) -> Result<(), CredentialError> {
        let Some(check) = &self.check else { return Ok(()) };
        let now = Clock::System.now();
        let filled = check.fill(&minijinja::context! {});
        let request = filled.and_then(|filled| self.authentication.complete(filled, now));
        let unanswered = |detail: &str| CredentialError::Unanswered(detail.to_owned());
        let request = request.map_err(|CannotFill| unanswered("the request of `check` cannot be filled"))?;
        let answer = http_client::exchange(&self.client, request, BODY_BYTES_MAX)
            .await
            .map_err(|error| unanswered(failure::transport_detail(&error)))?;
        match answer.status.as_u16() {
            200..=299 => Ok(()),
            status @ (401 | 403) => Err(CredentialError::Refused { status, provider_code: None }),
            _ => Err(CredentialError::Unanswered(failure::answered(answer.status, None))),
        }
    }

    fn senders(&self) -> usize {
        self.senders.len().max(1)
    }

    async fn find(&self, _to: &Address, _since: UnixMillis) -> Result<Vec<ProviderMessage>, LookupError> {
        Err(LOOKUP_UNSUPPORTED)
    }

    async fn fetch(&self, _message_id: &str) -> Result<FetchedMessage, LookupError> {
        Err(LOOKUP_UNSUPPORTED)
    }
}
