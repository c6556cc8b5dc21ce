//! Audit records that are not published yet.

use std::collections::VecDeque;

use crate::domain::audit::AuditRecord;
use crate::domain::time::UnixMillis;
use crate::store::audit::{OUTBOX_MAX, PUBLISHING_LEASE};
use crate::store::{AuditOutbox, StoreError, StoreFault};

#[derive(Default)]
pub(super) struct Outbox {
    records: VecDeque<String>,
    dropped: u64,
    /// The publisher, and until when it has the lease.
    lease: Option<(u64, UnixMillis)>,
}

impl Outbox {
    pub(super) fn append(&mut self, record: &AuditRecord) -> Result<(), StoreError> {
        if (self.records.len() as u64) < OUTBOX_MAX {
            self.records.push_back(record.to_json());
        } else if record.stops() {
            self.dropped += 1;
        } else {
            return Err(StoreError::Unavailable(StoreFault::AuditFull));
        }
        Ok(())
    }

    pub(super) fn read(&self, newest: bool, count_max: u16) -> AuditOutbox {
        let count_max = usize::from(count_max);
        let first = if newest { self.records.len().saturating_sub(count_max) } else { 0 };
        let records = self.records.iter().skip(first).take(count_max).cloned().collect();
        AuditOutbox {
            records,
            unreadable: Vec::new(),
            length: self.records.len() as u64,
            dropped: self.dropped,
        }
    }

    pub(super) fn holds(&self, id: &str) -> bool {
        self.records.iter().any(|record| record.contains(id))
    }

    pub(super) fn lease(&mut self, publisher: u64, now: UnixMillis) -> bool {
        let is_free = self.lease.is_none_or(|(holder, until)| holder == publisher || until <= now);
        if is_free {
            self.lease = Some((publisher, now.plus(PUBLISHING_LEASE)));
        }
        is_free
    }

    pub(super) fn remove(&mut self, records: &[String]) {
        self.records.retain(|record| !records.contains(record));
    }
}
