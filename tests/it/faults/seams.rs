//! The in-memory adapters with faults: a call may be late, have no effect, or lose its answer after its effect.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use otpost::broker::memory::{MemoryBroker, MemoryPublisher};
use otpost::broker::{Names, Outgoing, PublishError, Publisher};
use otpost::clock::Clock;
use otpost::domain::address::Address;
use otpost::domain::challenge::ChallengeId;
use otpost::domain::channel::Channel;
use otpost::domain::code::{Code, CodeKey, CodeKeyring, CodeLength, Kid};
use otpost::domain::history::RequestHistory;
use otpost::domain::key_check::KeyCheck;
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::limit::{Limit, Limits};
use otpost::domain::message_match::InDoubtPolicy;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::domain::recipient_rules::RecipientRules;
use otpost::domain::request_id::RequestId;
use otpost::domain::retry::RetryPolicy;
use otpost::domain::send_failure::{RefusalReason, Scope, SendFailure};
use otpost::domain::suppression::{ManualSuppression, SuppressionEntry};
use otpost::domain::time::UnixMillis;
use otpost::domain::worker_state::{ReportedWorker, WorkerState};
use otpost::flow::consumer_loop;
use otpost::flow::gateway::{ChannelGateway, Policy};
use otpost::flow::maintenance::ReceiptPolling;
use otpost::flow::receipts::ReceiptProcessor;
use otpost::flow::reply::Replies;
use otpost::flow::send_gate::SendGate;
use otpost::provider::{
    Accepted, CredentialError, DeliveryReceipt, FetchedMessage, LookupError, Message, Provider,
    ProviderMessage,
};
use otpost::store::code_check::{CheckAnswer, CodeCheck, ProviderCheckEnd, ProviderCheckStart};
use otpost::store::memory::MemoryStore;
use otpost::store::{
    Admission, AdmissionInput, ClaimAnswer, ClaimInput, CompletionAnswer, CompletionInput, KillSwitch, Lease,
    LimitSubject, NewReceipt, OverdueReceipt, PanicCount, PanicInput, Progress, ProgressAnswer,
    ReceiptAnswer, RequestRecord, RequestSummary, SharedState, Store, StoreError, StoreFault, Usage,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::{HOUR, region, texts};
use crate::history::Post;
use crate::scripted::refused;

pub const RECIPIENT_KEY: [u8; 32] = [9; 32];
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(15);
const SENDERS: usize = 3;
/// The provider refuses every sender for this recipient, as for a number of another country.
pub const REFUSED_BY_ALL: &str = "+573001000005";

/// The faults of a run, until it is calm.
#[derive(Clone)]
pub struct Weather {
    calm: Arc<AtomicBool>,
    seen: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Weather {
    /// True with the given odds, while it is not calm.
    fn strikes(&self, fault: &'static str, odds: f64) -> bool {
        let strikes = !self.calm.load(Ordering::SeqCst) && fastrand::f64() < odds;
        *self.seen.lock().unwrap().entry(fault).or_default() += usize::from(strikes);
        strikes
    }

    async fn delay(&self, fault: &'static str, odds: f64, at_most: Duration) {
        if self.strikes(fault, odds) {
            tokio::time::sleep(at_most.mul_f64(fastrand::f64())).await;
        }
    }
}

/// The seams that all workers share.
pub struct World {
    pub broker: MemoryBroker,
    pub store: Arc<MemoryStore>,
    pub provider: Arc<SeamProvider>,
    pub clock: Clock,
    pub limits: Limits,
    weather: Weather,
    code_life: Duration,
}

/// One worker process.
pub struct Worker {
    running: JoinHandle<usize>,
    maintenance: JoinHandle<()>,
    shutdown: CancellationToken,
}

impl Worker {
    /// Kills the process between any two steps.
    pub async fn crash(self) {
        self.maintenance.abort();
        self.running.abort();
        let _ = self.running.await;
    }
}

impl World {
    pub fn new(sends_an_hour: u32, code_life: Duration, cooldown: Duration) -> World {
        let clock = Clock::tokio();
        let weather = Weather { calm: Arc::default(), seen: Arc::default() };
        World {
            broker: MemoryBroker::default(),
            store: Arc::new(MemoryStore::new(clock)),
            provider: Arc::new(SeamProvider {
                weather: weather.clone(),
                clock,
                posts: Mutex::default(),
                made: Mutex::default(),
                receipts: Mutex::default(),
            }),
            clock,
            limits: [Limit::RecipientDay, Limit::User, Limit::Ip, Limit::Network, Limit::All]
                .into_iter()
                .fold(Limits { cooldown, ..Limits::default() }, |limits, limit| limits.with(limit, 0))
                .with(Limit::Recipient, sends_an_hour),
            weather,
            code_life,
        }
    }

    pub fn roll(&self, odds: f64) -> bool {
        fastrand::f64() < odds
    }

    /// Ends all faults.
    pub fn calm(&self) {
        self.weather.calm.store(true, Ordering::SeqCst);
    }

    /// The count of each fault.
    pub fn faults(&self) -> BTreeMap<&'static str, usize> {
        self.weather.seen.lock().unwrap().clone()
    }

    /// Lets time pass. A worker may crash or shut down meanwhile, and is replaced.
    pub async fn step(&self, workers: &mut Vec<Worker>) {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..400))).await;
        if self.weather.strikes("worker crashes", 0.03) {
            let nth = fastrand::usize(..workers.len());
            workers.swap_remove(nth).crash().await;
            workers.push(self.worker());
        }
        if self.weather.strikes("worker shuts down", 0.02) {
            let nth = fastrand::usize(..workers.len());
            let worker = workers.swap_remove(nth);
            worker.shutdown.cancel();
            // It drains in the background, and its successor starts at once.
            workers.push(self.worker());
        }
        if self.weather.strikes("kill switch", 0.01) {
            self.store.set_kill_switch(Some("storm")).await.expect("answers");
            let store = self.store.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(fastrand::u64(1..60))).await;
                store.set_kill_switch(None).await.expect("answers");
            });
        }
    }

    /// Starts a worker process whose clock is up to a second off.
    pub fn worker(&self) -> Worker {
        let skew = fastrand::u64(..2_000);
        let clock = match self.clock {
            Clock::Tokio { from, started } => {
                Clock::Tokio { from: UnixMillis(from.0 + skew - 1_000), started }
            }
            Clock::System => unreachable!("made from tokio's"),
        };
        let store: Arc<dyn Store> =
            Arc::new(SeamStore { inner: self.store.clone(), weather: self.weather.clone() });
        let publisher = || {
            let inner = self.broker.publisher();
            Arc::new(SeamPublisher { inner, weather: self.weather.clone() })
        };
        let recipients = Arc::new(RecipientKeyring::new(&RECIPIENT_KEY));
        let key = CodeKey::new(Kid::parse("k1").expect("valid"), &[1; 32]);
        let concurrency = 6;
        let gateway = Arc::new(ChannelGateway {
            channel: Channel::Sms,
            store: store.clone(),
            provider: self.provider.clone(),
            publisher: publisher(),
            gate: SendGate::new(Channel::Sms, concurrency, SENDERS, None),
            activity: Arc::default(),
            replies: Replies::new(publisher()),
            texts: texts(),
            code_keyring: Arc::new(CodeKeyring::new(vec![key]).expect("valid")),
            recipient_keyring: recipients.clone(),
            rules: RecipientRules {
                sms_enabled: true,
                email_enabled: true,
                default_region: region(),
                allowed_countries: None,
                allowed_shared_codes: [].into(),
                allow_landline: false,
            },
            policy: Policy {
                limits: self.limits,
                code_life: self.code_life,
                code_length: CodeLength::new(6).expect("valid"),
                caller_codes_allowed: false,
                retry: RetryPolicy::default(),
                provider_timeout: PROVIDER_TIMEOUT,
                in_doubt_policy: InDoubtPolicy::Reconcile,
                in_doubt_receipt_wait: Duration::ZERO,
                poll_receipt_after: Some(Duration::from_secs(60)),
                reply_to_allowed: Vec::new(),
            },
            names: Names::new("otpost"),
            clock,
        });
        let processor = Arc::new(ReceiptProcessor {
            store,
            publisher: publisher(),
            recipient_keyring: recipients,
            clock,
        });
        *self.provider.receipts.lock().unwrap() = Some(processor.clone());
        let shutdown = CancellationToken::new();
        let worker = consumer_loop::ConsumerLoop::new(
            gateway.clone(),
            concurrency,
            Duration::from_secs(25),
            shutdown.clone(),
        )
        .pausing_when(gateway.gate.paused());
        let consumer = Box::new(self.broker.consumer(Channel::Sms, concurrency + 1));
        let polling = Some(ReceiptPolling { processor, wait_max: HOUR });
        Worker {
            running: tokio::spawn(worker.run(consumer)),
            maintenance: tokio::spawn(async move {
                gateway.run_maintenance(polling, CancellationToken::new()).await
            }),
            shutdown,
        }
    }
}

