//! Progress of a lease between admission and completion.

use std::time::Duration;

/// The state that a lease reports. Each duration extends the lease from the store's current time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The next attempt starts within this time. The last one was surely not accepted.
    Waiting(Duration),
    /// The next attempt starts now, and ends within this time.
    Sending(Duration),
    /// The last attempt is in doubt. Reconciliation ends within this time.
    InDoubt(Duration),
    /// The lease ends, and the message returns to the queue. A recorded doubt remains.
    Requeued {
        /// The next attempt may not start earlier than this.
        due: Duration,
        /// The last attempt is in doubt, recorded as such or not.
        in_doubt: bool,
    },
}

/// The answer to a [`Progress`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgressResult {
    /// The update was applied.
    Applied,
    /// A receipt proves that the message with this id was sent. Nothing more may be sent.
    AlreadySent(String),
    /// The lease is over, a newer attempt exists, or the request is completed or unknown. Nothing changed.
    NotOwner,
    /// The challenge was used or replaced, so its code is useless. Nothing changed.
    ChallengeReplaced,
}
