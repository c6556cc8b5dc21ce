//! The embedded gateway as a test drives it: the real flow over the adapters in memory, with time that can be paused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use otpost::broker::memory::{MemoryBroker, OwnedMessage, StoredDeadLetter};
use otpost::broker::{Names, Outgoing, Properties, PublishError, Publisher};
use otpost::clock::Clock;
use otpost::domain::challenge::ChallengeId;
use otpost::domain::channel::Channel;
use otpost::domain::code::{Code, CodeKey, CodeKeyring, CodeLength, Kid};
use otpost::domain::email::EmailAddress;
use otpost::domain::history::RequestHistory;
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::message_match::InDoubtPolicy;
use otpost::domain::phone::{PhoneNumber, Region};
use otpost::domain::purpose::Purpose;
use otpost::domain::quota::Quota;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::domain::request_id::RequestId;
use otpost::domain::retry::RetryPolicy;
use otpost::domain::suppression::{ManualSuppression, SuppressionEntry};
use otpost::domain::verdict::Verdict;
use otpost::domain::zone::Zone;
use otpost::flow::admit::Rules;
use otpost::flow::maintenance::ReceiptPolling;
use otpost::flow::receipts::ReceiptProcessor;
use otpost::flow::reply::Replies;
use otpost::flow::send_gate::SendGate;
use otpost::flow::verify::Verifier;
use otpost::flow::worker::Worker;
use otpost::flow::{Gateway, Policy};
use otpost::provider::{CodeVerifier, Provider as _};
use otpost::store::code_check::{CodeCheck, ProviderCheckResult, ProviderCheckStart};
use otpost::store::memory::MemoryStore;
use otpost::store::{
    Admission, Admit, CompleteRequest, CompleteResult, KillSwitch, Lease, Limits, OverdueReceipt, Progress,
    ProgressResult, ReceiptResult, RecordReceipt, RequestRecord, RequestSummary, SharedState, Store,
    StoreError, Subject, Usage,
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
const RECIPIENT_KEY: [u8; 32] = [9; 32];
pub const HOUR: Duration = Duration::from_secs(3_600);

pub fn region() -> Region {
    "CO".parse().expect("a country")
}

pub fn number(text: &str) -> PhoneNumber {
    PhoneNumber::parse(text, region()).expect("a number")
}

/// A publisher that never hears back, as from a queue that is full.
pub struct NeverConfirmed;

#[async_trait]
impl Publisher for NeverConfirmed {
    async fn publish(&self, _: Outgoing<'_>) -> Result<(), PublishError> {
        std::future::pending().await
    }
}

/// A store that can be gone. It counts how often it was asked.
pub struct FlakyStore {
    pub inner: MemoryStore,
    pub gone: AtomicBool,
    pub panics: AtomicUsize,
    pub asked: AtomicUsize,
}

impl FlakyStore {
    fn reach(&self) -> Result<&MemoryStore, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let panics = self.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(panics.is_err(), "the test wants a panic");
        if self.gone.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("gone".to_owned()));
        }
        Ok(&self.inner)
    }
}

#[async_trait]
impl Store for FlakyStore {
    async fn admit(&self, ask: &Admit<'_>) -> Result<Admission, StoreError> {
        self.reach()?.admit(ask).await
    }
    async fn update_progress(
        &self,
        handling: &Lease<'_>,
        made: Option<u32>,
        mark: Progress,
        notes: Option<&RequestHistory>,
    ) -> Result<ProgressResult, StoreError> {
        self.reach()?.update_progress(handling, made, mark, notes).await
    }
    async fn complete(&self, settle: &CompleteRequest<'_>) -> Result<CompleteResult, StoreError> {
        self.reach()?.complete(settle).await
    }
    async fn verify(&self, check: &CodeCheck<'_>) -> Result<Verdict, StoreError> {
        self.reach()?.verify(check).await
    }
    async fn begin_provider_check(&self, check: &CodeCheck<'_>) -> Result<ProviderCheckStart, StoreError> {
        self.reach()?.begin_provider_check(check).await
    }
    async fn finish_provider_check(
        &self,
        check: &CodeCheck<'_>,
        end: ProviderCheckResult,
    ) -> Result<Verdict, StoreError> {
        self.reach()?.finish_provider_check(check, end).await
    }
    async fn link_verification(
        &self,
        subject: &Subject<'_>,
        challenge: &ChallengeId,
        name: &str,
    ) -> Result<(), StoreError> {
        self.reach()?.link_verification(subject, challenge, name).await
    }
    async fn usage(
        &self,
        subject: &Subject<'_>,
        request: Option<&RequestId>,
        limits: &Limits,
    ) -> Result<Usage, StoreError> {
        self.reach()?.usage(subject, request, limits).await
    }
    async fn record_receipt(&self, track: &RecordReceipt<'_>) -> Result<ReceiptResult, StoreError> {
        self.reach()?.record_receipt(track).await
    }
    async fn overdue_receipts(
        &self,
        wait_max: Duration,
        count_max: u32,
    ) -> Result<Vec<OverdueReceipt>, StoreError> {
        self.reach()?.overdue_receipts(wait_max, count_max).await
    }
    async fn heartbeat(&self, worker: u64, busy: bool) -> Result<SharedState, StoreError> {
        self.reach()?.heartbeat(worker, busy).await
    }
    async fn kill_switch(&self) -> Result<Option<KillSwitch>, StoreError> {
        self.reach()?.kill_switch().await
    }
    async fn set_kill_switch(&self, reason: Option<&str>) -> Result<Option<KillSwitch>, StoreError> {
        self.reach()?.set_kill_switch(reason).await
    }
    async fn request_record(
        &self,
        request: &RequestId,
        recipient: Option<Digest16>,
    ) -> Result<Option<RequestRecord>, StoreError> {
        self.reach()?.request_record(request, recipient).await
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
        by_hand: &ManualSuppression<'_>,
    ) -> Result<SuppressionEntry, StoreError> {
        self.reach()?.add_suppression(recipient, by_hand).await
    }
    async fn remove_suppression(&self, recipient: Digest16) -> Result<Option<SuppressionEntry>, StoreError> {
        self.reach()?.remove_suppression(recipient).await
    }
    fn may_have_lost_writes(&self) -> bool {
        self.inner.may_have_lost_writes()
    }
}

