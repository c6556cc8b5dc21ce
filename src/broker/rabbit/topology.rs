//! The exchanges and queues of one gateway.
//!
//! Declaring is idempotent and happens at the start of every session, so that what somebody deleted comes back. What
//! exists with other arguments is never changed nor deleted by us: it is an error that says what to do.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use super::error::{RabbitError, within};
use super::{RPC_TIMEOUT, RabbitSettings, close, connect};
use crate::broker::{DELIVERY_LIMIT, LOOKS_MAX, Names, request_key};
use crate::domain::recipient;

/// The routing key of everything that is set aside, by us or by the broker.
pub(super) const DEAD_KEY: &str = "dead";

/// Declares everything over a connection of its own; answers what was declared, one line each, for people.
pub async fn declare_topology(settings: &RabbitSettings) -> Result<Vec<String>, RabbitError> {
    let connection = connect(settings, "topology").await?;
    let channel = within("open a channel", RPC_TIMEOUT, connection.create_channel()).await?;
    let declared = declare(&channel, &settings.names).await;
    close(&connection).await;
    declared
}

/// Declares everything. A refusal closes the channel.
pub(super) async fn declare(channel: &Channel, names: &Names) -> Result<Vec<String>, RabbitError> {
    let mut declared = vec![
        exchange(channel, &names.requests(), ExchangeKind::Direct).await?,
        exchange(channel, &names.results(), ExchangeKind::Topic).await?,
        exchange(channel, &names.dead(), ExchangeKind::Direct).await?,
        queue(channel, &names.dead_letters(), &[("x-delivery-limit", limit(LOOKS_MAX))]).await?,
        bind(channel, &names.dead_letters(), &names.dead(), DEAD_KEY).await?,
    ];
    for of in recipient::Channel::ALL {
        let name = names.requests_of(of);
        declared.push(queue(channel, &name, &request_queue_arguments(names)).await?);
        declared.push(bind(channel, &name, &names.requests(), request_key(of)).await?);
    }
    Ok(declared)
}

/// At-least-once dead-lettering needs `reject-publish`; without it a message is lost when its target is away.
fn request_queue_arguments(names: &Names) -> Vec<(&'static str, AMQPValue)> {
    vec![
        ("x-delivery-limit", limit(DELIVERY_LIMIT)),
        ("x-dead-letter-exchange", text(&names.dead())),
        ("x-dead-letter-routing-key", text(DEAD_KEY)),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ]
}

async fn exchange(channel: &Channel, name: &str, kind: ExchangeKind) -> Result<String, RabbitError> {
    let wanted = match kind {
        ExchangeKind::Topic => "topic, durable",
        _ => "direct, durable",
    };
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let declared = channel.exchange_declare(name.into(), kind, options, FieldTable::default());
    within("declare an exchange", RPC_TIMEOUT, declared)
        .await
        .map_err(|error| refused(error, format!("exchange {name}"), wanted.to_owned()))?;
    Ok(format!("exchange {name} ({wanted})"))
}

async fn queue(
    channel: &Channel,
    name: &str,
    arguments: &[(&'static str, AMQPValue)],
) -> Result<String, RabbitError> {
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), text("quorum"));
    let mut wanted = String::from("durable, x-queue-type=quorum");
    for (key, value) in arguments {
        wanted.push_str(&format!(", {key}={}", shown(value)));
        table.insert((*key).into(), value.clone());
    }
    let declared = channel.queue_declare(name.into(), QueueDeclareOptions::durable(), table);
    within("declare a queue", RPC_TIMEOUT, declared)
        .await
        .map_err(|error| refused(error, format!("queue {name}"), wanted.clone()))?;
    Ok(format!("queue {name} ({wanted})"))
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<String, RabbitError> {
    let options = QueueBindOptions::default();
    let bound = channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default());
    within("bind a queue", RPC_TIMEOUT, bound).await?;
    Ok(format!("binding {exchange} -> {queue} (routing key {key})"))
}

fn refused(error: RabbitError, what: String, wanted: String) -> RabbitError {
    if !error.is_precondition_failed() {
        return error;
    }
    RabbitError::Refused { what, wanted, detail: error.to_string() }
}

fn limit(returns: u32) -> AMQPValue {
    AMQPValue::LongInt(i32::try_from(returns).expect("a constant far below i32::MAX"))
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn shown(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::LongInt(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}
