//! Seam: who carries a message to a person.
//!
//! A provider says one of five things of a message: accepted, or a [`SendFailure`], each of which is another next
//! step. What it cannot tell for sure is in doubt, never a plain failure. Provider errors hold no address, no
//! credential and no text of a message.

pub mod simulated;
pub mod twilio;

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::code::Code;
use crate::domain::outcome::SendFailure;
use crate::domain::phone::PhoneNumber;
use crate::domain::request::RequestId;

/// Carries text messages.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The name in results and metrics: one lower-case word.
    fn name(&self) -> &'static str;

    /// Hands one message over, once. Retrying is the caller's decision.
    async fn send(&self, message: &Message<'_>) -> Result<Accepted, SendFailure>;

    /// Asks whether our credentials are good, without sending anything.
    async fn check_credentials(&self) -> Result<(), CredentialFault>;
}

/// A text message to send. It holds a code: it has no `Debug` and is never stored.
pub struct Message<'a> {
    /// The request it belongs to.
    pub request: &'a RequestId,
    /// Whom it goes to.
    pub to: &'a PhoneNumber,
    /// The text.
    pub body: &'a str,
    /// The code inside the text; only a simulation looks at it.
    pub code: &'a Code,
    /// The name that the text greets; only a simulation looks at it.
    pub user_name: Option<&'a str>,
    /// How long the message is of use: later it must not be delivered.
    pub validity: Duration,
}

/// The provider has the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The provider's name for it; unknown if its answer was cut off after the status.
    pub message_id: Option<String>,
    /// How many parts the provider says the text was, if it says.
    pub segments: Option<u32>,
}

/// Why credentials could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialFault {
    /// The provider refused them.
    #[error("the provider refuses the credentials (HTTP {status}, code {code:?})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The provider's own error number.
        code: Option<u32>,
    },
    /// The provider could not be asked; they may be good.
    #[error("the provider could not be asked about the credentials: {0}")]
    Unanswered(String),
}
