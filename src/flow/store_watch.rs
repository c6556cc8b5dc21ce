//! The heartbeat and the reports of a process that answers HTTP. The heartbeat shows `otpost store reshard` that the process runs, notices in time
//! that the settings of the process do not fit the stored data, and brings the log filter.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::limit_counter::LimitCounter;
use super::random::random_id;
use crate::domain::key_check::KeyCheck;
use crate::domain::worker_state::{ProcessRole, WorkerState};
use crate::store::{Store, StoreError, StoreFault};
use crate::telemetry::log_filter;

/// Within the 15 s in which the store takes a process for running.
const EVERY: Duration = Duration::from_secs(5);
/// After a report that failed: a second one that is missing would show the process as silent.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The first one may wait for a connection, and for the library to be loaded.
const FIRST_CHECKS_MAX: usize = 3;
/// A later answer counts as none.
const TIMEOUT: Duration = Duration::from_millis(500);

pub struct StoreWatch {
    store: Arc<dyn Store>,
    process_id: u64,
    started: Instant,
    keys: Vec<KeyCheck>,
    limits: Arc<LimitCounter>,
    misfit: Mutex<Option<StoreFault>>,
}

impl StoreWatch {
    pub fn new(store: Arc<dyn Store>, keys: Vec<KeyCheck>, limits: Arc<LimitCounter>) -> StoreWatch {
        let (process_id, started) = (random_id(), Instant::now());
        StoreWatch { store, process_id, started, keys, limits, misfit: Mutex::default() }
    }

    /// Before the process answers whether it is ready. An outage of the store must not delay that.
    pub async fn begin(&self) {
        for _ in 0..FIRST_CHECKS_MAX {
            if self.check().await {
                return;
            }
        }
    }

    pub async fn run(&self) {
        loop {
            // A report that fails harms no request, and the status shows that it is missing.
            let state = self.state();
            let reported = timeout(TIMEOUT, self.store.report_worker(self.process_id, Some(&state))).await;
            let is_reported = matches!(reported, Ok(Ok(_)));
            tokio::time::sleep(if is_reported { EVERY } else { RETRY_AFTER }).await;
            self.check().await;
        }
    }

    /// Without it the process shows for some more seconds.
    pub async fn end(&self) {
        let _ = timeout(TIMEOUT, self.store.report_worker(self.process_id, None)).await;
    }

    fn state(&self) -> WorkerState {
        WorkerState {
            role: ProcessRole::Http,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            limit_hits: self.limits.last_hour(),
            keys: self.keys.clone(),
            uptime: self.started.elapsed(),
            ..WorkerState::default()
        }
    }

    /// Was there an answer? An outage of the store does not end a misfit that is known.
    async fn check(&self) -> bool {
        match timeout(TIMEOUT, self.store.heartbeat(self.process_id, false)).await {
            Ok(Err(StoreError::Unavailable(fault))) if fault.is_of_settings() => {
                log_filter::store_silent();
                *self.lock() = Some(fault);
                true
            }
            Ok(Ok(shared)) => {
                log_filter::store_answered(shared.log_filter.as_ref());
                *self.lock() = None;
                true
            }
            Ok(Err(_)) | Err(_) => {
                log_filter::store_silent();
                false
            }
        }
    }

    /// The reason for which no request can succeed, however long the process waits.
    pub fn misfit(&self) -> Option<StoreFault> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<StoreFault>> {
        self.misfit.lock().expect("nothing panics while it holds the lock")
    }
}
