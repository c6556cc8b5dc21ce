//! What checking a typed code can come to.

use std::time::Duration;

use super::time::UnixMillis;

/// The verdict over one try. Told apart so that a person knows what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The right code, for the first time.
    Verified,
    /// The wrong code; it was counted.
    Wrong {
        /// How many more tries this challenge allows.
        attempts_left: u32,
    },
    /// A code was sent, but its life is over.
    Expired {
        /// When it ended.
        at: UnixMillis,
    },
    /// Nothing was sent to this recipient for this purpose, or it is long over.
    NonePending,
    /// The challenge was verified before.
    AlreadyUsed,
    /// Too many wrong tries. Without `retry_after` only a new code helps.
    Locked {
        /// When tries are allowed again, if waiting is what helps.
        retry_after: Option<Duration>,
    },
    /// The challenge was made under a key that this process does not have. Nothing was counted.
    KeyUnavailable,
    /// Whoever made the code could not be asked, or its answer was lost: nothing is known of the code.
    Unanswered {
        /// It may have been compared, so the try counts.
        counted: bool,
    },
}

impl Verdict {
    /// The machine word of the HTTP interface and of the metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Verdict::Verified => "verified",
            Verdict::Wrong { .. } => "wrong_code",
            Verdict::Expired { .. } => "code_expired",
            Verdict::NonePending => "no_pending_code",
            Verdict::AlreadyUsed => "code_used",
            Verdict::Locked { .. } => "too_many_attempts",
            Verdict::KeyUnavailable => "key_unavailable",
            Verdict::Unanswered { .. } => "provider_unavailable",
        }
    }
}
