//! Seam: consumes requests, publishes results, reads dead letters.
//!
//! A [`RequestConsumer`] hands out at most its prefetch of unsettled deliveries, and reconnects on its own. A [`Delivery`]
//! is settled once, by value: settling twice does not compile. A [`Publisher`] answers when the broker has confirmed the
//! message. An [`RpcClient`] also receives the result of its request.
//!
//! The broker owns every message that is not acknowledged or not confirmed, and delivers it again.

pub mod audit;
pub mod memory;
pub(crate) mod pause;
mod pending_replies;
pub mod rabbit;

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::domain::channel::Channel;
use crate::domain::scaling::QueueDepths;
use crate::domain::time::UnixMillis;
use crate::domain::trace_context::TraceContext;

/// Consumes requests in the broker's order.
#[async_trait]
pub trait RequestConsumer: Send {
    /// Waits for the next delivery, through any outage. `None` after a cancellation, when the buffer is empty.
    ///
    /// Dropping the future loses no delivery.
    async fn next(&mut self) -> Option<Delivery>;

    /// Consumes nothing more until [`RequestConsumer::resume`], also after a reconnect. Idempotent.
    ///
    /// Buffered deliveries stay unsettled and still come out of [`RequestConsumer::next`].
    async fn pause(&mut self);

    async fn resume(&mut self);

    /// Consumes nothing more; buffered deliveries still come out of [`RequestConsumer::next`].
    async fn cancel(&mut self);

    /// Writes all settlements to the broker, within a time limit, and closes.
    ///
    /// The broker redelivers every unsettled delivery. Dropping the consumer does the same without waiting.
    async fn close(self: Box<Self>);
}

/// Publishes messages with publisher confirms.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Publishes one persistent message. `Ok` means that the broker confirmed it.
    async fn publish(&self, message: Outgoing<'_>) -> Result<(), PublishError>;

    /// Puts a copy of a delivery of `channel` on the delay queue, from where it comes back as a redelivered one after
    /// [`DELAY`]. `Ok` means that the broker confirmed it: then acknowledge the delivery.
    ///
    /// The copy has the body and our [`Properties`], and no others. Its timestamp is `now` if the delivery has none, so that the
    /// life of its request goes on. A channel without a delay queue is unroutable.
    async fn delay(&self, channel: Channel, delivery: &Delivery, now: UnixMillis)
    -> Result<(), PublishError>;
}

/// Checks whether the broker can be reached, for `otpost status`.
#[async_trait]
pub trait HealthCheck: Send + Sync {
    /// `Ok` if the broker takes messages. The error holds no address. The caller bounds the wait.
    async fn check(&self) -> Result<(), String>;
}

/// Reads how many requests and dead letters wait. Nothing is declared.
#[async_trait]
pub trait RequestQueues: Send + Sync {
    /// A queue that does not exist is empty. The error holds no address. The caller bounds the wait, and may drop the future.
    /// Without delayed requests.
    async fn depths(&self) -> Result<QueueDepths, String>;

    /// The requests on the delay queue.
    async fn delayed(&self) -> Result<u32, String>;

    /// The dead letters that no consumer holds.
    async fn dead_letters(&self) -> Result<u32, String>;

    /// Before the end of a process that reads once. A reading after it connects again.
    async fn close(&self) {}
}

/// Publishes requests and receives their results.
#[async_trait]
pub trait RpcClient: Send + Sync {
    /// Publishes a request and waits up to `within` for the body of its result. `Ok` means that the broker confirmed the
    /// request in a queue; `Ok(None)` that no result came in time, or that the connection for replies was lost.
    ///
    /// The reply is matched by the correlation id; all callers with one id receive the first reply. If `within` is zero,
    /// the request has no `reply_to`. Dropping the future drops the result, not the request.
    async fn request(&self, message: Outgoing<'_>, within: Duration)
    -> Result<Option<Vec<u8>>, PublishError>;
}

/// Reads and removes dead letters, for an operator.
///
/// Only [`DeadLetters::remove`] takes a dead letter off the queue. The others are requeued when this value ends; until
/// then no other consumer sees them.
#[async_trait]
pub trait DeadLetters: Send {
    /// Reads up to `count_max` dead letters that this value has not read, fewer if they are large.
    async fn browse(&mut self, count_max: usize) -> Result<Vec<DeadLetter>, DeadLettersError>;

