//! Seam: limits, challenges and request records that all workers share, behind one trait.
//!
//! - Every method is one atomic step. A repeated step gives the same answer, with these exceptions: a repeated
//!   `overdue_receipts` leaves out the messages that it has just returned, `set_kill_switch`, `set_log_filter`
//!   and `remove_suppression` return the state that the first call left, and a repeated `Requeued` is answered `LeaseNotHeld`.
//! - Decisions compare stored times with the store's own clock. A time to live only collects garbage.
//! - [`memory`] is the specification; the contract tests compare [`redis`] with it.
//! - The store is no cache: lost data are lost limits and codes. A store that cannot answer returns an error.

pub mod admission;
pub mod audit;
pub mod claim;
pub mod code_check;
pub mod completion;
pub mod defence;
pub mod error;
pub mod fault;
pub mod forget;
pub mod lease;
pub mod limit_subject;
pub mod memory;
pub mod panic_count;
pub mod progress;
pub mod receipt;
pub mod redis;
pub mod request_record;
pub mod resharding;
pub mod retention;
pub mod shared_state;
mod shown_key;
pub mod spend;
pub mod usage;
pub mod warning;

use std::time::Duration;

use async_trait::async_trait;

pub use self::admission::{Admission, AdmissionInput, Grant, ProposedChallenge};
pub use self::audit::{AuditOutbox, AuditStore};
pub use self::claim::{ClaimAnswer, ClaimInput};
use self::code_check::{CheckAnswer, CodeCheck, ProviderCheckEnd, ProviderCheckStart};
pub use self::completion::{CompletionAnswer, CompletionInput, Refund};
pub use self::defence::DefenceStore;
pub use self::error::{Damaged, StoreError};
pub use self::fault::StoreFault;
use self::forget::ForgetStore;
pub use self::lease::Lease;
pub use self::limit_subject::LimitSubject;
pub use self::panic_count::{PanicCount, PanicInput};
pub use self::progress::{Progress, ProgressAnswer};
pub use self::receipt::{NewReceipt, OverdueReceipt, ReceiptAnswer, RecordedReceipt};
pub use self::request_record::{CodeState, RequestOfUser, RequestRecord, RequestState, RequestSummary};
pub use self::shared_state::{KillSwitch, SharedState};
pub use self::shown_key::{KeyName, ShownKey};
pub use self::spend::SpendStore;
pub use self::usage::Usage;
pub use self::warning::StoreWarning;
use crate::domain::challenge::ChallengeId;
use crate::domain::conversion::{Bucket, Dimension, StoredCounts};
use crate::domain::conversion_batch::ConversionBatch;
use crate::domain::history::RequestHistory;
use crate::domain::key_check::KeyCheck;
use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::Limits;
use crate::domain::log_filter::{NewLogFilter, TemporaryLogFilter};
use crate::domain::opt_status::{OptAnswer, OptMessage};
use crate::domain::request_id::RequestId;
use crate::domain::suppression::{ManualSuppression, SuppressionEntry};
use crate::domain::worker_state::{ReportedWorker, WorkerState};

