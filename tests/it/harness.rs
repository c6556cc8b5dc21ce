//! The embedded gateway as a test drives it: the real flow over the adapters in memory, with time that can be paused.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use otpost::broker::memory::{MemoryBroker, OwnedMessage, StoredDeadLetter};
use otpost::broker::{Names, Outgoing, Properties, PublishError, Publisher, RequestConsumer};
use otpost::clock::Clock;
use otpost::domain::audit::AuditRecord;
use otpost::domain::budget::{SpendBook, UtcOffset};
use otpost::domain::challenge::ChallengeId;
use otpost::domain::channel::Channel;
use otpost::domain::code::{Code, CodeKey, CodeKeyring, CodeLength, Kid};
use otpost::domain::conversion::{Bucket, Dimension, StoredCounts};
use otpost::domain::conversion_batch::ConversionBatch;
use otpost::domain::defence::{DefenceBatch, DefenceMode, Scope};
use otpost::domain::defence_list::{DefenceList, DefenceState, NewOverride, OverrideTarget};
use otpost::domain::email::EmailAddress;
use otpost::domain::history::RequestHistory;
use otpost::domain::key_check::KeyCheck;
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::limit::{Limit, Limits};
use otpost::domain::log_filter::{NewLogFilter, TemporaryLogFilter};
use otpost::domain::message_match::InDoubtPolicy;
use otpost::domain::opt_status::{OptAnswer, OptMessage};
use otpost::domain::phone::{PhoneNumber, Region};
use otpost::domain::purpose::Purpose;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::domain::recipient_rules::RecipientRules;
use otpost::domain::request_id::RequestId;
use otpost::domain::retry::RetryPolicy;
use otpost::domain::routes::{ProviderIndex, Routes};
use otpost::domain::spend::{SpendGroup, StoredSpend};
use otpost::domain::suppression::{ManualSuppression, SuppressionEntry};
use otpost::domain::test_number::TestNumbers;
use otpost::domain::time_zone::Zone;
use otpost::domain::verdict::Verdict;
use otpost::domain::worker_state::{ReportedWorker, WorkerState};
use otpost::flow::consumer_loop::ConsumerLoop;
use otpost::flow::conversion::ConversionCounter;
use otpost::flow::defence::Defence;
use otpost::flow::gateway::{ChannelGateway, Policy};
use otpost::flow::maintenance::ReceiptPolling;
use otpost::flow::price_samples::PriceSamples;
use otpost::flow::provider_gate::Pace;
use otpost::flow::providers::{NewProvider, Providers};
use otpost::flow::receipts::ReceiptProcessor;
use otpost::flow::reply::Replies;
use otpost::flow::spend_policy::SpendPolicy;
use otpost::flow::verify::Verifier;
use otpost::provider::{CodeVerifier, Provider};
use otpost::store::code_check::{CheckAnswer, CodeCheck, ProviderCheckEnd, ProviderCheckStart};
use otpost::store::defence::{DefenceStore, OverrideChange};
use otpost::store::forget::{
    ForgetAnswer, ForgetStore, Listing, Redaction, RedactionEnd, RedactionJob, RedactionsAdded,
};
use otpost::store::memory::MemoryStore;
use otpost::store::{
    Admission, AdmissionInput, AuditOutbox, AuditStore, ClaimAnswer, ClaimInput, CompletionAnswer,
    CompletionInput, Damaged, KillSwitch, Lease, LimitSubject, NewReceipt, OverdueReceipt, PanicCount,
    PanicInput, Progress, ProgressAnswer, ReceiptAnswer, RequestOfUser, RequestRecord, RequestSummary,
    SharedState, SpendStore, Store, StoreError, StoreFault, Usage,
};
use otpost::text::{SmsEncoding, TemplateFile, TextSettings, Texts};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::documents::messages::{check_dead_letter, check_result};
pub use crate::scripted::{Posted, ScriptedProvider};

