//! Puts the parts together: with `app/parts.rs` the only place that knows every adapter.

mod dev_banner;
pub(crate) mod dev_provider;
pub(crate) mod parts;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::dev_banner::greet;
use self::dev_provider::DevProvider;
use self::parts::{
    account, checker, email_account, email_provider, facts, handset, policy, provider, rabbit_settings,
    redis_store, rules, smtp_provider, text_faults, texts, webhooks,
};
use crate::broker::memory::MemoryBroker;
use crate::broker::rabbit::RabbitSettings;
use crate::broker::rabbit::consumer::RabbitConsumer;
use crate::broker::rabbit::publish::RabbitPublisher;
use crate::broker::rabbit::rpc::RabbitRpcClient;
use crate::broker::{Names, Publisher, RequestConsumer, RpcClient};
use crate::clock::Clock;
use crate::config::{ConfigError, EmailProvider, Role, Settings};
use crate::domain::channel::Channel;
use crate::domain::phone;
use crate::flow::gateway::Gateway;
use crate::flow::inspect::status::{Inspector, ProviderHealthCache};
use crate::flow::maintenance::ReceiptPolling;
use crate::flow::receipts::ReceiptProcessor;
use crate::flow::reply::Replies;
use crate::flow::send_gate::SendGate;
use crate::flow::verify::Verifier;
use crate::flow::worker::Worker;
use crate::http::page::Page;
use crate::http::{self, Api, PendingLimiter, Readiness, Tokens};
use crate::provider::sendgrid::events::SendGridEvents;
use crate::provider::{CodeVerifier, Provider};
use crate::provider::{twilio, web};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::telemetry::{self, events};

/// How long a stop waits for answers over HTTP, if the grace period is no shorter: none that was begun takes longer.
const HTTP_DRAIN: Duration = http::ANSWER_WITHIN;

/// What the adapters find wrong with settings, without asking anybody: a start would fail for it.
///
/// Must run inside the runtime, which the store's client wants around it; nothing connects.
pub fn faults(settings: &Settings) -> Vec<ConfigError> {
    let mut faults = faults_beside_texts(settings);
    faults.extend(text_faults(settings));
    faults
}

/// The same, without the texts: a command that is about them tells their faults itself.
pub(crate) fn faults_beside_texts(settings: &Settings) -> Vec<ConfigError> {
    let mut faults = Vec::new();
    let mut fault = |name, problem: String| faults.push(ConfigError::new(name, problem));
    if rabbit_settings(settings).is_err() {
        fault("AMQP_URL", "must be a URL, as amqps://user:password@host:5671/%2f".to_owned());
    }
    if settings.redis_url.is_some() && redis_store(settings).is_err() {
        fault("REDIS_URL", "must be a URL, as rediss://user:password@host:6379/0".to_owned());
    }
    if let Some(Err(problem)) = settings.jwt.as_ref().map(Tokens::new) {
        fault(problem.setting(), problem.to_string());
    }
    if settings.twilio.as_ref().is_some_and(|set| web::base_url(&set.base_url).is_err()) {
        fault("TWILIO_API_BASE_URL", "must be a URL without user, query or fragment".to_owned());
    }
    let verify = settings.twilio.as_ref().and_then(|set| set.verify.as_ref());
    if verify.is_some_and(|service| web::base_url(&service.base_url).is_err()) {
        fault("TWILIO_VERIFY_BASE_URL", "must be a URL without user, query or fragment".to_owned());
    }
    let callback = settings.twilio.as_ref().and_then(|set| set.status_callback.as_deref());
    if let Some(Err(problem)) = callback.map(twilio::check_status_callback) {
        fault("TWILIO_STATUS_CALLBACK_URL", problem.to_string());
    }
    if let Some(EmailProvider::SendGrid(set)) = &settings.email
        && web::base_url(&set.base_url).is_err()
    {
        fault("SENDGRID_API_BASE_URL", "must be a URL without user, query or fragment".to_owned());
    }
    let events = settings.sendgrid_webhook_key.as_deref().map(|key| SendGridEvents::new(key, Clock::System));
    if let Some(Err(problem)) = events {
        fault("SENDGRID_WEBHOOK_PUBLIC_KEY", problem.to_string());
    }
    if let Some(EmailProvider::Smtp(smtp)) = &settings.email
        && let Err(problem) = smtp_provider(smtp, settings.provider_timeout)
    {
        fault("SMTP_URL", problem.to_string());
    }
    if let Err(problem) = telemetry::check_filter(&settings.log_filter) {
        fault("RUST_LOG", problem);
    }
    faults
}

