//! Seam to the providers, which deliver messages to people.
//!
//! A provider accepts a message or answers with a [`SendFailure`], each of which calls for a different next step. An answer
//! that proves nothing is in doubt, never a plain failure; [`Provider::find`] resolves it. [`Callbacks`] read the receipts
//! that a provider sends, and believe nothing before the signature is verified. A provider serves one channel and refuses
//! addresses of another before anything leaves: wrong wiring must not show a phone number to a provider of e-mails.
//! Errors of providers hold no address, no credential and no text of a message.

pub mod http_api;
pub mod http_client;
pub mod sendgrid;
pub mod simulated;
pub mod smtp;
pub mod twilio;
pub mod unconfigured;

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::address::Address;
use crate::domain::amount::{Amount, Currency};
use crate::domain::code::Code;
use crate::domain::opt_status::OptStatus;
use crate::domain::receipt::DeliveryStatus;
use crate::domain::request_id::RequestId;
use crate::domain::send_failure::{RefusalReason, Scope, SendFailure};
use crate::domain::time::UnixMillis;

/// Delivers messages of one channel.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The name in results and metrics: one lower-case word.
    fn name(&self) -> &'static str;

    /// Sends one message, once. Retries are the caller's decision.
    async fn send(&self, message: &Message<'_>) -> Result<Accepted, SendFailure>;

    async fn check_credentials(&self) -> Result<(), CredentialError>;

    /// True if the provider makes the codes, so that only a [`CodeVerifier`] can check them.
    fn makes_codes(&self) -> bool {
        false
    }

    /// True if the provider writes the texts: no request can choose a code, a text or its last line. A provider that makes
    /// codes also writes the texts.
    fn writes_texts(&self) -> bool {
        self.makes_codes()
    }

    /// The number of senders. Each has a rate of its own and can be refused alone.
    fn senders(&self) -> usize {
        1
    }

    /// Lists our messages to an address since a time, as far as the provider shows them. Soon after an attempt an empty list
    /// proves nothing.
    async fn find(&self, to: &Address, since: UnixMillis) -> Result<Vec<ProviderMessage>, LookupError>;

    async fn fetch(&self, message_id: &str) -> Result<FetchedMessage, LookupError>;

    /// True if the provider keeps the texts of messages, and deletes them at our request.
    fn redacts(&self) -> bool {
        false
    }

    /// Lists our messages to an address whose texts the provider keeps, the newest first.
    async fn list_unredacted(&self, _to: &Address) -> Result<UnredactedMessages, LookupError> {
        Err(LOOKUP_UNSUPPORTED)
    }

    /// Deletes the text of a message that has left the provider.
    async fn redact(&self, _message_id: &str) -> Result<Redacted, LookupError> {
        Err(LOOKUP_UNSUPPORTED)
    }
}

#[async_trait]
pub trait CodeVerifier: Send + Sync {
    /// Checks a code, once. Without the SID of a verification, the pending one of the address counts.
    async fn check(
        &self,
        to: &Address,
        verification_sid: Option<&str>,
        code: &Code,
    ) -> Result<ProviderVerdict, CodeVerifierError>;

    /// True if a correct code has approved the verification: a lost answer to a check leaves this question.
    async fn is_approved(&self, verification_sid: &str) -> Result<bool, LookupError>;

    /// Checks that the service exists: without it every verification looks expired.
    async fn is_there(&self) -> Result<(), CredentialError>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderVerdict {
    /// Correct, and used up now.
    Right,
    Wrong,
    /// No such verification: expired, used, or the [service does not exist](CodeVerifier::is_there).
    Gone,
    /// More checks than the provider allows.
    TooManyChecks,
}

/// A check without a verdict. The text names no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeVerifierError {
    /// The code was certainly not compared.
    #[error("the provider did not check a code: {0}")]
    NotCompared(String),
    /// The code may have been compared.
    #[error("the provider's answer to a check was lost: {0}")]
    Lost(String),
}

/// The failure of a message to an address of another channel, before anything leaves: another attempt is no use.
pub const WRONG_CHANNEL: SendFailure = SendFailure::refused(Scope::Request, None);
/// The failure of a message lookup that the provider does not support: another lookup is no use.
pub const LOOKUP_UNSUPPORTED: LookupError = LookupError::Refused { status: 0, provider_code: None };

