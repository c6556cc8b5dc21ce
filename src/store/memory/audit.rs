//! Acts with their audit records.

use async_trait::async_trait;

use super::MemoryStore;
use super::state::State;
use crate::domain::audit::AuditRecord;
use crate::domain::defence_list::{NewOverride, OverrideTarget};
use crate::domain::keyed_digest::Digest16;
use crate::domain::log_filter::{NewLogFilter, TemporaryLogFilter};
use crate::domain::suppression::{ManualSuppression, SuppressionEntry};
use crate::domain::time::UnixMillis;
use crate::store::defence::OverrideChange;
use crate::store::{AuditOutbox, AuditStore, KillSwitch, StoreError};

impl MemoryStore {
    fn act<T>(
        &self,
        record: &AuditRecord,
        act: impl FnOnce(&mut State, UnixMillis) -> T,
    ) -> Result<T, StoreError> {
        self.step(|state, now| {
            state.outbox.append(record)?;
            Ok(act(state, now))
        })
    }
}

#[async_trait]
impl AuditStore for MemoryStore {
    async fn record_act(&self, record: &AuditRecord) -> Result<(), StoreError> {
        self.act(record, |_, _| ())
    }

    async fn set_kill_switch_recorded(
        &self,
        reason: Option<&str>,
        record: &AuditRecord,
    ) -> Result<Option<KillSwitch>, StoreError> {
        self.act(record, |state, now| state.set_kill_switch(reason, now))
    }

    async fn set_log_filter_recorded(
        &self,
        new: Option<&NewLogFilter<'_>>,
        record: &AuditRecord,
    ) -> Result<Option<TemporaryLogFilter>, StoreError> {
        self.act(record, |state, now| state.set_log_filter(new, now))
    }

    async fn add_suppression_recorded(
        &self,
        recipient: Digest16,
        suppression: &ManualSuppression<'_>,
        record: &AuditRecord,
    ) -> Result<SuppressionEntry, StoreError> {
        self.act(record, |state, now| state.add_suppression(recipient, suppression, now))
    }

    async fn remove_suppression_recorded(
        &self,
        recipient: Digest16,
        record: &AuditRecord,
    ) -> Result<Option<SuppressionEntry>, StoreError> {
        self.act(record, |state, now| state.remove_suppression(recipient, now))
    }

    async fn set_defence_override_recorded(
        &self,
        target: &OverrideTarget,
        new: Option<&NewOverride<'_>>,
        record: &AuditRecord,
    ) -> Result<OverrideChange, StoreError> {
        self.step(|state, now| {
            state.outbox.append(record)?;
            let change = state.defence.set_override(target, new, now);
            if change == OverrideChange::Full {
                state.outbox.remove(&[record.to_json()]);
            }
            Ok(change)
        })
    }

    fn outboxes(&self) -> usize {
        1
    }

    async fn read_outbox(&self, _: usize, newest: bool, count_max: u16) -> Result<AuditOutbox, StoreError> {
        Ok(self.step(|state, _| state.outbox.read(newest, count_max)))
    }

    async fn holds_record(&self, _: usize, id: &str) -> Result<bool, StoreError> {
        Ok(self.step(|state, _| state.outbox.holds(id)))
    }

    async fn remove_from_outbox(&self, _: usize, records: &[String]) -> Result<(), StoreError> {
        self.step(|state, _| state.outbox.remove(records));
        Ok(())
    }

    /// Nothing but records is written here.
    async fn remove_unreadable(&self, _: usize, entries: &[Vec<u8>]) -> Result<(), StoreError> {
        let entries: Vec<String> =
            entries.iter().map(|entry| String::from_utf8_lossy(entry).into_owned()).collect();
        self.remove_from_outbox(0, &entries).await
    }

    async fn lease_publishing(&self, publisher: u64) -> Result<bool, StoreError> {
        Ok(self.step(|state, now| state.outbox.lease(publisher, now)))
    }
}
