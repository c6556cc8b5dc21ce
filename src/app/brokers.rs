//! Builds the broker of the settings.

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, anyhow};
use secrecy::ExposeSecret as _;
use tokio::sync::watch;

use super::certificates;
use crate::broker::audit::{AuditFrom, AuditStream, AuditStreamSource};
use crate::broker::memory::MemoryBroker;
use crate::broker::rabbit::RabbitSettings;
use crate::broker::rabbit::audit_stream::{RabbitAuditStream, RabbitAuditStreamSource};
use crate::broker::rabbit::consumer::RabbitConsumer;
use crate::broker::rabbit::dead_letters::{RabbitDeadLetterQueue, RabbitDeadLetters};
use crate::broker::rabbit::error::RabbitError;
use crate::broker::rabbit::publish::RabbitPublisher;
use crate::broker::rabbit::request_queues::RabbitRequestQueues;
use crate::broker::rabbit::rpc::RabbitRpcClient;
use crate::broker::rabbit::topology::{self, Declared};
use crate::broker::{
    DeadLetterQueue, DeadLetters, Names, Publisher, RequestConsumer, RequestQueues, RpcClient,
};
use crate::clock::Clock;
use crate::config::{ConfigError, Settings};
use crate::domain::channel::Channel;
use crate::flow::operate::dead_letters::replayer::{Cooldowns, Replayer};
use crate::store::Store;

/// Deliveries that the broker in memory hands to one consumer.
const MEMORY_PREFETCH: usize = 64;

pub(super) enum Broker {
    Memory(MemoryBroker),
    Rabbit {
        settings: Box<RabbitSettings>,
        publisher: Arc<RabbitPublisher>,
        /// Of the consumer of text messages.
        consuming: Mutex<Option<Consuming>>,
    },
}

/// The connection of a consumer, for readiness.
#[derive(Clone)]
pub(super) struct Consuming {
    pub(super) connected: watch::Receiver<bool>,
    /// The reason for which there is none.
    pub(super) fault: watch::Receiver<Option<String>>,
}

impl Broker {
    pub(super) fn new(settings: &Settings) -> anyhow::Result<Broker> {
        Ok(match rabbit(settings)? {
            Some(rabbit) => {
                certificates::watch(rabbit.tls(), certificates::AMQP);
                let publisher = Arc::new(RabbitPublisher::start(
                    "results",
                    rabbit.clone().with_audit(settings.audit_keep.clone()),
                ));
                Broker::Rabbit { settings: Box::new(rabbit), publisher, consuming: Mutex::default() }
            }
            None => Broker::Memory(MemoryBroker::default()),
        })
    }

    pub(super) fn is_in_memory(&self) -> bool {
        matches!(self, Broker::Memory(_))
    }

    pub(super) fn publisher(&self) -> Arc<dyn Publisher> {
        match self {
            Broker::Memory(broker) => Arc::new(broker.publisher()),
            Broker::Rabbit { publisher, .. } => publisher.clone(),
        }
    }

    /// A publisher with a connection of its own: a caller's reply queue may break it without harm.
    pub(super) fn reply_publisher(&self) -> Arc<dyn Publisher> {
        match self {
            Broker::Memory(broker) => Arc::new(broker.publisher()),
            Broker::Rabbit { settings, .. } => Arc::new(RabbitPublisher::start("replies", *settings.clone())),
        }
    }

    pub(super) fn rpc_client(&self) -> Arc<dyn RpcClient> {
        match self {
            Broker::Memory(broker) => Arc::new(broker.rpc_client()),
            Broker::Rabbit { settings, .. } => Arc::new(RabbitRpcClient::start(*settings.clone())),
        }
    }

    /// With a connection of its own: a missing queue closes an AMQP channel.
    pub(super) fn request_queues(&self) -> Arc<dyn RequestQueues> {
        match self {
            Broker::Memory(broker) => Arc::new(broker.request_queues()),
            Broker::Rabbit { settings, .. } => Arc::new(RabbitRequestQueues::new(*settings.clone())),
        }
    }

