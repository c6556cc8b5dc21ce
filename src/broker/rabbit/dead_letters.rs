//! Reads and removes dead letters, over a connection of its own.
//!
//! Dead letters are fetched without an acknowledgement and requeued in the end, at the latest by the end of the
//! connection. RabbitMQ counts each return, since 4.3 only those by the end of the connection. The queue is not declared, so
//! that one of an older version can be emptied.

use std::time::Duration;

use async_trait::async_trait;
use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation};

use super::confirming::{open_confirming, send};
use super::connect::{OpenConnection, close, connect_mending};
use super::error::{RabbitError, within};
use super::properties::{self, DELIVERY_COUNT, Routes, count, owned};
use super::readable_stream::Mended;
use super::{CLOSE_TIMEOUT, RPC_TIMEOUT, RabbitSettings, SETTLE_GRACE};
use crate::broker::{DeadLetter, DeadLetterQueue, DeadLetters, DeadLettersError, Outgoing, PublishError};
use crate::domain::time::UnixMillis;

/// Read at once at most, but for the last dead letter.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// RabbitMQ takes 16 s to pass on a message whose headers fill a frame with tables within each other.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

pub struct RabbitDeadLetters {
    connection: OpenConnection,
    reading: Channel,
    /// Opened for the first message.
    publishing: Option<Channel>,
    routes: Routes,
    queue: String,
    unacknowledged: u32,
    removed: bool,
    mended: Mended,
}

impl RabbitDeadLetters {
    /// Connects, once.
    pub async fn open(settings: &RabbitSettings) -> Result<RabbitDeadLetters, RabbitError> {
        let mended = Mended::default();
        let hosts = &mut settings.hosts();
        let connection = connect_mending(settings, hosts, "dead letters", mended.clone()).await?;
        let reading = within("open a channel", RPC_TIMEOUT, connection.create_channel()).await?;
        let (routes, queue) = (Routes::new(&settings.names), settings.names.dead_letters());
        Ok(RabbitDeadLetters {
            connection,
            reading,
            publishing: None,
            routes,
            queue,
            unacknowledged: 0,
            removed: false,
            mended,
        })
    }

    async fn get(&self) -> Result<Option<BasicGetMessage>, RabbitError> {
        let got = self.reading.basic_get(self.queue.as_str().into(), BasicGetOptions { no_ack: false });
        within("read the dead letters", READ_TIMEOUT, got).await
    }