/// Starts what a role asks for, and runs until it is told to stop.
pub async fn run(role: Role, settings: Settings, dev_provider: DevProvider) -> anyhow::Result<()> {
    settings.notices.iter().for_each(|notice| events::notice(notice));
    let stop = stop_on_signal()?;
    let warm_up = tokio::task::spawn_blocking(phone::warm_up);
    let wiring = Wiring::new(&settings)?;
    let tracker = wiring.tracker(&settings)?;
    let handset = handset(role, dev_provider, &settings);
    let (worker, email_worker) = match role {
        Role::Http => (None, None),
        _ => {
            let sms = provider(&settings, dev_provider, &tracker, handset.as_ref()).await?;
            let email = email_provider(&settings, dev_provider, &tracker, handset.as_ref()).await?;
            let replies = wiring.reply_publisher();
            (
                Some(wiring.worker(&settings, Channel::Sms, sms, replies.clone())?),
                Some(wiring.worker(&settings, Channel::Email, email, replies)?),
            )
        }
    };
    let listener = match role {
        Role::Worker => None,
        _ => Some(listen("HTTP_ADDR", settings.http_addr, role, &settings).await?),
    };
    let ops = listen("OPS_ADDR", settings.ops_addr, role, &settings).await?;
    warm_up.await.context("warming up")?;
    if let (Role::Dev, Some(listener)) = (role, &listener) {
        greet(&settings, listener.local_addr()?, ops.local_addr()?, &wiring, handset.is_some());
    }
    let ops = http::serve(
        ops,
        http::ops_router(wiring.readiness(worker.as_ref().map(|(gateway, _)| gateway.clone()))),
        CancellationToken::new(),
    );
    // Published keys are fetched beside everything: whoever needs one before it is there is told so.
    let mut following = JoinSet::new();
    let http = match listener {
        Some(listener) => {
            let carries = |worker: &Option<(Arc<Gateway>, _)>| {
                worker.as_ref().map(|(gateway, _)| gateway.provider.clone())
            };
            let (texts, emails) = match (carries(&worker), carries(&email_worker)) {
                (None, None) => (account(&settings)?, email_account(&settings)?),
                carriers => carriers,
            };
            let inspector = wiring.inspector(&settings, role, texts, emails);
            let checker = checker(&settings).await?;
            let (api, webhooks) =
                (wiring.api(&settings, checker, inspector)?, webhooks(&settings, &tracker)?);
            following.spawn(api.tokens.refresh_keys());
            let router = match handset {
                Some(handset) => {
                    let page = Page::new(handset, &settings, listener.local_addr()?, stop.clone());
                    http::router_with_page(api, Some(webhooks), page)
                }
                None => http::router(api, Some(webhooks)),
            };
            Some(http::serve(listener, router, stop.clone()))
        }
        None => None,
    };
    events::started(word(role), env!("CARGO_PKG_VERSION"));
    let sweeps = settings.receipt_wait.map(|wait_max| ReceiptPolling { processor: tracker, wait_max });
    let work = async {
        let sms = run_worker(worker, sweeps, &settings, &stop);
        // Nothing is shared but the process: a provider of e-mails that hangs holds no permit of a text message.
        let email = run_worker(email_worker, None, &settings, &stop);
        let (sms, email) = tokio::join!(sms, email);
        anyhow::Ok(sms? + email?)
    };
    let answer = run_http(http, &wiring.checks, HTTP_DRAIN.min(settings.shutdown_grace), &stop);
    tokio::select! {
        (worked, answered) = async { tokio::join!(work, answer) } => {
            wiring.close().await;
            events::stopped(worked?);
            answered
        }
        stopped = ops => stopped.context("serving OPS_ADDR"),
        Some(_) = following.join_next() => bail!("following the published keys of tokens ended by itself"),
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Worker => "worker",
        Role::Http => "http",
        Role::Dev => "dev",
        _ => "serve",
    }
}

/// Answers how many handlings a stop cut off. A source that ends by itself stops everything: a process that takes no
/// requests and says that it is well helps nobody.
async fn run_worker(
    worker: Option<(Arc<Gateway>, Box<dyn RequestConsumer>)>,
    sweeps: Option<ReceiptPolling>,
    settings: &Settings,
    stop: &CancellationToken,
) -> anyhow::Result<usize> {
    let Some((gateway, source)) = worker else { return Ok(0) };
    let concurrency = usize::from(settings.concurrency);
    let worker = Worker::new(gateway.clone(), concurrency, settings.shutdown_grace, stop.clone());
    let worker = worker.pausing_when(gateway.gate.paused());
    // What is in flight still wants to know of the kill switch, so tending ends after it.
    let tended = CancellationToken::new();
    gateway.load_kill_switch().await;
    let mut tending = tokio::spawn({
        let tended = tended.clone();
        async move { gateway.run_maintenance(sweeps, tended).await }
    });
    let unfinished = tokio::select! {
        unfinished = worker.run(source) => unfinished,
        ended = &mut tending => {
            stop.cancel();
            ended.context("what happens beside the requests")?;
            bail!("what happens beside the requests ended by itself");
        }
    };
    tended.cancel();
    tending.await.context("what happens beside the requests")?;
    if !stop.is_cancelled() {
        stop.cancel();
        bail!("the source of requests ended by itself");
    }
    Ok(unfinished)
}

