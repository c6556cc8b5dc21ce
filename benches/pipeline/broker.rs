//! The foreign client: it publishes requests and collects results, and knows only the published contract.

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, ExchangeKind,
};
use tokio::time::timeout;

/// No result for this long ends the run as a failure.
const STALLED_AFTER: Duration = Duration::from_secs(30);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Publishes in flight before their confirms are awaited.
const CONFIRM_WINDOW: usize = 500;

/// Fewer than the limit of a network allows in an hour.
pub const CLIENTS_OF_NETWORK: usize = 64;
/// As many numbers as [`mobile_number`] has.
pub const NUMBERS: usize = 200_000;

/// Mobile ranges of Colombia in which every seven digits are a valid number.
const MOBILE_RANGES: [u32; 20] =
    [300, 301, 302, 303, 304, 305, 310, 311, 312, 313, 314, 315, 316, 317, 318, 319, 320, 321, 322, 323];

pub struct Broker {
    connection: Connection,
    channel: Channel,
    prefix: String,
    /// Request ids of two runs differ.
    run: u32,
}

/// The fields of a request beside its id, recipient and purpose.
pub enum NewRequest {
    Plain,
    /// The caller's own code.
    WithCode(&'static str),
    /// The user and the client IP, each with a limit.
    OfClient,
}

impl Broker {
    pub async fn connect(url: &str, prefix: &str) -> anyhow::Result<Self> {
        let connection = timeout(ANSWER_WITHIN, Connection::connect(url, ConnectionProperties::default()))
            .await
            .context("RabbitMQ does not answer")??;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let run = getrandom::u32().context("no random numbers")?;
        Ok(Self { connection, channel, prefix: prefix.to_owned(), run })
    }

    fn name(&self, name: &str) -> lapin::types::ShortString {
        format!("{}.{name}", self.prefix).into()
    }

    /// The topology of `otpost topology` for the bare loop, as far as the pipeline uses it: the same kinds of exchanges,
    /// and a requests queue with the same arguments, since a classic queue would cost the consumer's acks
    /// less.
    pub async fn declare_for_bare_loop(&self) -> anyhow::Result<()> {
        for (name, kind) in [
            ("requests", ExchangeKind::Direct),
            ("results", ExchangeKind::Topic),
            ("dead", ExchangeKind::Direct),
        ] {
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            self.channel.exchange_declare(self.name(name), kind, options, FieldTable::default()).await?;
        }
        let mut arguments = quorum();
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(100));
        arguments.insert("x-dead-letter-exchange".into(), long(&format!("{}.dead", self.prefix)));
        arguments.insert("x-dead-letter-routing-key".into(), long("dead-letters"));
        arguments.insert("x-dead-letter-strategy".into(), long("at-least-once"));
        arguments.insert("x-overflow".into(), long("reject-publish"));
        self.declare_queue("send-sms", arguments, "requests", "send-sms").await?;
        self.declare_queue("dead-letters", quorum(), "dead", "dead-letters").await
    }

    async fn declare_queue(
        &self,
        queue: &str,
        args: FieldTable,
        exchange: &str,
        key: &str,
    ) -> anyhow::Result<()> {
        let (queue, exchange) = (self.name(queue), self.name(exchange));
        self.channel.queue_declare(queue.clone(), QueueDeclareOptions::durable(), args).await?;
        let options = QueueBindOptions::default();
        self.channel.queue_bind(queue, exchange, key.into(), options, FieldTable::default()).await?;
        Ok(())
    }

    /// Fills the requests queue: persistent, mandatory, confirmed, each request for another number.
    pub async fn publish_requests(&self, count: usize, request: &NewRequest) -> anyhow::Result<()> {
        self.channel.queue_purge(self.name("send-sms"), QueuePurgeOptions::default()).await?;
        let mut window = Vec::with_capacity(CONFIRM_WINDOW);
        for index in 0..count {
            window.push(self.publish_request(index, request).await?);
            if window.len() == CONFIRM_WINDOW || index + 1 == count {
                for confirm in window.drain(..) {
                    match timeout(ANSWER_WITHIN, confirm).await.context("no confirm of a request")?? {
                        Confirmation::Ack(None) => {}
                        other => bail!("a request was not taken: {other:?}"),
                    }
                }
            }
        }
        Ok(())
    }

