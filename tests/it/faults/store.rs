//! The store of a simulated run, and its faults.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use otpost::clock::Clock;
use otpost::domain::audit::AuditRecord;
use otpost::domain::budget::{SpendBook, UtcOffset};
use otpost::domain::challenge::ChallengeId;
use otpost::domain::conversion::{Bucket, Dimension, StoredCounts};
use otpost::domain::conversion_batch::ConversionBatch;
use otpost::domain::defence::{DefenceBatch, Scope};
use otpost::domain::defence_list::{DefenceList, DefenceState, NewOverride, OverrideTarget};
use otpost::domain::history::RequestHistory;
use otpost::domain::key_check::KeyCheck;
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::limit::Limits;
use otpost::domain::log_filter::{NewLogFilter, TemporaryLogFilter};
use otpost::domain::opt_status::{OptAnswer, OptMessage};
use otpost::domain::request_id::RequestId;
use otpost::domain::spend::{SpendGroup, StoredSpend};
use otpost::domain::suppression::{ManualSuppression, SuppressionEntry};
use otpost::domain::worker_state::{ReportedWorker, WorkerState};
use otpost::store::code_check::{CheckAnswer, CodeCheck, ProviderCheckEnd, ProviderCheckStart};
use otpost::store::defence::{DefenceStore, OverrideChange};
use otpost::store::forget::{
    ForgetAnswer, ForgetStore, Listing, Redaction, RedactionEnd, RedactionJob, RedactionsAdded,
};
use otpost::store::memory::MemoryStore;
use otpost::store::redis::RedisStore;
use otpost::store::{
    Admission, AdmissionInput, AuditOutbox, AuditStore, ClaimAnswer, ClaimInput, CompletionAnswer,
    CompletionInput, KillSwitch, Lease, LimitSubject, NewReceipt, OverdueReceipt, PanicCount, PanicInput,
    Progress, ProgressAnswer, ReceiptAnswer, RequestOfUser, RequestRecord, RequestSummary, SharedState,
    SpendStore, Store, StoreError, StoreFault, Usage,
};
use tokio::runtime::Runtime;

use super::seams::Weather;

/// Keeps the data that all workers share.
#[derive(Clone)]
pub enum Server {
    Memory(Arc<MemoryStore>),
    Redis(Arc<RealServer>),
}

/// A real Redis, whose steps get the time of the run.
pub struct RealServer {
    store: RedisStore,
    /// Of the connections: the time of a run jumps whenever its tasks wait.
    runtime: Runtime,
    clock: Clock,
}

impl Server {
    pub fn memory(clock: Clock) -> Server {
        Server::Memory(Arc::new(MemoryStore::new(clock)))
    }

    /// `connect` is called in the runtime of the connections.
    pub fn redis(clock: Clock, connect: impl FnOnce() -> RedisStore) -> Server {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let store = {
            let _entered = runtime.enter();
            connect()
        };
        Server::Redis(Arc::new(RealServer { store, runtime, clock }))
    }

    pub fn store(&self) -> &dyn Store {
        match self {
            Server::Memory(store) => store.as_ref(),
            Server::Redis(server) => &server.store,
        }
    }

    /// Runs a step. The time of the run stands still while a real server works.
    pub async fn run<T: Send>(&self, step: impl Future<Output = T> + Send) -> T {
        match self {
            Server::Memory(_) => step.await,
            Server::Redis(server) => {
                server.store.set_time(server.clock.now());
                let runtime = server.runtime.handle();
                std::thread::scope(|scope| scope.spawn(|| runtime.block_on(step)).join().expect("no panic"))
            }
        }
    }
}

/// A store whose calls are late or lost.
pub struct SeamStore {
    pub server: Server,
    pub weather: Weather,
}

impl SeamStore {
    async fn step<T: Send>(
        &self,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let lost = || Err(StoreError::Unavailable(StoreFault::NoAnswer));
        self.weather.delay("store is late before", 0.1, Duration::from_millis(800)).await;
        if self.weather.strikes("step is not made", 0.03) {
            return lost();
        }
        let answer = self.server.run(call).await;
        self.weather.delay("store is late after", 0.1, Duration::from_millis(800)).await;
        if self.weather.strikes("step is made and its answer lost", 0.03) { lost() } else { answer }
    }
}

