//! The workers of a simulated run and their seams, with faults: a call may be late, have no effect, or lose its answer after its effect.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use otpost::broker::memory::{MemoryBroker, MemoryPublisher};
use otpost::broker::{Delivery, Names, Outgoing, PublishError, Publisher};
use otpost::clock::Clock;
use otpost::domain::channel::Channel;
use otpost::domain::code::{CodeKey, CodeKeyring, CodeLength, Kid};
use otpost::domain::defence::DefenceMode;
use otpost::domain::limit::{Limit, Limits};
use otpost::domain::message_match::InDoubtPolicy;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::domain::recipient_rules::RecipientRules;
use otpost::domain::retry::RetryPolicy;
use otpost::domain::routes::{ProviderIndex, Routes};
use otpost::domain::time::UnixMillis;
use otpost::flow::consumer_loop;
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
use otpost::provider::Provider;
use otpost::store::Store;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::provider::{PROVIDER_TIMEOUT, SeamProvider};
use super::store::{SeamStore, Server};
use crate::harness::{HOUR, region, texts};

pub const RECIPIENT_KEY: [u8; 32] = [9; 32];

/// The faults of a run, until it is calm.
#[derive(Clone)]
pub struct Weather {
    calm: Arc<AtomicBool>,
    seen: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Weather {
    /// True with the given odds, while it is not calm.
    pub fn strikes(&self, fault: &'static str, odds: f64) -> bool {
        let strikes = !self.is_calm() && fastrand::f64() < odds;
        *self.seen.lock().unwrap().entry(fault).or_default() += usize::from(strikes);
        strikes
    }

    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::SeqCst)
    }

    pub async fn delay(&self, fault: &'static str, odds: f64, at_most: Duration) {
        if self.strikes(fault, odds) {
            tokio::time::sleep(at_most.mul_f64(fastrand::f64())).await;
        }
    }
}

/// The seams that all workers share.
pub struct World {
    pub broker: MemoryBroker,
    pub server: Server,
    pub provider: Arc<SeamProvider>,
    /// In every other run the next provider takes over from the first.
    second: Option<Arc<SeamProvider>>,
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
    pub fn new(
        sends_an_hour: u32,
        code_life: Duration,
        cooldown: Duration,
        connect: impl FnOnce(Clock) -> Server,
    ) -> World {
        let clock = Clock::tokio();
        let weather = Weather { calm: Arc::default(), seen: Arc::default() };
        let provider = Arc::new(SeamProvider::new(weather.clone(), clock));
        World {
            broker: MemoryBroker::default(),
            server: connect(clock),
            second: fastrand::bool().then(|| Arc::new(provider.second())),
            provider,
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
        if self.weather.strikes("provider dies", 0.02) {
            let dead_for = Duration::from_secs(fastrand::u64(10..120));
            let second = self.second.as_ref().filter(|_| fastrand::bool());
            second.unwrap_or(&self.provider).die(dead_for);
        }
        if self.weather.strikes("kill switch", 0.01) {
            self.server.run(self.server.store().set_kill_switch(Some("storm"))).await.expect("answers");
            let server = self.server.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(fastrand::u64(1..60))).await;
                server.run(server.store().set_kill_switch(None)).await.expect("answers");
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
            Arc::new(SeamStore { server: self.server.clone(), weather: self.weather.clone() });
        let publisher = || {
            let inner = self.broker.publisher();
            Arc::new(SeamPublisher { inner, weather: self.weather.clone() })
        };
        let recipients = Arc::new(RecipientKeyring::new(&RECIPIENT_KEY));
        let key = CodeKey::new(Kid::parse("k1").expect("valid"), &[1; 32]);
        let concurrency = 6;
        let new = |provider| NewProvider {
            provider,
            receipt_wait: Duration::ZERO,
            poll_receipt_after: Some(Duration::from_secs(60)),
        };
        let first: Arc<dyn Provider> = self.provider.clone();
        let second = self.second.clone().map(|second| second as Arc<dyn Provider>);
        let all: Vec<NewProvider> = std::iter::once(first).chain(second).map(new).collect();
        let pace = Pace { concurrency_max: concurrency, sender_rate: None };
        let routes = Routes::in_order((0..all.len()).filter_map(ProviderIndex::new));
        let providers = Providers::new(Channel::Sms, all, routes, pace);
        let gateway = Arc::new(ChannelGateway {
            channel: Channel::Sms,
            store: store.clone(),
            gate: providers.gate(),
            providers,
            publisher: publisher(),
            activity: Arc::default(),
            conversion: Arc::new(ConversionCounter::new(store.clone(), clock)),
            samples: PriceSamples::default(),
            defence: Arc::new(Defence::new(DefenceMode::default(), 100, store.clone(), clock)),
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
                doubt_failover_after: Some(Duration::from_secs(30)),
                reply_to_allowed: Vec::new(),
                spend: SpendPolicy::default(),
            },
            test_numbers: Arc::default(),
            names: Names::new("otpost"),
            clock,
        });
        let processor = Arc::new(ReceiptProcessor {
            store,
            publisher: publisher(),
            recipient_keyring: recipients,
            clock,
        });
        self.provider.report_to(processor.clone());
        self.second.iter().for_each(|second| second.report_to(processor.clone()));
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

    async fn delay(
        &self,
        channel: Channel,
        delivery: &Delivery,
        now: UnixMillis,
    ) -> Result<(), PublishError> {
        let lost = || Err(PublishError::Unconfirmed("lost".to_owned()));
        self.weather.delay("broker is late", 0.1, Duration::from_secs(2)).await;
        if self.weather.strikes("message is lost", 0.05) {
            return lost();
        }
        self.inner.delay(channel, delivery, now).await?;
        if self.weather.strikes("confirm is lost", 0.05) { lost() } else { Ok(()) }
    }
}
