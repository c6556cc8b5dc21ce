//! State of a process about shards: the countries and servers that its last calls have named.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, MutexGuard};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CountrySuppression {
    pub(super) provider_code: u32,
    /// By the server's clock; `NO_END`: without end.
    pub(super) until: u64,
}

/// `None`: not read yet.
#[derive(Default)]
pub(super) struct Countries(Mutex<Option<HashMap<String, CountrySuppression>>>);

impl Countries {
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<HashMap<String, CountrySuppression>>> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }
}

/// The run ids that this process has seen.
pub(super) struct ShardServers {
    seen: Mutex<Vec<Option<String>>>,
    pub(super) next: AtomicUsize,
}

impl ShardServers {
    pub(super) fn new(shards: usize) -> ShardServers {
        ShardServers { seen: Mutex::new(vec![None; shards]), next: AtomicUsize::new(0) }
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Vec<Option<String>>> {
        self.seen.lock().expect("nothing panics while it holds the lock")
    }
}
