//! The exchanges and queues of one gateway.
//!
//! Declaring is idempotent and happens at the start of every session, so that what somebody deleted comes back. What
//! exists with other arguments is never changed nor deleted by us: it is an error that says what to do. Trouble with the
//! queue of one channel's requests stops that channel alone.

use std::fmt;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ExchangeKind};
use serde::Serialize;
use serde_json::{Map, Value};

use super::error::{RabbitError, within};
use super::{RPC_TIMEOUT, RabbitSettings, SUCCESS, close, connect};
use crate::broker::{DEAD_LETTER_DELIVERY_LIMIT, DELIVERY_LIMIT, Names, request_key};
use crate::domain::channel;
use crate::telemetry::events;

/// The routing key of everything that is set aside, by us or by the broker.
pub(super) const DEAD_KEY: &str = "dead";

/// One thing that was declared. `Display` is a line for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Declared {
    /// An exchange.
    Exchange {
        /// Its name.
        name: String,
        /// `direct` or `topic`.
        #[serde(rename = "type")]
        kind: &'static str,
        /// It outlives the broker.
        durable: bool,
    },
    /// A queue.
    Queue {
        /// Its name.
        name: String,
        /// `quorum`.
        #[serde(rename = "type")]
        kind: &'static str,
        /// It outlives the broker.
        durable: bool,
        /// What it was declared with.
        arguments: Map<String, Value>,
    },
    /// A way from an exchange to a queue.
    Binding {
        /// The exchange.
        from: String,
        /// The queue.
        to: String,
        /// Which messages go that way.
        routing_key: String,
    },
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Declared::Exchange { name, kind, .. } => write!(f, "exchange {name} ({kind}, durable)"),
            Declared::Queue { name, arguments, .. } => {
                write!(f, "queue {name} (durable")?;
                for (name, value) in arguments {
                    match value {
                        Value::String(text) => write!(f, ", {name}={text}")?,
                        other => write!(f, ", {name}={other}")?,
                    }
                }
                f.write_str(")")
            }
            Declared::Binding { from, to, routing_key } => {
                write!(f, "binding {from} -> {to} (routing key {routing_key})")
            }
        }
    }
}

/// Declares everything over a connection of its own; answers what was declared.
pub async fn declare_topology(settings: &RabbitSettings) -> Result<Vec<Declared>, RabbitError> {
    let connection = connect(settings, "topology").await?;
    let channel = open(&connection).await?;
    let declared = declare_all(&channel, &settings.names).await;
    close(&connection).await;
    declared
}

async fn declare_all(channel: &Channel, names: &Names) -> Result<Vec<Declared>, RabbitError> {
    let mut declared = declare_shared(channel, names).await?;
    for of in channel::Channel::ALL {
        declared.extend(declare_requests(channel, names, of).await?);
    }
    Ok(declared)
}

/// Declares what whoever takes one channel's requests needs. A refusal closes the channel.
pub(super) async fn declare_for_taking(
    channel: &Channel,
    names: &Names,
    of: channel::Channel,
) -> Result<(), RabbitError> {
    declare_shared(channel, names).await?;
    declare_requests(channel, names, of).await.map(drop)
}

/// Declares what whoever publishes needs. That the queue of one channel's requests is refused is told, and does not keep
/// messages of others: what is published to it comes back, and then it is declared again.
pub(super) async fn declare_for_publishing(
    connection: &Connection,
    names: &Names,
    role: &'static str,
) -> Result<(), RabbitError> {
    let mut channel = open(connection).await?;
    declare_shared(&channel, names).await?;
    for of in channel::Channel::ALL {
        match declare_requests(&channel, names, of).await {
            Ok(_) => {}
            Err(error) if error.is_refusal() => {
                events::topology_refused(role, Some(of), &error, None);
                // The refusal has closed it.
                channel = open(connection).await?;
            }
            Err(error) => return Err(error),
        }
    }
    // Declared is declared, whether or not the broker hears the goodbye.
    let _ = within("close a channel", RPC_TIMEOUT, channel.close(SUCCESS, "OK".into())).await;
    Ok(())
}

