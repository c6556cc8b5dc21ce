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

/// The last answers of the shards' servers.
pub(super) struct ShardServers {
    shards: Mutex<Vec<ShardServer>>,
    pub(super) next: AtomicUsize,
}

#[derive(Clone, Default)]
pub(super) struct ShardServer {
    /// As this process has seen it.
    pub(super) run_id: Option<String>,
    /// Checks in a row without an answer.
    pub(super) unanswered: u32,
}

/// One late answer is no silence.
const SILENT_AFTER: u32 = 2;

impl ShardServers {
    pub(super) fn new(shards: usize) -> ShardServers {
        let shards = vec![ShardServer::default(); shards];
        ShardServers { shards: Mutex::new(shards), next: AtomicUsize::new(0) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<ShardServer>> {
        self.shards.lock().expect("nothing panics while it holds the lock")
    }

    /// The number of shards whose server does not answer.
    pub(super) fn silent(&self) -> usize {
        self.lock().iter().filter(|server| server.unanswered >= SILENT_AFTER).count()
    }
}
