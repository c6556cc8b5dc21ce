//! Acts with their audit records, and the outboxes of records that are not published yet.
//!
//! With more than one shard a step can write only to the outbox of its own. Then the record moves at once to the one that all requests
//! share, which workers read each second; those of the shards are read in turn, for records that did not move.

use async_trait::async_trait;

use super::RedisStore;
use super::keys::Key;
use super::library::Step;
use super::pack::{Packer, Unpacker};
use super::step_call::Call;
use crate::domain::audit::AuditRecord;
use crate::domain::defence_list::{NewOverride, OverrideTarget};
use crate::domain::keyed_digest::Digest16;
use crate::domain::log_filter::{NewLogFilter, TemporaryLogFilter};
use crate::domain::suppression::{ManualSuppression, SuppressionEntry};
use crate::store::defence::OverrideChange;
use crate::store::{AuditOutbox, AuditStore, KillSwitch, StoreError, StoreFault};

/// The outbox that all requests share.
pub(super) const SHARED: usize = 0;
const GATHERED_AT_ONCE: u16 = 100;
/// The answer in place of the step's own, if there is no room for the record.
const FULL: &[u8] = b"audit full";

impl RedisStore {
    /// A call of a step that records an act, if there is a record. [`RedisStore::run_act`] adds that.
    pub(super) fn act_call(
        &self,
        step: Step,
        key: Key,
        outbox: usize,
        record: Option<&AuditRecord>,
    ) -> Call<'_> {
        match record {
            Some(_) => self.call(step, &[key, self.keys.outbox(outbox)]),
            None => self.call(step, &[key]),
        }
    }

    pub(super) async fn run_act<T>(
        &self,
        step: &'static str,
        call: Call<'_>,
        record: Option<&AuditRecord>,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, StoreError> {
        let call = match record {
            Some(record) => call.arg(packed(record.stops(), &record.to_json())),
            None => call,
        };
        self.run(step, &call, unless_full(read)).await?
    }

    /// Moves a record from the outbox of a shard to the shared one. One that stays is found later.
    pub(super) async fn gather_record(&self, outbox: usize, record: Option<&AuditRecord>) {
        if let Some(record) = record.filter(|_| outbox != SHARED) {
            let _ = self.gather(outbox, record.to_json()).await;
        }
    }

    async fn gather(&self, outbox: usize, record: String) -> Result<(), StoreError> {
        self.append_record(false, &record).await?;
        self.remove_from_outbox(outbox, &[record]).await
    }

    /// Moves all records of an outbox, also while the number of shards changes.
    pub(super) async fn gather_outbox(&self, step: &'static str, outbox: Key) -> Result<(), StoreError> {
        let done = |answer: &[u8]| (answer == b"r").then_some(());
        loop {
            let call =
                self.call(Step::ReadOutbox, std::slice::from_ref(&outbox)).arg(part(false, GATHERED_AT_ONCE));
            let records = self.answer(step, &call, read).await?.records;
            if records.is_empty() {
                return Ok(());
            }
            for record in records {
                let call = self.call(Step::RecordAct, &[self.keys.outbox(SHARED)]);
                self.answer(step, &call.arg(packed(false, &record)), unless_full(done)).await??;
                let call = self.call(Step::RemoveFromOutbox, std::slice::from_ref(&outbox));
                self.answer(step, &call.arg(record), done).await?;
            }
        }
    }

    async fn append_record(&self, stops: bool, record: &str) -> Result<(), StoreError> {
        let call = self.call(Step::RecordAct, &[self.keys.outbox(SHARED)]).arg(packed(stops, record));
        let recorded = |answer: &[u8]| (answer == b"r").then_some(());
        self.run("record_act", &call, unless_full(recorded)).await?
    }
}

/// The record after one character: 1 if the act stops messages.
fn packed(stops: bool, record: &str) -> String {
    format!("{}{record}", u8::from(stops))
}

/// The part of an outbox that is read.
fn part(newest: bool, count_max: u16) -> Vec<u8> {
    Packer::new().flag(newest).u16(count_max.into()).done()
}

fn unless_full<T>(
    read: impl FnOnce(&[u8]) -> Option<T>,
) -> impl FnOnce(&[u8]) -> Option<Result<T, StoreError>> {
    move |answer| match answer {
        FULL => Some(Err(StoreError::Unavailable(StoreFault::AuditFull))),
        answer => read(answer).map(Ok),
    }
}

#[async_trait]
impl AuditStore for RedisStore {
    /// A process that only reads, and finds no data, has nothing to look at, and writes nothing.
    async fn record_act(&self, record: &AuditRecord) -> Result<(), StoreError> {
        self.open().await?;
        if self.found_nothing() {
            return Ok(());
        }
        self.append_record(record.stops(), &record.to_json()).await
    }

    async fn set_kill_switch_recorded(
        &self,
        reason: Option<&str>,
        record: &AuditRecord,
    ) -> Result<Option<KillSwitch>, StoreError> {
        self.change_kill_switch(reason, Some(record)).await
    }

    async fn set_log_filter_recorded(
        &self,
        new: Option<&NewLogFilter<'_>>,
        record: &AuditRecord,
    ) -> Result<Option<TemporaryLogFilter>, StoreError> {
        self.change_log_filter(new, Some(record)).await
    }

    async fn add_suppression_recorded(
        &self,
        recipient: Digest16,
        suppression: &ManualSuppression<'_>,
        record: &AuditRecord,
    ) -> Result<SuppressionEntry, StoreError> {
        self.write_manual_suppression(&recipient, suppression, Some(record)).await
    }

    async fn remove_suppression_recorded(
        &self,
        recipient: Digest16,
        record: &AuditRecord,
    ) -> Result<Option<SuppressionEntry>, StoreError> {
        self.change_suppression(false, &recipient, None, "", Some(record)).await
    }

    async fn set_defence_override_recorded(
        &self,
        target: &OverrideTarget,
        new: Option<&NewOverride<'_>>,
        record: &AuditRecord,
    ) -> Result<OverrideChange, StoreError> {
        self.change_override(target, new, Some(record)).await
    }

    fn outboxes(&self) -> usize {
        if self.keys.are_sharded() { 1 + self.keys.shards() } else { 1 }
    }

    /// Not watched for faults: records that wait harm no request.
    async fn read_outbox(
        &self,
        outbox: usize,
        newest: bool,
        count_max: u16,
    ) -> Result<AuditOutbox, StoreError> {
        let call = self.call(Step::ReadOutbox, &[self.keys.outbox(outbox)]).arg(part(newest, count_max));
        self.run_unwatched("read_outbox", &call, read).await
    }

    async fn remove_from_outbox(&self, outbox: usize, records: &[String]) -> Result<(), StoreError> {
        let call = self.call(Step::RemoveFromOutbox, &[self.keys.outbox(outbox)]);
        let call = records.iter().fold(call, |call, record| call.arg(record));
        let removed = |answer: &[u8]| (answer == b"r").then_some(());
        self.run_unwatched("remove_from_outbox", &call, removed).await
    }
}

fn read(answer: &[u8]) -> Option<AuditOutbox> {
    let mut words = Unpacker::new(answer);
    let (length, dropped) = (words.u32()?.into(), words.u48()?);
    let mut records = Vec::new();
    while !words.is_empty() {
        // Any client of Redis may have written it.
        records.push(String::from_utf8_lossy(words.long()?).into_owned());
    }
    Some(AuditOutbox { records, length, dropped })
}
