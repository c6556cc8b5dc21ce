//! Seam: who carries a message to a person.
//!
//! A provider says one of six things of a message: accepted, or a [`SendFailure`], each of which is another next
//! step. What it cannot tell for sure is in doubt, never a plain failure; [`Provider::find`] is what settles a doubt.
//! What it reports later, by itself, is read by [`Callbacks`], which believe nothing before its signature is proven.
//! A provider carries messages of one channel, and refuses an address of another at its door: wiring that went wrong must
//! tell nobody's number to a provider of e-mails.
//! Provider errors hold no address, no credential and no text of a message.

pub mod sendgrid;
pub mod simulated;
pub mod smtp;
pub mod twilio;
pub mod unconfigured;
pub mod web;

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::address::Address;
use crate::domain::code::Code;
use crate::domain::receipt::DeliveryStatus;
use crate::domain::request_id::RequestId;
use crate::domain::send_failure::{RejectReason, Scope, SendFailure};
use crate::domain::time::UnixMillis;

/// Carries messages of one channel.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The name in results and metrics: one lower-case word.
    fn name(&self) -> &'static str;

    /// Hands one message over, once. Retrying is the caller's decision.
    async fn send(&self, message: &Message<'_>) -> Result<Accepted, SendFailure>;

    /// Asks whether our credentials are good, without sending anything.
    async fn check_credentials(&self) -> Result<(), CredentialError>;

    /// True if the provider makes the codes, and only a [`Checker`] knows what is right.
    fn makes_codes(&self) -> bool {
        false
    }

    /// True if the provider writes the texts itself: no request can choose a code, a text or its last line. Who makes codes
    /// writes them.
    fn writes_texts(&self) -> bool {
        self.makes_codes()
    }

    /// How many senders carry our messages. Each has a pace of its own, and can be refused alone.
    fn senders(&self) -> usize {
        1
    }

    /// The messages of ours that the provider made for an address since a time, as far as it shows them: what settles a
    /// doubt. An empty list says that there is none to see, which soon after a send is no proof.
    async fn find(&self, to: &Address, since: UnixMillis) -> Result<Vec<ProviderMessage>, LookupError>;

    /// What became of one message.
    async fn fetch(&self, message_id: &str) -> Result<FetchedMessage, LookupError>;
}

/// Checks codes that a provider made itself.
#[async_trait]
pub trait CodeVerifier: Send + Sync {
    /// Is the code right? Asked once. Without the name of a verification it is the one that is pending for the address.
    async fn check(
        &self,
        to: &Address,
        verification: Option<&str>,
        code: &Code,
    ) -> Result<ProviderVerdict, CodeVerifierError>;

    /// Whether the right code of a verification has been told: what is left to ask where the answer to a check was lost.
    async fn is_approved(&self, verification: &str) -> Result<bool, LookupError>;

    /// Whether there is still somebody to ask: where nobody is, every verification looks like one that is over.
    async fn is_there(&self) -> Result<(), CredentialError>;
}

/// What a provider says of a code that it made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderVerdict {
    /// It is right, and of no use any more.
    Right,
    /// It is wrong.
    Wrong,
    /// There is no such verification any more: its life is over, or it was used, or [nobody is there](Checker::is_there)
    /// who would know it.
    Gone,
    /// It had more wrong tries than the provider allows.
    TooManyTries,
}

/// Why a provider has not said whether a code is right. What it is, without any address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeVerifierError {
    /// It was surely not compared.
    #[error("the provider did not check a code: {0}")]
    NotCompared(String),
    /// It may have been.
    #[error("the provider's answer to a check was lost: {0}")]
    Lost(String),
}

/// What a provider says of a message to an address that it does not carry to, before anything leaves: no other try helps.
pub const WRONG_CHANNEL: SendFailure = SendFailure::rejected(Scope::Request, None);
/// The same of a look for messages: there can be none, and asking again is no use.
pub const LOOKUP_UNSUPPORTED: LookupError = LookupError::Refused { status: 0, code: None };

/// A message to send. It holds a code: it has no `Debug` and is never stored.
pub struct Message<'a> {
    /// The request it belongs to.
    pub request: &'a RequestId,
    /// Whom it goes to.
    pub to: &'a Address,
    /// Which of the provider's senders carries it, counted from 0.
    pub sender: usize,
    /// The text.
    pub body: &'a str,
    /// What an e-mail has besides; nothing in a text message.
    pub mail: Option<Mail<'a>>,
    /// The code inside the text; only a simulation looks at it. Nothing where the provider makes it.
    pub code: Option<&'a Code>,
    /// The language that was asked for; only a provider that writes the text itself looks at it.
    pub locale: Option<&'a str>,
    /// The name that the text greets; only a simulation looks at it.
    pub user_name: Option<&'a str>,
    /// How long the message is of use: later it must not be delivered.
    pub validity: Duration,
    /// The number of the try, from 1.
    pub attempt: u32,
}

/// Looks on while a simulation shows messages, codes included.
pub trait MessageObserver: Send + Sync {
    /// A message was shown at this time.
    fn shown(&self, message: &Message<'_>, at: UnixMillis);
}

/// What an e-mail has besides its plain text. It holds a code: no `Debug`.
#[derive(Clone, Copy)]
pub struct Mail<'a> {
    /// One line, without the code.
    pub subject: &'a str,
    /// The text as HTML.
    pub html: &'a str,
}