    /// `None` in memory.
    pub(super) fn audit_stream_source(&self) -> Option<Arc<dyn AuditStreamSource>> {
        match self {
            Broker::Memory(_) => None,
            Broker::Rabbit { settings, .. } => Some(Arc::new(RabbitAuditStreamSource(*settings.clone()))),
        }
    }

    pub(super) fn dead_letter_queue(&self) -> Option<Arc<dyn DeadLetterQueue>> {
        match self {
            Broker::Memory(_) => None,
            Broker::Rabbit { settings, .. } => Some(Arc::new(RabbitDeadLetterQueue::new(*settings.clone()))),
        }
    }

    pub(super) fn consumer(&self, channel: Channel) -> Box<dyn RequestConsumer> {
        match self {
            Broker::Memory(broker) => Box::new(broker.consumer(channel, MEMORY_PREFETCH)),
            Broker::Rabbit { settings, consuming, .. } => {
                let consumer = RabbitConsumer::start(RabbitSettings::clone(settings), channel);
                // Readiness depends on text messages only.
                if channel == Channel::Sms {
                    let mut consuming = consuming.lock().expect("nothing panics while it holds the lock");
                    *consuming = Some(Consuming { connected: consumer.connected(), fault: consumer.fault() });
                }
                Box::new(consumer)
            }
        }
    }
}

/// `None` without `AMQP_URL`.
pub(super) fn rabbit_settings(settings: &Settings) -> Result<Option<RabbitSettings>, Vec<ConfigError>> {
    let Some(url) = &settings.amqp_url else {
        return Ok(None);
    };
    let names = Names::new(&settings.amqp_prefix);
    let rabbit = RabbitSettings::new(url.expose_secret(), names, settings.prefetch);
    let rabbit = rabbit.map_err(|rule| vec![ConfigError::new("AMQP_URL", rule.to_string())])?;
    Ok(Some(rabbit.with_tls(certificates::amqp_tls(settings)?)))
}

fn rabbit(settings: &Settings) -> anyhow::Result<Option<RabbitSettings>> {
    rabbit_settings(settings).map_err(|errors| certificates::failed(&errors))
}

/// For a command that needs it.
pub(super) fn required_rabbit(settings: &Settings) -> anyhow::Result<RabbitSettings> {
    rabbit(settings)?.context("AMQP_URL must be set")
}

pub(crate) async fn declare_topology(settings: &Settings) -> anyhow::Result<Vec<Declared>> {
    let rabbit = required_rabbit(settings)?.with_audit(settings.audit_keep.clone());
    topology::declare_topology(&rabbit).await.map_err(|error| rabbit_failed(&error))
}

pub(crate) async fn dead_letters(settings: &Settings) -> anyhow::Result<Box<dyn DeadLetters>> {
    let rabbit = required_rabbit(settings)?;
    let dead_letters = RabbitDeadLetters::open(&rabbit).await.map_err(|error| rabbit_failed(&error))?;
    Ok(Box::new(dead_letters))
}

/// `None` if there is no stream.
pub(crate) async fn audit_stream(
    settings: &Settings,
    from: AuditFrom,
) -> anyhow::Result<Option<Box<dyn AuditStream>>> {
    let rabbit = required_rabbit(settings)?;
    let stream = RabbitAuditStream::open(&rabbit, from).await.map_err(|error| rabbit_failed(&error))?;
    Ok(stream.map(|stream| Box::new(stream) as Box<dyn AuditStream>))
}

/// The parts of a replay in the settings.
/// Without a store a replay to a recipient that is cooling down is rejected by the worker.
pub(crate) fn replayer(settings: &Settings, store: Option<Arc<dyn Store>>) -> Replayer {
    let (limits, region) = (settings.limits, settings.default_region);
    Replayer {
        cooldowns: store.map(|store| Cooldowns { store, limits, region }),
        names: Names::new(&settings.amqp_prefix),
        recipients: settings.recipients.clone(),
        code_life: settings.code_life,
        clock: Clock::System,
    }
}

/// Names the setting and the error, never the address.
fn rabbit_failed(error: &RabbitError) -> anyhow::Error {
    anyhow!("RabbitMQ (AMQP_URL) {}", error.in_words())
}
