//! A broker inside the process, for tests, the simulator and the quick start. Nothing survives the process.
//!
//! It hands out at most each consumer's prefetch, requeues unsettled deliveries of a consumer that ends, counts these returns
//! and the counted requeues, and dead-letters a message after too many. Only the delay queue depends on time.

mod delay_queue;
mod delayed;
mod faults;
mod request_queues;
mod rpc_client;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use self::delay_queue::DelayQueue;
use crate::broker::pending_replies::PendingReplies;
use crate::broker::{
    DELIVERY_LIMIT, DeadHeaders, Delivery, Outgoing, Properties, PublishError, Publisher, RequestConsumer,
    Settlement, Settler, Target,
};
use crate::domain::channel::Channel;
use crate::domain::time::UnixMillis;

/// Messages a queue.
const QUEUE_MAX: usize = 10_000;

/// A broker with a request queue for each channel, shared by its clones.
#[derive(Clone, Default)]
pub struct MemoryBroker {
    state: Arc<Mutex<State>>,
}

/// A published message, as its reader receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedMessage {
    /// `<channel>.<status>` of a result, the queue of a reply.
    pub routing_key: String,
    /// JSON.
    pub body: Vec<u8>,
    pub message_id: String,
    pub correlation_id: Option<String>,
    pub at: UnixMillis,
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// Empty if the broker dead-lettered the message.
    pub message_id: String,
    pub body: Vec<u8>,
    pub reason: String,
    /// Empty if the broker dead-lettered the message.
    pub error: String,
    pub delivery_count: u64,
    pub request_id: Option<String>,
    pub status: Option<String>,
}

impl MemoryBroker {
    /// A new consumer of a channel's requests. A prefetch of 0 counts as 1.
    pub fn consumer(&self, channel: Channel, prefetch: usize) -> MemoryConsumer {
        let mut state = self.lock();
        let id = state.next_id();
        let arrived = Arc::new(Notify::new());
        state.consumers.push(Consumer {
            id,
            channel,
            prefetch: prefetch.max(1),
            taken: HashMap::new(),
            buffered: VecDeque::new(),
            cancelled: false,
            paused: false,
            arrived: Arc::clone(&arrived),
        });
        state.hand_out();
        MemoryConsumer { broker: self.clone(), id, arrived }
    }

    pub fn publisher(&self) -> MemoryPublisher {
        MemoryPublisher { broker: self.clone() }
    }

    /// Publishes a request for a text message with any properties, as a caller's own client would.
    pub fn send_request(&self, body: &[u8], properties: Properties) -> Result<(), PublishError> {
        self.send_request_to(Channel::Sms, body, properties)
    }

    pub fn send_request_to(
        &self,
        channel: Channel,
        body: &[u8],
        properties: Properties,
    ) -> Result<(), PublishError> {
        self.lock().enqueue(channel, body.to_vec(), properties)
    }

    /// Receives every result from now on. A reader that lags by more than 10,000 messages misses some.
    pub fn subscribe_results(&self) -> mpsc::Receiver<OwnedMessage> {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        self.lock().results.push(sender);
        receiver
    }

    pub fn reply_queue(&self, name: &str) -> mpsc::Receiver<OwnedMessage> {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        self.lock().replies.insert(name.to_owned(), Reader::Caller(sender));
        receiver
    }

    pub fn dead_letters(&self) -> Vec<StoredDeadLetter> {
        self.lock().dead.clone()
    }

    /// The number of requests that no consumer holds, without the delayed ones.
    pub fn waiting(&self) -> usize {
        self.lock().queues.iter().map(VecDeque::len).sum()
    }

