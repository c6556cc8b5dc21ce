//! Wires the adapters of the settings to the flow and the HTTP API.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::brokers::{Broker, replayer};
use super::policy::{policy, rules, spend_view};
use super::provider_adapters::{callbacks, code_verifier, inbound_messages};
use super::status::{process_info, process_keys};
use super::stores::store;
use super::texts::texts;
use super::traces;
use crate::broker::{Names, Publisher, RequestConsumer, RequestQueues};
use crate::clock::Clock;
use crate::config::{Role, Settings};
use crate::domain::channel::Channel;
use crate::domain::key_check::KeyCheck;
use crate::domain::limit::Limit;
use crate::domain::worker_state::ProcessRole;
use crate::flow::audit::AuditPublisher;
use crate::flow::channel_gate::ChannelGate;
use crate::flow::conversion::ConversionCounter;
use crate::flow::defence::Defence;
use crate::flow::gateway::ChannelGateway;
use crate::flow::inspect::status::{Inspector, ProviderHealthCache};
use crate::flow::key_watch::KeyWatch;
use crate::flow::limit_counter::LimitCounter;
use crate::flow::operate::dead_letters::desk::DeadLetterDesk;
use crate::flow::opt_statuses::OptStatuses;
use crate::flow::price_samples::PriceSamples;
use crate::flow::providers::Providers;
use crate::flow::receipts::ReceiptProcessor;
use crate::flow::reply::Replies;
use crate::flow::scaler::Scaler;
use crate::flow::store_watch::StoreWatch;
use crate::flow::verify::Verifier;
use crate::flow::worker_activity::WorkerActivity;
use crate::http::{self, Api, Console, PendingLimiter, ProofSigner, Readiness, Tokens, Webhooks};
use crate::provider::Provider;
use crate::store::Store;
use crate::telemetry::events;

pub(super) struct ChannelWorker {
    pub(super) gateway: Arc<ChannelGateway>,
    pub(super) consumer: Box<dyn RequestConsumer>,
}

pub(super) struct Wiring {
    names: Names,
    store: Arc<dyn Store>,
    broker: Broker,
    queues: Arc<dyn RequestQueues>,
    /// Requests that the HTTP API refused.
    limit_counter: Arc<LimitCounter>,
    keys: Vec<KeyCheck>,
    pub(super) conversion: Arc<ConversionCounter>,
    pub(super) defence: Arc<Defence>,
    pub(super) clock: Clock,
    pub(super) broker_in_memory: bool,
    pub(super) store_in_memory: bool,
    /// Code checks in progress.
    pub(super) checks: TaskTracker,
}

impl Wiring {
    pub(super) fn new(settings: &Settings) -> anyhow::Result<Wiring> {
        let broker = Broker::new(settings)?;
        let (store, clock) = (store(settings)?, Clock::System);
        let defence = Defence::new(settings.defence, settings.defence_budget_percent, store.clone(), clock);
        Ok(Wiring {
            names: Names::new(&settings.amqp_prefix),
            conversion: Arc::new(ConversionCounter::new(store.clone(), clock)),
            defence: Arc::new(defence),
            store,
            broker_in_memory: broker.is_in_memory(),
            store_in_memory: settings.redis_url.is_none(),
            queues: broker.request_queues(),
            limit_counter: Arc::default(),
            keys: process_keys(settings),
            broker,
            clock,
            checks: TaskTracker::new(),
        })
    }

    pub(super) fn queues(&self) -> Arc<dyn RequestQueues> {
        self.queues.clone()
    }

    pub(super) fn reply_publisher(&self) -> Arc<dyn Publisher> {
        self.broker.reply_publisher()
    }

    fn publisher(&self) -> Arc<dyn Publisher> {
        traces::publisher(self.broker.publisher(), &self.names)
    }

