//! Acts with their audit records, and the outboxes of records that are not published yet.
//!
//! With more than one shard a step can write only to the outbox of its own. Then the record moves at once to the one that all requests
//! share, which workers read each second; those of the shards are read in turn, for records that did not move.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

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
use crate::domain::time::millis;
use crate::store::audit::PUBLISHING_LEASE;
use crate::store::defence::OverrideChange;
use crate::store::{AuditOutbox, AuditStore, KillSwitch, StoreError, StoreFault};

/// The outbox that all requests share.
pub(super) const SHARED: usize = 0;
const GATHERED_AT_ONCE: u16 = 100;
const GATHERED_WITHIN: Duration = Duration::from_millis(250);
/// In logs and in a metric's label; also of the small steps around a reading.
const READ: &str = "read_outbox";
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
            Some(record) => call.arg(packed(Room::of(record), &record.to_json())),
            None => call,
        };
        self.run(step, &call, unless_full(read)).await?
    }

    /// Records a change of the number of shards, also while one is not finished. Only records that are published leave an outbox, and
    /// nothing is published meanwhile, so room is made.
    pub(super) async fn record_reshard(
        &self,
        step: &'static str,
        record: &AuditRecord,
    ) -> Result<(), StoreError> {
        self.append_in_any_case(step, &record.to_json()).await
    }

    async fn append_in_any_case(&self, step: &'static str, record: &str) -> Result<(), StoreError> {
        let call = self.call(Step::RecordAct, &[self.keys.outbox(SHARED)]).arg(packed(Room::Made, record));
        self.answer(step, &call, unless_full(done)).await?
    }

    /// Moves a record from the outbox of a shard to the shared one. One that stays is found later, so no act waits for long.
    pub(super) async fn gather_record(&self, outbox: usize, record: Option<&AuditRecord>) {
        if let Some(record) = record.filter(|_| outbox != SHARED) {
            let _ = timeout(GATHERED_WITHIN, self.gather(outbox, record.to_json())).await;
        }
    }

    async fn gather(&self, outbox: usize, record: String) -> Result<(), StoreError> {
        self.append_record(Room::IfThereIs, &record).await?;
        self.remove_from_outbox(outbox, &[record]).await
    }

    /// Moves all records of an outbox, also while the number of shards changes: no worker runs then, so a full outbox stays full.
    pub(super) async fn gather_outbox(&self, step: &'static str, outbox: Key) -> Result<(), StoreError> {
        loop {
            let call =
                self.call(Step::ReadOutbox, std::slice::from_ref(&outbox)).arg(part(false, GATHERED_AT_ONCE));
            let AuditOutbox { records, unreadable, .. } = self.answer(step, &call, read).await?;
            if records.is_empty() && unreadable.is_empty() {
                return Ok(());
            }
            for record in &records {
                self.append_in_any_case(step, record).await?;
            }
            let moved = records.iter().map(String::as_bytes).chain(unreadable.iter().map(Vec::as_slice));
            let call = self.call(Step::RemoveFromOutbox, std::slice::from_ref(&outbox));
            self.answer(step, &moved.fold(call, |call, entry| call.arg(entry)), done).await?;
        }
    }

    async fn append_record(&self, room: Room, record: &str) -> Result<(), StoreError> {
        let call = self.call(Step::RecordAct, &[self.keys.outbox(SHARED)]).arg(packed(room, record));
        self.run("record_act", &call, unless_full(done)).await?
    }
}

/// The room that a record needs in an outbox.
#[derive(Clone, Copy)]
enum Room {
    /// Without it the act is not made.
    IfThereIs,
    /// Without it the act is made, and leaves no record.
    OrNone,
    Made,
}

impl Room {
    fn of(record: &AuditRecord) -> Room {
        if record.stops() { Room::OrNone } else { Room::IfThereIs }
    }
}

/// The record after one character, as `audit.lua` reads it.
fn packed(room: Room, record: &str) -> String {
    let first = match room {
        Room::IfThereIs => '0',
        Room::OrNone => '1',
        Room::Made => '2',
    };
    format!("{first}{record}")
}

fn done(answer: &[u8]) -> Option<()> {
    (answer == b"r").then_some(())
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
        self.append_record(Room::of(record), &record.to_json()).await
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
        self.run_unwatched(READ, &call, read).await
    }

    async fn holds_record(&self, outbox: usize, id: &str) -> Result<bool, StoreError> {
        let call = self.call(Step::HoldsRecord, &[self.keys.outbox(outbox)]).arg(id);
        self.run_unwatched(READ, &call, yes_or_no).await
    }

    async fn remove_from_outbox(&self, outbox: usize, records: &[String]) -> Result<(), StoreError> {
        self.remove_entries(outbox, records.iter().map(String::as_bytes)).await
    }

    async fn remove_unreadable(&self, outbox: usize, entries: &[Vec<u8>]) -> Result<(), StoreError> {
        self.remove_entries(outbox, entries.iter().map(Vec::as_slice)).await
    }

    async fn lease_publishing(&self, publisher: u64) -> Result<bool, StoreError> {
        let call = self
            .call(Step::LeasePublishing, &[self.keys.outbox(SHARED)])
            .arg(self.settings().pack())
            .arg(publisher)
            .arg(millis(PUBLISHING_LEASE));
        self.run_unwatched(READ, &call, yes_or_no).await
    }
}

impl RedisStore {
    async fn remove_entries<'e>(
        &self,
        outbox: usize,
        entries: impl Iterator<Item = &'e [u8]> + Send,
    ) -> Result<(), StoreError> {
        let call = self.call(Step::RemoveFromOutbox, &[self.keys.outbox(outbox)]);
        let call = entries.fold(call, |call, entry| call.arg(entry));
        self.run_unwatched("remove_from_outbox", &call, done).await
    }
}

fn yes_or_no(answer: &[u8]) -> Option<bool> {
    match answer {
        b"1" => Some(true),
        b"0" => Some(false),
        _ => None,
    }
}

fn read(answer: &[u8]) -> Option<AuditOutbox> {
    let mut words = Unpacker::new(answer);
    let (length, dropped) = (words.u32()?.into(), words.u48()?);
    let (mut records, mut unreadable) = (Vec::new(), Vec::new());
    while !words.is_empty() {
        let length = usize::try_from(words.u32()?).ok()?;
        match String::from_utf8(words.bytes(length)?.to_vec()) {
            Ok(record) => records.push(record),
            Err(error) => unreadable.push(error.into_bytes()),
        }
    }
    Some(AuditOutbox { records, unreadable, length, dropped })
}