/// Answers until told to stop, and then until what was begun is over: an answer that somebody waits for, or a check at a
/// provider that nobody waits for any more.
async fn run_http(
    http: Option<impl Future<Output = std::io::Result<()>>>,
    checks: &TaskTracker,
    drain: Duration,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let Some(http) = http else { return Ok(()) };
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    let finished = async {
        http.await.context("serving HTTP_ADDR")?;
        checks.close();
        checks.wait().await;
        Ok(())
    };
    tokio::select! {
        finished = finished => finished,
        () = overdue => Ok(()),
    }
}

/// The adapters that settings name.
struct Wiring {
    names: Names,
    store: Arc<dyn Store>,
    broker: Broker,
    clock: Clock,
    in_memory: (bool, bool),
    /// Codes that are being checked elsewhere.
    checks: TaskTracker,
}

enum Broker {
    Memory(MemoryBroker),
    Rabbit { settings: Box<RabbitSettings>, publisher: Arc<RabbitPublisher>, consuming: ConsumingFlag },
}

type ConsumingFlag = std::sync::Mutex<Option<tokio::sync::watch::Receiver<bool>>>;

impl Wiring {
    fn new(settings: &Settings) -> anyhow::Result<Wiring> {
        let names = Names::new(&settings.amqp_prefix);
        let broker = match rabbit_settings(settings)? {
            Some(rabbit) => {
                let publisher = Arc::new(RabbitPublisher::start("results", rabbit.clone()));
                Broker::Rabbit { settings: Box::new(rabbit), publisher, consuming: Default::default() }
            }
            None => Broker::Memory(MemoryBroker::default()),
        };
        let store: Arc<dyn Store> = match settings.redis_url {
            Some(_) => Arc::new(redis_store(settings)?),
            None => Arc::new(MemoryStore::new(Clock::System)),
        };
        let in_memory = (matches!(broker, Broker::Memory(_)), settings.redis_url.is_none());
        Ok(Wiring { names, store, broker, clock: Clock::System, in_memory, checks: TaskTracker::new() })
    }

    fn publisher(&self) -> Arc<dyn Publisher> {
        match &self.broker {
            Broker::Memory(broker) => Arc::new(broker.publisher()),
            Broker::Rabbit { publisher, .. } => publisher.clone(),
        }
    }

    /// A connection that may break without harm: its queues are the callers'.
    fn reply_publisher(&self) -> Arc<dyn Publisher> {
        match &self.broker {
            Broker::Memory(broker) => Arc::new(broker.publisher()),
            Broker::Rabbit { settings, .. } => Arc::new(RabbitPublisher::start("replies", *settings.clone())),
        }
    }

    fn requester(&self) -> Arc<dyn RpcClient> {
        match &self.broker {
            Broker::Memory(broker) => Arc::new(broker.rpc_client()),
            Broker::Rabbit { settings, .. } => Arc::new(RabbitRpcClient::start(*settings.clone())),
        }
    }

    fn source(&self, channel: Channel) -> Box<dyn RequestConsumer> {
        match &self.broker {
            Broker::Memory(broker) => Box::new(broker.consumer(channel, 64)),
            Broker::Rabbit { settings, consuming, .. } => {
                let source = RabbitConsumer::start(RabbitSettings::clone(settings), channel);
                // The probe is about text messages.
                if channel == Channel::Sms {
                    let mut consuming = consuming.lock().expect("nothing panics while it holds the lock");
                    *consuming = Some(source.connected());
                }
                Box::new(source)
            }
        }
    }

    fn worker(
        &self,
        settings: &Settings,
        channel: Channel,
        provider: Arc<dyn Provider>,
        replies: Arc<dyn Publisher>,
    ) -> anyhow::Result<(Arc<Gateway>, Box<dyn RequestConsumer>)> {
        let pace = settings.sender_pace.filter(|_| channel == Channel::Sms);
        let gateway = Gateway {
            channel,
            store: self.store.clone(),
            provider: provider.clone(),
            publisher: self.publisher(),
            replies: Replies::new(replies),
            gate: SendGate::new(channel, usize::from(settings.concurrency), provider.senders(), pace),
            texts: texts(settings, channel)?,
            codes: settings.codes.clone().context("OTP_SECRET_KEYS must be set")?,
            recipients: settings.recipients.clone().context("OTP_RECIPIENT_KEY must be set")?,
            rules: rules(settings),
            policy: policy(settings, channel),
            names: self.names.clone(),
            clock: self.clock,
        };
        Ok((Arc::new(gateway), self.source(channel)))
    }