/// A store whose calls are late or lost.
struct SeamStore {
    inner: Arc<MemoryStore>,
    weather: Weather,
}

impl SeamStore {
    async fn step<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let lost = || Err(StoreError::Unavailable(StoreFault::NoAnswer));
        self.weather.delay("store is late before", 0.1, Duration::from_millis(800)).await;
        if self.weather.strikes("step is not made", 0.03) {
            return lost();
        }
        let answer = call.await;
        self.weather.delay("store is late after", 0.1, Duration::from_millis(800)).await;
        if self.weather.strikes("step is made and its answer lost", 0.03) { lost() } else { answer }
    }
}

#[async_trait]
impl Store for SeamStore {
    async fn admit(&self, ask: &AdmissionInput<'_>) -> Result<Admission, StoreError> {
        self.step(self.inner.admit(ask)).await
    }
    async fn update_progress(
        &self,
        lease: &Lease<'_>,
        attempts_made: Option<u32>,
        progress: Progress,
        history: Option<&RequestHistory>,
    ) -> Result<ProgressAnswer, StoreError> {
        self.step(self.inner.update_progress(lease, attempts_made, progress, history)).await
    }
    async fn count_panic(&self, panic: &PanicInput<'_>) -> Result<PanicCount, StoreError> {
        self.step(self.inner.count_panic(panic)).await
    }
    async fn claim_message(&self, claim: &ClaimInput<'_>) -> Result<ClaimAnswer, StoreError> {
        self.step(self.inner.claim_message(claim)).await
    }
    async fn complete(&self, complete: &CompletionInput<'_>) -> Result<CompletionAnswer, StoreError> {
        self.step(self.inner.complete(complete)).await
    }
    async fn verify(&self, check: &CodeCheck<'_>) -> Result<CheckAnswer, StoreError> {
        self.step(self.inner.verify(check)).await
    }
    async fn begin_provider_check(&self, check: &CodeCheck<'_>) -> Result<ProviderCheckStart, StoreError> {
        self.step(self.inner.begin_provider_check(check)).await
    }
    async fn finish_provider_check(
        &self,
        check: &CodeCheck<'_>,
        end: ProviderCheckEnd,
    ) -> Result<CheckAnswer, StoreError> {
        self.step(self.inner.finish_provider_check(check, end)).await
    }
    async fn reopen_challenge(&self, check: &CodeCheck<'_>) -> Result<(), StoreError> {
        self.step(self.inner.reopen_challenge(check)).await
    }
    async fn link_verification(
        &self,
        subject: &LimitSubject<'_>,
        challenge: &ChallengeId,
        verification: &str,
    ) -> Result<(), StoreError> {
        self.step(self.inner.link_verification(subject, challenge, verification)).await
    }
    async fn usage(
        &self,
        subject: &LimitSubject<'_>,
        request: Option<&RequestId>,
        limits: &Limits,
    ) -> Result<Usage, StoreError> {
        self.step(self.inner.usage(subject, request, limits)).await
    }
    async fn bind_idempotency_key(
        &self,
        key: Digest16,
        request: Option<Digest16>,
    ) -> Result<Option<Digest16>, StoreError> {
        self.step(self.inner.bind_idempotency_key(key, request)).await
    }
    async fn record_receipt(&self, receipt: &NewReceipt<'_>) -> Result<ReceiptAnswer, StoreError> {
        self.step(self.inner.record_receipt(receipt)).await
    }
    async fn overdue_receipts(
        &self,
        wait_max: Duration,
        count_max: u32,
    ) -> Result<Vec<OverdueReceipt>, StoreError> {
        self.step(self.inner.overdue_receipts(wait_max, count_max)).await
    }
    async fn end_receipt_wait(&self, lapsed: &OverdueReceipt) -> Result<(), StoreError> {
        self.step(self.inner.end_receipt_wait(lapsed)).await
    }
    async fn check_writable(&self) -> Result<(), StoreError> {
        self.step(self.inner.check_writable()).await
    }
    async fn check_shared_data(&self) -> Result<(), StoreError> {
        self.step(self.inner.check_shared_data()).await
    }
    async fn heartbeat(&self, worker: u64, active: bool) -> Result<SharedState, StoreError> {
        self.step(self.inner.heartbeat(worker, active)).await
    }
    /// Beside the faults: a report concerns no request.
    async fn report_worker(&self, worker: u64, state: Option<&WorkerState>) -> Result<(), StoreError> {
        self.inner.report_worker(worker, state).await
    }
    async fn reported_workers(&self) -> Result<Vec<ReportedWorker>, StoreError> {
        self.inner.reported_workers().await
    }
    async fn check_keys(&self, keys: &[KeyCheck]) -> Result<Vec<KeyCheck>, StoreError> {
        self.inner.check_keys(keys).await
    }
    async fn accept_keys(&self, keys: &[KeyCheck]) -> Result<(), StoreError> {
        self.inner.accept_keys(keys).await
    }
    async fn recorded_keys(&self) -> Result<Vec<KeyCheck>, StoreError> {
        self.inner.recorded_keys().await
    }
    async fn kill_switch(&self) -> Result<Option<KillSwitch>, StoreError> {
        self.step(self.inner.kill_switch()).await
    }
    async fn set_kill_switch(&self, reason: Option<&str>) -> Result<Option<KillSwitch>, StoreError> {
        self.step(self.inner.set_kill_switch(reason)).await
    }
    async fn request_record(
        &self,
        request: &RequestId,
        recipient: Option<Digest16>,
    ) -> Result<Option<RequestRecord>, StoreError> {
        self.step(self.inner.request_record(request, recipient)).await
    }
    async fn recent_requests(&self, recipient: Digest16) -> Result<Vec<RequestSummary>, StoreError> {
        self.step(self.inner.recent_requests(recipient)).await
    }
    async fn suppressions(&self, count_max: u32) -> Result<Vec<SuppressionEntry>, StoreError> {
        self.step(self.inner.suppressions(count_max)).await
    }
    async fn add_suppression(
        &self,
        recipient: Digest16,
        suppression: &ManualSuppression<'_>,
    ) -> Result<SuppressionEntry, StoreError> {
        self.step(self.inner.add_suppression(recipient, suppression)).await
    }
    async fn remove_suppression(&self, recipient: Digest16) -> Result<Option<SuppressionEntry>, StoreError> {
        self.step(self.inner.remove_suppression(recipient)).await
    }
    async fn may_have_lost_writes(&self, _: &Digest16) -> bool {
        // The real store says so for a while after a failed call.
        self.weather.strikes("store may have lost writes", 0.1)
    }
}