    /// `Ok` means that the broker confirmed the message in a queue.
    async fn publish(&mut self, message: Outgoing<'_>) -> Result<(), PublishError>;

    /// Acknowledges a dead letter that this value has read.
    async fn remove(&mut self, dead_letter: &DeadLetter) -> Result<(), DeadLettersError>;

    /// Requeues the dead letters that were not removed, and closes.
    async fn close(self: Box<Self>);
}

/// Opens the dead letters for one act of an operator.
#[async_trait]
pub trait DeadLetterQueue: Send + Sync {
    /// Over a connection of its own. The error holds no address. The caller bounds the wait.
    async fn open(&self) -> Result<Box<dyn DeadLetters>, DeadLettersError>;
}

#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub tag: u64,
    /// A [`DeadLetterBody`] if we dead-lettered the message, the whole message if the broker did.
    ///
    /// [`DeadLetterBody`]: crate::domain::dead_letter::DeadLetterBody
    pub body: Vec<u8>,
    pub message_id: Option<String>,
    /// Earlier reads of the dead letter.
    pub reads: u64,
    pub properties: Properties,
    /// Its properties are no valid AMQP: a byte that is no text is shown as `?`, or they are left out altogether.
    pub unreadable: bool,
    /// The broker dead-lettered the message, not we.
    pub by_broker: bool,
    pub reason: String,
    /// Absent if the broker dead-lettered the message, like `delivery_count`, `request_id` and `status`.
    pub error: Option<String>,
    pub queue: Option<String>,
    /// When the message was dead-lettered.
    pub at: Option<UnixMillis>,
    pub delivery_count: Option<u64>,
    /// The timestamp of the original message.
    pub requested_at: Option<UnixMillis>,
    pub request_id: Option<String>,
    /// The outcome, if its result was published.
    pub status: Option<String>,
}

/// The broker did not answer, or refused.
#[derive(Debug, thiserror::Error)]
#[error("dead letters cannot be read or changed: {0}")]
pub struct DeadLettersError(pub String);

pub struct Delivery {
    pub body: Vec<u8>,
    pub properties: Properties,
    pub arrived: Instant,
    pub settler: Box<dyn Settler>,
}

impl Delivery {
    /// Acknowledges or requeues the delivery. The adapter may write settlements in batches.
    ///
    /// A lost acknowledgement is harmless: the redelivery gets the stored result.
    pub fn settle(self, settlement: Settlement) {
        self.settler.settle(settlement);
    }

    /// True after the loss of the connection: the broker redelivers the message.
    pub fn is_lost(&self) -> bool {
        self.settler.is_lost()
    }
}

/// The adapter's half of a delivery.
pub trait Settler: Send + Sync {
    fn settle(self: Box<Self>, settlement: Settlement);
    fn is_lost(&self) -> bool;
}

/// The end of a delivery. A delivery dropped without one stays unacknowledged until its consumer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The result is confirmed: the broker may drop the message.
    Ack,
    /// An orderly requeue. It raises the delivery count at some versions of the broker only.
    Requeue,
    /// A requeue that raises the delivery count at every version.
    RequeueCounted,
}

/// The AMQP properties and headers that we read. AMQP bounds strings to 255 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// The caller's own. We only pass it on, like the priority.
    pub message_id: Option<String>,
    pub priority: Option<u8>,
    pub correlation_id: Option<String>,
    pub reply_to: Option<String>,
    pub timestamp: Option<UnixMillis>,
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
    /// `x-delivery-count`: earlier deliveries that returned, without the orderly requeues that the broker does not count. The
    /// delay queue keeps the count.
    pub delivery_count: u64,
    /// A message that comes from the delay queue is redelivered, too.
    pub redelivered: bool,
}

impl Properties {
    /// The trace that the publisher sends; `None` without one that can be read.
    pub fn trace(&self) -> Option<TraceContext> {
        TraceContext::parse(self.traceparent.as_deref()?, self.tracestate.as_deref())
    }
}