/// A message to send. It holds a code: it has no `Debug` and is never stored.
pub struct Message<'a> {
    pub request_id: &'a RequestId,
    pub to: &'a Address,
    /// The provider's sender, counted from 0.
    pub sender: usize,
    pub body: &'a str,
    /// `None` in a text message.
    pub mail: Option<Mail<'a>>,
    /// The code in the text, for the simulator; `None` if the provider makes it.
    pub code: Option<&'a Code>,
    /// The requested language, for a provider that writes the text.
    pub locale: Option<&'a str>,
    /// The name in the greeting, for the simulator.
    pub user_name: Option<&'a str>,
    /// After this time the message must not be delivered.
    pub validity: Duration,
    /// Counted from 1.
    pub attempt: u32,
}

/// Observes the messages of the simulator, codes included.
pub trait MessageObserver: Send + Sync {
    fn shown(&self, message: &Message<'_>, at: UnixMillis);
}

/// The parts of an e-mail beside its plain text. It holds a code: no `Debug`.
#[derive(Clone, Copy)]
pub struct Mail<'a> {
    /// One line, without the code.
    pub subject: &'a str,
    pub html: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The provider's id of the message; unknown if the answer was cut off after the status.
    pub message_id: Option<String>,
    /// The segments by the provider's count.
    pub segments: Option<u32>,
    /// The SID by which a [`CodeVerifier`] knows the code, if the provider makes codes.
    pub verification_sid: Option<String>,
}

