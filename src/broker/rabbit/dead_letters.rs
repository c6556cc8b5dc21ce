//! A look at the dead letters, over a connection of its own.
//!
//! Letters are taken without being acknowledged and put back in the end, at the latest by the end of the connection; the
//! broker counts that.
//! The queue is taken as it is, so that one of an older version can be looked at and emptied.

use std::time::Duration;

use async_trait::async_trait;
use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection};

use super::error::{RabbitError, within};
use super::properties::{self, Routes, count, owned};
use super::publish::{open_confirming, send};
use super::{CLOSE_TIMEOUT, RPC_TIMEOUT, RabbitSettings, SETTLE_GRACE, close, connect};
use crate::broker::{DeadLetter, DeadLetters, DeadLettersError, Outgoing, PublishError};
use crate::domain::time::UnixMillis;

/// No look takes more than this into memory, but for one letter.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// The letters of one gateway.
pub struct RabbitDeadLetters {
    connection: Connection,
    letters: Channel,
    /// Opened for the first message.
    publishing: Option<Channel>,
    routes: Routes,
    queue: String,
    held: u32,
    removed: bool,
}

impl RabbitDeadLetters {
    /// Connects, once.
    pub async fn open(settings: &RabbitSettings) -> Result<RabbitDeadLetters, RabbitError> {
        let connection = connect(settings, "dead letters").await?;
        let letters = within("open a channel", RPC_TIMEOUT, connection.create_channel()).await?;
        let (routes, queue) = (Routes::new(&settings.names), settings.names.dead_letters());
        Ok(RabbitDeadLetters {
            connection,
            letters,
            publishing: None,
            routes,
            queue,
            held: 0,
            removed: false,
        })
    }

    async fn get(&self) -> Result<Option<BasicGetMessage>, RabbitError> {
        let got = self.letters.basic_get(self.queue.as_str().into(), BasicGetOptions { no_ack: false });
        within("read the dead letters", RPC_TIMEOUT, got).await
    }

