//! Seam: where requests come from and where results go.
//!
//! A [`RequestSource`] hands out deliveries, never more at once than its prefetch, and survives the loss of its
//! connection by itself. A [`Delivery`] is settled once, by value: doing it twice does not compile. A [`Publisher`]
//! answers only when the broker has confirmed the message. A [`Requester`] also hears how a request ends.
//!
//! Not a queue of our own: what is neither acknowledged nor confirmed is the broker's, and comes back.

pub mod memory;
pub(crate) mod pause;
mod pending_replies;
pub mod rabbit;

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::domain::channel::Channel;
use crate::domain::time::UnixMillis;

/// Deliveries of requests, in the broker's order.
#[async_trait]
pub trait RequestConsumer: Send {
    /// The next delivery. `None` once the source was cancelled and everything it had buffered was handed out.
    ///
    /// Waits through any outage. Dropping the future loses no delivery.
    async fn next(&mut self) -> Option<Delivery>;

    /// Asks the broker for nothing more until [`RequestSource::resume`], through any lost connection.
    ///
    /// What is buffered stays, unsettled, and still comes out of [`RequestSource::next`]: the caller decides whether to
    /// take it. Pausing twice is pausing once.
    async fn pause(&mut self);

    /// Asks for deliveries again.
    async fn resume(&mut self);

    /// Asks for no more deliveries; what is buffered still comes out of [`RequestSource::next`].
    async fn cancel(&mut self);

    /// Ends the source once every settlement made so far has been told to the broker, or a limit has passed.
    ///
    /// What was not settled comes again. Dropping the source does the same without waiting.
    async fn close(self: Box<Self>);
}

/// Sends messages and waits for the broker's word that it has them.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Publishes one persistent message. `Ok` means that the broker confirmed it.
    async fn publish(&self, message: Outgoing<'_>) -> Result<(), PublishError>;
}

/// Says whether the broker can be reached, to a person who asks.
#[async_trait]
pub trait Probe: Send + Sync {
    /// `Ok` if it takes messages, else why not, without any address. The caller bounds the wait.
    async fn probe(&self) -> Result<(), String>;
}

/// Publishes requests, and hears how they end.
#[async_trait]
pub trait RpcClient: Send + Sync {
    /// Publishes a request, and waits for its terminal result until `within` has passed since the call: its body, or
    /// `None` if it is not known by then, or cannot become known here any more. `Ok` means in any case that a queue has the
    /// request and the broker confirmed that.
    ///
    /// The result is the copy that goes to `reply_to`, found by the correlation id of the message: all who wait for one id
    /// hear the first result that comes. Without any time no copy is asked for. Dropping the future forgets the result, not
    /// the request.
    async fn request(&self, message: Outgoing<'_>, within: Duration)
    -> Result<Option<Vec<u8>>, PublishError>;
}

/// What was set aside, for a person who looks at it.
///
/// Nothing leaves the queue but by [`DeadLetters::remove`]. What was looked at goes back when this ends, however it ends;
/// until then nobody else sees it.
#[async_trait]
pub trait DeadLetters: Send {
    /// Takes a look at up to `letters_max` letters that were not looked at before, and at fewer if they are large.
    async fn browse(&mut self, letters_max: usize) -> Result<Vec<DeadLetter>, DeadLettersError>;

    /// Publishes a message. `Ok` means that a queue has it and the broker confirmed that.
    async fn publish(&mut self, message: Outgoing<'_>) -> Result<(), PublishError>;

    /// Removes a letter that this look has found.
    async fn remove(&mut self, letter: &DeadLetter) -> Result<(), DeadLettersError>;

    /// Ends the look once every removal was told to the broker.
    async fn close(self: Box<Self>);
}

/// A dead letter.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// What this look calls it.
    pub tag: u64,
    /// What it holds: of ours [`Contents`], of the broker's the whole message.
    ///
    /// [`Contents`]: crate::domain::dead_letter::Contents
    pub body: Vec<u8>,
    /// Its message id.
    pub message_id: Option<String>,
    /// What came beside it. The count is that of looks, not of deliveries.
    pub properties: Properties,
    /// The broker itself set it aside.
    pub by_broker: bool,
    /// A machine word: ours, or the broker's.
    pub reason: String,
    /// The first error, if we set it aside.
    pub error: Option<String>,
    /// The queue it came from.
    pub queue: Option<String>,
    /// When it was set aside.
    pub at: Option<UnixMillis>,
    /// How often it had come back, if we set it aside.
    pub delivery_count: Option<u64>,
    /// The time that its message carried.
    pub requested_at: Option<UnixMillis>,
    /// The request, if we set it aside and could read it.
    pub request_id: Option<String>,
    /// How the request ended, if we set it aside and that was told.
    pub status: Option<String>,
}

/// The broker did not answer, or refused.
#[derive(Debug, thiserror::Error)]
#[error("the dead letters cannot be read or changed: {0}")]
pub struct DeadLettersError(pub String);

/// One message from the request queue.
pub struct Delivery {
    /// The body as it came.
    pub body: Vec<u8>,
    /// What came beside it.
    pub properties: Properties,
    /// When the broker handed it out.
    pub arrived: Instant,
    /// How the broker is told what became of it.
    pub settler: Box<dyn Settler>,
}

impl Delivery {
    /// Tells the broker what becomes of the message. The adapter may send it a moment later, together with others.
    ///
    /// An acknowledgement that never reaches the broker is harmless: the message comes again and is replayed.
    pub fn settle(self, settlement: Settlement) {
        self.settler.settle(settlement);
    }

