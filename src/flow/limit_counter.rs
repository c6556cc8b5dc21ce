//! Counts the requests that this process saw refused by a limit, for the state that it reports.

use std::sync::{Mutex, MutexGuard};

use tokio::time::Instant;

use crate::domain::limit_hits::{LimitHits, LimitHitsOfHour};
use crate::domain::reached_limit::ReachedLimit;

pub struct LimitCounter {
    started: Instant,
    hits: Mutex<LimitHitsOfHour>,
}

impl Default for LimitCounter {
    fn default() -> Self {
        LimitCounter { started: Instant::now(), hits: Mutex::default() }
    }
}

impl LimitCounter {
    /// `None` if no limit refused the request.
    pub fn add(&self, limit: Option<ReachedLimit>) {
        if let Some(limit) = limit {
            self.lock().add(self.minute(), limit);
        }
    }

    pub fn last_hour(&self) -> LimitHits {
        self.lock().total(self.minute())
    }

    fn minute(&self) -> u64 {
        self.started.elapsed().as_secs() / 60
    }

    fn lock(&self) -> MutexGuard<'_, LimitHitsOfHour> {
        self.hits.lock().expect("nothing panics while it holds the lock")
    }
}
