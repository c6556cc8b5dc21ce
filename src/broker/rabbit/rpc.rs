//! Requests to the broker, many at once, and the copies of their results that come back.
//!
//! One connection with one channel does both: replies to RabbitMQ's `amq.rabbitmq.reply-to` come to the channel that
//! published, and to no other. So a reply is lost with its connection, and whoever waits for one is told at once.
//!
//! Confirms are pipelined. There `lapin` may hand the return of one message to the publisher of another, so a return is
//! believed by its own message id: it comes before the confirm of its message, and no confirm is believed before all
//! that came with it were read.

use std::collections::{BTreeMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Confirmation, Connection, Consumer, Event};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::{RabbitError, within};
use super::properties::{Envelope, Routes, owned};
use super::publish::{CONFIRM_TIMEOUT, LINE_TIMEOUT, open_confirming};
use super::reconnect::ReconnectBackoff;
use super::{RPC_TIMEOUT, RabbitSettings, close, connect, topology};
use crate::broker::pending_replies::{PendingReplies, PendingReply};
use crate::broker::{Outgoing, PublishError, RpcClient};
use crate::telemetry::events;

const ROLE: &str = "asking";
/// What RabbitMQ calls the queue of whoever asks.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";
const CONSUMER_TAG: &str = "otpost-replies";
/// Requests that are not confirmed yet; more wait for their turn.
const UNDER_WAY_MAX: usize = 1_024;

/// Publishes requests to one gateway.
pub struct RabbitRpcClient {
    routes: Routes,
    line: watch::Receiver<Option<Line>>,
    /// Ends the supervisor when the requester goes.
    _ended: DropGuard,
}

/// What a session offers to those who ask.
#[derive(Clone)]
struct Line {
    inbox: mpsc::Sender<Ask>,
    waiters: Arc<PendingReplies>,
}

/// A request for a session to publish.
struct Ask {
    letter: Envelope,
    body: Vec<u8>,
    message_id: String,
    confirmed: oneshot::Sender<Result<(), PublishError>>,
}

impl RabbitRpcClient {
    /// Starts to connect in the background, for as long as it takes.
    pub fn start(settings: RabbitSettings) -> RabbitRpcClient {
        let routes = Routes::new(&settings.names);
        let (line_sender, line) = watch::channel(None);
        let stop = CancellationToken::new();
        let supervisor = Supervisor { settings, line: line_sender, stop: stop.clone() };
        tokio::spawn(supervisor.run());
        RabbitRpcClient { routes, line, _ended: stop.drop_guard() }
    }

    async fn line(&self) -> Result<Line, PublishError> {
        let mut changes = self.line.clone();
        let open = changes.wait_for(Option::is_some);
        match timeout(LINE_TIMEOUT, open).await {
            Ok(Ok(line)) => Ok(line.clone().expect("waited for one")),
            Ok(Err(_)) | Err(_) => Err(PublishError::NotTaken("not connected".to_owned())),
        }
    }
}

#[async_trait]
impl RpcClient for RabbitRpcClient {
    async fn request(
        &self,
        message: Outgoing<'_>,
        within: Duration,
    ) -> Result<Option<Vec<u8>>, PublishError> {
        let until = Instant::now() + within;
        let mut letter = self.routes.envelope(&message).ok_or(PublishError::Unroutable)?;
        let line = self.line().await?;
        let correlation_id = message.correlation_id.filter(|_| !within.is_zero());
        let mut waiter = correlation_id.and_then(|id| line.waiters.enter(id));
        if waiter.is_some() {
            letter.properties = letter.properties.with_reply_to(REPLY_TO.into());
        }
        match (line.publish(letter, &message).await, &mut waiter) {
            (Ok(()), Some(waiter)) => Ok(timeout_at(until, waiter.reply()).await.ok().flatten()),
            (Ok(()), None) => Ok(None),
            // Its result tells more than its confirm would have.
            (Err(error), waiter) => {
                waiter.as_mut().and_then(PendingReply::reply_so_far).map(Some).ok_or(error)
            }
        }
    }
}

