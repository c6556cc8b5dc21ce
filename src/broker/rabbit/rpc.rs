//! Publishes requests and receives replies, over RabbitMQ's direct reply-to.
//!
//! One channel does both, because replies come to the channel that published the request. A reply is lost with its
//! connection; its caller stops waiting at once.
//!
//! Confirms are pipelined. There `lapin` may attach a returned message to the confirm of another, so returns are matched
//! by message id. A return precedes its confirm: all confirms that have arrived are read before one is answered.

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
use lapin::{Channel, Confirmation, Consumer, Event};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, interval_at, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::confirming::{CONFIRM_TIMEOUT, open_confirming};
use super::connect::{OpenConnection, close, connect};
use super::error::{RabbitError, within};
use super::hosts::Hosts;
use super::properties::{Envelope, Routes, owned};
use super::publish::SESSION_TIMEOUT;
use super::reconnect::ReconnectBackoff;
use super::refusals::Refusals;
use super::tls::Certificates;
use super::{RPC_TIMEOUT, RabbitSettings, topology};
use crate::broker::pending_replies::{PendingReplies, PendingReply};
use crate::broker::{Outgoing, PublishError, RpcClient};
use crate::telemetry::events;

/// A value of the metrics' label.
const ROLE: &str = "asking";
/// RabbitMQ's pseudo-queue for direct replies.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";
const CONSUMER_TAG: &str = "otpost-replies";
/// Unconfirmed requests at once; further requests wait.
const UNCONFIRMED_MAX: usize = 1_024;
/// A replaced session is closed after this time at the latest. No caller waits longer.
const RETIRED_MAX: Duration = Duration::from_secs(15);
const RETIRED_LOOK: Duration = Duration::from_millis(200);

pub struct RabbitRpcClient {
    routes: Routes,
    session: watch::Receiver<Option<SessionHandle>>,
    blocked: watch::Receiver<bool>,
    /// Ends the supervisor when the client is dropped.
    _ended: DropGuard,
}

/// The callers' side of a session.
#[derive(Clone)]
struct SessionHandle {
    requests: mpsc::Sender<Request>,
    replies: Arc<PendingReplies>,
}

struct Request {
    envelope: Envelope,
    body: Vec<u8>,
    message_id: String,
    confirmed: oneshot::Sender<Result<(), PublishError>>,
}

impl RabbitRpcClient {
    /// Connects in the background, without a last attempt.
    pub fn start(settings: RabbitSettings) -> RabbitRpcClient {
        let routes = Routes::new(&settings.names);
        let (handle_sender, session) = watch::channel(None);
        let (blocked_sender, blocked) = watch::channel(false);
        let stop = CancellationToken::new();
        let supervisor =
            Supervisor { settings, handle: handle_sender, blocked: blocked_sender, stop: stop.clone() };
        tokio::spawn(supervisor.run());
        RabbitRpcClient { routes, session, blocked, _ended: stop.drop_guard() }
    }

