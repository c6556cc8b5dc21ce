//! The exchanges and queues of one gateway.
//!
//! Every session starts with the declarations, and a consumer repeats them, so that deleted objects come back. We never change or delete an object
//! that has other arguments: it is an error with advice. A refused request queue stops its channel only.

use std::fmt;
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ExchangeKind};
use serde::Serialize;
use serde_json::{Map, Value};

use super::connect::{close, connect};
use super::error::{BIND_QUEUE, DECLARE_EXCHANGE, DECLARE_QUEUE, RabbitError, within};
use super::hosts::Hosts;
use super::reconnect::ReconnectBackoff;
use super::{RPC_TIMEOUT, RabbitSettings, SUCCESS};
use crate::broker::{
    DEAD_LETTER_DELIVERY_LIMIT, DELAY, DELAYED_MAX, DELIVERY_LIMIT, Names, delayed_key, request_key,
};
use crate::domain::channel;
use crate::domain::scaling::QueueDepth;
use crate::domain::stream_age::StreamAge;
use crate::telemetry::events;
use crate::telemetry::metrics::words::{DEAD_LETTERS, DELAYED};

/// A session begins without the answer.
const BIND_TIMEOUT: Duration = Duration::from_secs(2);
/// Tries of a command, before the last one.
const DISTURBED_MAX: u32 = 4;

const QUORUM: &str = "quorum";

/// About two million records.
const AUDIT_BYTES_MAX: u32 = 1_000_000_000;
const AUDIT_SEGMENT_BYTES: u32 = 1_000_000;

/// The routing key of dead letters, ours and the broker's.
pub(super) const DEAD_KEY: &str = "dead";

