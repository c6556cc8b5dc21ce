//! Notices that the broker refuses every message.
//!
//! RabbitMQ 3.10 refuses what a channel publishes to a quorum queue, if the first message came while the queue had no
//! leader, and goes on to refuse when there is one. A new channel helps. A queue that is full refuses too; then a new
//! channel changes nothing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const ENDS_AFTER: Duration = Duration::from_secs(5);

/// Of one connection.
#[derive(Default)]
pub(super) struct Refusals {
    /// The first refusal since a message was taken.
    since: Mutex<Option<Instant>>,
}

impl Refusals {
    pub(super) fn taken(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// True if no message was taken for so long that another connection should be tried.
    pub(super) fn refused(&self) -> bool {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.get_or_insert_with(Instant::now).elapsed() >= ENDS_AFTER
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn refusals_end_a_connection_only_if_nothing_is_taken_between_them() {
        let refusals = Refusals::default();
        for _ in 0..10 {
            assert!(!refusals.refused());
            advance(ENDS_AFTER / 2).await;
            assert!(!refusals.refused());
            refusals.taken();
            advance(ENDS_AFTER).await;
        }
        assert!(!refusals.refused());
        advance(ENDS_AFTER).await;
        assert!(refusals.refused());
    }
}