pub const ALICE: &str = "+573001234567";
pub const BOB: &str = "+573109876543";
pub const PROVIDER_TIMEOUT: Duration = Duration::from_secs(15);
/// Production refuses a key that is a text.
pub const RECIPIENT_KEY: [u8; 32] = [
    0x82, 0xf3, 0xe9, 0xc6, 0x95, 0xdc, 0x6b, 0x8d, 0x1b, 0x11, 0x81, 0x8d, 0x57, 0x01, 0x91, 0x9e, 0x28,
    0x6d, 0xe8, 0xd4, 0x7f, 0x7c, 0x3e, 0xb3, 0x10, 0x0c, 0x48, 0x5f, 0x79, 0xe5, 0x78, 0x28,
];
pub const HOUR: Duration = Duration::from_secs(3_600);

pub fn region() -> Region {
    "CO".parse().expect("a country")
}

pub fn number(text: &str) -> PhoneNumber {
    PhoneNumber::parse(text, region()).expect("a number")
}

/// A publisher without confirms, as of a queue that is full.
pub struct NeverConfirmed;

#[async_trait]
impl Publisher for NeverConfirmed {
    async fn publish(&self, _: Outgoing<'_>) -> Result<(), PublishError> {
        std::future::pending().await
    }
}

/// A store that can be unavailable or panic. It counts its calls.
pub struct FlakyStore {
    pub inner: MemoryStore,
    pub gone: AtomicBool,
    /// Data that no step can read.
    pub damaged: Mutex<Option<Damaged>>,
    /// Why it refuses every step.
    pub refusal: Mutex<Option<StoreFault>>,
    /// The recipient whose shard does not answer.
    pub silent_for: Mutex<Option<Digest16>>,
    /// Exemptions of the pumping defence cannot be read.
    pub damaged_exemptions: AtomicBool,
    /// So many admissions panic.
    pub panics: AtomicUsize,
    /// Admissions for this recipient panic.
    pub poison: Mutex<Option<Digest16>>,
    /// So many counts of a panic panic.
    pub panics_of_counts: AtomicUsize,
    /// So many batches of counts are added, and their answers lost.
    pub lost_answers_of_counts: AtomicUsize,
    /// So many reports of a process fail.
    pub failed_reports: AtomicUsize,
    /// So many reports of progress panic.
    pub panics_of_progress: AtomicUsize,
    pub calls: AtomicUsize,
}

impl FlakyStore {
    /// From now on no step can read this; `None` mends it.
    pub fn damage(&self, damaged: Option<Damaged>) {
        *self.damaged.lock().expect("no panic") = damaged;
    }

    /// From now on it refuses every step; `None` ends that.
    pub fn refuse(&self, refusal: Option<StoreFault>) {
        *self.refusal.lock().expect("no panic") = refusal;
    }

    fn panic_if_wanted(left: &AtomicUsize) {
        let panics = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(panics.is_err(), "the test wants a panic");
    }

    fn reach(&self) -> Result<&MemoryStore, StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.gone.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable(StoreFault::NoAnswer));
        }
        if let Some(refusal) = self.refusal.lock().expect("no panic").clone() {
            return Err(StoreError::Unavailable(refusal));
        }
        if let Some(damaged) = self.damaged.lock().expect("no panic").clone() {
            return Err(StoreError::Unreadable { damaged, step: "test" });
        }
        Ok(&self.inner)
    }
}

#[async_trait]
impl AuditStore for FlakyStore {
    async fn record_act(&self, record: &AuditRecord) -> Result<(), StoreError> {
        self.reach()?.record_act(record).await
    }
    async fn set_kill_switch_recorded(
        &self,
        reason: Option<&str>,
        record: &AuditRecord,
    ) -> Result<Option<KillSwitch>, StoreError> {
        self.reach()?.set_kill_switch_recorded(reason, record).await
    }
    async fn set_log_filter_recorded(
        &self,
        new: Option<&NewLogFilter<'_>>,
        record: &AuditRecord,
    ) -> Result<Option<TemporaryLogFilter>, StoreError> {
        self.reach()?.set_log_filter_recorded(new, record).await
    }
    async fn add_suppression_recorded(
        &self,
        recipient: Digest16,
        suppression: &ManualSuppression<'_>,
        record: &AuditRecord,
    ) -> Result<SuppressionEntry, StoreError> {
        self.reach()?.add_suppression_recorded(recipient, suppression, record).await
    }
    async fn remove_suppression_recorded(
        &self,
        recipient: Digest16,
        record: &AuditRecord,
    ) -> Result<Option<SuppressionEntry>, StoreError> {
        self.reach()?.remove_suppression_recorded(recipient, record).await
    }
    async fn set_defence_override_recorded(
        &self,
        target: &OverrideTarget,
        new: Option<&NewOverride<'_>>,
        record: &AuditRecord,
    ) -> Result<OverrideChange, StoreError> {
        self.reach()?.set_defence_override_recorded(target, new, record).await
    }
    fn outboxes(&self) -> usize {
        1
    }
    async fn read_outbox(&self, outbox: usize, newest: bool, count: u16) -> Result<AuditOutbox, StoreError> {
        self.reach()?.read_outbox(outbox, newest, count).await
    }
    async fn remove_from_outbox(&self, outbox: usize, records: &[String]) -> Result<(), StoreError> {
        self.reach()?.remove_from_outbox(outbox, records).await
    }
}

