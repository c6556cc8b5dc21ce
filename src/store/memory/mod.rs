//! The store in memory: the specification of the Redis scripts, written to be read. The embedded gateway runs on it.
//!
//! One file per step or group of steps; `state.rs` and `record.rs` hold the data.

mod admit;
mod audit;
mod book;
mod claim;
mod complete;
mod conversion;
mod defence;
mod defence_store;
mod forget;
mod key_check;
mod log;
mod opt_status;
mod outbox;
mod panic_count;
mod progress;
mod provider_check;
mod receipts;
mod record;
mod redactions;
mod request_record;
mod shared_state;
mod spend;
mod state;
mod suppressions;
mod verify;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use self::state::State;
use super::code_check::{CheckAnswer, CodeCheck, ProviderCheckEnd, ProviderCheckStart};
use super::{
    Admission, AdmissionInput, ClaimAnswer, ClaimInput, CompletionAnswer, CompletionInput, KillSwitch, Lease,
    LimitSubject, NewReceipt, OverdueReceipt, PanicCount, PanicInput, Progress, ProgressAnswer,
    ReceiptAnswer, RequestOfUser, RequestRecord, RequestSummary, SharedState, Store, StoreError, Usage,
};
use crate::clock::Clock;
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
use crate::domain::time::UnixMillis;
use crate::domain::worker_state::{ReportedWorker, WorkerState};

const SWEEP_EVERY_STEPS: u32 = 1_000;

pub struct MemoryStore {
    clock: Clock,
    state: Mutex<State>,
    steps: AtomicU32,
    /// Replaces the clock; 0 leaves it. Tests only.
    time: AtomicU64,
    may_have_lost_writes: AtomicBool,
}

impl MemoryStore {
    pub fn new(clock: Clock) -> MemoryStore {
        MemoryStore {
            clock,
            state: Mutex::default(),
            steps: AtomicU32::new(0),
            time: AtomicU64::new(0),
            may_have_lost_writes: AtomicBool::new(false),
        }
    }

    /// Sets the time of every later step. For tests of windows and expiry.
    #[doc(hidden)]
    pub fn set_time(&self, now: UnixMillis) {
        self.time.store(now.0, Ordering::Relaxed);
    }

    /// Sets the answer of [`Store::may_have_lost_writes`]. For tests: this store loses none while its process lives.
    #[doc(hidden)]
    pub fn set_may_have_lost_writes(&self, lost: bool) {
        self.may_have_lost_writes.store(lost, Ordering::Relaxed);
    }

    /// Drops the records of all requests, as a failover could. For tests.
    #[doc(hidden)]
    pub fn forget_requests(&self) {
        self.step(|state, _| state.records.clear());
    }

    fn now(&self) -> UnixMillis {
        match self.time.load(Ordering::Relaxed) {
            0 => self.clock.now(),
            fixed => UnixMillis(fixed),
        }
    }