/// A publisher whose messages or confirms are lost.
struct SeamPublisher {
    inner: MemoryPublisher,
    weather: Weather,
}

#[async_trait]
impl Publisher for SeamPublisher {
    async fn publish(&self, message: Outgoing<'_>) -> Result<(), PublishError> {
        let lost = || Err(PublishError::Unconfirmed("lost".to_owned()));
        self.weather.delay("broker is late", 0.1, Duration::from_secs(2)).await;
        if self.weather.strikes("message is lost", 0.05) {
            return lost();
        }
        self.inner.publish(message).await?;
        if self.weather.strikes("confirm is lost", 0.05) { lost() } else { Ok(()) }
    }
}

/// A provider that loses answers and messages, and records every message it made.
pub struct SeamProvider {
    weather: Weather,
    clock: Clock,
    posts: Mutex<Vec<Post>>,
    made: Mutex<Vec<(Address, ProviderMessage)>>,
    receipts: Mutex<Option<Arc<ReceiptProcessor>>>,
}

impl SeamProvider {
    pub fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap().clone()
    }

    fn make(&self, message: &Message<'_>, nth: usize) -> String {
        let message_id = format!("SM{nth:032x}");
        {
            let mut posts = self.posts.lock().unwrap();
            (posts[nth].accepted, posts[nth].sid) = (true, Some(message_id.clone()));
        }
        let made = ProviderMessage {
            message_id: message_id.clone(),
            created: self.clock.now(),
            text: (fastrand::f64() < 0.8).then(|| message.body.to_owned()),
            segments: None,
            verification_sid: None,
        };
        self.made.lock().unwrap().push((message.to.clone(), made));
        self.report(message, &message_id);
        message_id
    }

    /// Sends receipts late, out of order, or not at all.
    fn report(&self, message: &Message<'_>, message_id: &str) {
        for status in [DeliveryStatus::Queued, DeliveryStatus::Sent, DeliveryStatus::Delivered] {
            if fastrand::f64() < 0.3 {
                continue;
            }
            let Some(processor) = self.receipts.lock().unwrap().clone() else { return };
            let receipt = DeliveryReceipt {
                request_id: message.request_id.clone(),
                to: message.to.clone(),
                message_id: message_id.to_owned(),
                status,
                provider_code: None,
                reason: RefusalReason::Other,
            };
            let delay = Duration::from_millis(fastrand::u64(..20_000));
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = processor.process("seam", &receipt).await;
            });
        }
    }
}