    async fn session(&self) -> Result<SessionHandle, PublishError> {
        let mut changes = self.session.clone();
        let open = changes.wait_for(Option::is_some);
        match timeout(SESSION_TIMEOUT, open).await {
            Ok(Ok(session)) => Ok(session.clone().expect("waited for one")),
            Ok(Err(_)) | Err(_) if *self.blocked.borrow() => Err(PublishError::Blocked),
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
        let mut envelope = self.routes.envelope(&message).ok_or(PublishError::Unroutable)?;
        let session = self.session().await?;
        let correlation_id = message.correlation_id.filter(|_| !within.is_zero());
        let mut caller = correlation_id.and_then(|id| session.replies.enter(id));
        if caller.is_some() {
            envelope.properties = envelope.properties.with_reply_to(REPLY_TO.into());
        }
        match (session.publish(envelope, &message).await, &mut caller) {
            (Ok(()), Some(caller)) => Ok(timeout_at(until, caller.reply()).await.ok().flatten()),
            (Ok(()), None) => Ok(None),
            // A reply proves more than the missing confirm.
            (Err(error), caller) => {
                caller.as_mut().and_then(PendingReply::reply_so_far).map(Some).ok_or(error)
            }
        }
    }
}

impl SessionHandle {
    async fn publish(&self, envelope: Envelope, message: &Outgoing<'_>) -> Result<(), PublishError> {
        let (confirmed, confirm) = oneshot::channel();
        let (body, message_id) = (message.body.to_vec(), message.message_id.to_owned());
        let published = async {
            self.requests.send(Request { envelope, body, message_id, confirmed }).await.ok()?;
            confirm.await.ok()
        };
        match timeout(CONFIRM_TIMEOUT, published).await {
            Ok(Some(confirmed)) => confirmed,
            Ok(None) => Err(PublishError::Unconfirmed("the connection ended".to_owned())),
            Err(_) => Err(PublishError::Unconfirmed("no answer in time".to_owned())),
        }
    }
}

struct Supervisor {
    settings: RabbitSettings,
    handle: watch::Sender<Option<SessionHandle>>,
    blocked: watch::Sender<bool>,
    stop: CancellationToken,
}

impl Supervisor {
    /// Runs sessions until the client is dropped.
    async fn run(self) {
        let (mut backoff, mut hosts) = (ReconnectBackoff::new(ROLE, None), self.settings.hosts());
        loop {
            let started = Instant::now();
            let Err(error) = self.run_session(&mut hosts).await else { return };
            let delay = backoff.after(&error, started.elapsed(), &mut hosts);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    /// One connection, from connecting to its end, and those that replace it. `Ok` if we ended it.
    async fn run_session(&self, hosts: &mut Hosts) -> Result<(), RabbitError> {
        let mut opened = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(()),
            opened = Session::open(&self.settings, hosts) => opened?,
        };
        loop {
            events::broker_connected(ROLE, None, hosts.place().as_deref());
            let (requests, receiver) = mpsc::channel(UNCONFIRMED_MAX);
            let mut work = Work::new(opened, receiver);
            let handle = SessionHandle { requests, replies: Arc::clone(&work.pending) };
            let ended = self.serve(&mut work, &handle, hosts).await;
            self.blocked.send_replace(false);
            if let Ok(Some(next)) = ended {
                (opened, *hosts) = next;
                tokio::spawn(work.wind_up());
                continue;
            }
            self.handle.send_replace(None);
            work.end().await;
            if ended.is_ok() {
                events::broker_closed(ROLE, None);
            }
            return ended.map(drop);
        }
    }

    /// Publishes requests and hands replies over, until the session ends or another is to replace it.
    async fn serve(
        &self,
        work: &mut Work,
        handle: &SessionHandle,
        hosts: &Hosts,
    ) -> Result<Option<(Session, Hosts)>, RabbitError> {
        let Work { session, pending, requests, unconfirmed } = work;
        let mut events = pin!(session.connection.events_listener());
        let mut replies = session.replies.clone();
        let open = || async {
            let mut hosts = hosts.clone();
            Session::open(&self.settings, &mut hosts).await.map(|session| (session, hosts))
        };
        let mut replacement = pin!(session.certificates.replacement(ROLE, None, &open));
        self.handle.send_replace(Some(handle.clone()));
        loop {
            let overdue = unconfirmed.overdue();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(None),
                event = events.next() => match event {
                    // A queue was refused, on a channel of its own.
                    Some(Event::Error(_)) if session.is_open() => {}
                    Some(Event::Error(source)) => {
                        return Err(RabbitError::Failed { step: "connection", source });
                    }
                    None => return Err(RabbitError::Ended("the connection ended")),
                    // While blocked, lapin would queue every message in memory without a limit.
                    Some(Event::ConnectionBlocked(reason)) => {
                        events::broker_blocked(ROLE, &reason);
                        self.blocked.send_replace(true);
                        self.handle.send_replace(None);
                    }
                    Some(Event::ConnectionUnblocked) => {
                        events::broker_unblocked(ROLE);
                        unconfirmed.restart_timeouts();
                        self.blocked.send_replace(false);
                        self.handle.send_replace(Some(handle.clone()));
                    }
                    Some(_) => {}
                },
                next = &mut replacement, if !*self.blocked.borrow() => return Ok(Some(next)),
                reply = replies.next() => hand_over(pending, reply)?,
                Some(first) = unconfirmed.confirms.next() => {
                    match unconfirmed.answer_batch(first)? {
                        Batch::AllRouted => {}
                        Batch::SomeReturned => {
                            let connection = &session.connection;
                            topology::declare_for_publishing(connection, &self.settings, ROLE).await?;
                        }
                        // Callers that wait for replies keep this session.
                        Batch::Refused => return open().await.map(Some),
                    }
                }
                Some(request) = requests.recv(), if unconfirmed.requests.len() < UNCONFIRMED_MAX => {
                    unconfirmed.publish(&session.channel, request);
                }
                () = overdue, if !session.connection.status().blocked() => {
                    return Err(RabbitError::TimedOut("publish"));
                }
            }
        }
    }
}

/// A session with its open requests.
struct Work {
    session: Session,
    pending: Arc<PendingReplies>,
    requests: mpsc::Receiver<Request>,
    unconfirmed: Unconfirmed,
}

impl Work {
    fn new(session: Session, requests: mpsc::Receiver<Request>) -> Work {
        Work { session, pending: Arc::default(), requests, unconfirmed: Unconfirmed::default() }
    }