    /// Puts everything back and waits until it is there: who looks again at once shall see it.
    async fn put_back(&self) -> Result<(), RabbitError> {
        const PAUSE: Duration = Duration::from_millis(10);
        let everything = BasicNackOptions { multiple: true, requeue: true };
        within("put back the dead letters", RPC_TIMEOUT, self.letters.basic_nack(0, everything)).await?;
        while self.waiting().await? < self.held {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn waiting(&self) -> Result<u32, RabbitError> {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = self.letters.queue_declare(self.queue.as_str().into(), options, FieldTable::default());
        Ok(within("count the dead letters", RPC_TIMEOUT, queue).await?.message_count())
    }

    /// Each message waits for its own confirm before the next leaves, so that a return can only be its own.
    async fn send(&mut self, message: &Outgoing<'_>) -> Result<Confirmation, RabbitError> {
        let channel = match self.publishing.take() {
            Some(channel) if channel.status().connected() => channel,
            _ => open_confirming(&self.connection).await?,
        };
        let Some(letter) = self.routes.envelope(message) else {
            return Err(RabbitError::Ended("the routing key is too long"));
        };
        let confirmation = send(&channel, letter, message.body).await?;
        self.publishing = Some(channel);
        Ok(confirmation)
    }
}

#[async_trait]
impl DeadLetters for RabbitDeadLetters {
    async fn browse(&mut self, letters_max: usize) -> Result<Vec<DeadLetter>, DeadLettersError> {
        let (mut letters, mut bytes) = (Vec::new(), 0);
        while letters.len() < letters_max && bytes < BYTES_MAX {
            let Some(message) = self.get().await.map_err(failed)? else { break };
            bytes += message.delivery.data.len();
            letters.push(letter(message.delivery));
            self.held += 1;
        }
        Ok(letters)
    }

    async fn publish(&mut self, message: Outgoing<'_>) -> Result<(), PublishError> {
        match self.send(&message).await {
            Ok(Confirmation::Ack(None)) => Ok(()),
            Ok(Confirmation::Ack(Some(_))) => Err(PublishError::Unroutable),
            Ok(_) => Err(PublishError::NotTaken("refused".to_owned())),
            Err(error) => Err(PublishError::Unconfirmed(error.to_string())),
        }
    }

    async fn remove(&mut self, letter: &DeadLetter) -> Result<(), DeadLettersError> {
        let acknowledged = self.letters.basic_ack(letter.tag, BasicAckOptions { multiple: false });
        within("remove a dead letter", RPC_TIMEOUT, acknowledged).await.map_err(failed)?;
        // An acknowledgement is not answered. This is, on the same channel and so after it.
        let answered = self.letters.basic_qos(0, BasicQosOptions::default());
        within("remove a dead letter", RPC_TIMEOUT, answered).await.map_err(failed)?;
        (self.held, self.removed) = (self.held - 1, true);
        Ok(())
    }

    async fn close(self: Box<Self>) {
        if self.held > 0 {
            // Somebody else may take them as they come, and without an answer they go back all the same.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.put_back()).await;
        }
        if self.removed {
            tokio::time::sleep(SETTLE_GRACE).await;
        }
        close(&self.connection).await;
    }
}

fn failed(error: RabbitError) -> DeadLettersError {
    DeadLettersError(error.in_words())
}

fn letter(delivery: lapin::message::Delivery) -> DeadLetter {
    let beside = &delivery.properties;
    let headers = Headers::of(beside);
    let incoming = properties::incoming(beside, false);
    let time = |name| headers.text(name).and_then(|text| UnixMillis::parse_rfc3339(&text));
    let death = headers.death();
    let by_broker = death.is_some();
    // What a caller put under our names says nothing about a message that the broker set aside.
    let ours = |name| if by_broker { None } else { headers.text(name) };
    let (reason, queue, at) = match death {
        Some(death) => (death.text("reason"), death.text("queue"), death.time("time").or(incoming.timestamp)),
        None => (
            headers.text("x-otpost-reason"),
            headers.text("x-otpost-queue"),
            time("x-otpost-at").or(incoming.timestamp),
        ),
    };
    DeadLetter {
        tag: delivery.delivery_tag,
        message_id: owned(beside.message_id()),
        by_broker,
        reason: reason.unwrap_or_else(|| "unknown".to_owned()),
        error: ours("x-otpost-error"),
        queue,
        at,
        delivery_count: if by_broker { None } else { headers.count("x-otpost-delivery-count") },
        requested_at: if by_broker { incoming.timestamp } else { time("x-otpost-requested-at") },
        request_id: ours("x-otpost-request-id"),
        status: ours("x-otpost-status"),
        properties: incoming,
        body: delivery.data,
    }
}

/// The headers of a message, or a table in one of them.
#[derive(Clone, Copy)]
struct Headers<'a>(Option<&'a FieldTable>);

impl<'a> Headers<'a> {
    fn of(properties: &'a BasicProperties) -> Headers<'a> {
        Headers(properties.headers().as_ref())
    }

    fn get(self, name: &str) -> Option<&'a AMQPValue> {
        self.0?.inner().get(name)
    }

    fn text(self, name: &str) -> Option<String> {
        match self.get(name)? {
            AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
            AMQPValue::ShortString(text) => Some(text.to_string()),
            _ => None,
        }
    }

    fn count(self, name: &str) -> Option<u64> {
        self.get(name).and_then(count)
    }

    fn time(self, name: &str) -> Option<UnixMillis> {
        match self.get(name)? {
            AMQPValue::Timestamp(seconds) => UnixMillis::from_seconds(*seconds),
            _ => None,
        }
    }

    /// What the broker wrote of the last time that it set the message aside.
    fn death(self) -> Option<Headers<'a>> {
        let AMQPValue::FieldArray(deaths) = self.get("x-death")? else {
            return None;
        };
        match deaths.as_slice().first()? {
            AMQPValue::FieldTable(death) => Some(Headers(Some(death))),
            _ => None,
        }
    }
}
