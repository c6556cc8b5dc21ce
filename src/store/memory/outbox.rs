//! Audit records that are not published yet.

use std::collections::VecDeque;

use crate::domain::audit::AuditRecord;
use crate::store::audit::OUTBOX_MAX;
use crate::store::{AuditOutbox, StoreError, StoreFault};

#[derive(Default)]
pub(super) struct Outbox {
    records: VecDeque<String>,
    dropped: u64,
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
        AuditOutbox { records, length: self.records.len() as u64, dropped: self.dropped }
    }

    pub(super) fn remove(&mut self, records: &[String]) {
        self.records.retain(|record| !records.contains(record));
    }
}
