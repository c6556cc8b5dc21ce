//! Why a provider did not accept a message. Each variant calls for a different next step.

use std::time::Duration;

/// Why a provider did not accept a message. Each variant is another next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendFailure {
    /// Never again for this recipient, message, country, sender or account.
    Rejected {
        /// The provider's own error number.
        code: Option<u32>,
        /// How much the refusal stops.
        scope: Scope,
    },
    /// It was not processed: later, not sooner.
    Throttled {
        /// The provider's own error number.
        code: Option<u32>,
        /// How long the provider asked to wait.
        retry_after: Option<Duration>,
    },
    /// It was not processed: later, which says nothing of others.
    Deferred {
        /// The provider's own error number.
        code: Option<u32>,
    },
    /// Nothing left us: safe to try again.
    Unreachable {
        /// What failed, without any address.
        detail: String,
    },
    /// It may have been sent: trying again could deliver twice.
    InDoubt {
        /// What failed, without any address.
        detail: String,
    },
}

/// How much a refusal stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// This recipient.
    Recipient,
    /// This message, whoever gets it.
    Request,
    /// The recipient's country or number range.
    Country,
    /// The number or service that it was sent from.
    Sender,
    /// Everything: our account or our settings.
    Account,
    /// Nobody told us; it is taken for this message only.
    Unrecognised,
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

impl SendFailure {
    /// The word of logs and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            SendFailure::Rejected { .. } => "rejected",
            SendFailure::Throttled { .. } => "throttled",
            SendFailure::Deferred { .. } => "deferred",
            SendFailure::Unreachable { .. } => "unreachable",
            SendFailure::InDoubt { .. } => "in_doubt",
        }
    }
}
