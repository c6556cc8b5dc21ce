//! What time it is: the system's clock, or one that a test pauses together with tokio's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::domain::time::UnixMillis;

/// A source of wall-clock time.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The system's clock, with its corrections.
    System,
    /// Moves with tokio's timers, from a fixed start: paused and advanced with them.
    Tokio {
        /// The time at `started`.
        from: UnixMillis,
        /// When the clock was made.
        started: Instant,
    },
}

impl Clock {
    /// A clock that starts now and moves with tokio's timers.
    pub fn tokio() -> Clock {
        Clock::Tokio { from: Clock::System.now(), started: Instant::now() }
    }

    /// The time now.
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