/// A declared object. `Display` is one line for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Declared {
    Exchange {
        name: String,
        /// `direct` or `topic`.
        #[serde(rename = "type")]
        kind: &'static str,
        durable: bool,
    },
    Queue {
        name: String,
        /// `quorum` or `stream`.
        #[serde(rename = "type")]
        kind: &'static str,
        durable: bool,
        arguments: Map<String, Value>,
    },
    Binding {
        /// The exchange.
        from: String,
        /// The queue.
        to: String,
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

/// Repeats a declaration that others disturb.
pub async fn declare_topology(settings: &RabbitSettings) -> Result<Vec<Declared>, RabbitError> {
    let (mut hosts, mut backoff) = (settings.hosts(), ReconnectBackoff::new("topology", None));
    for _ in 0..DISTURBED_MAX {
        match declare_once(settings, &mut hosts).await {
            Err(error)
                if error.is_declaration_race() || matches!(error, RabbitError::TimedOut(BIND_QUEUE)) =>
            {
                tokio::time::sleep(backoff.after(&error, Duration::ZERO, &mut hosts)).await;
            }
            declared => return declared,
        }
    }
    declare_once(settings, &mut hosts).await
}

async fn declare_once(settings: &RabbitSettings, hosts: &mut Hosts) -> Result<Vec<Declared>, RabbitError> {
    let connection = connect(settings, hosts, "topology").await?;
    let channel = open(&connection).await?;
    let declared = declare_all(&channel, settings).await;
    close(&connection).await;
    declared
}

async fn declare_all(channel: &Channel, settings: &RabbitSettings) -> Result<Vec<Declared>, RabbitError> {
    let names = &settings.names;
    let mut declared = declare_shared(channel, names).await?;
    for of in channel::Channel::ALL {
        declared.extend(declare_requests(channel, names, of).await?);
    }
    if let Some(keep) = &settings.audit_keep {
        declared.push(declare_audit(channel, names, keep).await?);
    }
    Ok(declared)
}

/// Declares the objects that a consumer of one channel needs, on an AMQP channel of its own, which a refusal closes.
pub(super) async fn declare_for_consuming(
    connection: &Connection,
    names: &Names,
    of: channel::Channel,
) -> Result<(), RabbitError> {
    let channel = open(connection).await?;
    declare_shared(&channel, names).await?;
    declare_requests(&channel, names, of).await?;
    close_channel(&channel).await;
    Ok(())
}

/// RabbitMQ 3.10 answers no binding for as long as one of its nodes is frozen, up to a minute, and those that exist work on. One
/// that is missing is noticed when a message is returned, or made when the consumer declares again.
pub(super) fn despite_bindings(
    role: &'static str,
    of: Option<channel::Channel>,
    declared: Result<(), RabbitError>,
) -> Result<(), RabbitError> {
    match declared {
        Err(error @ RabbitError::TimedOut(BIND_QUEUE)) => {
            events::declaration_retried(role, of, &error, None);
            Ok(())
        }
        declared => declared,
    }
}

/// Declares the objects that a publisher needs. A refused request queue is logged and stops no other message; it is declared
/// again when a message to it is returned.
pub(super) async fn declare_for_publishing(
    connection: &Connection,
    settings: &RabbitSettings,
    role: &'static str,
) -> Result<(), RabbitError> {
    despite_bindings(role, None, declare_all_for_publishing(connection, settings, role).await)
}

async fn declare_all_for_publishing(
    connection: &Connection,
    settings: &RabbitSettings,
    role: &'static str,
) -> Result<(), RabbitError> {
    let names = &settings.names;
    let mut channel = open(connection).await?;
    declare_shared(&channel, names).await?;
    for of in channel::Channel::ALL {
        match declare_requests(&channel, names, of).await {
            Ok(_) => {}
            Err(error) if error.is_refusal() => {
                events::topology_refused(role, Some(of), &error, None);
                // The refusal has closed the channel.
                channel = open(connection).await?;
            }
            Err(error) => return Err(error),
        }
    }
    close_channel(&channel).await;
    Ok(())
}

/// Declares the audit stream, over a connection of its own: a broker without streams may close that. A failure is logged, and stops no
/// message; records wait in the store, and the stream is declared again when one of them is returned.
pub(super) async fn declare_audit_stream(settings: RabbitSettings) {
    let Some(keep) = &settings.audit_keep else { return };
    let declared = async {
        let connection = connect(&settings, &mut settings.hosts(), "audit").await?;
        let declared = match open(&connection).await {
            Ok(channel) => declare_audit(&channel, &settings.names, keep).await.map(drop),
            Err(error) => Err(error),
        };
        close(&connection).await;
        declared
    };
    if let Err(error) = declared.await {
        events::audit_stream_refused(&error);
    }
}

/// The declarations stay, even if the close fails.
pub(super) async fn close_channel(channel: &Channel) {
    let _ = within("close a channel", RPC_TIMEOUT, channel.close(SUCCESS, "OK".into())).await;
}

pub(super) async fn open(connection: &Connection) -> Result<Channel, RabbitError> {
    within("open a channel", RPC_TIMEOUT, connection.create_channel()).await
}

async fn declare_shared(channel: &Channel, names: &Names) -> Result<Vec<Declared>, RabbitError> {
    Ok(vec![
        exchange(channel, &names.requests(), ExchangeKind::Direct).await?,
        exchange(channel, &names.results(), ExchangeKind::Topic).await?,
        exchange(channel, &names.dead(), ExchangeKind::Direct).await?,
        queue(
            channel,
            &names.dead_letters(),
            QUORUM,
            &[("x-delivery-limit", DEAD_LETTER_DELIVERY_LIMIT.into())],
        )
        .await?,
        bind(channel, &names.dead_letters(), &names.dead(), DEAD_KEY).await?,
    ])
}

async fn declare_requests(
    channel: &Channel,
    names: &Names,
    of: channel::Channel,
) -> Result<Vec<Declared>, RabbitError> {
    let name = names.requests_of(of);
    let mut declared = vec![
        queue(channel, &name, QUORUM, &request_queue_arguments(names)).await?,
        bind(channel, &name, &names.requests(), request_key(of)).await?,
    ];
    if let Some(key) = delayed_key(of) {
        let name = names.delayed();
        declared.push(queue(channel, &name, QUORUM, &delay_queue_arguments(names, of)).await?);
        declared.push(bind(channel, &name, &names.requests(), key).await?);
    }
    Ok(declared)
}

/// RabbitMQ deletes whole segments, and never the one that it writes to: small ones end about when their records should.
async fn declare_audit(channel: &Channel, names: &Names, keep: &StreamAge) -> Result<Declared, RabbitError> {
    let arguments = [
        ("x-max-age", keep.as_str().into()),
        ("x-max-length-bytes", AUDIT_BYTES_MAX.into()),
        ("x-stream-max-segment-size-bytes", AUDIT_SEGMENT_BYTES.into()),
    ];
    queue(channel, &names.audit(), "stream", &arguments).await
}

/// RabbitMQ's at-least-once dead-lettering needs `reject-publish`; without it a message is lost if its target is missing.
fn request_queue_arguments(names: &Names) -> [(&'static str, Value); 5] {
    [
        ("x-delivery-limit", DELIVERY_LIMIT.into()),
        ("x-dead-letter-exchange", names.dead().into()),
        ("x-dead-letter-routing-key", DEAD_KEY.into()),
        ("x-dead-letter-strategy", "at-least-once".into()),
        ("x-overflow", "reject-publish".into()),
    ]
}

/// Each request goes back to its queue when its time is over. Until that queue has it, it counts toward the maximum.
fn delay_queue_arguments(names: &Names, of: channel::Channel) -> [(&'static str, Value); 6] {
    let delay_ms = u32::try_from(DELAY.as_millis()).expect("seconds");
    [
        ("x-message-ttl", delay_ms.into()),
        ("x-max-length", DELAYED_MAX.into()),
        ("x-dead-letter-exchange", names.requests().into()),
        ("x-dead-letter-routing-key", request_key(of).into()),
        ("x-dead-letter-strategy", "at-least-once".into()),
        ("x-overflow", "reject-publish".into()),
    ]
}

async fn exchange(channel: &Channel, name: &str, kind: ExchangeKind) -> Result<Declared, RabbitError> {
    let name_of_kind = match kind {
        ExchangeKind::Topic => "topic",
        _ => "direct",
    };
    let declared = Declared::Exchange { name: name.to_owned(), kind: name_of_kind, durable: true };
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let answer = channel.exchange_declare(name.into(), kind, options, FieldTable::default());
    within(DECLARE_EXCHANGE, RPC_TIMEOUT, answer).await.map_err(|error| refused(error, &declared))?;
    Ok(declared)
}

async fn queue(
    channel: &Channel,
    name: &str,
    kind: &'static str,
    arguments: &[(&'static str, Value)],
) -> Result<Declared, RabbitError> {
    let of_kind = [("x-queue-type", Value::from(kind))];
    let arguments: Map<String, Value> =
        of_kind.iter().chain(arguments).map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let mut table = FieldTable::default();
    for (name, value) in &arguments {
        table.insert(name.as_str().into(), field(value));
    }
    let declared = Declared::Queue { name: name.to_owned(), kind, durable: true, arguments };
    let answer = channel.queue_declare(name.into(), QueueDeclareOptions::durable(), table);
    within(DECLARE_QUEUE, RPC_TIMEOUT, answer).await.map_err(|error| refused(error, &declared))?;
    Ok(declared)
}

/// Reads an existing queue: what is ready, and its consumers. A refusal closes the AMQP channel.
pub(super) async fn read_queue(channel: &Channel, name: &str) -> Result<QueueDepth, RabbitError> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
    let answer = channel.queue_declare(name.into(), options, FieldTable::default());
    let queue = within("read a queue", RPC_TIMEOUT, answer).await?;
    Ok(QueueDepth { ready: queue.message_count(), consumers: queue.consumer_count() })
}

/// Reads a consumer's queues and the dead letters for the metrics, on an AMQP channel of its own, which a refusal closes.
pub(super) async fn read_depths(
    connection: &Connection,
    names: &Names,
    of: channel::Channel,
) -> Result<(), RabbitError> {
    let channel = open(connection).await?;
    let delayed = delayed_key(of).map(|_| (DELAYED, names.delayed()));
    let always = [(of.as_str(), names.requests_of(of)), (DEAD_LETTERS, names.dead_letters())];
    for (queue, name) in always.into_iter().chain(delayed) {
        let depth = read_queue(&channel, &name).await?;
        events::queue_read(queue, depth.ready, depth.consumers);
    }
    close_channel(&channel).await;
    Ok(())
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<Declared, RabbitError> {
    let options = QueueBindOptions::default();
    let bound = channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default());
    let declared =
        Declared::Binding { from: exchange.to_owned(), to: queue.to_owned(), routing_key: key.to_owned() };
    within(BIND_QUEUE, BIND_TIMEOUT, bound).await.map_err(|error| refused(error, &declared))?;
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

/// All of our arguments are texts and small numbers.
fn field(value: &Value) -> AMQPValue {
    match value {
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        other => {
            let number = other.as_i64().and_then(|number| i32::try_from(number).ok());
            AMQPValue::LongInt(number.expect("a constant far below i32::MAX"))
        }
    }
}
