//! A vendor's HTTP API, as a file describes it: any vendor of text messages without code for it.
//!
//! The file names the request, the authentication, the meaning of answers, lookups and receipts. Its templates reach the
//! values of the message and nothing else. An answer that no rule of the file matches leaves the message in doubt.
//!
//! A type that holds a secret has no `Debug`, and no error contains a URL.

mod answers;
mod authentication;
mod digest;
mod endpoint;
pub mod file;
pub mod file_settings;
mod handshake;
mod jwt;
mod lookup;
mod place;
mod proof;
pub mod provider_table;
pub mod receipts;
mod reference;
mod request;
mod routes_table;
pub mod secrets;
mod statuses;
pub mod table;
mod template;
pub mod twilio_account;
mod variables;
mod vendor_time;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::Request;

use self::answers::Answers;
use self::authentication::Authentication;
use self::endpoint::Endpoint;
use self::lookup::{Fetch, Lookup};
use self::template::CannotFill;
use self::variables::Extra;
use crate::clock::Clock;
use crate::domain::address::Address;
use crate::domain::code::Code;
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
/// A vendor may still be busy with the first of two requests.
const REPEAT_AFTER: Duration = Duration::from_secs(1);

/// A provider of a file. It holds secrets: no `Debug`.
pub struct HttpApi {
    name: &'static str,
    /// Empty if the vendor chooses.
    senders: Vec<String>,
    send: Endpoint,
    /// Shows if the credentials are valid.
    check: Option<Endpoint>,
    lookup: Option<Lookup>,
    fetch: Option<Fetch>,
    authentication: Authentication,
    answers: Answers,
    /// The public URL of the webhook.
    url: Option<String>,
    key: Option<ReferenceKey>,
    /// The limit of each exchange with a vendor that recognises a repeat by its key.
    repeats_within: Option<Duration>,
}

impl HttpApi {
    fn request(&self, to: &PhoneNumber, message: &Message<'_>) -> Result<Request, CannotFill> {
        let (now, template) = (Clock::System.now(), self.send.template());
        let is_named = template.uses(variables::REFERENCE) || template.uses(variables::CALLBACK_URL);
        let key = self.key.as_ref().filter(|_| is_named);
        let reference = key.map_or_else(String::new, |key| reference::seal(key, to, message.request_id));
        let callback_url = self.url.as_ref().map_or_else(String::new, |url| format!("{url}?ref={reference}"));
        let key = self.key.as_ref().filter(|_| template.uses(variables::IDEMPOTENCY_KEY));
        let idempotency_key = key.map_or_else(String::new, |key| self.idempotency_key(key, to, message));
        let extra = Extra {
            sender: self.senders.get(message.sender).map_or("", String::as_str),
            reference: &reference,
            callback_url: &callback_url,
            idempotency_key: &idempotency_key,
        };
        self.send.request(&variables::of_message(to, message, extra, now), &self.authentication, now)
    }

    /// The same for every attempt of a message. Another code of the same request has another key: it is another message.
    fn idempotency_key(&self, key: &ReferenceKey, to: &PhoneNumber, message: &Message<'_>) -> String {
        let code = message.code.map_or("", Code::expose);
        let fields = [self.name, message.request_id.as_str(), to.e164(), code];
        key.idempotency_key(&fields.map(str::as_bytes))
    }

    async fn send_once(&self, request: Request) -> Result<Accepted, SendFailure> {
        let answer = self.send.exchange(request, BODY_BYTES_MAX).await;
        let answer = answer.map_err(|error| failure::transport(&error))?;
        let meaning = self.answers.meaning(&answer, Timestamp::now());
        meaning.map_err(|failure| self.checkable(failure))
    }

    /// The lines of the request that would be sent, without secrets.
    pub fn shown_request(&self, message: &Message<'_>) -> Option<Vec<String>> {
        let request = self.request(message.to.phone()?, message).ok()?;
        Some(http_client::shown(&request))
    }

    /// The lines of the request that checks the account; `None` without one.
    pub fn shown_check(&self) -> Option<Vec<String>> {
        let now = Clock::System.now();
        let request = self.check.as_ref()?.request(&of_check(now), &self.authentication, now);
        request.ok().map(|request| http_client::shown(&request))
    }

    /// True if the vendor reads single messages, so that their receipts can be polled.
    pub fn reads_messages(&self) -> bool {
        self.fetch.is_some()
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

fn of_check(now: UnixMillis) -> minijinja::Value {
    minijinja::context! { timestamp => now.as_seconds() }
}

#[async_trait]
impl Provider for HttpApi {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn send(&self, message: &Message<'_>) -> Result<Accepted, SendFailure> {
        let to = message.to.phone().ok_or(WRONG_CHANNEL)?;
        // A template that this message does not fit: another attempt is no use.
        let mut request =
            self.request(to, message).map_err(|CannotFill| SendFailure::refused(Scope::Request, None))?;
        let Some(within) = self.repeats_within else { return self.send_once(request).await };
        *request.timeout_mut() = Some(within);
        let repeat = request.try_clone();
        let first = self.send_once(request).await;
        let (Err(SendFailure::InDoubt { .. }), Some(repeat)) = (&first, repeat) else { return first };
        tokio::time::sleep(REPEAT_AFTER).await;
        // Only an acceptance says something of the first one.
        self.send_once(repeat).await.or(first)
    }

    /// An answer beside 401 and 403 to a request of a client that is wrong, such as 404 or 405, shows nothing of the account.
    async fn check_credentials(&self) -> Result<(), CredentialError> {
        let Some(check) = &self.check else { return Err(CredentialError::NotShown { status: None }) };
        let answer = check.ask(of_check, &self.authentication, BODY_BYTES_MAX).await;
        let answer = answer.map_err(CredentialError::Unanswered)?;
        match answer.status.as_u16() {
            200..=299 => Ok(()),
            status @ (401 | 403) => Err(CredentialError::Refused { status, provider_code: None }),
            408 | 429 | 500.. => Err(CredentialError::Unanswered(failure::answered(answer.status, None))),
            status => Err(CredentialError::NotShown { status: Some(status) }),
        }
    }

    fn senders(&self) -> usize {
        self.senders.len().max(1)
    }

    async fn find(&self, to: &Address, since: UnixMillis) -> Result<Vec<ProviderMessage>, LookupError> {
        let (Some(lookup), Some(to)) = (&self.lookup, to.phone()) else { return Err(LOOKUP_UNSUPPORTED) };
        lookup.find(&self.authentication, to, since).await
    }

    async fn fetch(&self, message_id: &str) -> Result<FetchedMessage, LookupError> {
        let Some(fetch) = &self.fetch else { return Err(LOOKUP_UNSUPPORTED) };
        fetch.fetch(&self.authentication, message_id).await
    }
}