/// The parts of an embedded gateway that a test may choose.
pub struct Options {
    /// How messages travel.
    pub channel: Channel,
    pub limits: Limits,
    pub rules: Rules,
    pub keys: Vec<(&'static str, [u8; 32])>,
    pub concurrency: usize,
    pub grace: Duration,
    pub retry: RetryPolicy,
    pub in_doubt: InDoubtPolicy,
    /// How long a report may settle what nobody shows.
    pub doubt_report_wait: Duration,
    /// The kill switch is asked about, a failing provider is probed, and receipts are swept for.
    pub tended: bool,
    /// Messages a second of one sender.
    pub pace: Option<f64>,
    /// Texts beside the built-in ones.
    pub templates: Vec<TemplateFile>,
    /// Where replies go, if not to the world's own broker.
    pub replies: Option<Arc<dyn Publisher>>,
    /// Who checks codes that are not ours.
    pub checker: Option<Arc<dyn CodeVerifier>>,
    /// While it is true, nothing new is begun.
    pub paused: watch::Receiver<bool>,
}

impl Default for Options {
    fn default() -> Self {
        let hourly = |count| Quota { count, window: HOUR };
        Options {
            channel: Channel::Sms,
            limits: Limits {
                number: hourly(5),
                number_day: Quota { count: 10, window: 24 * HOUR },
                user: hourly(10),
                ip: hourly(30),
                all: hourly(0),
                cooldown: Duration::ZERO,
                wrong_per_challenge: 5,
                wrong: hourly(10),
            },
            rules: Rules {
                sms_enabled: true,
                email_enabled: true,
                default_region: region(),
                allowed_countries: Some(["CO".to_owned()].into()),
                allow_landline: false,
            },
            keys: vec![("k1", [1; 32])],
            concurrency: 8,
            grace: Duration::from_secs(25),
            retry: RetryPolicy::default(),
            in_doubt: InDoubtPolicy::Reconcile,
            doubt_report_wait: Duration::ZERO,
            tended: false,
            pace: None,
            templates: Vec::new(),
            replies: None,
            checker: None,
            paused: watch::Sender::new(false).subscribe(),
        }
    }
}

/// What several gateways share.
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
                panics: AtomicUsize::new(0),
                asked: AtomicUsize::new(0),
            }),
            provider: Arc::new(ScriptedProvider::new(clock)),
            clock,
        }
    }
}

impl World {
    /// What a number is called in the store.
    pub fn recipient(&self, to: &str) -> Digest16 {
        RecipientKeyring::new(&RECIPIENT_KEY).address(Channel::Sms, number(to).e164())
    }

    /// What was set aside.
    pub fn dead_letters(&self) -> Vec<StoredDeadLetter> {
        let letters = self.broker.dead_letters();
        letters.iter().for_each(check_dead_letter);
        letters
    }
}