    pub(super) fn worker(
        &self,
        settings: &Settings,
        role: Role,
        channel: Channel,
        providers: Providers,
        replies: Arc<dyn Publisher>,
    ) -> anyhow::Result<ChannelWorker> {
        providers.adapters().for_each(|provider| events::provider_configured(channel, provider.name()));
        events::hourly_cap_configured(channel, settings.limits.on(channel)[Limit::All].count);
        let gateway = ChannelGateway {
            channel,
            store: self.store.clone(),
            gate: providers.gate(),
            activity: Arc::new(WorkerActivity::of_process(process_role(role))),
            providers,
            publisher: self.publisher(),
            conversion: self.conversion.clone(),
            samples: PriceSamples::default(),
            defence: self.defence.clone(),
            replies: Replies::new(replies),
            texts: texts(settings, channel)?,
            code_keyring: settings.code_keyring.clone().context("OTP_SECRET_KEYS must be set")?,
            recipient_keyring: settings.recipients.clone().context("OTP_RECIPIENT_KEY must be set")?,
            rules: rules(settings),
            policy: policy(settings, channel),
            test_numbers: settings.test_numbers.clone(),
            names: self.names.clone(),
            clock: self.clock,
        };
        Ok(ChannelWorker { gateway: Arc::new(gateway), consumer: self.broker.consumer(channel) })
    }

    pub(super) fn receipt_processor(&self, settings: &Settings) -> anyhow::Result<Arc<ReceiptProcessor>> {
        Ok(Arc::new(ReceiptProcessor {
            store: self.store.clone(),
            publisher: self.publisher(),
            recipient_keyring: settings.recipients.clone().context("OTP_RECIPIENT_KEY must be set")?,
            clock: self.clock,
        }))
    }

    pub(super) fn inspector(
        &self,
        settings: &Settings,
        role: Role,
        provider: Option<Arc<dyn Provider>>,
        email_provider: Option<Arc<dyn Provider>>,
    ) -> Inspector {
        Inspector {
            process: process_info(settings, role_name(role), Some(Instant::now())),
            store: self.store.clone(),
            store_in_memory: self.store_in_memory,
            broker: match &self.broker {
                Broker::Memory(_) => None,
                Broker::Rabbit { publisher, .. } => Some(publisher.clone()),
            },
            queues: Some(self.queues.clone()),
            names: self.names.clone(),
            keys: self.keys.clone(),
            provider,
            email_provider,
            clock: self.clock,
            provider_health: ProviderHealthCache::default(),
            email_provider_health: ProviderHealthCache::default(),
        }
    }

    pub(super) async fn api(
        &self,
        settings: &Settings,
        role: Role,
        inspector: Inspector,
    ) -> anyhow::Result<Arc<Api>> {
        let recipients = settings.recipients.clone().context("OTP_RECIPIENT_KEY must be set")?;
        let jwt = settings.jwt.as_ref().context("JWT_SECRET must be set")?;
        let proofs = settings.proofs.as_ref().map(ProofSigner::new).transpose()?;
        let tokens = Tokens::new(jwt)?;
        Ok(Arc::new(Api {
            tokens: match &proofs {
                Some(proofs) => tokens.apart_from(proofs)?,
                None => tokens,
            },
            proofs,
            verifier: Verifier {
                store: self.store.clone(),
                publisher: self.publisher(),
                code_keyring: settings.code_keyring.clone().context("OTP_SECRET_KEYS must be set")?,
                recipient_keyring: recipients.clone(),
                limits: settings.limits,
                provider_verifier: code_verifier(settings).await?,
                conversion: self.conversion.clone(),
                defence: self.defence.clone(),
                in_flight: self.checks.clone(),
                clock: self.clock,
            },
            rpc_client: traces::rpc_client(self.broker.rpc_client(), &self.names),
            send_wait: settings.send_wait,
            pending: PendingLimiter::default(),
            limit_counter: self.limit_counter.clone(),
            store: self.store.clone(),
            recipient_keyring: recipients,
            rules: rules(settings),
            limits: settings.limits,
            code_length: settings.code_length.get(),
            code_life: settings.code_life,
            spend: spend_view(settings),
            defence_mode: settings.defence,
            trusted_proxies: settings.trusted_proxies.clone(),
            clock: self.clock,
            inspector,
            validations: Arc::new(Semaphore::new(http::VALIDATIONS_MAX)),
            console: self.console(settings, role),
        }))
    }

    /// `otpost dev` has none: it shows codes, and its dead letters may be in memory.
    fn console(&self, settings: &Settings, role: Role) -> Option<Console> {
        if !settings.ops_console || role == Role::Dev {
            return None;
        }
        Some(Console::new(DeadLetterDesk::new(self.broker.dead_letter_queue()?, replayer(settings))))
    }