#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    pub target: Target<'a>,
    /// JSON.
    pub body: &'a [u8],
    /// Readers drop duplicates by it.
    pub message_id: &'a str,
    pub correlation_id: Option<&'a str>,
    pub at: UnixMillis,
    pub traceparent: Option<&'a str>,
    pub tracestate: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The results exchange. An unroutable result is counted, and no error.
    Results {
        /// `<channel>.<status>`.
        routing_key: &'a str,
    },
    /// A caller's reply queue, on the default exchange. A missing queue is counted, and no error.
    Reply { queue: &'a str },
    /// The requests exchange. An unroutable message is an error.
    Requests(Channel),
    /// The dead-letter exchange. An unroutable message is an error.
    Dead(DeadHeaders<'a>),
    /// The audit stream, on the default exchange. A missing stream is an error.
    Audit,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadHeaders<'a> {
    pub channel: Channel,
    pub reason: &'a str,
    /// The first error, without any value of the message.
    pub error: &'a str,
    pub delivery_count: u64,
    /// The timestamp of the original message.
    pub requested_at: Option<UnixMillis>,
    /// Absent if it could not be read.
    pub request_id: Option<&'a str>,
    /// The outcome, if its result was published.
    pub status: Option<&'a str>,
}

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No confirm in time, or the connection broke before it: the message may have arrived. Worth a retry.
    #[error("the broker did not confirm the message: {0}")]
    Unconfirmed(String),
    /// No connection, or the broker refused the message: it has surely not arrived. Worth a retry.
    #[error("the broker did not take the message: {0}")]
    NotTaken(String),
    /// The broker is short of memory or disk space: the message has not arrived, but a reply still may. Worth a retry.
    #[error("the broker blocks publishers (memory or disk alarm)")]
    Blocked,
    #[error("no queue is bound for the message")]
    Unroutable,
}

impl PublishError {
    /// One word, for the span of the message.
    pub fn as_str(&self) -> &'static str {
        match self {
            PublishError::Unconfirmed(_) => "unconfirmed",
            PublishError::NotTaken(_) => "not_taken",
            PublishError::Blocked => "blocked",
            PublishError::Unroutable => "unroutable",
        }
    }

    /// The alarm has a log line of its own.
    pub fn is_blocked(&self) -> bool {
        matches!(self, PublishError::Blocked)
    }
}

/// The exchanges and queues of one gateway; each name starts with `AMQP_PREFIX`.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
}

impl Names {
    pub fn new(prefix: &str) -> Names {
        Names { prefix: prefix.to_owned() }
    }

    /// The direct exchange that callers publish to.
    pub fn requests(&self) -> String {
        format!("{}.requests", self.prefix)
    }

    pub fn requests_of(&self, channel: Channel) -> String {
        format!("{}.{}", self.prefix, request_key(channel))
    }

    /// The queue of delayed requests: those for text messages, as e-mail has one provider.
    pub fn delayed(&self) -> String {
        format!("{}.{DELAYED_SMS_KEY}", self.prefix)
    }

    pub fn channel_of(&self, queue: &str) -> Option<Channel> {
        Channel::ALL.into_iter().find(|channel| self.requests_of(*channel) == queue)
    }

    /// The topic exchange of results.
    pub fn results(&self) -> String {
        format!("{}.results", self.prefix)
    }

    /// The direct exchange of dead letters.
    pub fn dead(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    pub fn dead_letters(&self) -> String {
        format!("{}.dead-letters", self.prefix)
    }

    /// The stream of operators' acts.
    pub fn audit(&self) -> String {
        format!("{}.audit", self.prefix)
    }

    pub fn is_ours(&self, queue: &str) -> bool {
        queue.strip_prefix(&self.prefix).is_some_and(|name| name.starts_with('.'))
    }
}

pub const SEND_SMS_KEY: &str = "send-sms";
pub const SEND_EMAIL_KEY: &str = "send-email";
/// Of the delay queue, on the requests exchange.
pub const DELAYED_SMS_KEY: &str = "send-sms-delayed";

pub const fn request_key(channel: Channel) -> &'static str {
    match channel {
        Channel::Sms => SEND_SMS_KEY,
        Channel::Email => SEND_EMAIL_KEY,
    }
}

/// `None` for a channel without a delay queue.
pub const fn delayed_key(channel: Channel) -> Option<&'static str> {
    match channel {
        Channel::Sms => Some(DELAYED_SMS_KEY),
        Channel::Email => None,
    }
}

/// The time of a request on the delay queue.
pub const DELAY: Duration = Duration::from_secs(15);

/// Requests on the delay queue. More are refused.
pub const DELAYED_MAX: u32 = 100_000;

/// Returns of a dead letter before the broker drops it. Before RabbitMQ 4.3 each listing counts, and a broker's default (20 in
/// RabbitMQ 4) is soon reached.
pub const DEAD_LETTER_DELIVERY_LIMIT: u32 = 1_000_000;

/// Returns of a request before the broker dead-letters it. It is the last fence, because every lost connection counts
/// too.
pub const DELIVERY_LIMIT: u32 = 100;