#[async_trait]
impl ForgetStore for FlakyStore {
    async fn forget(&self, recipient: Digest16) -> Result<ForgetAnswer, StoreError> {
        self.reach()?.forget(recipient).await
    }
    async fn add_redactions(
        &self,
        recipient: Digest16,
        message_ids: &[String],
        listing: Listing,
    ) -> Result<RedactionsAdded, StoreError> {
        self.reach()?.add_redactions(recipient, message_ids, listing).await
    }
    async fn take_redactions(&self, count_max: u32) -> Result<Vec<Redaction>, StoreError> {
        self.reach()?.take_redactions(count_max).await
    }
    async fn end_redaction(&self, redaction: &Redaction, end: RedactionEnd) -> Result<(), StoreError> {
        self.reach()?.end_redaction(redaction, end).await
    }
    async fn redaction_jobs(&self) -> Result<Vec<RedactionJob>, StoreError> {
        self.reach()?.redaction_jobs().await
    }
}

#[async_trait]
impl SpendStore for FlakyStore {
    async fn spend_book(&self, offset: UtcOffset) -> Result<SpendBook, StoreError> {
        self.reach()?.spend_book(offset).await
    }
    async fn spend(&self, group: SpendGroup, buckets: &[Bucket]) -> Result<Vec<StoredSpend>, StoreError> {
        self.reach()?.spend(group, buckets).await
    }
}

#[async_trait]
impl DefenceStore for FlakyStore {
    async fn add_defence(&self, batch: &DefenceBatch) -> Result<DefenceList, StoreError> {
        self.reach()?.add_defence(batch).await
    }
    async fn defence(&self, scopes: &[(u64, Scope)]) -> Result<DefenceState, StoreError> {
        self.reach()?.defence(scopes).await
    }
    async fn set_defence_override(
        &self,
        target: &OverrideTarget,
        new: Option<&NewOverride<'_>>,
    ) -> Result<OverrideChange, StoreError> {
        self.reach()?.set_defence_override(target, new).await
    }
    async fn note_verified(&self, digests: &[Digest16]) -> Result<(), StoreError> {
        self.reach()?.note_verified(digests).await
    }
    async fn has_verified(&self, digest: Digest16) -> Result<bool, StoreError> {
        if self.damaged_exemptions.load(Ordering::SeqCst) {
            return Err(StoreError::Unreadable {
                damaged: Damaged::Subject("defence"),
                step: "has_verified",
            });
        }
        self.reach()?.has_verified(digest).await
    }
    async fn forget_verified(&self, digest: Digest16) -> Result<(), StoreError> {
        self.reach()?.forget_verified(digest).await
    }
}