/// The provider has the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The provider's name for it; unknown if its answer was cut off after the status.
    pub message_id: Option<String>,
    /// How many parts the provider says the text was, if it says.
    pub segments: Option<u32>,
    /// Under which name a [`Checker`] knows its code, where the provider makes codes.
    pub verification: Option<String>,
}

/// Why credentials could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The provider refused them.
    #[error("the provider refuses the credentials (answer {status}{})", .code.map_or(String::new(), |code| format!(", code {code}")))]
    Refused {
        /// Of HTTP, or the number of an SMTP reply.
        status: u16,
        /// The provider's own error number.
        code: Option<u32>,
    },
    /// The provider has no way in for what is set. What it lacks, and what to do.
    #[error("{0}")]
    NoWayIn(&'static str),
    /// The provider knows them, and they are not allowed to send.
    #[error("the provider does not let the credentials send messages")]
    MayNotSend,
    /// The provider answers, but not this: a key that may send and not read, or an unknown one.
    #[error("the credentials may not read messages, or are unknown (code {code})")]
    MayNotRead {
        /// The provider's own error number.
        code: u32,
    },
    /// The provider could not be asked; they may be good.
    #[error("the provider could not be asked about the credentials: {0}")]
    Unanswered(String),
}

impl CredentialError {
    /// Nothing will be sent until somebody changes a setting, here or at the provider.
    pub fn is_refusal(&self) -> bool {
        match self {
            CredentialError::Refused { .. } | CredentialError::NoWayIn(_) | CredentialError::MayNotSend => {
                true
            }
            CredentialError::MayNotRead { .. } | CredentialError::Unanswered(_) => false,
        }
    }
}

/// A message that the provider made. It holds the text, and so a code: it has no `Debug` and is never stored.
#[derive(Clone)]
pub struct ProviderMessage {
    /// The provider's name for it.
    pub message_id: String,
    /// When the provider made it, corrected to our clock.
    pub created: UnixMillis,
    /// The text as the provider kept it; `None` where it was removed.
    pub text: Option<String>,
    /// How many parts the provider says the text was, if it says.
    pub segments: Option<u32>,
    /// Under which name a [`Checker`] knows its code, where the provider makes codes.
    pub verification: Option<String>,
}

/// What the provider says of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedMessage {
    /// Whom it went to, where the provider still says so.
    pub to: Option<Address>,
    /// How far it has come.
    pub status: DeliveryStatus,
    /// Why it did not arrive: the provider's own error number.
    pub code: Option<u32>,
    /// `Other` without a failure.
    pub reason: RejectReason,
}

/// Why the provider could not be asked about messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No answer that can be used: worth asking again. What failed, without any address.
    #[error("the provider could not be asked about a message: {0}")]
    Unanswered(String),
    /// Our credentials may not read messages: asking again is no use.
    #[error("the provider does not let us read messages (HTTP {status}, code {code:?})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The provider's own error number.
        code: Option<u32>,
    },
    /// The provider knows no such message.
    #[error("the provider knows no such message")]
    NotFound,
}

/// Reads what a provider reports by itself, once its signature is proven.
pub trait Callbacks: Send + Sync {
    fn endpoint(&self) -> CallbackEndpoint;

    /// Proves and reads one call. What it tells may be about several messages, in any order.
    fn read(&self, call: &Callback<'_>) -> Result<Vec<DeliveryReceipt>, CallbackError>;
}

/// The route of a provider's callbacks.
#[derive(Clone, Copy, Debug)]
pub struct CallbackEndpoint {
    /// The provider's name in events.
    pub provider: &'static str,
    pub path: &'static str,
    /// The header with the signature, in lower case.
    pub signature_header: &'static str,
    /// The header with the time of the signature, where the provider signs it.
    pub timestamp_header: Option<&'static str>,
    pub body_bytes_max: usize,
}

/// A call of a provider to us, as it came.
pub struct Callback<'a> {
    /// The query of the URL, without its `?` and as it was written.
    pub query: Option<&'a str>,
    /// The `Content-Type` header.
    pub content_type: Option<&'a str>,
    /// The header that proves who calls.
    pub signature: Option<&'a str>,
    /// The header that tells when the call was signed, where the provider has one.
    pub timestamp: Option<&'a str>,
    /// The body, as far as the door lets one in.
    pub body: &'a [u8],
}

/// What a provider says became of a message. It is proven that the provider said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryReceipt {
    /// The request that the message was sent for.
    pub request: RequestId,
    /// Whom the message went to.
    pub to: Address,
    /// The provider's name for the message.
    pub message_id: String,
    /// How far it has come.
    pub status: DeliveryStatus,
    /// Why it did not arrive: the provider's own error number.
    pub code: Option<u32>,
    /// `Other` without a failure.
    pub reason: RejectReason,
}

/// Why a call is no report. Each variant is another answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// Nobody signed it, or not the provider: 403.
    #[error("the call is not signed by the provider")]
    Forged,
    /// Signed, and nothing that we asked for: 400. It names the field.
    #[error("the call is signed, but its `{0}` cannot be read")]
    Unreadable(&'static str),
    /// Signed, but about somebody else's message or a step that we do not know: 204.
    #[error("the call is signed, but is about no message of ours or no step that matters")]
    Ignored,
}
