//! A change of the number of shards, for `otpost store reshard`.

use crate::domain::shards::Shards;

/// Things of which none moves: each ends with a change of the number of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredCounts {
    /// Requests in progress whose deadline is not over.
    pub live_requests: u64,
    /// Marks by which a repeated request is recognised.
    pub completed_requests: u64,
    /// Recipients, users, IPs and networks with counted events.
    pub limits: u64,
    /// Codes that may still be checked.
    pub codes: u64,
    /// Receipts to poll for.
    pub receipts: u64,
    /// Values that cannot be read.
    pub unreadable: u64,
}

impl StoredCounts {
    pub fn add(&mut self, other: &StoredCounts) {
        self.live_requests += other.live_requests;
        self.completed_requests += other.completed_requests;
        self.limits += other.limits;
        self.codes += other.codes;
        self.receipts += other.receipts;
        self.unreadable += other.unreadable;
    }

    /// Is there something that only `--forget-limits` gives up?
    pub fn has_limits(&self) -> bool {
        self.completed_requests + self.limits + self.codes + self.receipts > 0
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Resharding {
    pub to: Shards,
    /// Limits, codes, marks of completed requests and awaited receipts may be lost.
    pub forget_limits: bool,
    /// Nothing is changed.
    pub dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReshardAnswer {
    /// Done, or in a dry run: nothing is in the way. With the suppressions that moved, and what was forgotten.
    Done {
        from: Shards,
        suppressions: u64,
        forgotten: StoredCounts,
    },
    /// The data has this number already, or there is none.
    Unneeded,
    Refused(ReshardRefusal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReshardRefusal {
    /// A process sent a heartbeat within the last 15 s.
    Running,
    OldLayout,
    /// An earlier change is not finished.
    OtherChange {
        from: Shards,
        to: Shards,
    },
    Unreadable(u64),
    LiveRequests(u64),
    /// Needs `forget_limits`.
    Limits(StoredCounts),
}