#[async_trait]
pub trait Store: Send + Sync + AuditStore + DefenceStore + ForgetStore + SpendStore {
    /// Decides whether a request may be sent, and with which challenge. A new request that may be sent is charged; for
    /// one that has a record the answer follows from the record.
    async fn admit(&self, input: &AdmissionInput<'_>) -> Result<Admission, StoreError>;

    /// Records the progress that the handler with the lease reports.
    ///
    /// `attempts_made` counts the attempts that this handler knows of. The record counts an attempt before it is made, so it
    /// may show one more. If it shows two more, a newer lease has gone on, and nothing changes. `None`: the handler never
    /// got the answer to its admission. Then it may only report `Requeued`, with `in_doubt: false`.
    async fn update_progress(
        &self,
        lease: &Lease<'_>,
        attempts_made: Option<u32>,
        progress: Progress,
        history: Option<&RequestHistory>,
    ) -> Result<ProgressAnswer, StoreError>;

    /// Counts the panic of a handler, once for its fencing token, and ends its lease. Requeues do not change the count; it
    /// is kept as long as a record. A request needs no record for it.
    async fn count_panic(&self, input: &PanicInput<'_>) -> Result<PanicCount, StoreError>;

    /// Claims one of the listed messages, if one must be that of the request in doubt.
    async fn claim_message(&self, claim: &ClaimInput<'_>) -> Result<ClaimAnswer, StoreError>;

    /// Records the outcome of a request, and refunds its charges if nothing was sent. An earlier outcome stays.
    async fn complete(&self, input: &CompletionInput<'_>) -> Result<CompletionAnswer, StoreError>;

    /// The check is counted before the code is compared.
    async fn verify(&self, check: &CodeCheck<'_>) -> Result<CheckAnswer, StoreError>;

    /// The check is counted before the provider is asked.
    async fn begin_provider_check(&self, check: &CodeCheck<'_>) -> Result<ProviderCheckStart, StoreError>;

    /// Ends a check with the provider's answer. A code is verified only once.
    async fn finish_provider_check(
        &self,
        check: &CodeCheck<'_>,
        answer: ProviderCheckEnd,
    ) -> Result<CheckAnswer, StoreError>;

    /// Undoes the check that verified a challenge. A code that the provider made is from then on compared by the store,
    /// because the provider accepts it only once. A challenge that another check verified, or a new one, stays.
    async fn reopen_challenge(&self, check: &CodeCheck<'_>) -> Result<(), StoreError>;

    /// Records the SID of a challenge's Verification, unless the challenge was replaced.
    async fn link_verification(
        &self,
        subject: &LimitSubject<'_>,
        challenge: &ChallengeId,
        verification_sid: &str,
    ) -> Result<(), StoreError>;

    /// The use of each limit of a subject, and whether `request_id` started its cooldown. Charges nothing.
    async fn usage(
        &self,
        subject: &LimitSubject<'_>,
        request_id: Option<&RequestId>,
        limits: &Limits,
    ) -> Result<Usage, StoreError>;

    /// Returns the request that is bound to an idempotency key, both as digests. A free key is first bound to a given
    /// `request`, for as long as an outcome is kept.
    async fn bind_idempotency_key(
        &self,
        key: Digest16,
        request: Option<Digest16>,
    ) -> Result<Option<Digest16>, StoreError>;

    /// A receipt that adds nothing to the record changes nothing. It does not suppress again: an operator may have
    /// removed the suppression.
    async fn record_receipt(&self, receipt: &NewReceipt<'_>) -> Result<ReceiptAnswer, StoreError>;

    /// Up to `count_max` messages whose final receipt is overdue. Each comes again at growing intervals, until its delivery
    /// event was recorded as published. After `wait_max` it comes marked as lapsed, once a minute, until
    /// [`Store::end_receipt_wait`]. A message with a final receipt that is still to be published does not lapse.
    async fn overdue_receipts(
        &self,
        wait_max: Duration,
        count_max: u32,
    ) -> Result<Vec<OverdueReceipt>, StoreError>;

    /// Ends the wait for a receipt that lapsed.
    async fn end_receipt_wait(&self, lapsed: &OverdueReceipt) -> Result<(), StoreError>;

    /// Counts one channel of a worker among those that share the rates of its senders, or no longer. It is active if a rate is
    /// set and it has something to send.
    async fn heartbeat(&self, worker_id: u64, is_active: bool) -> Result<SharedState, StoreError>;

    /// Records the state of one channel of a worker, and that it was reported now. `None` removes it.
    async fn report_worker(&self, worker_id: u64, state: Option<&WorkerState>) -> Result<(), StoreError>;

    /// The states that were reported within the last minute, at most [`retention::WORKERS_MAX`]. A state that cannot be read is left
    /// out.
    async fn reported_workers(&self) -> Result<Vec<ReportedWorker>, StoreError>;

    /// Compares key check values with those that were recorded first, and returns those that differ. A key without a record is
    /// recorded. A record is kept for [`retention::KEY_CHECK_KEPT`] after a process with this value last compared it.
    async fn check_keys(&self, keys: &[KeyCheck]) -> Result<Vec<KeyCheck>, StoreError>;

    /// Records key check values in place of others.
    async fn accept_keys(&self, keys: &[KeyCheck]) -> Result<(), StoreError>;

    async fn recorded_keys(&self) -> Result<Vec<KeyCheck>, StoreError>;

    /// Reads the data that all requests share. The error names what cannot be read. A heartbeat makes the same check, but of
    /// the suppressions of countries it reads only those that a step found unreadable.
    async fn check_shared_data(&self) -> Result<(), StoreError>;

    /// Fails if the store refuses writes. Unlike a heartbeat it leaves no sign of a running process.
    async fn check_writable(&self) -> Result<(), StoreError>;

    /// The faults beside which the store works, as far as its last steps have shown them.
    fn warnings(&self) -> Vec<StoreWarning> {
        Vec::new()
    }

    /// Adds the counts of a batch to their buckets, once: a batch whose sequence is no newer than the writer's last one adds nothing. A
    /// name for which there is no room counts under [`OTHER`](crate::domain::conversion::OTHER), or takes the place of one with fewer
    /// sends, whose counts go there.
    async fn add_conversion(&self, batch: &ConversionBatch) -> Result<(), StoreError>;

    /// The counts of these buckets, at most [`retention::BUCKETS_READ_MAX`], in the order of bucket and name. A bucket whose time is over
    /// has none.
    async fn conversion(
        &self,
        dimension: Dimension,
        buckets: &[Bucket],
    ) -> Result<Vec<StoredCounts>, StoreError>;

    async fn kill_switch(&self) -> Result<Option<KillSwitch>, StoreError>;

    /// On with a reason, off with `None`. Returns the previous state.
    async fn set_kill_switch(&self, reason: Option<&str>) -> Result<Option<KillSwitch>, StoreError>;

    /// The log filter that an operator has set, until its time is over.
    async fn log_filter(&self) -> Result<Option<TemporaryLogFilter>, StoreError>;

    /// `None` ends it. Returns the previous one.
    async fn set_log_filter(
        &self,
        new: Option<&NewLogFilter<'_>>,
    ) -> Result<Option<TemporaryLogFilter>, StoreError>;

    /// Without a recipient, the request id alone finds the record.
    async fn request_record(
        &self,
        request_id: &RequestId,
        recipient: Option<Digest16>,
    ) -> Result<Option<RequestRecord>, StoreError>;

    /// Rejected ones included, newest first: at most [`retention::RECENT_MAX`].
    async fn recent_requests(&self, recipient: Digest16) -> Result<Vec<RequestSummary>, StoreError>;

    /// Those whose records name the user, in no order, at most `count_max`. It reads every record.
    async fn requests_of_user(
        &self,
        user: Digest16,
        count_max: usize,
    ) -> Result<Vec<RequestOfUser>, StoreError>;

    /// First those without an end, then those with the latest end.
    async fn suppressions(&self, count_max: u32) -> Result<Vec<SuppressionEntry>, StoreError>;

    /// A suppression that ends later stays. Returns the one in force.
    async fn add_suppression(
        &self,
        recipient: Digest16,
        suppression: &ManualSuppression<'_>,
    ) -> Result<SuppressionEntry, StoreError>;

    async fn remove_suppression(&self, recipient: Digest16) -> Result<Option<SuppressionEntry>, StoreError>;

    /// An opt-in removes an opt-out, and no other suppression.
    async fn record_opt_status(
        &self,
        recipient: Digest16,
        message: &OptMessage<'_>,
    ) -> Result<OptAnswer, StoreError>;

    /// True for a while after a failover of the server that has the data of this recipient: that may lose the last second of
    /// writes. A request without a record may then have been sent.
    async fn may_have_lost_writes(&self, recipient: &Digest16) -> bool;

    /// Gives back what the process holds, before it ends. Without it the store counts that as used for a while.
    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
