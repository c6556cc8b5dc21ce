//! The foreign service: it publishes requests until the broker has them, and reads every result.
//!
//! It speaks to RabbitMQ directly, not through a proxy, and outlives the server's restarts. Of several nodes it takes the
//! first that answers.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::servers::Server;
use crate::history::{PublishedResult, Request};
use crate::wait::{now_ms, until_async};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A frozen node takes connections and never answers.
const NODE_ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// The wait before the next connection after RabbitMQ did not answer.
const RECONNECT_WAIT: Duration = Duration::from_millis(200);
/// Messages on their way at once.
const WINDOW: usize = 32;

/// A message for the requests exchange.
pub struct Publication {
    /// `None` if the body has no readable request.
    pub request: Option<Request>,
    /// The queue that it is for.
    pub key: &'static str,
    pub body: Vec<u8>,
}

/// The queue of text messages.
pub const SMS: &str = "send-sms";
/// The key of e-mails. They run beside text messages and are not checked.
pub const EMAIL: &str = "send-email";

/// A service that asks for codes.
pub struct Client {
    brokers: Vec<SocketAddr>,
    prefix: String,
    publications: mpsc::UnboundedSender<Publication>,
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    /// Counts what changes in `seen`.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Seen {
    requests: HashMap<String, Request>,
    /// The first confirm of each request.
    confirmed: HashMap<String, Instant>,
    /// The time of the first result of each request.
    first_results: HashMap<String, Instant>,
    results: Vec<PublishedResult>,
    answered: HashSet<String>,
    /// Confirmed, without an outcome.
    unanswered: HashSet<String>,
    /// Handed over, not yet confirmed.
    pending: usize,
}

impl Client {
    /// Connects, and waits until the reader of results is ready.
    pub async fn start(brokers: Vec<SocketAddr>, prefix: &str) -> Result<Client, String> {
        let (publications, publishing) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        let (ready, mut listening) = watch::channel(false);
        let line = Line { brokers: brokers.clone(), prefix: prefix.to_owned(), shared: Arc::clone(&shared) };
        let tasks = [tokio::spawn(line.clone().publish_all(publishing)), tokio::spawn(line.read_all(ready))];
        let waited = timeout(Duration::from_secs(30), listening.wait_for(|listening| *listening)).await;
        waited.map_err(|_| "results cannot be read".to_owned())?.map_err(|error| error.to_string())?;
        Ok(Client { brokers, prefix: prefix.to_owned(), publications, shared, tasks })
    }

    /// Publishes until the broker confirms the message.
    pub fn publish(&self, publication: Publication) {
        let mut seen = self.shared.seen();
        seen.pending += 1;
        if let Some(request) = &publication.request {
            // A repeat changes nothing of what is known.
            seen.requests.entry(request.id.clone()).or_insert_with(|| request.clone());
        }
        drop(seen);
        self.publications
            .send(publication)
            .unwrap_or_else(|_| panic!("the publisher lives as long as its client"));
    }

    /// Waits until everything is confirmed and every confirmed request has an outcome.
    pub async fn quiet(&self, within: Duration) -> Result<(), String> {
        let mut changes = self.shared.changes.subscribe();
        let quiet = changes.wait_for(|_| self.shared.seen().open() == 0);
        let waited = timeout(within, quiet).await.map(drop);
        waited.map_err(|_| format!("after {within:?} {} requests are open", self.shared.seen().open()))
    }

    /// Waits until this many requests have an outcome.
    pub async fn answered(&self, count: usize, within: Duration) -> Result<(), String> {
        let mut changes = self.shared.changes.subscribe();
        let answered = changes.wait_for(|_| self.shared.seen().answered.len() >= count);
        let waited = timeout(within, answered).await.map(drop);
        waited.map_err(|_| format!("{count} ends did not come, but {}", self.shared.seen().answered.len()))
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.seen().requests.values().cloned().collect()
    }

    pub fn results(&self) -> Vec<PublishedResult> {
        self.shared.seen().results.clone()
    }

    /// From a request's confirm to its first result: what 99 of a hundred took at most, of those confirmed since then.
    pub fn p99(&self, since: Instant) -> Duration {
        let seen = self.shared.seen();
        let span = |(id, at): (&String, &Instant)| {
            let confirmed = seen.confirmed.get(id).filter(|confirmed| **confirmed >= since)?;
            Some(at.saturating_duration_since(*confirmed))
        };
        let mut spans: Vec<Duration> = seen.first_results.iter().filter_map(span).collect();
        spans.sort_unstable();
        spans.get(spans.len() * 99 / 100).copied().unwrap_or_default()
    }