#[async_trait]
impl Provider for SeamProvider {
    fn name(&self) -> &'static str {
        "seam"
    }

    fn senders(&self) -> usize {
        SENDERS
    }

    async fn send(&self, message: &Message<'_>) -> Result<Accepted, SendFailure> {
        let nth = {
            let mut posts = self.posts.lock().unwrap();
            posts.push(Post {
                request: Some(message.request_id.as_str().to_owned()),
                to: message.to.as_str().to_owned(),
                code: message.code.map_or("", Code::expose).to_owned(),
                at: self.clock.now().0,
                accepted: false,
                // Until the sender has the answer.
                in_doubt: true,
                sid: None,
            });
            posts.len() - 1
        };
        let certain = || self.posts.lock().unwrap()[nth].in_doubt = false;
        let lost = || SendFailure::InDoubt { detail: "reset".to_owned() };
        tokio::time::sleep(Duration::from_millis(fastrand::u64(20..300))).await;
        if self.weather.strikes("message is refused for now", 0.05) {
            certain();
            let retry_after = Some(Duration::from_secs(fastrand::u64(1..5)));
            return Err(SendFailure::Throttled { provider_code: Some(20429), retry_after });
        }
        if self.weather.strikes("provider is unreachable", 0.05) {
            certain();
            return Err(SendFailure::NotConnected { detail: "refused".to_owned() });
        }
        if self.weather.strikes("account is refused", 0.01) {
            certain();
            return Err(SendFailure::refused(Scope::Account, Some(20003)));
        }
        let sender_refused = |code| refused(Scope::Sender, code);
        if self.weather.strikes("sender has a full queue", 0.01) {
            certain();
            return Err(sender_refused(21611));
        }
        if self.weather.strikes("sender is refused", 0.02) || message.to.as_str() == REFUSED_BY_ALL {
            certain();
            return Err(sender_refused(21606));
        }
        if self.weather.strikes("message is refused", 0.03) {
            certain();
            return Err(SendFailure::refused(Scope::Request, Some(21617)));
        }
        if self.weather.strikes("message is not made and the answer lost", 0.05) {
            self.weather.delay("provider hangs, and has made nothing", 0.3, PROVIDER_TIMEOUT).await;
            return Err(lost());
        }
        let message_id = self.make(message, nth);
        if self.weather.strikes("message is made and the answer lost", 0.05) {
            self.weather.delay("provider hangs, and has made it", 0.3, PROVIDER_TIMEOUT).await;
            return Err(lost());
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..100))).await;
        certain();
        let is_cut = self.weather.strikes("answer is cut after its status", 0.05);
        Ok(Accepted { message_id: (!is_cut).then_some(message_id), segments: None, verification_sid: None })
    }

    async fn check_credentials(&self) -> Result<(), CredentialError> {
        match self.weather.strikes("probe fails", 0.3) {
            true => Err(CredentialError::Unanswered("lost".to_owned())),
            false => Ok(()),
        }
    }

    /// Lists every message after a lag of at most 10 s, seldom 90 s.
    async fn find(&self, to: &Address, since: UnixMillis) -> Result<Vec<ProviderMessage>, LookupError> {
        self.weather.delay("lookup is late", 0.1, Duration::from_secs(3)).await;
        if self.weather.strikes("lookup is not answered", 0.2) {
            return Err(LookupError::Unanswered("lost".to_owned()));
        }
        let now = self.clock.now();
        // A message that is listed too late can cause a second one. The rules allow that after an attempt in doubt.
        let lag_max = if self.weather.strikes("list lags", 0.1) { 90_000 } else { 10_000 };
        let lag = Duration::from_millis(fastrand::u64(..lag_max));
        let made = self.made.lock().unwrap();
        let shown = made
            .iter()
            .filter(|(number, made)| number == to && made.created >= since && made.created.plus(lag) <= now);
        Ok(shown.map(|(_, made)| made.clone()).collect())
    }

    async fn fetch(&self, message_id: &str) -> Result<FetchedMessage, LookupError> {
        let made = self.made.lock().unwrap();
        let (to, _) =
            made.iter().find(|(_, made)| made.message_id == message_id).ok_or(LookupError::NotFound)?;
        Ok(FetchedMessage {
            to: Some(to.clone()),
            status: DeliveryStatus::Delivered,
            provider_code: None,
            reason: RefusalReason::Other,
        })
    }
}