#[async_trait]
impl Store for FlakyStore {
    async fn admit(&self, ask: &AdmissionInput<'_>) -> Result<Admission, StoreError> {
        if *self.silent_for.lock().expect("no panic") == Some(ask.lease.subject.recipient) {
            return Err(StoreError::Unavailable(StoreFault::NoAnswer));
        }
        let store = self.reach()?;
        FlakyStore::panic_if_wanted(&self.panics);
        let is_poison = *self.poison.lock().expect("no panic") == Some(ask.lease.subject.recipient);
        assert!(!is_poison, "the test wants a panic");
        store.admit(ask).await
    }
    async fn update_progress(
        &self,
        lease: &Lease<'_>,
        attempts_made: Option<u32>,
        progress: Progress,
        history: Option<&RequestHistory>,
    ) -> Result<ProgressAnswer, StoreError> {
        let store = self.reach()?;
        FlakyStore::panic_if_wanted(&self.panics_of_progress);
        store.update_progress(lease, attempts_made, progress, history).await
    }
    async fn count_panic(&self, panic: &PanicInput<'_>) -> Result<PanicCount, StoreError> {
        let store = self.reach()?;
        FlakyStore::panic_if_wanted(&self.panics_of_counts);
        store.count_panic(panic).await
    }
    async fn claim_message(&self, claim: &ClaimInput<'_>) -> Result<ClaimAnswer, StoreError> {
        self.reach()?.claim_message(claim).await
    }
    async fn complete(&self, complete: &CompletionInput<'_>) -> Result<CompletionAnswer, StoreError> {
        self.reach()?.complete(complete).await
    }
    async fn verify(&self, check: &CodeCheck<'_>) -> Result<CheckAnswer, StoreError> {
        self.reach()?.verify(check).await
    }
    async fn begin_provider_check(&self, check: &CodeCheck<'_>) -> Result<ProviderCheckStart, StoreError> {
        self.reach()?.begin_provider_check(check).await
    }
    async fn finish_provider_check(
        &self,
        check: &CodeCheck<'_>,
        end: ProviderCheckEnd,
    ) -> Result<CheckAnswer, StoreError> {
        self.reach()?.finish_provider_check(check, end).await
    }
    async fn reopen_challenge(&self, check: &CodeCheck<'_>) -> Result<(), StoreError> {
        self.reach()?.reopen_challenge(check).await
    }
    async fn link_verification(
        &self,
        subject: &LimitSubject<'_>,
        challenge: &ChallengeId,
        verification: &str,
    ) -> Result<(), StoreError> {
        self.reach()?.link_verification(subject, challenge, verification).await
    }
    async fn usage(
        &self,
        subject: &LimitSubject<'_>,
        request: Option<&RequestId>,
        limits: &Limits,
    ) -> Result<Usage, StoreError> {
        self.reach()?.usage(subject, request, limits).await
    }
    async fn bind_idempotency_key(
        &self,
        key: Digest16,
        request: Option<Digest16>,
    ) -> Result<Option<Digest16>, StoreError> {
        self.reach()?.bind_idempotency_key(key, request).await
    }
    async fn record_receipt(&self, receipt: &NewReceipt<'_>) -> Result<ReceiptAnswer, StoreError> {
        self.reach()?.record_receipt(receipt).await
    }
    async fn overdue_receipts(
        &self,
        wait_max: Duration,
        count_max: u32,
    ) -> Result<Vec<OverdueReceipt>, StoreError> {
        self.reach()?.overdue_receipts(wait_max, count_max).await
    }
    async fn end_receipt_wait(&self, lapsed: &OverdueReceipt) -> Result<(), StoreError> {
        self.reach()?.end_receipt_wait(lapsed).await
    }
    async fn check_writable(&self) -> Result<(), StoreError> {
        self.reach()?.check_writable().await
    }
    async fn check_shared_data(&self) -> Result<(), StoreError> {
        self.reach()?.check_shared_data().await
    }
    async fn heartbeat(&self, worker: u64, active: bool) -> Result<SharedState, StoreError> {
        self.reach()?.heartbeat(worker, active).await
    }
    /// Beside the faults: a report concerns no request.
    async fn report_worker(&self, worker: u64, state: Option<&WorkerState>) -> Result<(), StoreError> {
        let failed = &self.failed_reports;
        match failed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Err(StoreError::Unavailable(StoreFault::NoAnswer)),
            Err(_) => self.inner.report_worker(worker, state).await,
        }
    }
    async fn reported_workers(&self) -> Result<Vec<ReportedWorker>, StoreError> {
        self.inner.reported_workers().await
    }
    async fn check_keys(&self, keys: &[KeyCheck]) -> Result<Vec<KeyCheck>, StoreError> {
        self.reach()?.check_keys(keys).await
    }
    async fn accept_keys(&self, keys: &[KeyCheck]) -> Result<(), StoreError> {
        self.reach()?.accept_keys(keys).await
    }
    async fn recorded_keys(&self) -> Result<Vec<KeyCheck>, StoreError> {
        self.reach()?.recorded_keys().await
    }
    async fn add_conversion(&self, batch: &ConversionBatch) -> Result<(), StoreError> {
        self.reach()?.add_conversion(batch).await?;
        let lost = &self.lost_answers_of_counts;
        let is_lost =
            lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if is_lost { Err(StoreError::Unavailable(StoreFault::NoAnswer)) } else { Ok(()) }
    }
    async fn conversion(
        &self,
        dimension: Dimension,
        buckets: &[Bucket],
    ) -> Result<Vec<StoredCounts>, StoreError> {
        self.reach()?.conversion(dimension, buckets).await
    }
    async fn kill_switch(&self) -> Result<Option<KillSwitch>, StoreError> {
        self.reach()?.kill_switch().await
    }
    async fn set_kill_switch(&self, reason: Option<&str>) -> Result<Option<KillSwitch>, StoreError> {
        self.reach()?.set_kill_switch(reason).await
    }
    async fn log_filter(&self) -> Result<Option<TemporaryLogFilter>, StoreError> {
        self.reach()?.log_filter().await
    }
    async fn set_log_filter(
        &self,
        new: Option<&NewLogFilter<'_>>,
    ) -> Result<Option<TemporaryLogFilter>, StoreError> {
        self.reach()?.set_log_filter(new).await
    }
    async fn request_record(
        &self,
        request: &RequestId,
        recipient: Option<Digest16>,
    ) -> Result<Option<RequestRecord>, StoreError> {
        self.reach()?.request_record(request, recipient).await
    }
    async fn requests_of_user(
        &self,
        user: Digest16,
        count_max: usize,
    ) -> Result<Vec<RequestOfUser>, StoreError> {
        self.reach()?.requests_of_user(user, count_max).await
    }
    async fn recent_requests(&self, recipient: Digest16) -> Result<Vec<RequestSummary>, StoreError> {
        self.reach()?.recent_requests(recipient).await
    }
    async fn suppressions(&self, count_max: u32) -> Result<Vec<SuppressionEntry>, StoreError> {
        self.reach()?.suppressions(count_max).await
    }
    async fn add_suppression(
        &self,
        recipient: Digest16,
        suppression: &ManualSuppression<'_>,
    ) -> Result<SuppressionEntry, StoreError> {
        self.reach()?.add_suppression(recipient, suppression).await
    }
    async fn remove_suppression(&self, recipient: Digest16) -> Result<Option<SuppressionEntry>, StoreError> {
        self.reach()?.remove_suppression(recipient).await
    }
    async fn record_opt_status(
        &self,
        recipient: Digest16,
        message: &OptMessage<'_>,
    ) -> Result<OptAnswer, StoreError> {
        self.reach()?.record_opt_status(recipient, message).await
    }
    async fn may_have_lost_writes(&self, recipient: &Digest16) -> bool {
        self.inner.may_have_lost_writes(recipient).await
    }
}