    /// The number of messages in a queue of the gateway; an error if the queue is missing.
    pub async fn queued(&self, name: &str) -> Result<u32, String> {
        let asked = async {
            let (connection, channel) = open(&self.brokers).await.map_err(|error| error.to_string())?;
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
            let queue = format!("{}.{name}", self.prefix);
            let queue = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
            let _ = connection.close(200, "done".into()).await;
            queue.map(|queue| queue.message_count()).map_err(|error| error.to_string())
        };
        timeout(ANSWER_WITHIN, asked).await.unwrap_or_else(|_| Err("no answer".to_owned()))
    }

    /// Waits until nothing lies in the request queue.
    pub async fn drained(&self, within: Duration) -> Result<(), String> {
        until_async("an empty queue", within, async || match self.queued(SMS).await? {
            0 => Ok(()),
            count => Err(format!("({count} messages)")),
        })
        .await
    }

    /// Deletes a queue of the gateway, with what lies in it.
    pub async fn delete_queue(&self, name: &str) -> Result<(), String> {
        let (connection, channel) = open(&self.brokers).await.map_err(|error| error.to_string())?;
        let queue = format!("{}.{name}", self.prefix);
        let deleted = channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await;
        let _ = connection.close(200, "done".into()).await;
        deleted.map(drop).map_err(|error| error.to_string())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen());
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Seen {
    fn open(&self) -> usize {
        self.pending + self.unanswered.len()
    }
}

/// The state of both tasks.
#[derive(Clone)]
struct Line {
    brokers: Vec<SocketAddr>,
    prefix: String,
    shared: Arc<Shared>,
}

async fn open(brokers: &[SocketAddr]) -> lapin::Result<(Connection, Channel)> {
    let mut opened = Err(std::io::Error::from(std::io::ErrorKind::NotConnected).into());
    for broker in brokers {
        opened = timeout(NODE_ANSWERS_WITHIN, open_at(*broker))
            .await
            .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()));
        if opened.is_ok() {
            break;
        }
    }
    opened
}