    fn step<T>(&self, act: impl FnOnce(&mut State, UnixMillis) -> T) -> T {
        let now = self.now();
        let mut state = self.state.lock().expect("no step panics while it holds the lock");
        if self.steps.fetch_add(1, Ordering::Relaxed).is_multiple_of(SWEEP_EVERY_STEPS) {
            state.sweep(now);
        }
        act(&mut state, now)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn admit(&self, input: &AdmissionInput<'_>) -> Result<Admission, StoreError> {
        Ok(self.step(|state, now| state.admit(input, now)))
    }

    async fn update_progress(
        &self,
        lease: &Lease<'_>,
        attempts_made: Option<u32>,
        progress: Progress,
        history: Option<&RequestHistory>,
    ) -> Result<ProgressAnswer, StoreError> {
        Ok(self.step(|state, now| state.update_progress(lease, attempts_made, progress, history, now)))
    }

    async fn count_panic(&self, input: &PanicInput<'_>) -> Result<PanicCount, StoreError> {
        Ok(self.step(|state, now| state.count_panic(input, now)))
    }

    async fn claim_message(&self, claim: &ClaimInput<'_>) -> Result<ClaimAnswer, StoreError> {
        Ok(self.step(|state, now| state.claim_message(claim, now)))
    }

    async fn complete(&self, input: &CompletionInput<'_>) -> Result<CompletionAnswer, StoreError> {
        Ok(self.step(|state, now| state.complete(input, now)))
    }

    async fn verify(&self, check: &CodeCheck<'_>) -> Result<CheckAnswer, StoreError> {
        Ok(self.step(|state, now| {
            let verdict = state.verify(check, now);
            state.check_answer(verdict, check, now)
        }))
    }

    async fn begin_provider_check(&self, check: &CodeCheck<'_>) -> Result<ProviderCheckStart, StoreError> {
        Ok(self.step(|state, now| state.begin_provider_check(check, now)))
    }

    async fn finish_provider_check(
        &self,
        check: &CodeCheck<'_>,
        answer: ProviderCheckEnd,
    ) -> Result<CheckAnswer, StoreError> {
        Ok(self.step(|state, now| {
            let verdict = state.finish_provider_check(check, answer, now);
            state.check_answer(verdict, check, now)
        }))
    }

    async fn reopen_challenge(&self, check: &CodeCheck<'_>) -> Result<(), StoreError> {
        self.step(|state, now| state.reopen_challenge(check, now));
        Ok(())
    }

    async fn link_verification(
        &self,
        subject: &LimitSubject<'_>,
        challenge: &ChallengeId,
        verification_sid: &str,
    ) -> Result<(), StoreError> {
        self.step(|state, now| state.link_verification(subject, challenge, verification_sid, now));
        Ok(())
    }

    async fn usage(
        &self,
        subject: &LimitSubject<'_>,
        request_id: Option<&RequestId>,
        limits: &Limits,
    ) -> Result<Usage, StoreError> {
        Ok(self.step(|state, now| state.usage(subject, request_id, limits, now)))
    }

    async fn bind_idempotency_key(
        &self,
        key: Digest16,
        request: Option<Digest16>,
    ) -> Result<Option<Digest16>, StoreError> {
        Ok(self.step(|state, now| state.idempotency_key(key, request, now)))
    }

    async fn record_receipt(&self, receipt: &NewReceipt<'_>) -> Result<ReceiptAnswer, StoreError> {
        Ok(self.step(|state, now| state.record_receipt(receipt, now)))
    }

    async fn overdue_receipts(
        &self,
        wait_max: Duration,
        count_max: u32,
    ) -> Result<Vec<OverdueReceipt>, StoreError> {
        Ok(self.step(|state, now| state.overdue_receipts(wait_max, count_max, now)))
    }

    async fn end_receipt_wait(&self, lapsed: &OverdueReceipt) -> Result<(), StoreError> {
        self.step(|state, _| state.end_receipt_wait(lapsed));
        Ok(())
    }

    async fn check_shared_data(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn heartbeat(&self, worker_id: u64, is_active: bool) -> Result<SharedState, StoreError> {
        Ok(self.step(|state, now| state.heartbeat(worker_id, is_active, now)))
    }

    async fn report_worker(&self, worker_id: u64, state: Option<&WorkerState>) -> Result<(), StoreError> {
        self.step(|memory, now| memory.report_worker(worker_id, state, now));
        Ok(())
    }

    async fn reported_workers(&self) -> Result<Vec<ReportedWorker>, StoreError> {
        Ok(self.step(|memory, now| memory.reported_workers(now)))
    }

    async fn check_keys(&self, keys: &[KeyCheck]) -> Result<Vec<KeyCheck>, StoreError> {
        Ok(self.step(|state, now| state.check_keys(keys, now)))
    }

    async fn accept_keys(&self, keys: &[KeyCheck]) -> Result<(), StoreError> {
        self.step(|state, now| state.accept_keys(keys, now));
        Ok(())
    }

    async fn recorded_keys(&self) -> Result<Vec<KeyCheck>, StoreError> {
        Ok(self.step(|state, now| state.recorded_keys(now)))
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn add_conversion(&self, batch: &ConversionBatch) -> Result<(), StoreError> {
        self.step(|state, now| state.conversion.add(batch, now));
        Ok(())
    }

    async fn conversion(
        &self,
        dimension: Dimension,
        buckets: &[Bucket],
    ) -> Result<Vec<StoredCounts>, StoreError> {
        Ok(self.step(|state, now| state.conversion.read(dimension, buckets, now)))
    }

    async fn kill_switch(&self) -> Result<Option<KillSwitch>, StoreError> {
        Ok(self.step(|state, _| state.kill_switch.clone()))
    }

    async fn set_kill_switch(&self, reason: Option<&str>) -> Result<Option<KillSwitch>, StoreError> {
        Ok(self.step(|state, now| state.set_kill_switch(reason, now)))
    }

    async fn log_filter(&self) -> Result<Option<TemporaryLogFilter>, StoreError> {
        Ok(self.step(|state, now| state.log_filter(now)))
    }

    async fn set_log_filter(
        &self,
        new: Option<&NewLogFilter<'_>>,
    ) -> Result<Option<TemporaryLogFilter>, StoreError> {
        Ok(self.step(|state, now| state.set_log_filter(new, now)))
    }

    async fn request_record(
        &self,
        request_id: &RequestId,
        recipient: Option<Digest16>,
    ) -> Result<Option<RequestRecord>, StoreError> {
        Ok(self.step(|state, now| state.request_record(request_id, recipient, now)))
    }

    async fn requests_of_user(
        &self,
        user: Digest16,
        count_max: usize,
    ) -> Result<Vec<RequestOfUser>, StoreError> {
        Ok(self.step(|state, now| state.requests_of_user(user, count_max, now)))
    }

    async fn recent_requests(&self, recipient: Digest16) -> Result<Vec<RequestSummary>, StoreError> {
        Ok(self.step(|state, now| state.recent_requests(recipient, now)))
    }

    async fn suppressions(&self, count_max: u32) -> Result<Vec<SuppressionEntry>, StoreError> {
        Ok(self.step(|state, now| state.list_suppressions(count_max, now)))
    }

    async fn add_suppression(
        &self,
        recipient: Digest16,
        suppression: &ManualSuppression<'_>,
    ) -> Result<SuppressionEntry, StoreError> {
        Ok(self.step(|state, now| state.add_suppression(recipient, suppression, now)))
    }

    async fn remove_suppression(&self, recipient: Digest16) -> Result<Option<SuppressionEntry>, StoreError> {
        Ok(self.step(|state, now| state.remove_suppression(recipient, now)))
    }

    async fn record_opt_status(
        &self,
        recipient: Digest16,
        message: &OptMessage<'_>,
    ) -> Result<OptAnswer, StoreError> {
        Ok(self.step(|state, now| state.record_opt_status(recipient, message, now)))
    }

    async fn may_have_lost_writes(&self, _: &Digest16) -> bool {
        self.may_have_lost_writes.load(Ordering::Relaxed)
    }
}