    /// Ends a session that another has replaced, once its callers have their replies.
    async fn wind_up(mut self) {
        let _ = timeout(RETIRED_MAX, self.answer_callers()).await;
        self.end().await;
    }

    /// An error ends the session, as it would have ended without a successor.
    async fn answer_callers(&mut self) -> Result<(), RabbitError> {
        let Work { session, pending, requests, unconfirmed } = self;
        let mut replies = session.replies.clone();
        // A caller that took the session just now has not entered yet.
        let mut looks = interval_at(Instant::now() + RETIRED_LOOK, RETIRED_LOOK);
        loop {
            tokio::select! {
                biased;
                reply = replies.next() => hand_over(pending, reply)?,
                Some(first) = unconfirmed.confirms.next() => {
                    unconfirmed.answer_batch(first)?;
                }
                Some(request) = requests.recv() => unconfirmed.publish(&session.channel, request),
                _ = looks.tick() => {
                    if pending.is_empty() && unconfirmed.requests.is_empty() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn end(self) {
        let Work { session, pending, .. } = self;
        pending.close();
        close(&session.connection).await;
    }
}

fn hand_over(pending: &PendingReplies, reply: Option<lapin::Result<Delivery>>) -> Result<(), RabbitError> {
    let delivery = match reply {
        Some(Ok(delivery)) => delivery,
        Some(Err(source)) => return Err(RabbitError::Failed { step: "consume", source }),
        None => return Err(RabbitError::Ended("the broker cancelled the consumer")),
    };
    if let Some(correlation_id) = owned(delivery.properties.correlation_id()) {
        pending.answer(&correlation_id, &delivery.data);
    }
    Ok(())
}

struct Session {
    connection: OpenConnection,
    certificates: Certificates,
    channel: Channel,
    replies: Consumer,
}

impl Session {
    async fn open(settings: &RabbitSettings, hosts: &mut Hosts) -> Result<Session, RabbitError> {
        let certificates = Certificates::of(settings.tls.as_ref());
        let connection = connect(settings, hosts, ROLE).await?;
        let channel = open_confirming(&connection).await?;
        topology::declare_for_publishing(&connection, settings, ROLE).await?;
        // Direct replies are consumed without acknowledgements.
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let replies =
            channel.basic_consume(REPLY_TO.into(), CONSUMER_TAG.into(), options, FieldTable::default());
        let replies = within("consume replies", RPC_TIMEOUT, replies).await?;
        Ok(Session { connection, certificates, channel, replies })
    }

    fn is_open(&self) -> bool {
        self.channel.status().connected() && self.connection.status().connected()
    }
}

type Confirm = (u64, lapin::Result<Confirmation>);

/// The requests without a confirm, by their number.
#[derive(Default)]
struct Unconfirmed {
    confirms: FuturesUnordered<BoxFuture<'static, Confirm>>,
    requests: BTreeMap<u64, UnconfirmedRequest>,
    last_number: u64,
    refusals: Refusals,
}

struct UnconfirmedRequest {
    message_id: String,
    since: Instant,
    confirmed: oneshot::Sender<Result<(), PublishError>>,
}

enum Batch {
    AllRouted,
    SomeReturned,
    /// Another session may be taken.
    Refused,
}

impl Unconfirmed {
    fn publish(&mut self, channel: &Channel, request: Request) {
        let Request { envelope, body, message_id, confirmed } = request;
        let channel = channel.clone();
        self.last_number += 1;
        let number = self.last_number;
        self.requests.insert(number, UnconfirmedRequest { message_id, since: Instant::now(), confirmed });
        self.confirms.push(Box::pin(async move {
            let Envelope { exchange, routing_key, properties, mandatory } = envelope;
            let options = BasicPublishOptions { mandatory, immediate: false };
            let published = channel.basic_publish(exchange, routing_key, options, &body, properties).await;
            match published {
                Ok(confirm) => (number, confirm.await),
                Err(error) => (number, Err(error)),
            }
        }));
    }

    /// Answers the callers of a confirm and of all others that have arrived. An error ends the channel.
    fn answer_batch(&mut self, first: Confirm) -> Result<Batch, RabbitError> {
        let mut batch = vec![first];
        while let Some(Some(confirm)) = self.confirms.next().now_or_never() {
            batch.push(confirm);
        }
        let mut confirmed = Vec::with_capacity(batch.len());
        let mut returned = HashSet::new();
        for (number, confirm) in batch {
            let confirm = confirm.map_err(|source| RabbitError::Failed { step: "publish", source })?;
            confirmed.push((number, confirm.is_ack()));
            if let Some(message) = confirm.take_message() {
                returned.extend(owned(message.delivery.properties.message_id()));
            }
        }
        let mut is_refused = false;
        for (number, acked) in confirmed {
            match acked {
                true => {
                    self.refusals.taken();
                    is_refused = false;
                }
                false => is_refused = self.refusals.refused(),
            }
            let Some(request) = self.requests.remove(&number) else { continue };
            let answer = match acked {
                _ if returned.contains(&request.message_id) => Err(PublishError::Unroutable),
                true => Ok(()),
                false => Err(PublishError::NotTaken("refused".to_owned())),
            };
            // The caller may have stopped waiting.
            let _ = request.confirmed.send(answer);
        }
        self.reject_returned(&returned);
        Ok(match returned.is_empty() {
            _ if is_refused => Batch::Refused,
            true => Batch::AllRouted,
            false => Batch::SomeReturned,
        })
    }

    /// Rejects the requests that were returned before their own confirms.
    fn reject_returned(&mut self, returned: &HashSet<String>) {
        if returned.is_empty() {
            return;
        }
        let is_returned = |(number, request): (&u64, &UnconfirmedRequest)| {
            returned.contains(&request.message_id).then_some(*number)
        };
        let numbers: Vec<u64> = self.requests.iter().filter_map(is_returned).collect();
        for request in numbers.iter().filter_map(|number| self.requests.remove(number)) {
            let _ = request.confirmed.send(Err(PublishError::Unroutable));
        }
    }

    /// The broker blocked publishers and confirmed nothing.
    fn restart_timeouts(&mut self) {
        let now = Instant::now();
        self.requests.values_mut().for_each(|request| request.since = now);
    }

    /// Waits until the confirm of the oldest request is overdue.
    fn overdue(&self) -> impl Future<Output = ()> + use<> {
        let oldest = self.requests.first_key_value().map(|(_, oldest)| oldest.since);
        async move {
            match oldest {
                Some(since) => tokio::time::sleep_until(since + CONFIRM_TIMEOUT).await,
                None => std::future::pending().await,
            }
        }
    }
}
