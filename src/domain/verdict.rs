//! Verdicts on a typed code.

use std::time::Duration;

use super::time::UnixMillis;

/// The verdict on one check. Each variant leads to a different next step of the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The code is right, and was not used before.
    Verified,
    /// The code is wrong. The check was counted.
    Wrong {
        /// The checks that the challenge still allows. Its wire word says attempts.
        attempts_left: u32,
    },
    Expired {
        at: UnixMillis,
    },
    /// There is no challenge for this recipient and purpose, or it expired long ago.
    NonePending,
    AlreadyUsed,
    /// Too many wrong attempts.
    Locked {
        /// The wait until the recipient's next check is allowed. `None`: only a new code helps.
        retry_after: Option<Duration>,
    },
    /// The code is right, but the event of it was not confirmed. The check was undone: the code can be checked again.
    Unpublished,
    /// This process lacks the key of the challenge. The check was not counted.
    KeyUnavailable,
    /// The provider that made the code gave no answer, so the code is unknown.
    Unanswered {
        /// The provider may have compared the code, so the check counts.
        counted: bool,
    },
}

impl Verdict {
    /// Every word of [`Verdict::as_str`].
    pub const WORDS: [&str; 9] = [
        "verified",
        "wrong_code",
        "code_expired",
        "no_pending_code",
        "code_used",
        "too_many_attempts",
        "queue_unavailable",
        "key_unavailable",
        "provider_unavailable",
    ];

    /// The word in HTTP answers and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Verdict::Verified => "verified",
            Verdict::Wrong { .. } => "wrong_code",
            Verdict::Expired { .. } => "code_expired",
            Verdict::NonePending => "no_pending_code",
            Verdict::AlreadyUsed => "code_used",
            Verdict::Locked { .. } => "too_many_attempts",
            Verdict::Unpublished => "queue_unavailable",
            Verdict::KeyUnavailable => "key_unavailable",
            Verdict::Unanswered { .. } => "provider_unavailable",
        }
    }
}