    pub(super) fn webhooks(
        &self,
        settings: &Settings,
        receipts: &Arc<ReceiptProcessor>,
    ) -> anyhow::Result<Webhooks> {
        let opt_statuses = match inbound_messages(settings)? {
            Some(messages) => Some(Arc::new(OptStatuses {
                store: self.store.clone(),
                recipient_keyring: settings.recipients.clone().context("OTP_RECIPIENT_KEY must be set")?,
                messages,
            })),
            None => None,
        };
        Ok(Webhooks { callbacks: callbacks(settings)?, receipts: receipts.clone(), opt_statuses })
    }

    pub(super) fn scaler(&self, settings: &Settings) -> Arc<Scaler> {
        Arc::new(Scaler::new(self.store.clone(), self.queues.clone(), settings.scale_policy))
    }

    /// Watches the store of a process that answers HTTP, and reports the process.
    pub(super) fn store_watch(&self) -> Arc<StoreWatch> {
        Arc::new(StoreWatch::new(self.store.clone(), self.keys.clone(), self.limit_counter.clone()))
    }

    pub(super) fn audit_publisher(&self) -> AuditPublisher {
        let (store, publisher) = (self.store.clone(), self.broker.publisher());
        AuditPublisher { store, publisher, clock: self.clock }
    }

    pub(super) fn key_watch(&self) -> KeyWatch {
        KeyWatch::new(self.store.clone(), self.keys.clone())
    }

    /// A worker is ready while it can consume requests, send and publish results. HTTP alone is ready unless its settings do not
    /// fit the stored data.
    pub(super) fn readiness(
        &self,
        gateway: Option<Arc<ChannelGateway>>,
        watch: Option<Arc<StoreWatch>>,
    ) -> Readiness {
        if let Some(watch) = watch {
            return Arc::new(move || match watch.misfit() {
                Some(fault) => Err(format!("answering nothing: {fault}\n").into()),
                None => Ok(()),
            });
        }
        let (Broker::Rabbit { publisher, consuming, .. }, Some(gateway)) = (&self.broker, gateway) else {
            return Arc::new(|| Ok(()));
        };
        let (publishing, blocked) = (publisher.connected(), publisher.blocked());
        let publisher_fault = publisher.fault();
        let consuming = consuming.lock().expect("nothing panics while it holds the lock").clone();
        Arc::new(move || match consuming.as_ref().filter(|consuming| *consuming.connected.borrow()) {
            Some(_) if *publishing.borrow() => sending(&gateway.gate),
            Some(_) if *blocked.borrow() => {
                Err("not publishing: RabbitMQ blocks publishers (memory or disk alarm)\n".into())
            }
            Some(_) => Err(not_connected("publishing", &publisher_fault, "not connected")),
            None => {
                let fault = consuming.as_ref().map_or(&publisher_fault, |consuming| &consuming.fault);
                Err(not_connected("consuming", fault, "not connected, or refused our topology"))
            }
        })
    }

    pub(super) async fn close(&self) {
        if let Broker::Rabbit { publisher, .. } = &self.broker {
            publisher.close().await;
        }
        if let Err(error) = self.store.close().await {
            events::store_not_closed(&error);
        }
    }
}

/// Names the last error, or else the possible reasons.
fn not_connected(what: &str, fault: &watch::Receiver<Option<String>>, reasons: &str) -> Cow<'static, str> {
    match &*fault.borrow() {
        Some(fault) => format!("not {what}: RabbitMQ is not connected: {fault}\n").into(),
        None => format!("not {what}: RabbitMQ is {reasons}\n").into(),
    }
}

/// The error says why nothing can be sent. The kill switch is no fault.
fn sending(gate: &ChannelGate) -> Result<(), Cow<'static, str>> {
    if gate.is_every_provider_shut() {
        return Err(match gate.providers() {
            1 => "not sending: the provider fails for every recipient\n".into(),
            _ => "not sending: every provider fails for every recipient\n".into(),
        });
    }
    if let Some(key) = gate.damaged_key() {
        return Err(
            format!("not sending: the key `{key}` in Redis, which all requests share, is damaged\n").into()
        );
    }
    match gate.store_silence() {
        Some(fault) => Err(format!("not sending: Redis is unavailable: {fault}\n").into()),
        None => Ok(()),
    }
}

fn process_role(role: Role) -> ProcessRole {
    match role {
        Role::Worker => ProcessRole::Worker,
        Role::Http => ProcessRole::Http,
        Role::Dev => ProcessRole::Dev,
        _ => ProcessRole::Serve,
    }
}

pub(super) fn role_name(role: Role) -> &'static str {
    process_role(role).as_str()
}