async fn open(connection: &Connection) -> Result<Channel, RabbitError> {
    within("open a channel", RPC_TIMEOUT, connection.create_channel()).await
}

/// What all channels share.
async fn declare_shared(channel: &Channel, names: &Names) -> Result<Vec<Declared>, RabbitError> {
    Ok(vec![
        exchange(channel, &names.requests(), ExchangeKind::Direct).await?,
        exchange(channel, &names.results(), ExchangeKind::Topic).await?,
        exchange(channel, &names.dead(), ExchangeKind::Direct).await?,
        queue(channel, &names.dead_letters(), &[("x-delivery-limit", DEAD_LETTER_DELIVERY_LIMIT.into())])
            .await?,
        bind(channel, &names.dead_letters(), &names.dead(), DEAD_KEY).await?,
    ])
}

/// Where one channel's requests wait.
async fn declare_requests(
    channel: &Channel,
    names: &Names,
    of: channel::Channel,
) -> Result<[Declared; 2], RabbitError> {
    let name = names.requests_of(of);
    Ok([
        queue(channel, &name, &request_queue_arguments(names)).await?,
        bind(channel, &name, &names.requests(), request_key(of)).await?,
    ])
}

/// At-least-once dead-lettering needs `reject-publish`; without it a message is lost when its target is away.
fn request_queue_arguments(names: &Names) -> [(&'static str, Value); 5] {
    [
        ("x-delivery-limit", DELIVERY_LIMIT.into()),
        ("x-dead-letter-exchange", names.dead().into()),
        ("x-dead-letter-routing-key", DEAD_KEY.into()),
        ("x-dead-letter-strategy", "at-least-once".into()),
        ("x-overflow", "reject-publish".into()),
    ]
}

async fn exchange(channel: &Channel, name: &str, kind: ExchangeKind) -> Result<Declared, RabbitError> {
    let word = match kind {
        ExchangeKind::Topic => "topic",
        _ => "direct",
    };
    let declared = Declared::Exchange { name: name.to_owned(), kind: word, durable: true };
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let answer = channel.exchange_declare(name.into(), kind, options, FieldTable::default());
    within("declare an exchange", RPC_TIMEOUT, answer).await.map_err(|error| refused(error, &declared))?;
    Ok(declared)
}

async fn queue(
    channel: &Channel,
    name: &str,
    arguments: &[(&'static str, Value)],
) -> Result<Declared, RabbitError> {
    let quorum = [("x-queue-type", Value::from("quorum"))];
    let arguments: Map<String, Value> =
        quorum.iter().chain(arguments).map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let mut table = FieldTable::default();
    for (name, value) in &arguments {
        table.insert(name.as_str().into(), field(value));
    }
    let declared = Declared::Queue { name: name.to_owned(), kind: "quorum", durable: true, arguments };
    let answer = channel.queue_declare(name.into(), QueueDeclareOptions::durable(), table);
    within("declare a queue", RPC_TIMEOUT, answer).await.map_err(|error| refused(error, &declared))?;
    Ok(declared)
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<Declared, RabbitError> {
    let options = QueueBindOptions::default();
    let bound = channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default());
    let declared =
        Declared::Binding { from: exchange.to_owned(), to: queue.to_owned(), routing_key: key.to_owned() };
    within("bind a queue", RPC_TIMEOUT, bound).await.map_err(|error| refused(error, &declared))?;
    Ok(declared)
}

fn refused(error: RabbitError, wanted: &Declared) -> RabbitError {
    let (wanted, detail) = (wanted.to_string(), error.to_string());
    match error.soft() {
        Some(AMQPSoftError::PRECONDITIONFAILED) => RabbitError::Refused { wanted, detail },
        Some(AMQPSoftError::ACCESSREFUSED) => RabbitError::Forbidden { wanted, detail },
        _ => error,
    }
}

/// An argument as the broker reads it: all of ours are texts and small numbers.
fn field(value: &Value) -> AMQPValue {
    match value {
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        other => {
            let number = other.as_i64().and_then(|number| i32::try_from(number).ok());
            AMQPValue::LongInt(number.expect("a constant far below i32::MAX"))
        }
    }
}