    async fn publish_request(
        &self,
        index: usize,
        request: &NewRequest,
    ) -> anyhow::Result<lapin::PublisherConfirm> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        let mut body = serde_json::json!({
            "request_id": request_id(self.run, index),
            "to": mobile_number(index),
            "purpose": "verification",
        });
        match request {
            NewRequest::Plain => {}
            NewRequest::WithCode(code) => body["code"] = (*code).into(),
            NewRequest::OfClient => {
                body["user_id"] = format!("u-{index:06}").into();
                body["client_ip"] = client_ip(index).into();
            }
        }
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_timestamp(now.as_secs())
            .with_correlation_id(format!("order-{index:06}").into());
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let body = body.to_string();
        let written = self.channel.basic_publish(
            self.name("requests"),
            "send-sms".into(),
            options,
            body.as_bytes(),
            properties,
        );
        Ok(timeout(ANSWER_WITHIN, written).await.context("RabbitMQ takes no more requests")??)
    }

    /// Subscribes to every result. The queue is exclusive and not acked, so that it costs the broker, which
    /// shares the machine with what is measured, as little as it can.
    pub async fn collector(&self) -> anyhow::Result<Collector> {
        let channel = self.connection.create_channel().await?;
        let queue = self.name("bench-results");
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        channel.queue_declare(queue.clone(), options, FieldTable::default()).await?;
        let bind = QueueBindOptions::default();
        channel
            .queue_bind(queue.clone(), self.name("results"), "#".into(), bind, FieldTable::default())
            .await?;
        let consume = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consumer = channel.basic_consume(queue, "bench".into(), consume, FieldTable::default()).await?;
        Ok(Collector { consumer })
    }

    /// Deletes every name of the contract under the prefix; deleting what is not there is no error.
    pub async fn clean_up(self) -> anyhow::Result<()> {
        for queue in ["send-sms", "send-sms-delayed", "send-email", "dead-letters", "audit"] {
            self.channel.queue_delete(self.name(queue), QueueDeleteOptions::default()).await?;
        }
        for exchange in ["requests", "results", "dead"] {
            self.channel.exchange_delete(self.name(exchange), ExchangeDeleteOptions::default()).await?;
        }
        self.connection.close(200, "done".into()).await?;
        Ok(())
    }
}

pub struct Collector {
    consumer: Consumer,
}

/// The results: exactly one `sent` for each request, or [`Collector::collect`] fails.
pub struct Collected {
    /// From the first result to the last.
    pub wall: Duration,
    pub bytes: usize,
}

impl Collector {
    pub async fn collect(mut self, count: usize) -> anyhow::Result<Collected> {
        let mut seen = HashSet::with_capacity(count);
        let mut bytes = 0;
        let mut first = None;
        while seen.len() < count {
            let next = timeout(STALLED_AFTER, self.consumer.next()).await;
            let next = next.with_context(|| format!("stalled after {} of {count} results", seen.len()))?;
            let delivery = next.context("the results queue is gone")??;
            first.get_or_insert_with(Instant::now);
            let key = delivery.routing_key.as_str();
            ensure!(key == "sms.sent", "a {key}: {}", String::from_utf8_lossy(&delivery.data));
            let id = delivery.properties.message_id().as_ref().context("a result without message_id")?;
            ensure!(seen.insert(id.as_str().to_owned()), "two results {id}");
            bytes += delivery.data.len();
        }
        let first = first.context("no result was asked for")?;
        Ok(Collected { wall: first.elapsed(), bytes })
    }
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), long("quorum"));
    arguments
}

fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// A UUID, as most callers have.
pub fn request_id(run: u32, index: usize) -> String {
    format!("{run:08x}-7dec-41d0-a765-{index:012x}")
}

/// The `index`-th of many distinct addresses in private networks of 24 bits.
fn client_ip(index: usize) -> String {
    let network = index / CLIENTS_OF_NETWORK;
    format!("10.{}.{}.{}", network / 256 % 256, network % 256, index % CLIENTS_OF_NETWORK + 1)
}

/// The `index`-th of [`NUMBERS`] distinct valid numbers, spread over the ranges.
pub fn mobile_number(index: usize) -> String {
    let index = index % NUMBERS;
    let range = MOBILE_RANGES[index % MOBILE_RANGES.len()];
    // Some 380 apart, so that no thousand-number block looks pumped; clear of the simulation's 555 numbers.
    let subscriber = 6_000_000 + index / MOBILE_RANGES.len() * 379;
    format!("+57{range}{subscriber:07}")
}