/// The parts of an embedded gateway that a test may choose.
pub struct Options {
    pub channel: Channel,
    pub limits: Limits,
    pub rules: RecipientRules,
    pub keys: Vec<(&'static str, [u8; 32])>,
    pub concurrency: usize,
    pub grace: Duration,
    pub retry: RetryPolicy,
    pub in_doubt: InDoubtPolicy,
    pub caller_codes_allowed: bool,
    pub test_numbers: Arc<TestNumbers>,
    /// The wait of a send in doubt for a receipt if the provider lists no messages.
    pub doubt_report_wait: Duration,
    /// The maintenance tasks run: heartbeat, probes, overdue receipts.
    pub maintained: bool,
    pub defence: DefenceMode,
    /// Messages a second of one sender.
    pub sender_rate: Option<f64>,
    pub spend: SpendPolicy,
    /// Texts beside the built-in ones.
    pub templates: Vec<TemplateFile>,
    /// The publisher of replies, if not that of the world's broker.
    pub replies: Option<Arc<dyn Publisher>>,
    /// The consumer and the publisher, if not those of the world's broker.
    pub broker: Option<(Box<dyn RequestConsumer>, Arc<dyn Publisher>)>,
    /// The provider, if not that of the world.
    pub provider: Option<Arc<dyn Provider>>,
    /// The providers that take over from it, in order.
    pub others: Vec<Arc<ScriptedProvider>>,
    /// If not in order, the world's provider first.
    pub routes: Option<Routes>,
    pub doubt_failover_after: Option<Duration>,
    /// Checks the codes that the provider made.
    pub code_verifier: Option<Arc<dyn CodeVerifier>>,
    /// While it is true, no delivery starts.
    pub paused: watch::Receiver<bool>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            channel: Channel::Sms,
            limits: Limits { cooldown: Duration::ZERO, ..Limits::default() }.with(Limit::All, 0),
            rules: RecipientRules {
                sms_enabled: true,
                email_enabled: true,
                default_region: region(),
                allowed_countries: Some(["CO".to_owned()].into()),
                allowed_shared_codes: [].into(),
                allow_landline: false,
            },
            keys: vec![("k1", [1; 32])],
            concurrency: 8,
            grace: Duration::from_secs(25),
            retry: RetryPolicy::default(),
            in_doubt: InDoubtPolicy::Reconcile,
            caller_codes_allowed: false,
            test_numbers: Arc::default(),
            doubt_report_wait: Duration::ZERO,
            maintained: false,
            defence: DefenceMode::default(),
            sender_rate: None,
            spend: SpendPolicy::default(),
            templates: Vec::new(),
            replies: None,
            broker: None,
            provider: None,
            others: Vec::new(),
            routes: None,
            doubt_failover_after: Some(Duration::from_secs(30)),
            code_verifier: None,
            paused: watch::Sender::new(false).subscribe(),
        }
    }
}