/// A running worker, its doors, and what it published.
pub struct Embedded {
    channel: Channel,
    pub world: World,
    results: mpsc::Receiver<OwnedMessage>,
    pub verifier: Verifier,
    /// Takes what the provider reports.
    pub tracker: Arc<ReceiptProcessor>,
    stop: CancellationToken,
    tended: DropGuard,
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
        let gateway = Gateway {
            channel: options.channel,
            store: store.clone(),
            provider: world.provider.clone(),
            publisher: Arc::new(world.broker.publisher()),
            replies: Replies::new(options.replies.unwrap_or_else(|| Arc::new(world.broker.publisher()))),
            gate: SendGate::new(options.channel, options.concurrency, world.provider.senders(), options.pace),
            texts: texts_with(options.templates),
            codes: codes.clone(),
            recipients: recipients.clone(),
            rules: options.rules,
            policy: Policy {
                limits: options.limits,
                code_life: Duration::from_secs(600),
                code_length: CodeLength::new(6).expect("valid"),
                retry: options.retry,
                provider_timeout: PROVIDER_TIMEOUT,
                in_doubt: options.in_doubt,
                doubt_report_wait: options.doubt_report_wait,
                receipt_due_after: Some(Duration::from_secs(60)),
                reply_to_allowed: ["amq.rabbitmq.reply-to.*", "reply.*", "exact"].map(str::to_owned).to_vec(),
            },
            names: Names::new("otpost"),
            clock: world.clock,
        };
        let stop = CancellationToken::new();
        let gateway = Arc::new(gateway);
        let paused = if options.tended { gateway.gate.paused() } else { options.paused };
        let worker = Worker::new(gateway.clone(), options.concurrency, options.grace, stop.clone())
            .pausing_when(paused);
        let tracker = Arc::new(ReceiptProcessor {
            store: store.clone(),
            publisher: Arc::new(world.broker.publisher()),
            recipients: recipients.clone(),
            clock: world.clock,
        });
        let tended = CancellationToken::new();
        if options.tended {
            let sweeps = Some(ReceiptPolling { tracker: tracker.clone(), wait_max: 4 * HOUR });
            let until = tended.clone();
            tokio::spawn(async move { gateway.run_maintenance(sweeps, until).await });
        }
        let source = Box::new(world.broker.consumer(options.channel, options.concurrency + 2));
        Embedded {
            channel: options.channel,
            results: world.broker.subscribe_results(),
            verifier: Verifier {
                store,
                codes,
                recipients,
                limits: options.limits,
                provider_verifier: options.checker,
                in_flight: TaskTracker::new(),
                clock: world.clock,
            },
            worker: tokio::spawn(worker.run(source)),
            tended: tended.drop_guard(),
            tracker,
            stop,
            world,
        }
    }

    /// Publishes a body as it stands.
    pub fn publish(&self, body: &[u8]) {
        self.publish_with(body, Properties::default());
    }

    pub fn publish_with(&self, body: &[u8], properties: Properties) {
        self.world.broker.send_request_to(self.channel, body, properties).expect("the queue takes it");
    }

    /// Asks for a code, and waits for the result.
    pub async fn request(&mut self, id: &str, to: &str) -> Ended {
        self.publish(&request(id, to));
        self.result().await
    }

    pub async fn result(&mut self) -> Ended {
        let message = within(self.results.recv()).await.expect("a result");
        check_result(&message.message_id, &message.body);
        Ended { body: serde_json::from_slice(&message.body).expect("a result is JSON"), message }
    }

    /// No further result is there.
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
        self.verifier.verify(&to, &Purpose::default(), &code).await.expect("the store answers")
    }

    pub fn posted(&self) -> Vec<Posted> {
        self.world.provider.posted()
    }

    /// Tells the worker to stop and waits for it. Answers how many deliveries were left unfinished.
    pub async fn stop(self) -> usize {
        self.stop.cancel();
        within(self.worker).await.expect("the worker does not panic")
    }

    /// The process dies: nothing is finished, nothing is told.
    pub async fn crash(self) {
        drop(self.tended);
        self.worker.abort();
        assert!(self.worker.await.expect_err("aborted").is_cancelled());
    }
}

/// The end of a request, as its caller sees it.
pub struct Ended {
    pub body: Value,
    pub message: OwnedMessage,
}

impl Ended {
    #[track_caller]
    pub fn expect(&self, status: &str, error: Option<&str>) -> &Ended {
        let got = (self.body["status"].as_str(), self.body["error"]["code"].as_str());
        assert_eq!(got, (Some(status), error), "{}", self.body);
        self
    }

    #[track_caller]
    pub fn expect_sent(&self) -> &Ended {
        self.expect("sent", None)
    }

    #[track_caller]
    pub fn expect_replayed(&self, replayed: bool) -> &Ended {
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
        templates,
    };
    Texts::built_in(settings).expect("the texts are good")
}

/// Fails a test that waits for what does not come. The time is the paused clock's, where that is paused.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(7_200), future)
        .await
        .expect("what the test waits for never came")
}
