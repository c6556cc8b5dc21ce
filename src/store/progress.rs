//! Progress of a request between admission and completion, as the handler with its lease reports it.

use std::time::Duration;

/// The state that a handler reports. Each duration extends the lease from the store's current time; of `Requeued`, it
/// delays the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The next attempt starts within this time. The last one counts as not sent.
    Waiting(Duration),
    /// The next attempt starts now, and ends within this time.
    Sending(Duration),
    /// The last attempt is in doubt. Reconciliation ends within this time.
    InDoubt(Duration),
    /// The lease ends, and the message returns to the queue. An attempt recorded as in doubt stays in doubt.
    Requeued {
        /// The next attempt may not start before this time has passed.
        retry_in: Duration,
        /// The last attempt is in doubt, recorded as such or not.
        in_doubt: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgressAnswer {
    Applied,
    /// A receipt proves that the message with this id was sent. Nothing more may be sent.
    AlreadySent(String),
    /// Nothing changed, because the handler does not hold the lease. Another handler has taken over the lease, this one
    /// has released it, a newer attempt is recorded, the request is completed, or it has no record.
    LeaseNotHeld,
    /// Nothing changed, because a message with this code would be useless.
    ChallengeUsedOrReplaced,
}