    fn tracker(&self, settings: &Settings) -> anyhow::Result<Arc<ReceiptProcessor>> {
        Ok(Arc::new(ReceiptProcessor {
            store: self.store.clone(),
            publisher: self.publisher(),
            recipients: settings.recipients.clone().context("OTP_RECIPIENT_KEY must be set")?,
            clock: self.clock,
        }))
    }

    fn inspector(
        &self,
        settings: &Settings,
        role: Role,
        provider: Option<Arc<dyn Provider>>,
        email_provider: Option<Arc<dyn Provider>>,
    ) -> Inspector {
        Inspector {
            process: facts(settings, word(role), Some(Instant::now())),
            store: self.store.clone(),
            store_in_memory: self.in_memory.1,
            broker: match &self.broker {
                Broker::Memory(_) => None,
                Broker::Rabbit { publisher, .. } => Some(publisher.clone()),
            },
            provider,
            email_provider,
            clock: self.clock,
            provider_health: ProviderHealthCache::default(),
            email_provider_health: ProviderHealthCache::default(),
        }
    }

    fn api(
        &self,
        settings: &Settings,
        checker: Option<Arc<dyn CodeVerifier>>,
        inspector: Inspector,
    ) -> anyhow::Result<Arc<Api>> {
        let recipients = settings.recipients.clone().context("OTP_RECIPIENT_KEY must be set")?;
        let jwt = settings.jwt.as_ref().context("JWT_SECRET must be set")?;
        Ok(Arc::new(Api {
            tokens: Tokens::new(jwt)?,
            verifier: Verifier {
                store: self.store.clone(),
                codes: settings.codes.clone().context("OTP_SECRET_KEYS must be set")?,
                recipients: recipients.clone(),
                limits: settings.limits,
                provider_verifier: checker,
                in_flight: self.checks.clone(),
                clock: self.clock,
            },
            rpc_client: self.requester(),
            send_wait: settings.send_wait,
            pending: PendingLimiter::default(),
            store: self.store.clone(),
            recipients,
            rules: rules(settings),
            limits: settings.limits,
            code_length: settings.code_length.get(),
            trusted_proxies: settings.trusted_proxies.clone(),
            clock: self.clock,
            inspector,
            validations: Arc::new(Semaphore::new(http::VALIDATIONS_MAX)),
        }))
    }

    /// A worker is ready while it can take requests, send and publish results; HTTP depends on itself only.
    fn readiness(&self, gateway: Option<Arc<Gateway>>) -> Readiness {
        let (Broker::Rabbit { publisher, consuming, .. }, Some(gateway)) = (&self.broker, gateway) else {
            return Arc::new(|| Ok(()));
        };
        let publishing = publisher.connected();
        let consuming = consuming.lock().expect("nothing panics while it holds the lock").clone();
        Arc::new(move || match (consuming.as_ref().is_some_and(|up| *up.borrow()), *publishing.borrow()) {
            (true, true) if gateway.gate.is_breaker_open() => {
                Err("not sending: the provider fails everybody\n")
            }
            (true, true) => Ok(()),
            (false, _) => Err("not consuming: RabbitMQ is not connected\n"),
            (true, false) => Err("not publishing: RabbitMQ is not connected or blocks publishers\n"),
        })
    }

    async fn close(&self) {
        if let Broker::Rabbit { publisher, .. } = &self.broker {
            publisher.close().await;
        }
    }
}

/// A laptop may have the default port in use already: then another will do, and is told. One that was asked for is not
/// replaced.
async fn listen(
    name: &str,
    address: SocketAddr,
    role: Role,
    settings: &Settings,
) -> anyhow::Result<TcpListener> {
    let given = settings.shown.iter().any(|shown| shown.name == name && shown.given);
    let may_move = role == Role::Dev && !given;
    match TcpListener::bind(address).await {
        Err(error) if may_move && error.kind() == std::io::ErrorKind::AddrInUse => {
            events::notice(&format!("{name}: {address} is in use, so another port is taken"));
            let free = SocketAddr::new(address.ip(), 0);
            TcpListener::bind(free).await.with_context(|| format!("{name}: listening on {free}"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("{name}: {address} is in use: stop what listens there, or set {name} to another port")
        }
        listener => listener.with_context(|| format!("{name}: listening on {address}")),
    }
}

/// The first signal asks to stop; the second leaves at once, and the broker gives what was in flight to another.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        for last in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if last {
                std::process::exit(1);
            }
            stopping.cancel();
        }
    });
    Ok(stop)
}

#[cfg(test)]
mod tests;