async fn open_at(broker: SocketAddr) -> lapin::Result<(Connection, Channel)> {
    let url = Server::amqp_url(broker, "?heartbeat=5&connection_timeout=2000");
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

impl Line {
    /// Everything, a window at a time, until it is confirmed.
    async fn publish_all(self, mut publications: mpsc::UnboundedReceiver<Publication>) {
        let mut waiting = VecDeque::new();
        loop {
            let opened = timeout(2 * ANSWER_WITHIN, open(&self.brokers)).await;
            let Ok(Ok((_connection, channel))) = opened else {
                sleep(RECONNECT_WAIT).await;
                continue;
            };
            let select = channel.confirm_select(ConfirmSelectOptions::default());
            if !matches!(timeout(ANSWER_WITHIN, select).await, Ok(Ok(()))) {
                continue;
            }
            loop {
                if waiting.is_empty() {
                    let Some(publication) = publications.recv().await else { return };
                    waiting.push_back(publication);
                }
                while waiting.len() < WINDOW {
                    let Ok(publication) = publications.try_recv() else { break };
                    waiting.push_back(publication);
                }
                if self.publish_window(&channel, &mut waiting).await.is_err() {
                    break;
                }
                if !waiting.is_empty() {
                    sleep(RECONNECT_WAIT).await;
                }
            }
        }
    }

    /// Unconfirmed messages stay in the window. An error ends the connection.
    async fn publish_window(&self, channel: &Channel, window: &mut VecDeque<Publication>) -> Result<(), ()> {
        let mut confirms = Vec::with_capacity(window.len());
        for publication in window.iter() {
            let properties =
                BasicProperties::default().with_content_type("application/json".into()).with_delivery_mode(2);
            let (exchange, key) = (format!("{}.requests", self.prefix).into(), publication.key.into());
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let published = channel.basic_publish(exchange, key, options, &publication.body, properties);
            confirms.push(timeout(ANSWER_WITHIN, published).await.map_err(drop)?.map_err(drop)?);
        }
        let mut kept = VecDeque::new();
        let (mut broken, mut is_refused) = (false, false);
        for confirm in confirms {
            let publication = window.pop_front().expect("one publication for each confirm");
            let confirmed = match broken {
                true => None,
                false => timeout(ANSWER_WITHIN, confirm).await.ok().and_then(Result::ok),
            };
            match confirmed {
                Some(Confirmation::Ack(None)) => self.confirmed(&publication),
                // Returned, because the queue is gone: published again.
                Some(Confirmation::Ack(Some(_))) => kept.push_back(publication),
                // RabbitMQ 3.10 goes on to refuse on a channel that was opened while a queue had no leader.
                Some(_) => {
                    is_refused = true;
                    kept.push_back(publication);
                }
                None => {
                    broken = true;
                    kept.push_back(publication);
                }
            }
        }
        *window = kept;
        if broken || is_refused { Err(()) } else { Ok(()) }
    }

    fn confirmed(&self, publication: &Publication) {
        self.shared.change(|seen| {
            seen.pending -= 1;
            let Some(id) = publication.request.as_ref().map(|request| &request.id) else { return };
            seen.requests.get_mut(id).expect("recorded before it was published").confirmed = true;
            seen.confirmed.entry(id.clone()).or_insert_with(Instant::now);
            if !seen.answered.contains(id) {
                seen.unanswered.insert(id.clone());
            }
        });
    }

    /// Results, over as many connections as it takes.
    async fn read_all(self, ready: watch::Sender<bool>) {
        loop {
            let _ = self.read(&ready).await;
            sleep(RECONNECT_WAIT).await;
        }
    }

    async fn read(&self, ready: &watch::Sender<bool>) -> lapin::Result<()> {
        let (connection, channel) = open(&self.brokers).await?;
        // A call that is waiting while the broker goes down may never be answered, or so late that no reader is left.
        let Ok(subscribed) = timeout(ANSWER_WITHIN, self.subscribe(&channel)).await else {
            let _ = timeout(ANSWER_WITHIN, connection.close(200, "no answer".into())).await;
            return Ok(());
        };
        let mut results = subscribed?;
        ready.send_replace(true);
        loop {
            match timeout(ANSWER_WITHIN, results.next()).await {
                Ok(Some(delivery)) => {
                    let delivery = delivery?;
                    self.record_result(&delivery);
                    let acked = timeout(ANSWER_WITHIN, delivery.ack(BasicAckOptions::default())).await;
                    if let Ok(acked) = acked {
                        acked?;
                    }
                }
                Ok(None) => return Ok(()),
                // A consumer is not always woken when its connection is lost.
                Err(_) if connection.status().connected() => {}
                Err(_) => return Ok(()),
            }
        }
    }

    async fn subscribe(&self, channel: &Channel) -> lapin::Result<Consumer> {
        let queue = format!("{}.chaos", self.prefix);
        let mut quorum = FieldTable::default();
        quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel.queue_declare(queue.clone().into(), QueueDeclareOptions::durable(), quorum).await?;
        let (exchange, all) = (format!("{}.results", self.prefix), "#".into());
        let options = QueueBindOptions::default();
        channel
            .queue_bind(queue.clone().into(), exchange.into(), all, options, FieldTable::default())
            .await?;
        channel.basic_qos(500, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumed = channel.basic_consume(queue.into(), "chaos".into(), options, FieldTable::default());
        consumed.await
    }

    fn record_result(&self, delivery: &lapin::message::Delivery) {
        let now = Instant::now();
        let body: Value = serde_json::from_slice(&delivery.data).unwrap_or_default();
        if body["channel"] == "email" {
            return;
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let message_id = delivery.properties.message_id().as_ref().map(|id| id.as_str().to_owned());
        let result = PublishedResult {
            message_id: message_id.unwrap_or_default(),
            request: text(&body["request_id"]).unwrap_or_default(),
            status: text(&body["status"]).unwrap_or_default(),
            replayed: body["replayed"] == true,
            error: text(&body["error"]["code"]),
            sid: text(&body["provider_message_id"]),
            at: now_ms(),
        };
        self.shared.change(|seen| {
            if ["sent", "rejected", "failed", "unknown"].contains(&result.status.as_str()) {
                seen.unanswered.remove(&result.request);
                seen.answered.insert(result.request.clone());
            }
            seen.first_results.entry(result.request.clone()).or_insert(now);
            seen.results.push(result);
        });
    }
}
