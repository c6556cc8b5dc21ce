//! RabbitMQ, as a world of the contract. Each test has names of its own and deletes them, also when it fails.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use otpost::broker::rabbit::RabbitSettings;
use otpost::broker::rabbit::consumer::RabbitConsumer;
use otpost::broker::rabbit::publish::RabbitPublisher;
use otpost::broker::rabbit::request_queues::RabbitRequestQueues;
use otpost::broker::rabbit::rpc::RabbitRpcClient;
use otpost::broker::rabbit::topology::declare_topology;
use otpost::broker::{
    DELAYED_SMS_KEY, Names, Properties, Publisher, RequestConsumer, RequestQueues, RpcClient, SEND_SMS_KEY,
};
use otpost::domain::channel;
use otpost::domain::time::UnixMillis;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::{Dead, Message, Reader, World, patiently};

/// A prefix of its own on a real broker, with a plain client beside the adapter.
pub struct RabbitWorld {
    pub names: Names,
    url: String,
    connection: Connection,
    channel: Channel,
    extra_queues: Mutex<Vec<String>>,
}

pub fn url() -> String {
    let default = "amqp://guest:guest@127.0.0.1:5672/%2f";
    std::env::var("OTPOST_TEST_AMQP_URL").unwrap_or_else(|_| default.to_owned())
}