    /// Requeues everything and waits until it is in the queue, so that the next command sees it.
    async fn requeue_all(&self) -> Result<(), RabbitError> {
        const PAUSE: Duration = Duration::from_millis(10);
        let everything = BasicNackOptions { multiple: true, requeue: true };
        within("put back the dead letters", RPC_TIMEOUT, self.reading.basic_nack(0, everything)).await?;
        while self.waiting().await? < self.unacknowledged {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn waiting(&self) -> Result<u32, RabbitError> {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = self.reading.queue_declare(self.queue.as_str().into(), options, FieldTable::default());
        Ok(within("count the dead letters", RPC_TIMEOUT, queue).await?.message_count())
    }

    /// Each message waits for its confirm before the next one, so that a return belongs to the message just published.
    async fn send(&mut self, message: &Outgoing<'_>) -> Result<Confirmation, RabbitError> {
        let channel = match self.publishing.take() {
            Some(channel) if channel.status().connected() => channel,
            _ => open_confirming(&self.connection).await?,
        };
        let Some(envelope) = self.routes.envelope(message) else {
            return Err(RabbitError::Ended("the routing key is too long"));
        };
        let confirmation = send(&channel, envelope, message.body).await?;
        self.publishing = Some(channel);
        Ok(confirmation)
    }
}

#[async_trait]
impl DeadLetters for RabbitDeadLetters {
    async fn browse(&mut self, count_max: usize) -> Result<Vec<DeadLetter>, DeadLettersError> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        while found.len() < count_max && bytes < BYTES_MAX {
            let Some(message) = self.get().await.map_err(failed)? else { break };
            bytes += message.delivery.data.len();
            found.push(dead_letter(message.delivery, self.mended.take()));
            self.unacknowledged += 1;
        }
        Ok(found)
    }

    async fn publish(&mut self, message: Outgoing<'_>) -> Result<(), PublishError> {
        match self.send(&message).await {
            Ok(Confirmation::Ack(None)) => Ok(()),
            Ok(Confirmation::Ack(Some(_))) => Err(PublishError::Unroutable),
            Ok(_) => Err(PublishError::NotTaken("refused".to_owned())),
            Err(error) => Err(PublishError::Unconfirmed(error.to_string())),
        }
    }

    async fn remove(&mut self, dead_letter: &DeadLetter) -> Result<(), DeadLettersError> {
        let acknowledged = self.reading.basic_ack(dead_letter.tag, BasicAckOptions { multiple: false });
        within("remove a dead letter", RPC_TIMEOUT, acknowledged).await.map_err(failed)?;
        // An acknowledgement has no answer. This method has one, and follows it on the same channel.
        let answered = self.reading.basic_qos(0, BasicQosOptions::default());
        within("remove a dead letter", RPC_TIMEOUT, answered).await.map_err(failed)?;
        (self.unacknowledged, self.removed) = (self.unacknowledged - 1, true);
        Ok(())
    }

    async fn close(self: Box<Self>) {
        if self.unacknowledged > 0 {
            // Other consumers may take them at once. Without an answer they are requeued all the same.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.requeue_all()).await;
        }
        if self.removed {
            tokio::time::sleep(SETTLE_GRACE).await;
        }
        close(&self.connection).await;
    }
}

/// The dead letters of a process that does not always read them.
pub struct RabbitDeadLetterQueue(RabbitSettings);

impl RabbitDeadLetterQueue {
    pub fn new(settings: RabbitSettings) -> RabbitDeadLetterQueue {
        RabbitDeadLetterQueue(settings)
    }
}

#[async_trait]
impl DeadLetterQueue for RabbitDeadLetterQueue {
    async fn open(&self) -> Result<Box<dyn DeadLetters>, DeadLettersError> {
        Ok(Box::new(RabbitDeadLetters::open(&self.0).await.map_err(failed)?))
    }
}

fn failed(error: RabbitError) -> DeadLettersError {
    DeadLettersError(error.in_words())
}

/// Ours are readable, so one that is not was dead-lettered by the broker, though what it says of that may be unreadable, too.
fn dead_letter(delivery: lapin::message::Delivery, unreadable: bool) -> DeadLetter {
    let properties = &delivery.properties;
    let headers = Headers::of(properties);
    let incoming = properties::incoming(properties, false);
    let time = |name| headers.text(name).and_then(|text| UnixMillis::parse_rfc3339(&text));
    let death = headers.death();
    let by_broker = unreadable || death.is_some();
    // A caller may have set headers of our names on a message that the broker dead-lettered.
    let ours = |name| if by_broker { None } else { headers.text(name) };
    let (reason, queue, at) = match death {
        Some(death) => (death.text("reason"), death.text("queue"), death.time("time").or(incoming.timestamp)),
        None if by_broker => (None, None, incoming.timestamp),
        None => (
            headers.text("x-otpost-reason"),
            headers.text("x-otpost-queue"),
            time("x-otpost-at").or(incoming.timestamp),
        ),
    };
    DeadLetter {
        tag: delivery.delivery_tag,
        message_id: owned(properties.message_id()),
        by_broker,
        reason: reason.unwrap_or_else(|| "unknown".to_owned()),
        error: ours("x-otpost-error"),
        queue,
        at,
        delivery_count: if by_broker { None } else { headers.count("x-otpost-delivery-count") },
        requested_at: if by_broker { incoming.timestamp } else { time("x-otpost-requested-at") },
        request_id: ours("x-otpost-request-id"),
        status: ours("x-otpost-status"),
        // Since 4.3, as the delivery count leaves out the reads that ended in order.
        reads: headers.count("x-acquired-count").or_else(|| headers.count(DELIVERY_COUNT)).unwrap_or(0),
        properties: incoming,
        unreadable,
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

    /// The broker's header about the last dead-lettering.
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