    /// No request waits or is delayed, and no consumer holds one.
    pub fn is_idle(&self) -> bool {
        let state = self.lock();
        state.queues.iter().all(VecDeque::is_empty)
            && state.delayed.len() == 0
            && state.consumers.iter().all(|consumer| consumer.taken.is_empty())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A panic under the lock cannot have left half a step: each step is a push, a pop or a counter.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[derive(Default)]
struct State {
    /// By channel.
    queues: [VecDeque<Message>; Channel::ALL.len()],
    delayed: DelayQueue<Message>,
    consumers: Vec<Consumer>,
    results: Vec<mpsc::Sender<OwnedMessage>>,
    replies: HashMap<String, Reader>,
    dead: Vec<StoredDeadLetter>,
    blocked: bool,
    failing: usize,
    losing_confirms: usize,
    failing_dead_letters: usize,
    deleted: bool,
    last_id: u64,
}

enum Reader {
    /// A caller's own client.
    Caller(mpsc::Sender<OwnedMessage>),
    /// A [`rpc_client::MemoryRpcClient`].
    Pending(Arc<PendingReplies>),
}

#[derive(Clone)]
struct Message {
    channel: Channel,
    body: Vec<u8>,
    properties: Properties,
    arrived: Instant,
}

struct Consumer {
    id: u64,
    channel: Channel,
    prefetch: usize,
    /// Unsettled deliveries by tag, buffered or handed out.
    taken: HashMap<u64, Message>,
    /// The tags of deliveries not handed out yet.
    buffered: VecDeque<u64>,
    cancelled: bool,
    paused: bool,
    arrived: Arc<Notify>,
}

impl Consumer {
    fn has_room(&self) -> bool {
        !self.cancelled && !self.paused && self.taken.len() < self.prefetch
    }
}

impl State {
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn consumer(&mut self, id: u64) -> Option<&mut Consumer> {
        self.consumers.iter_mut().find(|consumer| consumer.id == id)
    }

    fn enqueue(
        &mut self,
        channel: Channel,
        body: Vec<u8>,
        properties: Properties,
    ) -> Result<(), PublishError> {
        if self.deleted {
            return Err(PublishError::Unroutable);
        }
        let queue = &mut self.queues[channel as usize];
        if queue.len() >= QUEUE_MAX {
            return Err(PublishError::NotTaken("the queue is full".to_owned()));
        }
        queue.push_back(Message { channel, body, properties, arrived: Instant::now() });
        self.hand_out();
        Ok(())
    }

    fn next_consumer(&self) -> Option<usize> {
        let waits = |channel: Channel| !self.queues[channel as usize].is_empty();
        self.consumers.iter().position(|consumer| consumer.has_room() && waits(consumer.channel))
    }

    /// Hands messages to the consumers that have room, round robin.
    fn hand_out(&mut self) {
        while let Some(next) = self.next_consumer() {
            let queue = &mut self.queues[self.consumers[next].channel as usize];
            let Some(mut message) = queue.pop_front() else {
                return;
            };
            message.arrived = Instant::now();
            let tag = self.next_id();
            let mut consumer = self.consumers.remove(next);
            consumer.taken.insert(tag, message);
            consumer.buffered.push_back(tag);
            consumer.arrived.notify_one();
            self.consumers.push(consumer);
        }
    }

    /// Requeues a message at the end of the queue, or dead-letters it after too many counted returns.
    fn requeue(&mut self, mut message: Message, is_counted: bool) {
        message.properties.delivery_count += u64::from(is_counted);
        message.properties.redelivered = true;
        if message.properties.delivery_count <= u64::from(DELIVERY_LIMIT) {
            self.queues[message.channel as usize].push_back(message);
            return;
        }
        self.dead.push(StoredDeadLetter {
            message_id: String::new(),
            body: message.body,
            reason: "delivery_limit".to_owned(),
            error: String::new(),
            delivery_count: message.properties.delivery_count,
            request_id: None,
            status: None,
        });
    }

    fn settle(&mut self, consumer: u64, tag: u64, settlement: Settlement) {
        // A message whose consumer ended was requeued already.
        let Some(message) = self.consumer(consumer).and_then(|consumer| consumer.taken.remove(&tag)) else {
            return;
        };
        match settlement {
            Settlement::Ack => {}
            Settlement::Requeue => self.requeue(message, false),
            Settlement::RequeueCounted => self.requeue(message, true),
        }
        self.hand_out();
    }

    fn remove_consumer(&mut self, id: u64) {
        let Some(at) = self.consumers.iter().position(|consumer| consumer.id == id) else {
            return;
        };
        let mut taken: Vec<(u64, Message)> = self.consumers.remove(at).taken.into_iter().collect();
        taken.sort_unstable_by_key(|(tag, _)| *tag);
        for (_, message) in taken {
            self.requeue(message, true);
        }
        self.hand_out();
    }

    /// Refuses a message while publishers are blocked or fail.
    fn accept(&mut self) -> Result<(), PublishError> {
        if self.blocked {
            return Err(PublishError::Blocked);
        }
        if self.failing > 0 {
            self.failing -= 1;
            return Err(PublishError::NotTaken("failed on purpose".to_owned()));
        }
        Ok(())
    }

    fn publish(&mut self, message: Outgoing<'_>, reply_to: Option<&str>) -> Result<(), PublishError> {
        self.accept()?;
        match message.target {
            Target::Results { routing_key } => {
                let message = owned(&message, routing_key);
                self.results.retain(|reader| !reader.is_closed());
                for reader in &self.results {
                    // A reader that lags this far misses it, like a queue with a length limit.
                    let _ = reader.try_send(message.clone());
                }
                Ok(())
            }
            Target::Reply { queue } => {
                match (self.replies.get(queue), message.correlation_id) {
                    (Some(Reader::Caller(reader)), _) => {
                        let _ = reader.try_send(owned(&message, queue));
                    }
                    (Some(Reader::Pending(replies)), Some(id)) => replies.answer(id, message.body),
                    (Some(Reader::Pending(_)) | None, _) => {}
                }
                Ok(())
            }
            Target::Requests(channel) => {
                self.enqueue(channel, message.body.to_vec(), properties(&message, reply_to))?;
                let lost = self.losing_confirms > 0;
                self.losing_confirms -= usize::from(lost);
                if lost { Err(PublishError::Unconfirmed("lost on purpose".to_owned())) } else { Ok(()) }
            }
            Target::Dead(headers) => self.dead_letter(&message, headers),
            // `otpost audit` cannot read the memory of another process.
            Target::Audit => Ok(()),
        }
    }

    fn dead_letter(&mut self, message: &Outgoing<'_>, headers: DeadHeaders<'_>) -> Result<(), PublishError> {
        if self.failing_dead_letters > 0 {
            self.failing_dead_letters -= 1;
            return Err(PublishError::NotTaken("failed on purpose".to_owned()));
        }
        if self.dead.len() >= QUEUE_MAX {
            return Err(PublishError::NotTaken("the queue is full".to_owned()));
        }
        self.dead.push(StoredDeadLetter {
            message_id: message.message_id.to_owned(),
            body: message.body.to_vec(),
            reason: headers.reason.to_owned(),
            error: headers.error.to_owned(),
            delivery_count: headers.delivery_count,
            request_id: headers.request_id.map(str::to_owned),
            status: headers.status.map(str::to_owned),
        });
        Ok(())
    }
}

fn owned(message: &Outgoing<'_>, routing_key: &str) -> OwnedMessage {
    OwnedMessage {
        routing_key: routing_key.to_owned(),
        body: message.body.to_vec(),
        message_id: message.message_id.to_owned(),
        correlation_id: message.correlation_id.map(str::to_owned),
        at: message.at,
        traceparent: message.traceparent.map(str::to_owned),
        tracestate: message.tracestate.map(str::to_owned),
    }
}

/// AMQP timestamps have whole seconds: a test that needs more must fail here too.
fn properties(message: &Outgoing<'_>, reply_to: Option<&str>) -> Properties {
    Properties {
        message_id: Some(message.message_id.to_owned()),
        priority: None,
        correlation_id: message.correlation_id.map(str::to_owned),
        reply_to: reply_to.map(str::to_owned),
        timestamp: UnixMillis::from_seconds(message.at.as_seconds()),
        traceparent: message.traceparent.map(str::to_owned),
        tracestate: message.tracestate.map(str::to_owned),
        delivery_count: 0,
        redelivered: false,
    }
}

/// A consumer of a request queue. Dropping it requeues unsettled deliveries, like a crash of the worker.
pub struct MemoryConsumer {
    broker: MemoryBroker,
    id: u64,
    arrived: Arc<Notify>,
}

#[async_trait]
impl RequestConsumer for MemoryConsumer {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            if let Some(delivery) = self.buffered()? {
                return Some(delivery);
            }
            // No arrival is missed: `notify_one` leaves a permit.
            self.arrived.notified().await;
        }
    }

