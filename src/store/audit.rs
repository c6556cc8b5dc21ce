//! The acts of operators, each recorded in the step that makes it, and the outbox of records that are not published yet.

use std::time::Duration;

use async_trait::async_trait;

use super::defence::OverrideChange;
use super::error::StoreError;
use super::shared_state::KillSwitch;
use crate::domain::audit::AuditRecord;
use crate::domain::defence_list::{NewOverride, OverrideTarget};
use crate::domain::keyed_digest::Digest16;
use crate::domain::log_filter::{NewLogFilter, TemporaryLogFilter};
use crate::domain::suppression::{ManualSuppression, SuppressionEntry};

/// Records in one outbox, at most.
pub const OUTBOX_MAX: u64 = 10_000;
/// One process publishes at a time: the one that has asked within this time.
pub const PUBLISHING_LEASE: Duration = Duration::from_secs(5);

/// A part of an outbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditOutbox {
    /// In JSON, oldest first.
    pub records: Vec<String>,
    /// Of the part that was read, what is no text. Any client of Redis may have written it.
    pub unreadable: Vec<Vec<u8>>,
    /// The records that the outbox holds.
    pub length: u64,
    /// The stopping acts that found no room for their record.
    pub dropped: u64,
}

/// An act whose record finds no room fails with [`StoreFault::AuditFull`](super::StoreFault::AuditFull) and is not made, unless it stops
/// messages: then it is made, and the missing record is counted. So is one whose outbox is damaged.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Records an act that is not one step of the store, before it begins.
    async fn record_act(&self, record: &AuditRecord) -> Result<(), StoreError>;

    /// As [`set_kill_switch`](super::Store::set_kill_switch), recorded.
    async fn set_kill_switch_recorded(
        &self,
        reason: Option<&str>,
        record: &AuditRecord,
    ) -> Result<Option<KillSwitch>, StoreError>;

    /// As [`set_log_filter`](super::Store::set_log_filter), recorded.
    async fn set_log_filter_recorded(
        &self,
        new: Option<&NewLogFilter<'_>>,
        record: &AuditRecord,
    ) -> Result<Option<TemporaryLogFilter>, StoreError>;

    /// As [`add_suppression`](super::Store::add_suppression), recorded.
    async fn add_suppression_recorded(
        &self,
        recipient: Digest16,
        suppression: &ManualSuppression<'_>,
        record: &AuditRecord,
    ) -> Result<SuppressionEntry, StoreError>;

    /// As [`remove_suppression`](super::Store::remove_suppression), recorded.
    async fn remove_suppression_recorded(
        &self,
        recipient: Digest16,
        record: &AuditRecord,
    ) -> Result<Option<SuppressionEntry>, StoreError>;

    /// As [`set_defence_override`](super::defence::DefenceStore::set_defence_override), recorded.
    async fn set_defence_override_recorded(
        &self,
        target: &OverrideTarget,
        new: Option<&NewOverride<'_>>,
        record: &AuditRecord,
    ) -> Result<OverrideChange, StoreError>;

    /// The number of outboxes. The first one gets almost all records.
    fn outboxes(&self) -> usize;

    /// The oldest or the newest records of an outbox.
    async fn read_outbox(
        &self,
        outbox: usize,
        newest: bool,
        count_max: u16,
    ) -> Result<AuditOutbox, StoreError>;

    /// True if an outbox still holds the record with this id.
    async fn holds_record(&self, outbox: usize, id: &str) -> Result<bool, StoreError>;

    /// Removes records that were published. One that another worker has removed is no error.
    async fn remove_from_outbox(&self, outbox: usize, records: &[String]) -> Result<(), StoreError>;

    /// Removes what is no record.
    async fn remove_unreadable(&self, outbox: usize, entries: &[Vec<u8>]) -> Result<(), StoreError>;

    /// True if this publisher may publish for [`PUBLISHING_LEASE`]. It asks again to go on.
    async fn lease_publishing(&self, publisher: u64) -> Result<bool, StoreError>;
}
