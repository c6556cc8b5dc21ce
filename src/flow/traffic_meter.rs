//! Measures how requests end and how long that takes, for the state that a worker reports.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::outcome::{ErrorCode, Status};
use crate::domain::traffic::{RecentTraffic, Traffic};

pub(super) struct TrafficMeter {
    started: Instant,
    recent: Mutex<RecentTraffic>,
}

impl Default for TrafficMeter {
    fn default() -> Self {
        TrafficMeter { started: Instant::now(), recent: Mutex::default() }
    }
}

impl TrafficMeter {
    pub(super) fn request_ended(&self, status: Status, reason: Option<ErrorCode>, took: Duration) {
        self.lock().request_ended(self.started.elapsed(), status, reason, took);
    }

    pub(super) fn provider_answered(&self, took: Duration) {
        self.lock().provider_answered(self.started.elapsed(), took);
    }

    pub(super) fn total(&self) -> Traffic {
        self.lock().total(self.started.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, RecentTraffic> {
        self.recent.lock().expect("nothing panics while it holds the lock")
    }
}