impl Accepted {
    /// The id is that of the message: Verify may name only the Verification, whose messages have other ids.
    pub fn names_message(&self) -> bool {
        self.message_id.is_some() && self.message_id != self.verification_sid
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("the provider refuses the credentials (answer {status}{})", .provider_code.map_or(String::new(), |number| format!(", code {number}")))]
    Refused {
        /// The HTTP status, or the SMTP reply code.
        status: u16,
        provider_code: Option<u32>,
    },
    /// Valid credentials and a service that does not exist, or an unknown account: the provider answers both alike.
    #[error("the provider knows no such service (answer {status}{})", .provider_code.map_or(String::new(), |number| format!(", code {number}")))]
    NoSuchService { status: u16, provider_code: Option<u32> },
    /// The provider does not offer the authentication of our settings. Holds the missing feature and the remedy.
    #[error("{0}")]
    UnsupportedLogin(&'static str),
    /// Valid credentials without the permission to send.
    #[error("the provider does not let the credentials send messages")]
    MayNotSend,
    /// Credentials that may send but not read, or unknown ones: the provider answers both alike.
    #[error("the credentials may not read messages, or are unknown (code {provider_code})")]
    MayNotRead { provider_code: u32 },
    /// Nothing shows if the credentials are valid: there is no check (`None`), or its answer says nothing of them.
    #[error("nothing shows if the credentials are valid{}", .status.map_or(String::new(), |status| format!(": their check was answered with HTTP {status}")))]
    NotShown { status: Option<u16> },
    /// No answer: the credentials may be valid.
    #[error("the credentials could not be checked at the provider: {0}")]
    Unanswered(String),
}

impl CredentialError {
    /// True if an operator must change a setting, here or at the provider, before anything can be sent.
    pub fn is_refusal(&self) -> bool {
        match self {
            CredentialError::Refused { .. }
            | CredentialError::NoSuchService { .. }
            | CredentialError::UnsupportedLogin(_)
            | CredentialError::MayNotSend => true,
            CredentialError::MayNotRead { .. }
            | CredentialError::NotShown { .. }
            | CredentialError::Unanswered(_) => false,
        }
    }
}

/// A message in the provider's list. It holds the text, and so a code: it has no `Debug` and is never stored.
#[derive(Clone)]
pub struct ProviderMessage {
    pub message_id: String,
    /// The time of creation, converted to our clock.
    pub created: UnixMillis,
    /// The text as the provider keeps it; `None` if it was deleted.
    pub text: Option<String>,
    /// The segments by the provider's count.
    pub segments: Option<u32>,
    /// The SID by which a [`CodeVerifier`] knows the code, if the provider makes codes.
    pub verification_sid: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedMessage {
    /// `None` if the provider has deleted the recipient.
    pub to: Option<Address>,
    pub status: DeliveryStatus,
    pub provider_code: Option<u32>,
    /// `Other` without a failure.
    pub reason: RefusalReason,
    /// For all segments; `None` if the provider does not know it, or not yet.
    pub price: Option<MessagePrice>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagePrice {
    pub amount: Amount,
    pub currency: Currency,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnredactedMessages {
    pub message_ids: Vec<String>,
    /// False if there are more messages than are listed at once.
    pub are_all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redacted {
    /// Also of a message that the provider does not know any more.
    Done,
    /// The message is still on its way.
    TooEarly,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No usable answer: another lookup may succeed. Names no address.
    #[error("the message lookup got no answer from the provider: {0}")]
    Unanswered(String),
    /// Our credentials may not read messages: another lookup is no use.
    #[error("the provider does not let us read messages (HTTP {status}, code {provider_code:?})")]
    Refused { status: u16, provider_code: Option<u32> },
    #[error("the provider knows no such message")]
    NotFound,
}

/// Reads the status callbacks of a provider, after verifying the signature.
pub trait Callbacks: Send + Sync {
    fn endpoint(&self) -> CallbackEndpoint;

    /// The checks that need no body. False: the call is forged, and its body is not worth reading.
    fn may_be_signed(&self, call: &Callback<'_>) -> bool {
        call.signature.is_some()
    }

    /// The answer to a call that only asks if the webhook is ours.
    fn handshake(&self, _call: &Callback<'_>) -> Option<String> {
        None
    }

    /// Verifies and reads one call, which may report on several messages, in any order.
    fn read(&self, call: &Callback<'_>) -> Result<Vec<DeliveryReceipt>, CallbackError>;
}

/// Reads the messages of people that a provider passes on, after verifying the signature.
#[async_trait]
pub trait InboundMessages: Send + Sync {
    fn endpoint(&self) -> CallbackEndpoint;

    /// Verifies and reads one call. One that neither opts in nor out is [`CallbackError::Ignored`].
    fn read(&self, call: &Callback<'_>) -> Result<InboundMessage, CallbackError>;

    /// When the provider got the message, by its own clock. It also shows that the message is as the call says.
    async fn sent_at(&self, message: &InboundMessage) -> Result<UnixMillis, LookupError>;
}

/// A message by which a person opts in or out. Its signature was verified. It holds a person's text, hence no `Debug`.
pub struct InboundMessage {
    pub from: Address,
    pub message_id: String,
    pub status: OptStatus,
    /// The provider's error number for a message to a recipient that has opted out.
    pub provider_code: u32,
    pub text: String,
}

#[derive(Clone, Copy, Debug)]
pub struct CallbackEndpoint {
    pub provider: &'static str,
    pub path: &'static str,
    /// The header with the signature, in lower case.
    pub signature_header: &'static str,
    /// The header with the time of the signature, where the provider signs it.
    pub timestamp_header: Option<&'static str>,
    pub body_bytes_max: usize,
    /// The provider may also call by GET.
    pub by_get: bool,
    /// The body of a 200 that the provider expects; `None`: a 204.
    pub reply: Option<&'static str>,
}

pub struct Callback<'a> {
    /// The query of the URL, without its `?` and as it was written.
    pub query: Option<&'a str>,
    pub content_type: Option<&'a str>,
    pub signature: Option<&'a str>,
    /// The value of the timestamp header, if the provider has one.
    pub timestamp: Option<&'a str>,
    /// At most [`CallbackEndpoint::body_bytes_max`].
    pub body: &'a [u8],
}

/// A delivery receipt. Its signature was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryReceipt {
    pub request_id: RequestId,
    pub to: Address,
    pub message_id: String,
    pub status: DeliveryStatus,
    pub provider_code: Option<u32>,
    /// `Other` without a failure.
    pub reason: RefusalReason,
}

/// A callback without a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// Not signed by the provider: 403.
    #[error("the call is not signed by the provider")]
    Forged,
    /// Signed, but unreadable: 400. Holds the name of the field.
    #[error("the call is signed, but its `{0}` cannot be read")]
    Unreadable(&'static str),
    /// Signed, but without a reference of ours: 204.
    #[error("the call is signed, but has no reference of ours")]
    Foreign,
    /// Signed, but about a foreign message or a status without meaning here: 204.
    #[error("the call is signed, but concerns no message or status of ours")]
    Ignored,
}

impl CallbackError {
    /// In the log and in a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            CallbackError::Forged => "forged",
            CallbackError::Unreadable(_) => "unreadable",
            CallbackError::Foreign => "foreign",
            CallbackError::Ignored => "ignored",
        }
    }
}