impl Line {
    /// Waits for the broker's confirm.
    async fn publish(&self, letter: Envelope, message: &Outgoing<'_>) -> Result<(), PublishError> {
        let (confirmed, confirm) = oneshot::channel();
        let (body, message_id) = (message.body.to_vec(), message.message_id.to_owned());
        let asked = async {
            self.inbox.send(Ask { letter, body, message_id, confirmed }).await.ok()?;
            confirm.await.ok()
        };
        match timeout(CONFIRM_TIMEOUT, asked).await {
            Ok(Some(confirmed)) => confirmed,
            Ok(None) => Err(PublishError::Unconfirmed("the connection ended".to_owned())),
            Err(_) => Err(PublishError::Unconfirmed("no answer in time".to_owned())),
        }
    }
}

struct Supervisor {
    settings: RabbitSettings,
    line: watch::Sender<Option<Line>>,
    stop: CancellationToken,
}

impl Supervisor {
    /// Sessions, one after another, until nobody wants any.
    async fn run(self) {
        let mut pace = ReconnectBackoff::new(ROLE, None);
        loop {
            let started = Instant::now();
            let Err(error) = self.session().await else { return };
            let delay = pace.after(&error, started.elapsed());
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    /// One connection, from connecting to its end. `Ok` if the end was asked for.
    async fn session(&self) -> Result<(), RabbitError> {
        let session = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(()),
            opened = Session::open(&self.settings) => opened?,
        };
        events::broker_connected(ROLE, None);
        let waiters = Arc::new(PendingReplies::default());
        let ended = self.serve(&session, &waiters).await;
        self.line.send_replace(None);
        waiters.close();
        close(&session.connection).await;
        if ended.is_ok() {
            events::broker_closed(ROLE, None);
        }
        ended
    }

    /// Publishes what is asked for and hands replies over, until the session ends.
    async fn serve(&self, session: &Session, waiters: &Arc<PendingReplies>) -> Result<(), RabbitError> {
        let (inbox, mut asks) = mpsc::channel(UNDER_WAY_MAX);
        let line = Line { inbox, waiters: Arc::clone(waiters) };
        let mut events = pin!(session.connection.events_listener());
        let mut replies = session.replies.clone();
        let mut under_way = UnderWay::default();
        self.line.send_replace(Some(line.clone()));
        loop {
            let silence = under_way.silence();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                event = events.next() => match event {
                    // Of a queue that was refused on a channel of its own.
                    Some(Event::Error(_)) if session.is_open() => {}
                    Some(Event::Error(source)) => {
                        return Err(RabbitError::Failed { step: "connection", source });
                    }
                    None => return Err(RabbitError::Ended("the connection ended")),
                    // While blocked, lapin would queue every message in memory without a limit.
                    Some(Event::ConnectionBlocked(reason)) => {
                        events::broker_blocked(ROLE, &reason);
                        self.line.send_replace(None);
                    }
                    Some(Event::ConnectionUnblocked) => {
                        events::broker_unblocked(ROLE);
                        under_way.give_time();
                        self.line.send_replace(Some(line.clone()));
                    }
                    Some(_) => {}
                },
                reply = replies.next() => hand_over(waiters, reply)?,
                Some(first) = under_way.confirms.next() => {
                    if under_way.settle(first)? == Routed::NotAll {
                        topology::declare_for_publishing(&session.connection, &self.settings.names, ROLE).await?;
                    }
                }
                Some(ask) = asks.recv(), if under_way.asked.len() < UNDER_WAY_MAX => {
                    under_way.publish(&session.channel, ask);
                }
                () = silence, if !session.connection.status().blocked() => {
                    return Err(RabbitError::TimedOut("publish"));
                }
            }
        }
    }
}

fn hand_over(waiters: &PendingReplies, reply: Option<lapin::Result<Delivery>>) -> Result<(), RabbitError> {
    let delivery = match reply {
        Some(Ok(delivery)) => delivery,
        Some(Err(source)) => return Err(RabbitError::Failed { step: "consume", source }),
        None => return Err(RabbitError::Ended("the broker cancelled the consumer")),
    };
    if let Some(correlation_id) = owned(delivery.properties.correlation_id()) {
        waiters.answer(&correlation_id, &delivery.data);
    }
    Ok(())
}

/// One connection and its channel, on which replies come.
struct Session {
    connection: Connection,
    channel: Channel,
    replies: Consumer,
}

