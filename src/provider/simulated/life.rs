//! The life of a simulated provider: a scripted number ends it for a while.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::domain::time::UnixMillis;

const DEAD_FOR: Duration = Duration::from_secs(60);

pub(super) struct Life {
    clock: Clock,
    /// In milliseconds since 1970.
    dead_until: AtomicU64,
}

impl Life {
    pub(super) fn new(clock: Clock) -> Life {
        Life { clock, dead_until: AtomicU64::new(0) }
    }

    /// A provider that is dead already returns no later.
    pub(super) fn end(&self) {
        if !self.is_over() {
            self.dead_until.store(self.clock.now().plus(DEAD_FOR).0, Ordering::Relaxed);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.clock.now() < UnixMillis(self.dead_until.load(Ordering::Relaxed))
    }
}