/// The broker, store, provider and clock that several gateways share.
#[derive(Clone)]
pub struct World {
    pub broker: MemoryBroker,
    pub store: Arc<FlakyStore>,
    pub provider: Arc<ScriptedProvider>,
    pub clock: Clock,
}

impl World {
    pub fn new() -> World {
        let clock = Clock::tokio();
        World {
            broker: MemoryBroker::default(),
            store: Arc::new(FlakyStore {
                inner: MemoryStore::new(clock),
                gone: AtomicBool::new(false),
                damaged: Mutex::default(),
                refusal: Mutex::default(),
                silent_for: Mutex::default(),
                damaged_exemptions: AtomicBool::new(false),
                panics: AtomicUsize::new(0),
                poison: Mutex::default(),
                panics_of_counts: AtomicUsize::new(0),
                lost_answers_of_counts: AtomicUsize::new(0),
                failed_reports: AtomicUsize::new(0),
                panics_of_progress: AtomicUsize::new(0),
                calls: AtomicUsize::new(0),
            }),
            provider: Arc::new(ScriptedProvider::new(clock)),
            clock,
        }
    }
}

impl World {
    /// The keyed digest of a number.
    pub fn recipient(&self, to: &str) -> Digest16 {
        RecipientKeyring::new(&RECIPIENT_KEY).address(Channel::Sms, number(to).e164())
    }

    /// The dead letters, each checked against its documentation.
    pub fn dead_letters(&self) -> Vec<StoredDeadLetter> {
        let dead_letters = self.broker.dead_letters();
        dead_letters.iter().for_each(check_dead_letter);
        dead_letters
    }
}

/// A running worker, its verifier and receipt processor, and the results it published.
pub struct Embedded {
    channel: Channel,
    pub world: World,
    results: mpsc::Receiver<OwnedMessage>,
    pub verifier: Verifier,
    pub conversion: Arc<ConversionCounter>,
    pub defence: Arc<Defence>,
    pub tracker: Arc<ReceiptProcessor>,
    shutdown: CancellationToken,
    maintenance: DropGuard,
    worker: JoinHandle<usize>,
}

impl Embedded {
    pub fn start() -> Embedded {
        Embedded::with(Options::default())
    }

