//! Why a provider did not accept a message: each variant calls for a different next step.

use std::time::Duration;

/// Why a provider did not accept a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendFailure {
    /// Refused: another attempt would be refused too, for everything in the scope.
    Refused { scope: Scope, reason: RefusalReason, provider_code: Option<u32> },
    /// Not processed: a later attempt may succeed, an earlier one will not.
    Throttled {
        provider_code: Option<u32>,
        /// The wait that the provider asked for.
        retry_after: Option<Duration>,
    },
    /// Not processed: this message may succeed later. Other messages are not affected.
    Deferred { provider_code: Option<u32> },
    /// The request did not leave: another attempt is safe.
    NotConnected {
        /// Names no address.
        detail: String,
    },
    /// The message may have been sent: another attempt could deliver it twice.
    InDoubt {
        /// Names no address.
        detail: String,
    },
}

/// The extent of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    Recipient,
    /// This message, to any recipient.
    Request,
    /// The recipient's country or number range.
    Country,
    /// The number or service that the message was sent from.
    Sender,
    /// Our account or our settings, and so every message.
    Account,
    /// Not known; taken as this message only.
    Unrecognised,
}

/// Why a provider refused a message, or could not deliver it. Only reasons that change a decision have a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// The recipient asked the provider to stop.
    OptedOut,
    /// No message reaches the recipient.
    Unreachable,
    NotRegistered,
    FilteredAsSpam,
    /// The provider's fraud protection blocked the number range.
    FraudBlocked,
    CountryDisabled,
    /// Too many messages wait for the sender.
    QueueFull,
    Other,
}

impl Scope {
    /// The word of logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Recipient => "recipient",
            Scope::Request => "request",
            Scope::Country => "country",
            Scope::Sender => "sender",
            Scope::Account => "account",
            Scope::Unrecognised => "unrecognised",
        }
    }
}

impl RefusalReason {
    /// A problem of our account or texts, and so of more than one message: an operator must act.
    pub const fn concerns_every_message(self) -> bool {
        matches!(self, RefusalReason::FilteredAsSpam | RefusalReason::NotRegistered)
    }
}

impl SendFailure {
    /// A refusal whose reason changes no decision.
    pub const fn refused(scope: Scope, provider_code: Option<u32>) -> SendFailure {
        SendFailure::Refused { scope, reason: RefusalReason::Other, provider_code }
    }

    /// The word of logs and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            SendFailure::Refused { .. } => "rejected",
            SendFailure::Throttled { .. } => "throttled",
            SendFailure::Deferred { .. } => "deferred",
            SendFailure::NotConnected { .. } => "unreachable",
            SendFailure::InDoubt { .. } => "in_doubt",
        }
    }
}