    /// True once the broker has taken the delivery back, as after a lost connection: the message comes again.
    pub fn is_lost(&self) -> bool {
        self.settler.is_lost()
    }
}

/// The adapter's half of a delivery.
pub trait Settler: Send + Sync {
    /// Tells the broker.
    fn settle(self: Box<Self>, settlement: Settlement);
    /// The broker has taken the delivery back.
    fn is_lost(&self) -> bool;
}

/// What becomes of a delivery. One that is dropped without it stays taken until its source ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Its result is confirmed: the broker may forget it.
    Ack,
    /// It goes back to the queue.
    Requeue,
}

/// The AMQP properties and headers of a delivery that matter here. Strings are bounded by AMQP to 255 bytes.
#[derive(Clone, Debug, Default)]
pub struct Properties {
    /// Comes back on every result.
    pub correlation_id: Option<String>,
    /// Where the caller wants the terminal result too.
    pub reply_to: Option<String>,
    /// When the caller published it.
    pub timestamp: Option<UnixMillis>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// How often the broker counts that it came back.
    pub delivery_count: u64,
    /// It was handed out before.
    pub redelivered: bool,
}

/// A message to publish.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// Where it goes.
    pub target: Target<'a>,
    /// JSON.
    pub body: &'a [u8],
    /// Readers drop repeats by it.
    pub message_id: &'a str,
    /// Ties it to its request.
    pub correlation_id: Option<&'a str>,
    /// When it was made.
    pub at: UnixMillis,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The results exchange. That nobody is bound is counted, not an error.
    Results {
        /// `<channel>.<status>`.
        routing_key: &'a str,
    },
    /// A caller's own reply queue, on the default exchange. That it is gone is counted, not an error.
    Reply {
        /// Its name.
        queue: &'a str,
    },
    /// The requests exchange, for the queue of a channel. A message that no queue takes is an error.
    Requests(Channel),
    /// The dead-letter exchange. A message that no queue takes is an error.
    Dead(DeadHeaders<'a>),
}

/// Why a message was set aside, for its headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadHeaders<'a> {
    /// Whose queue it came from.
    pub channel: Channel,
    /// A machine word.
    pub reason: &'a str,
    /// The first error, without any value.
    pub error: &'a str,
    /// How often it came back.
    pub delivery_count: u64,
    /// The time that the message itself carried.
    pub requested_at: Option<UnixMillis>,
    /// The request, if it could be read.
    pub request_id: Option<&'a str>,
    /// How the request ended, if its result was published.
    pub status: Option<&'a str>,
}

/// A message was not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No confirm in time, or the connection broke before it: the message may be there. Worth another try.
    #[error("the broker did not confirm the message: {0}")]
    Unconfirmed(String),
    /// No connection to hand it over by, or the broker refused it: it is surely not there. Worth another try.
    #[error("the broker did not take the message: {0}")]
    NotTaken(String),
    /// No queue takes it.
    #[error("no queue is bound for the message")]
    Unroutable,
}

/// The names of one gateway's exchanges and queues: every one starts with the prefix.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Names under a prefix.
    pub fn new(prefix: &str) -> Names {
        Names { prefix: prefix.to_owned() }
    }

    /// Direct exchange that callers publish to.
    pub fn requests(&self) -> String {
        format!("{}.requests", self.prefix)
    }

    /// The queue of requests for messages of a channel.
    pub fn requests_of(&self, channel: Channel) -> String {
        format!("{}.{}", self.prefix, request_key(channel))
    }

    /// The channel whose queue of requests has a name.
    pub fn channel_of(&self, queue: &str) -> Option<Channel> {
        Channel::ALL.into_iter().find(|channel| self.requests_of(*channel) == queue)
    }

    /// Topic exchange of results.
    pub fn results(&self) -> String {
        format!("{}.results", self.prefix)
    }

    /// Exchange of what was set aside.
    pub fn dead(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    /// The queue of what was set aside.
    pub fn dead_letters(&self) -> String {
        format!("{}.dead-letters", self.prefix)
    }

    /// True for the name of one of our own queues.
    pub fn is_ours(&self, queue: &str) -> bool {
        queue.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with('.'))
    }
}

/// The routing key of requests for text messages.
pub const SEND_SMS_KEY: &str = "send-sms";
/// The routing key of requests for e-mails.
pub const SEND_EMAIL_KEY: &str = "send-email";

/// The routing key of requests for messages of a channel.
pub const fn request_key(channel: Channel) -> &'static str {
    match channel {
        Channel::Sms => SEND_SMS_KEY,
        Channel::Email => SEND_EMAIL_KEY,
    }
}

/// How often a dead letter may come back before the broker drops it. Each look counts, and without a number of ours
/// brokers have one that is soon reached.
pub const DEAD_LETTER_DELIVERY_LIMIT: u32 = 1_000_000;

/// How often a message may come back before the broker sets it aside: only the last fence, because every lost
/// connection counts too.
pub const DELIVERY_LIMIT: u32 = 100;