    pub fn with(options: Options) -> Embedded {
        Embedded::in_world(World::new(), options)
    }

    pub fn in_world(world: World, options: Options) -> Embedded {
        let keys = options.keys.iter().map(|(kid, key)| CodeKey::new(Kid::parse(kid).expect("valid"), key));
        let codes = Arc::new(CodeKeyring::new(keys.collect()).expect("valid"));
        let recipients = Arc::new(RecipientKeyring::new(&RECIPIENT_KEY));
        let store: Arc<dyn Store> = world.store.clone();
        let (consumer, publisher) = options.broker.unwrap_or_else(|| {
            let consumer = world.broker.consumer(options.channel, options.concurrency + 2);
            (Box::new(consumer), Arc::new(world.broker.publisher()))
        });
        let conversion = Arc::new(ConversionCounter::new(store.clone(), world.clock));
        let defence = Arc::new(Defence::new(options.defence, 100, store.clone(), world.clock));
        let first: Arc<dyn Provider> = options.provider.unwrap_or_else(|| world.provider.clone());
        let others = options.others.iter().map(|other| other.clone() as Arc<dyn Provider>);
        let new = |provider| NewProvider {
            provider,
            receipt_wait: options.doubt_report_wait,
            poll_receipt_after: Some(Duration::from_secs(60)),
        };
        let providers: Vec<NewProvider> = std::iter::once(first).chain(others).map(new).collect();
        let in_order = Routes::in_order((0..providers.len()).filter_map(ProviderIndex::new));
        let routes = options.routes.unwrap_or(in_order);
        let pace = Pace { concurrency_max: options.concurrency, sender_rate: options.sender_rate };
        let providers = Providers::new(options.channel, providers, routes, pace);
        let gateway = ChannelGateway {
            channel: options.channel,
            store: store.clone(),
            gate: providers.gate(),
            providers,
            publisher,
            conversion: conversion.clone(),
            samples: PriceSamples::default(),
            defence: defence.clone(),
            replies: Replies::new(options.replies.unwrap_or_else(|| Arc::new(world.broker.publisher()))),
            activity: Arc::default(),
            texts: texts_with(options.templates),
            code_keyring: codes.clone(),
            recipient_keyring: recipients.clone(),
            rules: options.rules,
            policy: Policy {
                limits: options.limits,
                code_life: Duration::from_secs(600),
                code_length: CodeLength::new(6).expect("valid"),
                caller_codes_allowed: options.caller_codes_allowed,
                retry: options.retry,
                provider_timeout: PROVIDER_TIMEOUT,
                in_doubt_policy: options.in_doubt,
                doubt_failover_after: options.doubt_failover_after,
                reply_to_allowed: ["amq.rabbitmq.reply-to.*", "reply.*", "exact"].map(str::to_owned).to_vec(),
                spend: options.spend,
            },
            test_numbers: options.test_numbers,
            names: Names::new("otpost"),
            clock: world.clock,
        };
        let shutdown = CancellationToken::new();
        let gateway = Arc::new(gateway);
        let paused = if options.maintained { gateway.gate.paused() } else { options.paused };
        let worker = ConsumerLoop::new(gateway.clone(), options.concurrency, options.grace, shutdown.clone())
            .pausing_when(paused);
        let tracker = Arc::new(ReceiptProcessor {
            store: store.clone(),
            publisher: Arc::new(world.broker.publisher()),
            recipient_keyring: recipients.clone(),
            clock: world.clock,
        });
        let maintenance = CancellationToken::new();
        if options.maintained {
            let polling = Some(ReceiptPolling { processor: tracker.clone(), wait_max: 4 * HOUR });
            let until = maintenance.clone();
            tokio::spawn(async move { gateway.run_maintenance(polling, until).await });
        }
        Embedded {
            channel: options.channel,
            results: world.broker.subscribe_results(),
            verifier: Verifier {
                store,
                publisher: Arc::new(world.broker.publisher()),
                code_keyring: codes,
                recipient_keyring: recipients,
                limits: options.limits,
                provider_verifier: options.code_verifier,
                conversion: conversion.clone(),
                defence: defence.clone(),
                in_flight: TaskTracker::new(),
                clock: world.clock,
            },
            conversion,
            defence,
            worker: tokio::spawn(worker.run(consumer)),
            maintenance: maintenance.drop_guard(),
            tracker,
            shutdown,
            world,
        }
    }