    async fn pause(&mut self) {
        if let Some(consumer) = self.broker.lock().consumer(self.id) {
            consumer.paused = true;
        }
    }

    async fn resume(&mut self) {
        let mut state = self.broker.lock();
        if let Some(consumer) = state.consumer(self.id) {
            consumer.paused = false;
        }
        state.hand_out();
    }

    async fn cancel(&mut self) {
        if let Some(consumer) = self.broker.lock().consumer(self.id) {
            consumer.cancelled = true;
        }
        self.arrived.notify_one();
    }

    async fn close(self: Box<Self>) {}
}

impl MemoryConsumer {
    /// The next buffered delivery; the outer `None` after the last one.
    fn buffered(&self) -> Option<Option<Delivery>> {
        let mut state = self.broker.lock();
        let consumer = state.consumer(self.id)?;
        let Some(tag) = consumer.buffered.pop_front() else {
            return (!consumer.cancelled).then_some(None);
        };
        let message = consumer.taken.get(&tag)?.clone();
        let state = Arc::downgrade(&self.broker.state);
        let settler = Box::new(MemorySettler { state, consumer: self.id, tag });
        Some(Some(Delivery {
            body: message.body,
            properties: message.properties,
            arrived: message.arrived,
            settler,
        }))
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        self.broker.lock().remove_consumer(self.id);
    }
}

struct MemorySettler {
    state: Weak<Mutex<State>>,
    consumer: u64,
    tag: u64,
}

impl Settler for MemorySettler {
    fn settle(self: Box<Self>, settlement: Settlement) {
        if let Some(state) = self.state.upgrade() {
            lock(&state).settle(self.consumer, self.tag, settlement);
        }
    }

    fn is_lost(&self) -> bool {
        let Some(state) = self.state.upgrade() else {
            return true;
        };
        lock(&state).consumer(self.consumer).is_none()
    }
}

#[derive(Clone)]
pub struct MemoryPublisher {
    broker: MemoryBroker,
}

#[async_trait]
impl Publisher for MemoryPublisher {
    async fn publish(&self, message: Outgoing<'_>) -> Result<(), PublishError> {
        self.broker.lock().publish(message, None)
    }

    async fn delay(
        &self,
        channel: Channel,
        delivery: &Delivery,
        now: UnixMillis,
    ) -> Result<(), PublishError> {
        self.broker.delay(channel, delivery, now)
    }
}
