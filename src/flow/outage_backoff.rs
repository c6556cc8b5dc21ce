//! The waits while a server does not answer.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Unlimited exponential backoff from 100 ms to 3 s. Jitter lengthens each wait, at most to its double.
pub(super) struct OutageBackoff(ExponentialBackoff);

impl OutageBackoff {
    pub(super) fn new() -> OutageBackoff {
        OutageBackoff(
            ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(100))
                .with_max_delay(Duration::from_secs(3))
                .with_jitter()
                .without_max_times()
                .build(),
        )
    }

    pub(super) fn next_wait(&mut self) -> Duration {
        self.0.next().expect("the backoff is unlimited")
    }
}