/// Beside the faults: forgetting concerns no request.
#[async_trait]
impl ForgetStore for SeamStore {
    async fn forget(&self, recipient: Digest16) -> Result<ForgetAnswer, StoreError> {
        self.server.run(self.server.store().forget(recipient)).await
    }
    async fn add_redactions(
        &self,
        recipient: Digest16,
        message_ids: &[String],
        listing: Listing,
    ) -> Result<RedactionsAdded, StoreError> {
        self.server.run(self.server.store().add_redactions(recipient, message_ids, listing)).await
    }
    async fn take_redactions(&self, count_max: u32) -> Result<Vec<Redaction>, StoreError> {
        self.server.run(self.server.store().take_redactions(count_max)).await
    }
    async fn end_redaction(&self, redaction: &Redaction, end: RedactionEnd) -> Result<(), StoreError> {
        self.server.run(self.server.store().end_redaction(redaction, end)).await
    }
    async fn redaction_jobs(&self) -> Result<Vec<RedactionJob>, StoreError> {
        self.server.run(self.server.store().redaction_jobs()).await
    }
}

#[async_trait]
impl AuditStore for SeamStore {
    async fn record_act(&self, record: &AuditRecord) -> Result<(), StoreError> {
        self.step(self.server.store().record_act(record)).await
    }
    async fn set_kill_switch_recorded(
        &self,
        reason: Option<&str>,
        record: &AuditRecord,
    ) -> Result<Option<KillSwitch>, StoreError> {
        self.step(self.server.store().set_kill_switch_recorded(reason, record)).await
    }
    async fn set_log_filter_recorded(
        &self,
        new: Option<&NewLogFilter<'_>>,
        record: &AuditRecord,
    ) -> Result<Option<TemporaryLogFilter>, StoreError> {
        self.step(self.server.store().set_log_filter_recorded(new, record)).await
    }
    async fn add_suppression_recorded(
        &self,
        recipient: Digest16,
        suppression: &ManualSuppression<'_>,
        record: &AuditRecord,
    ) -> Result<SuppressionEntry, StoreError> {
        self.step(self.server.store().add_suppression_recorded(recipient, suppression, record)).await
    }
    async fn remove_suppression_recorded(
        &self,
        recipient: Digest16,
        record: &AuditRecord,
    ) -> Result<Option<SuppressionEntry>, StoreError> {
        self.step(self.server.store().remove_suppression_recorded(recipient, record)).await
    }
    async fn set_defence_override_recorded(
        &self,
        target: &OverrideTarget,
        new: Option<&NewOverride<'_>>,
        record: &AuditRecord,
    ) -> Result<OverrideChange, StoreError> {
        self.step(self.server.store().set_defence_override_recorded(target, new, record)).await
    }
    fn outboxes(&self) -> usize {
        1
    }
    async fn read_outbox(&self, outbox: usize, newest: bool, count: u16) -> Result<AuditOutbox, StoreError> {
        self.step(self.server.store().read_outbox(outbox, newest, count)).await
    }
    async fn remove_from_outbox(&self, outbox: usize, records: &[String]) -> Result<(), StoreError> {
        self.step(self.server.store().remove_from_outbox(outbox, records)).await
    }
    async fn holds_record(&self, outbox: usize, id: &str) -> Result<bool, StoreError> {
        self.step(self.server.store().holds_record(outbox, id)).await
    }
    async fn remove_unreadable(&self, outbox: usize, entries: &[Vec<u8>]) -> Result<(), StoreError> {
        self.step(self.server.store().remove_unreadable(outbox, entries)).await
    }
    async fn lease_publishing(&self, publisher: u64) -> Result<bool, StoreError> {
        self.step(self.server.store().lease_publishing(publisher)).await
    }
}

#[async_trait]
impl SpendStore for SeamStore {
    async fn spend_book(&self, offset: UtcOffset) -> Result<SpendBook, StoreError> {
        self.step(self.server.store().spend_book(offset)).await
    }
    async fn spend(&self, group: SpendGroup, buckets: &[Bucket]) -> Result<Vec<StoredSpend>, StoreError> {
        self.step(self.server.store().spend(group, buckets)).await
    }
}