    /// Publishes a body unchanged.
    pub fn publish(&self, body: &[u8]) {
        self.publish_with(body, Properties::default());
    }

    pub fn publish_with(&self, body: &[u8], properties: Properties) {
        self.world.broker.send_request_to(self.channel, body, properties).expect("the queue takes it");
    }

    /// Publishes a request and waits for its result.
    pub async fn request(&mut self, id: &str, to: &str) -> PublishedResult {
        self.publish(&request(id, to));
        self.result().await
    }

    pub async fn result(&mut self) -> PublishedResult {
        let message = within(self.results.recv()).await.expect("a result");
        check_result(&message.message_id, &message.body);
        PublishedResult { body: serde_json::from_slice(&message.body).expect("a result is JSON"), message }
    }

    /// Fails if there is another result.
    #[track_caller]
    pub fn expect_no_result(&mut self) {
        if let Ok(message) = self.results.try_recv() {
            panic!("another result: {}", message.message_id);
        }
    }

    pub async fn verify(&self, to: &str, code: &str) -> Verdict {
        let code = Code::parse(code).expect("a code");
        let to = match self.channel {
            Channel::Sms => number(to).into(),
            Channel::Email => EmailAddress::parse(to).expect("an address").into(),
        };
        self.verifier.verify(&to, &Purpose::default(), &code).await.expect("the store answers").verdict
    }

    pub fn posted(&self) -> Vec<Posted> {
        self.world.provider.posted()
    }

    /// Shuts the worker down. Returns how many deliveries were left unfinished.
    pub async fn stop(self) -> usize {
        self.shutdown.cancel();
        within(self.worker).await.expect("the worker does not panic")
    }

    /// Kills the worker: it finishes nothing and publishes nothing.
    pub async fn crash(self) {
        drop(self.maintenance);
        self.worker.abort();
        assert!(self.worker.await.expect_err("aborted").is_cancelled());
    }
}

/// A message on the results exchange: a result or a delivery event.
pub struct PublishedResult {
    pub body: Value,
    pub message: OwnedMessage,
}

impl PublishedResult {
    #[track_caller]
    pub fn expect(&self, status: &str, error: Option<&str>) -> &PublishedResult {
        let got = (self.body["status"].as_str(), self.body["error"]["code"].as_str());
        assert_eq!(got, (Some(status), error), "{}", self.body);
        self
    }

    #[track_caller]
    pub fn expect_sent(&self) -> &PublishedResult {
        self.expect("sent", None)
    }

    #[track_caller]
    pub fn expect_replayed(&self, replayed: bool) -> &PublishedResult {
        assert_eq!(self.body["replayed"].as_bool().unwrap_or(false), replayed, "{}", self.body);
        self
    }

    pub fn retry_after(&self) -> Option<u64> {
        self.body["error"]["retry_after"].as_u64()
    }
}

/// The smallest request.
pub fn request(id: &str, to: &str) -> Vec<u8> {
    with(id, to, json!({}))
}

/// A request with more fields.
pub fn with(id: &str, to: &str, more: Value) -> Vec<u8> {
    let mut body = json!({"request_id": id, "to": to});
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    body.to_string().into_bytes()
}

pub fn texts() -> Texts {
    texts_with(Vec::new())
}

pub fn template(name: &str, source: &str) -> TemplateFile {
    TemplateFile { name: name.to_owned(), source: Ok(source.to_owned()) }
}

fn texts_with(templates: Vec<TemplateFile>) -> Texts {
    let settings = TextSettings {
        brand: "MeStore".to_owned(),
        sms_encoding: SmsEncoding::Gsm7,
        default_locale: "es".to_owned(),
        default_zone: Zone::parse("America/Bogota").expect("a zone"),
        sends_emails: true,
        templates,
    };
    Texts::built_in(settings).expect("the texts are good")
}

/// Fails a test after two hours of waiting, by the paused clock if it is paused.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(7_200), future).await.expect("the test waited for two hours")
}
