//! The wall clock: the system's, or one that tests pause together with tokio's timers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::domain::time::UnixMillis;

#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The system's clock, with its corrections.
    System,
    /// Follows tokio's timers, which tests pause and advance.
    Tokio {
        /// The time at `started`.
        from: UnixMillis,
        started: Instant,
    },
}

impl Clock {
    pub fn tokio() -> Clock {
        Clock::Tokio { from: Clock::System.now(), started: Instant::now() }
    }

    pub fn now(&self) -> UnixMillis {
        match self {
            Clock::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
                UnixMillis::default().plus(since)
            }
            Clock::Tokio { from, started } => from.plus(started.elapsed()),
        }
    }
}