/// Major and minor version, from the first frame of the server.
pub async fn version() -> (u32, u32) {
    const NAME: &[u8] = b"\x07versionS";
    let authority = url().parse::<AMQPUri>().expect("a valid URL").authority;
    let mut socket = TcpStream::connect((authority.host, authority.port)).await.expect("RabbitMQ");
    socket.write_all(b"AMQP\0\0\x09\x01").await.expect("written");
    let mut start = vec![0; 1_024];
    socket.read_exact(&mut start[..400]).await.expect("the first frame is longer");
    let _ = patiently(socket.read(&mut start[400..])).await;
    let at = start.windows(NAME.len()).position(|window| window == NAME).expect("a version") + NAME.len();
    let text = start[at + 4..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.');
    let text: String = text.map(|byte| char::from(*byte)).collect();
    let mut numbers = text.split('.').map(|number| number.parse().expect("a number"));
    (numbers.next().expect("major"), numbers.next().expect("minor"))
}

/// Runs one test in a world of its own, with its topology declared.
pub async fn in_world(test: impl AsyncFnOnce(&RabbitWorld)) {
    in_empty_world(async |world| {
        declare_topology(&world.settings(1)).await.expect("declared");
        test(world).await;
    })
    .await;
}

/// Runs one test in a world of its own, with nothing declared.
pub async fn in_empty_world(test: impl AsyncFnOnce(&RabbitWorld)) {
    let world = RabbitWorld::new().await;
    let outcome = AssertUnwindSafe(test(&world)).catch_unwind().await;
    world.clean_up().await;
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

impl RabbitWorld {
    async fn new() -> RabbitWorld {
        let mut random = [0; 6];
        getrandom::fill(&mut random).expect("the system has randomness");
        let names = Names::new(&format!("otpost-test-{}", hex::encode(random)));
        let url = url();
        let connected = Connection::connect(&url, ConnectionProperties::default());
        let connection = patiently(connected).await.expect("RabbitMQ at OTPOST_TEST_AMQP_URL");
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        RabbitWorld { names, url, connection, channel, extra_queues: Mutex::default() }
    }

    pub fn settings(&self, prefetch: u16) -> RabbitSettings {
        self.settings_at(&self.url, prefetch)
    }

    pub fn settings_at(&self, url: &str, prefetch: u16) -> RabbitSettings {
        RabbitSettings::new(url, self.names.clone(), prefetch).expect("a valid URL")
    }

    /// A channel of its own, for what may close it.
    pub async fn open_channel(&self) -> Channel {
        self.connection.create_channel().await.expect("a channel")
    }

    async fn clean_up(&self) {
        let channel = self.open_channel().await;
        let mut queues = self.extra_queues.lock().await.clone();
        queues.extend(channel::Channel::ALL.map(|channel| self.names.requests_of(channel)));
        queues.extend([self.names.delayed(), self.names.dead_letters(), self.names.audit()]);
        for queue in queues {
            let _ = channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await;
        }
        for exchange in [self.names.requests(), self.names.results(), self.names.dead()] {
            let _ = channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await;
        }
        let _ = self.connection.close(200, "OK".into()).await;
    }

    async fn reader(&self, queue: &str, exchange: Option<String>) -> Box<dyn Reader> {
        let (queue, options) = (queue.to_owned(), QueueDeclareOptions::default());
        self.extra_queues.lock().await.push(queue.clone());
        let declared = self.channel.queue_declare(queue.clone().into(), options, FieldTable::default());
        declared.await.expect("a queue");
        if let Some(exchange) = exchange {
            let (key, options) = ("#".into(), QueueBindOptions::default());
            let bound = self.channel.queue_bind(
                queue.clone().into(),
                exchange.into(),
                key,
                options,
                FieldTable::default(),
            );
            bound.await.expect("bound");
        }
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consumer = self.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        Box::new(RabbitReader(consumer.await.expect("a consumer")))
    }
}

#[async_trait]
impl World for RabbitWorld {
    fn consumer_of(&self, channel: channel::Channel, prefetch: u16) -> Box<dyn RequestConsumer> {
        Box::new(RabbitConsumer::start(self.settings(prefetch), channel))
    }

    fn rpc_client(&self) -> Arc<dyn RpcClient> {
        Arc::new(RabbitRpcClient::start(self.settings(1)))
    }

    fn publisher(&self) -> Arc<dyn Publisher> {
        Arc::new(RabbitPublisher::start("results", self.settings(1)))
    }

    fn request_queues(&self) -> Arc<dyn RequestQueues> {
        Arc::new(RabbitRequestQueues::new(self.settings(1)))
    }

    async fn send(&self, body: &str, properties: Properties) {
        let (exchange, options) = (self.names.requests().into(), BasicPublishOptions::default());
        let properties = plain_properties(properties);
        let sent =
            self.channel.basic_publish(exchange, SEND_SMS_KEY.into(), options, body.as_bytes(), properties);
        let confirmed = sent.await.expect("sent").await.expect("confirmed");
        assert!(confirmed.is_ack());
    }

    async fn results(&self) -> Box<dyn Reader> {
        self.reader(&format!("{}.reader", self.names.results()), Some(self.names.results())).await
    }

    async fn reply_queue(&self, name: &str) -> Box<dyn Reader> {
        self.reader(name, None).await
    }

    async fn next_dead_letter(&self) -> Dead {
        loop {
            let queue = self.names.dead_letters().into();
            let got =
                self.channel.basic_get(queue, BasicGetOptions { no_ack: true }).await.expect("the queue");
            match got {
                Some(message) => return dead(message),
                // The broker dead-letters in its own time, without a signal.
                None => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    }

    async fn waiting(&self) -> usize {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = self.names.requests_of(channel::Channel::Sms).into();
        let queue =
            self.channel.queue_declare(queue, options, FieldTable::default()).await.expect("the queue");
        queue.message_count() as usize
    }

    async fn delete_request_queue(&self) {
        let queue = self.names.requests_of(channel::Channel::Sms).into();
        self.channel.queue_delete(queue, QueueDeleteOptions::default()).await.expect("deleted");
    }

    async fn replace_delay_queue(&self, delay: Duration, requests_max: u32) {
        self.delete_delay_queue().await;
        let mut arguments = FieldTable::default();
        for (name, text) in [
            ("x-queue-type", "quorum".to_owned()),
            ("x-dead-letter-exchange", self.names.requests()),
            ("x-dead-letter-routing-key", SEND_SMS_KEY.to_owned()),
            ("x-dead-letter-strategy", "at-least-once".to_owned()),
            ("x-overflow", "reject-publish".to_owned()),
        ] {
            arguments.insert(name.into(), AMQPValue::LongString(text.into()));
        }
        let delay_ms = u32::try_from(delay.as_millis()).expect("seconds");
        arguments.insert("x-message-ttl".into(), AMQPValue::LongUInt(delay_ms));
        arguments.insert("x-max-length".into(), AMQPValue::LongUInt(requests_max));
        let (queue, options) = (self.names.delayed(), QueueDeclareOptions::durable());
        let declared = self.channel.queue_declare(queue.as_str().into(), options, arguments);
        declared.await.expect("declared");
        let (exchange, options) = (self.names.requests().into(), QueueBindOptions::default());
        let key = DELAYED_SMS_KEY.into();
        let bound = self.channel.queue_bind(queue.into(), exchange, key, options, FieldTable::default());
        bound.await.expect("bound");
    }

    async fn delete_delay_queue(&self) {
        let queue = self.names.delayed().into();
        self.channel.queue_delete(queue, QueueDeleteOptions::default()).await.expect("deleted");
    }
}

fn plain_properties(properties: Properties) -> BasicProperties {
    let mut plain = BasicProperties::default();
    if let Some(id) = properties.message_id {
        plain = plain.with_message_id(id.into());
    }
    if let Some(priority) = properties.priority {
        plain = plain.with_priority(priority);
    }
    if let Some(id) = properties.correlation_id {
        plain = plain.with_correlation_id(id.into());
    }
    if let Some(queue) = properties.reply_to {
        plain = plain.with_reply_to(queue.into());
    }
    if let Some(at) = properties.timestamp {
        plain = plain.with_timestamp(at.as_seconds());
    }
    if let Some(trace) = properties.traceparent {
        let mut headers = FieldTable::default();
        headers.insert("traceparent".into(), AMQPValue::LongString(trace.into()));
        if let Some(state) = properties.tracestate {
            headers.insert("tracestate".into(), AMQPValue::LongString(state.into()));
        }
        plain = plain.with_headers(headers);
    }
    plain
}

struct RabbitReader(Consumer);

#[async_trait]
impl Reader for RabbitReader {
    async fn next(&mut self) -> Message {
        let message = patiently(self.0.next()).await.expect("the queue is there").expect("readable");
        let properties = &message.properties;
        assert_eq!(properties.delivery_mode(), &Some(2));
        assert_eq!(properties.content_type().as_ref().map(|text| text.as_str()), Some("application/json"));
        assert_eq!(properties.app_id().as_ref().map(|text| text.as_str()), Some("otpost"));
        Message {
            routing_key: message.routing_key.to_string(),
            message_id: properties.message_id().as_ref().expect("a message id").to_string(),
            correlation_id: properties.correlation_id().as_ref().map(ToString::to_string),
            at: UnixMillis::from_seconds(properties.timestamp().expect("a timestamp")).expect("in range"),
            traceparent: header(properties, "traceparent"),
            tracestate: header(properties, "tracestate"),
            body: message.data,
        }
    }
}

fn dead(message: BasicGetMessage) -> Dead {
    let properties = &message.delivery.properties;
    if let Some(reason) = header(properties, "x-first-death-reason") {
        return Dead { body: message.delivery.data, reason, error: String::new(), delivery_count: 0 };
    }
    assert!(header(properties, "x-otpost-queue").expect("an origin").ends_with(".send-sms"));
    assert_eq!(header(properties, "x-otpost-at"), Some(super::AT.to_string()));
    let count = header(properties, "x-otpost-delivery-count").expect("a count");
    Dead {
        reason: header(properties, "x-otpost-reason").expect("a reason"),
        error: header(properties, "x-otpost-error").expect("an error"),
        delivery_count: count.parse().expect("a number"),
        body: message.delivery.data,
    }
}

fn header(properties: &BasicProperties, name: &str) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::LongLongInt(number) => Some(number.to_string()),
        other => panic!("{name} is {other:?}"),
    }
}
