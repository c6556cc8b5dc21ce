//! The heartbeat of a process that only answers HTTP. It shows `otpost store reshard` that the process runs, and notices in time
//! that the settings of the process do not fit the stored data.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::random::random_id;
use crate::store::{Store, StoreError, StoreFault};

/// Within the 15 s in which the store takes a process for running.
const EVERY: Duration = Duration::from_secs(5);
/// A later answer counts as none.
const TIMEOUT: Duration = Duration::from_millis(500);

pub struct StoreWatch {
    store: Arc<dyn Store>,
    process_id: u64,
    misfit: Mutex<Option<StoreFault>>,
}

impl StoreWatch {
    pub fn new(store: Arc<dyn Store>) -> StoreWatch {
        StoreWatch { store, process_id: random_id(), misfit: Mutex::default() }
    }

    pub async fn run(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.check().await;
        }
    }

    /// An outage of the store does not end a misfit that is known.
    pub async fn check(&self) {
        match tokio::time::timeout(TIMEOUT, self.store.heartbeat(self.process_id, false)).await {
            Ok(Err(StoreError::Unavailable(fault))) if fault.is_of_settings() => {
                *self.lock() = Some(fault);
            }
            Ok(Ok(_)) => *self.lock() = None,
            Ok(Err(_)) | Err(_) => {}
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