/// Beside the weather: the defence concerns no request, as long as nothing is held.
#[async_trait]
impl DefenceStore for SeamStore {
    async fn add_defence(&self, batch: &DefenceBatch) -> Result<DefenceList, StoreError> {
        self.server.run(self.server.store().add_defence(batch)).await
    }
    async fn defence(&self, scopes: &[(u64, Scope)]) -> Result<DefenceState, StoreError> {
        self.server.run(self.server.store().defence(scopes)).await
    }
    async fn set_defence_override(
        &self,
        target: &OverrideTarget,
        new: Option<&NewOverride<'_>>,
    ) -> Result<OverrideChange, StoreError> {
        self.server.run(self.server.store().set_defence_override(target, new)).await
    }
    async fn note_verified(&self, digests: &[Digest16]) -> Result<(), StoreError> {
        self.server.run(self.server.store().note_verified(digests)).await
    }
    async fn has_verified(&self, digest: Digest16) -> Result<bool, StoreError> {
        self.server.run(self.server.store().has_verified(digest)).await
    }
    async fn forget_verified(&self, digest: Digest16) -> Result<(), StoreError> {
        self.server.run(self.server.store().forget_verified(digest)).await
    }
}

#[async_trait]
impl Store for SeamStore {
    async fn admit(&self, ask: &AdmissionInput<'_>) -> Result<Admission, StoreError> {
        self.step(self.server.store().admit(ask)).await
    }
    async fn update_progress(
        &self,
        lease: &Lease<'_>,
        attempts_made: Option<u32>,
        progress: Progress,
        history: Option<&RequestHistory>,
    ) -> Result<ProgressAnswer, StoreError> {
        self.step(self.server.store().update_progress(lease, attempts_made, progress, history)).await
    }
    async fn count_panic(&self, panic: &PanicInput<'_>) -> Result<PanicCount, StoreError> {
        self.step(self.server.store().count_panic(panic)).await
    }
    async fn claim_message(&self, claim: &ClaimInput<'_>) -> Result<ClaimAnswer, StoreError> {
        self.step(self.server.store().claim_message(claim)).await
    }
    async fn complete(&self, complete: &CompletionInput<'_>) -> Result<CompletionAnswer, StoreError> {
        self.step(self.server.store().complete(complete)).await
    }
    async fn verify(&self, check: &CodeCheck<'_>) -> Result<CheckAnswer, StoreError> {
        self.step(self.server.store().verify(check)).await
    }
    async fn begin_provider_check(&self, check: &CodeCheck<'_>) -> Result<ProviderCheckStart, StoreError> {
        self.step(self.server.store().begin_provider_check(check)).await
    }
    async fn finish_provider_check(
        &self,
        check: &CodeCheck<'_>,
        end: ProviderCheckEnd,
    ) -> Result<CheckAnswer, StoreError> {
        self.step(self.server.store().finish_provider_check(check, end)).await
    }
    async fn reopen_challenge(&self, check: &CodeCheck<'_>) -> Result<(), StoreError> {
        self.step(self.server.store().reopen_challenge(check)).await
    }
    async fn link_verification(
        &self,
        subject: &LimitSubject<'_>,
        challenge: &ChallengeId,
        verification: &str,
    ) -> Result<(), StoreError> {
        self.step(self.server.store().link_verification(subject, challenge, verification)).await
    }
    async fn usage(
        &self,
        subject: &LimitSubject<'_>,
        request: Option<&RequestId>,
        limits: &Limits,
    ) -> Result<Usage, StoreError> {
        self.step(self.server.store().usage(subject, request, limits)).await
    }
    async fn bind_idempotency_key(
        &self,
        key: Digest16,
        request: Option<Digest16>,
    ) -> Result<Option<Digest16>, StoreError> {
        self.step(self.server.store().bind_idempotency_key(key, request)).await
    }
    async fn record_receipt(&self, receipt: &NewReceipt<'_>) -> Result<ReceiptAnswer, StoreError> {
        self.step(self.server.store().record_receipt(receipt)).await
    }
    async fn overdue_receipts(
        &self,
        wait_max: Duration,
        count_max: u32,
    ) -> Result<Vec<OverdueReceipt>, StoreError> {
        self.step(self.server.store().overdue_receipts(wait_max, count_max)).await
    }
    async fn end_receipt_wait(&self, lapsed: &OverdueReceipt) -> Result<(), StoreError> {
        self.step(self.server.store().end_receipt_wait(lapsed)).await
    }
    async fn check_writable(&self) -> Result<(), StoreError> {
        self.step(self.server.store().check_writable()).await
    }
    async fn check_shared_data(&self) -> Result<(), StoreError> {
        self.step(self.server.store().check_shared_data()).await
    }
    async fn heartbeat(&self, worker: u64, active: bool) -> Result<SharedState, StoreError> {
        self.step(self.server.store().heartbeat(worker, active)).await
    }
    /// Beside the faults: a report concerns no request.
    async fn report_worker(&self, worker: u64, state: Option<&WorkerState>) -> Result<(), StoreError> {
        self.server.run(self.server.store().report_worker(worker, state)).await
    }
    async fn reported_workers(&self) -> Result<Vec<ReportedWorker>, StoreError> {
        self.server.run(self.server.store().reported_workers()).await
    }
    async fn check_keys(&self, keys: &[KeyCheck]) -> Result<Vec<KeyCheck>, StoreError> {
        self.server.run(self.server.store().check_keys(keys)).await
    }
    async fn accept_keys(&self, keys: &[KeyCheck]) -> Result<(), StoreError> {
        self.server.run(self.server.store().accept_keys(keys)).await
    }
    async fn recorded_keys(&self) -> Result<Vec<KeyCheck>, StoreError> {
        self.server.run(self.server.store().recorded_keys()).await
    }
    /// Beside the weather: counts concern no request.
    async fn add_conversion(&self, batch: &ConversionBatch) -> Result<(), StoreError> {
        self.server.run(self.server.store().add_conversion(batch)).await
    }
    async fn conversion(
        &self,
        dimension: Dimension,
        buckets: &[Bucket],
    ) -> Result<Vec<StoredCounts>, StoreError> {
        self.server.run(self.server.store().conversion(dimension, buckets)).await
    }
    async fn kill_switch(&self) -> Result<Option<KillSwitch>, StoreError> {
        self.step(self.server.store().kill_switch()).await
    }
    async fn set_kill_switch(&self, reason: Option<&str>) -> Result<Option<KillSwitch>, StoreError> {
        self.step(self.server.store().set_kill_switch(reason)).await
    }
    async fn log_filter(&self) -> Result<Option<TemporaryLogFilter>, StoreError> {
        self.step(self.server.store().log_filter()).await
    }
    async fn set_log_filter(
        &self,
        new: Option<&NewLogFilter<'_>>,
    ) -> Result<Option<TemporaryLogFilter>, StoreError> {
        self.step(self.server.store().set_log_filter(new)).await
    }
    async fn request_record(
        &self,
        request: &RequestId,
        recipient: Option<Digest16>,
    ) -> Result<Option<RequestRecord>, StoreError> {
        self.step(self.server.store().request_record(request, recipient)).await
    }
    async fn requests_of_user(
        &self,
        user: Digest16,
        count_max: usize,
    ) -> Result<Vec<RequestOfUser>, StoreError> {
        self.step(self.server.store().requests_of_user(user, count_max)).await
    }
    async fn recent_requests(&self, recipient: Digest16) -> Result<Vec<RequestSummary>, StoreError> {
        self.step(self.server.store().recent_requests(recipient)).await
    }
    async fn suppressions(&self, count_max: u32) -> Result<Vec<SuppressionEntry>, StoreError> {
        self.step(self.server.store().suppressions(count_max)).await
    }
    async fn add_suppression(
        &self,
        recipient: Digest16,
        suppression: &ManualSuppression<'_>,
    ) -> Result<SuppressionEntry, StoreError> {
        self.step(self.server.store().add_suppression(recipient, suppression)).await
    }
    async fn remove_suppression(&self, recipient: Digest16) -> Result<Option<SuppressionEntry>, StoreError> {
        self.step(self.server.store().remove_suppression(recipient)).await
    }
    async fn record_opt_status(
        &self,
        recipient: Digest16,
        message: &OptMessage<'_>,
    ) -> Result<OptAnswer, StoreError> {
        self.step(self.server.store().record_opt_status(recipient, message)).await
    }
    async fn may_have_lost_writes(&self, _: &Digest16) -> bool {
        // The real store says so for a while after a failed call.
        self.weather.strikes("store may have lost writes", 0.1)
    }
}