impl Session {
    async fn open(settings: &RabbitSettings) -> Result<Session, RabbitError> {
        let connection = connect(settings, ROLE).await?;
        let channel = open_confirming(&connection).await?;
        topology::declare_for_publishing(&connection, &settings.names, ROLE).await?;
        // The broker wants no acknowledgement of what it does not keep.
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let replies =
            channel.basic_consume(REPLY_TO.into(), CONSUMER_TAG.into(), options, FieldTable::default());
        let replies = within("consume replies", RPC_TIMEOUT, replies).await?;
        Ok(Session { connection, channel, replies })
    }

    fn is_open(&self) -> bool {
        self.channel.status().connected() && self.connection.status().connected()
    }
}

type Confirm = (u64, lapin::Result<Confirmation>);

/// Requests that are not confirmed yet.
#[derive(Default)]
struct UnderWay {
    confirms: FuturesUnordered<BoxFuture<'static, Confirm>>,
    asked: BTreeMap<u64, Asked>,
    last: u64,
}

struct Asked {
    message_id: String,
    since: Instant,
    confirmed: oneshot::Sender<Result<(), PublishError>>,
}

/// Did all messages of a batch reach a queue?
#[derive(PartialEq, Eq)]
enum Routed {
    All,
    NotAll,
}

impl UnderWay {
    fn publish(&mut self, channel: &Channel, ask: Ask) {
        let Ask { letter, body, message_id, confirmed } = ask;
        let channel = channel.clone();
        self.last += 1;
        let nth = self.last;
        self.asked.insert(nth, Asked { message_id, since: Instant::now(), confirmed });
        self.confirms.push(Box::pin(async move {
            let Envelope { exchange, routing_key, properties, mandatory } = letter;
            let options = BasicPublishOptions { mandatory, immediate: false };
            let published = channel.basic_publish(exchange, routing_key, options, &body, properties).await;
            match published {
                Ok(confirm) => (nth, confirm.await),
                Err(error) => (nth, Err(error)),
            }
        }));
    }

    /// Takes a confirm, and all others that have come. An error is the channel's end.
    fn settle(&mut self, first: Confirm) -> Result<Routed, RabbitError> {
        let mut batch = vec![first];
        while let Some(Some(confirm)) = self.confirms.next().now_or_never() {
            batch.push(confirm);
        }
        let mut confirmed = Vec::with_capacity(batch.len());
        let mut returned = HashSet::new();
        for (nth, confirm) in batch {
            let confirm = confirm.map_err(|source| RabbitError::Failed { step: "publish", source })?;
            confirmed.push((nth, confirm.is_ack()));
            if let Some(message) = confirm.take_message() {
                returned.extend(owned(message.delivery.properties.message_id()));
            }
        }
        for (nth, acked) in confirmed {
            let Some(Asked { message_id, confirmed, .. }) = self.asked.remove(&nth) else { continue };
            let answer = match acked {
                _ if returned.contains(&message_id) => Err(PublishError::Unroutable),
                true => Ok(()),
                false => Err(PublishError::NotTaken("refused".to_owned())),
            };
            // Who asked may have gone.
            let _ = confirmed.send(answer);
        }
        self.refuse(&returned);
        Ok(if returned.is_empty() { Routed::All } else { Routed::NotAll })
    }

    /// Messages came back whose own confirms are still to come.
    fn refuse(&mut self, returned: &HashSet<String>) {
        if returned.is_empty() {
            return;
        }
        let is_returned = |(nth, asked): (&u64, &Asked)| returned.contains(&asked.message_id).then_some(*nth);
        let refused: Vec<u64> = self.asked.iter().filter_map(is_returned).collect();
        for asked in refused.iter().filter_map(|nth| self.asked.remove(nth)) {
            let _ = asked.confirmed.send(Err(PublishError::Unroutable));
        }
    }

    /// The broker could not be heard: what is under way is given its time anew.
    fn give_time(&mut self) {
        let now = Instant::now();
        self.asked.values_mut().for_each(|asked| asked.since = now);
    }

    /// Waits until the oldest request has waited for too long.
    fn silence(&self) -> impl Future<Output = ()> + use<> {
        let oldest = self.asked.first_key_value().map(|(_, oldest)| oldest.since);
        async move {
            match oldest {
                Some(since) => tokio::time::sleep_until(since + CONFIRM_TIMEOUT).await,
                None => std::future::pending().await,
            }
        }
    }
}
