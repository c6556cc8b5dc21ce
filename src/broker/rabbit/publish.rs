//! Publishes with publisher confirms, over one connection that is rebuilt whenever it is lost.
//!
//! Results and replies share one pipelined channel. There `lapin` may attach a returned message to the confirm of
//! another, so a return is only logged, by its own message id. Requests, delayed requests, dead letters and audit records must
//! reach a queue: they use `CheckedChannels`.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::{Channel, Confirmation, Connection, Event};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::confirming::{CONFIRM_TIMEOUT, CheckedChannels, not_confirmed_in_time, open_confirming, publish};
use super::connect::{OpenConnection, close, connect};
use super::error::RabbitError;
use super::hosts::Hosts;
use super::properties::{Envelope, Routes};
use super::reconnect::ReconnectBackoff;
use super::refusals::Refusals;
use super::tls::Certificates;
use super::{RabbitSettings, topology};
use crate::broker::{Delivery, HealthCheck, Outgoing, PublishError, Publisher, Target, delayed_key};
use crate::domain::channel;
use crate::domain::time::UnixMillis;
use crate::telemetry::events;

/// For `otpost status`.
pub(super) const BLOCKS: &str = "blocks publishers (memory or disk alarm)";
/// A message waits this long for a connection.
pub(super) const SESSION_TIMEOUT: Duration = Duration::from_secs(1);
const CONFIRMS_POLL: Duration = Duration::from_millis(50);
/// The properties of outgoing messages are bounded and fit one such frame; a body is split. `lapin` buffers 32 frames in
/// each direction.
const FRAME_BYTES: u32 = 16_384;
/// `lapin` remembers each message whose confirm timed out, for as long as the channel lives.
const TIMED_OUT_MAX: u64 = 10_000;

pub struct RabbitPublisher {
    routes: Routes,
    session: watch::Receiver<Option<Arc<Session>>>,
    usable: watch::Receiver<bool>,
    fault: watch::Receiver<Option<String>>,
    blocked: watch::Receiver<bool>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
    /// Ends the supervisor when the publisher is dropped.
    _ended: DropGuard,
}

impl RabbitPublisher {
    /// Connects in the background, without a last attempt. `role` names the connection in logs and metrics.
    pub fn start(role: &'static str, mut settings: RabbitSettings) -> RabbitPublisher {
        settings.uri.query.frame_max = settings.uri.query.frame_max.min(Some(FRAME_BYTES));
        let routes = Routes::new(&settings.names);
        let (session_sender, session) = watch::channel(None);
        let (usable_sender, usable) = watch::channel(false);
        let (fault_sender, fault) = watch::channel(None);
        let (blocked_sender, blocked) = watch::channel(false);
        let stop = CancellationToken::new();
        let supervisor = Supervisor {
            role,
            settings,
            session: session_sender,
            usable: usable_sender,
            fault: fault_sender,
            blocked: blocked_sender,
            stop: stop.clone(),
        };
        let supervisor = Mutex::new(Some(tokio::spawn(supervisor.run())));
        RabbitPublisher {
            routes,
            session,
            usable,
            fault,
            blocked,
            supervisor,
            _ended: stop.clone().drop_guard(),
            stop,
        }
    }

    /// True while the broker takes messages, for readiness.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.usable.clone()
    }

    /// The reason for which there is no connection, for readiness. It names hosts by their places in `AMQP_URL`.
    pub fn fault(&self) -> watch::Receiver<Option<String>> {
        self.fault.clone()
    }

    /// True while the broker is connected and blocks publishers.
    pub fn blocked(&self) -> watch::Receiver<bool> {
        self.blocked.clone()
    }

    /// Closes the connection. Open confirms fail.
    pub async fn close(&self) {
        self.stop.cancel();
        if let Some(supervisor) = self.supervisor.lock().await.take() {
            // The supervisor bounds its own steps. It can only fail by a panic, which is logged.
            let _ = supervisor.await;
        }
    }

    async fn session(&self) -> Result<Arc<Session>, PublishError> {
        if let Some(session) = self.session.borrow().as_ref().filter(|session| session.is_open()) {
            return Ok(Arc::clone(session));
        }
        let mut changes = self.session.clone();
        let open = changes.wait_for(|session| session.as_ref().is_some_and(|session| session.is_open()));
        match timeout(SESSION_TIMEOUT, open).await {
            Ok(Ok(session)) => Ok(Arc::clone(session.as_ref().expect("waited for one"))),
            Ok(Err(_)) | Err(_) if *self.blocked.borrow() => Err(PublishError::Blocked),
            Ok(Err(_)) | Err(_) => Err(PublishError::NotTaken("not connected".to_owned())),
        }
    }

    /// A reply is best effort: it does not wait for the end of an alarm.
    async fn publish_reply(
        &self,
        session: &Session,
        envelope: Envelope,
        body: &[u8],
    ) -> Result<(), PublishError> {
        let mut blocked = self.blocked.clone();
        tokio::select! {
            biased;
            published = session.publish_pipelined(envelope, body) => published,
            Ok(_) = blocked.wait_for(|blocked| *blocked) => Err(PublishError::Blocked),
        }
    }
}

#[async_trait]
impl Publisher for RabbitPublisher {
    async fn publish(&self, message: Outgoing<'_>) -> Result<(), PublishError> {
        let Some(envelope) = self.routes.envelope(&message) else {
            return unaddressable(&message);
        };
        let session = self.session().await?;
        match message.target {
            Target::Results { .. } => session.publish_pipelined(envelope, message.body).await,
            // These are boxed, to keep the future of a result small.
            Target::Reply { .. } => Box::pin(self.publish_reply(&session, envelope, message.body)).await,
            Target::Requests(_) | Target::Dead(_) | Target::Audit => {
                Box::pin(session.publish_checked(envelope, message.body)).await
            }
        }
    }

    async fn delay(
        &self,
        of: channel::Channel,
        delivery: &Delivery,
        now: UnixMillis,
    ) -> Result<(), PublishError> {
        let key = delayed_key(of).ok_or(PublishError::Unroutable)?;
        let envelope = self.routes.delayed(key, &delivery.properties, now);
        let session = self.session().await?;
        session.publish_checked(envelope, &delivery.body).await
    }
}

#[async_trait]
impl HealthCheck for RabbitPublisher {
    async fn check(&self) -> Result<(), String> {
        let not_connected = || match &*self.fault.borrow() {
            Some(fault) => format!("not connected: {fault}"),
            None => "not connected".to_owned(),
        };
        match (*self.usable.borrow(), *self.blocked.borrow()) {
            (true, _) => Ok(()),
            (false, true) => Err(BLOCKS.to_owned()),
            (false, false) => Err(not_connected()),
        }
    }
}

/// A key longer than AMQP allows counts as a missing queue.
fn unaddressable(message: &Outgoing<'_>) -> Result<(), PublishError> {
    events::result_unroutable(message.message_id);
    Ok(())
}

struct Session {
    connection: OpenConnection,
    certificates: Certificates,
    pipelined: Channel,
    checked: CheckedChannels,
    confirmed: AtomicU64,
    timed_out: AtomicU64,
    refusals: Refusals,
    /// The supervisor's view, which follows that of the connection.
    blocked: watch::Receiver<bool>,
    alarm_ended: StdMutex<Option<Instant>>,
    problems: mpsc::Sender<Problem>,
}

/// A problem that a publisher reports to the supervisor.
enum Problem {
    /// The connection must be rebuilt.
    Broken(RabbitError),
    /// An exchange or a queue of ours is missing.
    TopologyMissing,
}

impl Session {
    /// False as soon as the channel is lost, before the supervisor knows.
    fn is_open(&self) -> bool {
        self.pipelined.status().connected()
    }

    async fn publish_pipelined(&self, envelope: Envelope, body: &[u8]) -> Result<(), PublishError> {
        let confirmed_before = self.confirmed.load(Ordering::Relaxed);
        match self.unless_blocked(pin!(publish(&self.pipelined, envelope, body))).await {
            Ok(Confirmation::Ack(returned)) => {
                self.confirmed.fetch_add(1, Ordering::Relaxed);
                self.refusals.taken();
                if let Some(returned) = returned {
                    report_return(&returned);
                }
                Ok(())
            }
            Ok(_) => {
                if self.refusals.refused() {
                    self.report(Problem::Broken(RabbitError::Ended("the broker refuses every message")));
                }
                Err(PublishError::NotTaken("refused".to_owned()))
            }
            Err(error) => {
                let unconfirmed = PublishError::Unconfirmed(error.to_string());
                if self.is_broken_by(&error, confirmed_before) {
                    self.report(Problem::Broken(error));
                }
                Err(unconfirmed)
            }
        }
    }

    /// A timeout does not break the connection while other messages are confirmed (one reply queue may have lost its
    /// leader), nor while the broker blocks publishers.
    fn is_broken_by(&self, error: &RabbitError, confirmed_before: u64) -> bool {
        let RabbitError::TimedOut(_) = error else {
            return true;
        };
        let timed_out = self.timed_out.fetch_add(1, Ordering::Relaxed) + 1;
        let silent = self.confirmed.load(Ordering::Relaxed) == confirmed_before;
        timed_out > TIMED_OUT_MAX || (silent && !self.connection.status().blocked())
    }

    /// Bounds the wait for a confirm. The time in which the broker blocks publishers does not count: it reads nothing
    /// then, and `lapin` keeps the message until it does.
    async fn unless_blocked<T>(
        &self,
        mut confirmed: Pin<&mut impl Future<Output = Result<T, RabbitError>>>,
    ) -> Result<T, RabbitError> {
        loop {
            match timeout(CONFIRM_TIMEOUT, &mut confirmed).await {
                Ok(confirmed) => return confirmed,
                Err(_) if self.is_or_was_blocked() => {}
                Err(_) => return Err(not_confirmed_in_time()),
            }
        }
    }

    /// After an alarm a message has the time of a confirm again.
    fn is_or_was_blocked(&self) -> bool {
        let ended = *self.alarm_ended.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = ended.is_some_and(|at| at.elapsed() < CONFIRM_TIMEOUT);
        is_recent || *self.blocked.borrow() || self.connection.status().blocked()
    }

    async fn publish_checked(&self, envelope: Envelope, body: &[u8]) -> Result<(), PublishError> {
        let confirmed = self.checked.publish(&self.connection, envelope, body);
        match self.unless_blocked(pin!(confirmed)).await {
            Ok(Confirmation::Ack(None)) => Ok(()),
            Ok(Confirmation::Ack(Some(_))) => {
                self.report(Problem::TopologyMissing);
                Err(PublishError::Unroutable)
            }
            Ok(_) => Err(PublishError::NotTaken("refused".to_owned())),
            Err(error) => {
                // A missing exchange closes only the channel; the supervisor notices a lost connection.
                self.report(Problem::TopologyMissing);
                Err(PublishError::Unconfirmed(error.to_string()))
            }
        }
    }

    /// Problems that follow while the first one waits are its consequences, and dropped.
    fn report(&self, problem: Problem) {
        let _ = self.problems.try_send(problem);
    }
}

fn report_return(returned: &lapin::message::BasicReturnMessage) {
    let message_id = returned.delivery.properties.message_id();
    events::result_unroutable(message_id.as_ref().map_or("", |id| id.as_str()));
}

type Opened = (Arc<Session>, mpsc::Receiver<Problem>);

/// Closes a session that another has replaced, once no message waits for its confirm.
async fn retire(session: Arc<Session>) {
    let until = Instant::now() + CONFIRM_TIMEOUT * 2;
    while Arc::strong_count(&session) > 1 && Instant::now() < until {
        sleep(CONFIRMS_POLL).await;
    }
    close(&session.connection).await;
}

struct Supervisor {
    role: &'static str,
    settings: RabbitSettings,
    session: watch::Sender<Option<Arc<Session>>>,
    usable: watch::Sender<bool>,
    /// The last error, while not connected.
    fault: watch::Sender<Option<String>>,
    blocked: watch::Sender<bool>,
    stop: CancellationToken,
}

impl Supervisor {
    /// Runs sessions until the publisher ends.
    async fn run(self) {
        let (mut backoff, mut hosts) = (ReconnectBackoff::new(self.role, None), self.settings.hosts());
        loop {
            let started = Instant::now();
            let Err(error) = self.run_session(&mut hosts).await else { return };
            self.fault.send_replace(Some(error.for_readiness()));
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
            opened = self.open(hosts) => opened?,
        };
        loop {
            events::broker_connected(self.role, None, hosts.place().as_deref());
            self.fault.send_replace(None);
            let (session, problems) = opened;
            let ended = self.supervise(&session, problems, hosts).await;
            self.blocked.send_replace(false);
            if let Ok(Some(next)) = ended {
                (opened, *hosts) = next;
                tokio::spawn(retire(session));
                continue;
            }
            self.offer(None);
            close(&session.connection).await;
            if ended.is_ok() {
                events::broker_closed(self.role, None);
            }
            return ended.map(drop);
        }
    }

    async fn open(&self, hosts: &mut Hosts) -> Result<Opened, RabbitError> {
        let certificates = Certificates::of(self.settings.tls.as_ref());
        let connection = connect(&self.settings, hosts, self.role).await?;
        self.declare(&connection).await?;
        let pipelined = open_confirming(&connection).await?;
        let (problems, receiver) = mpsc::channel(1);
        let session = Session {
            connection,
            certificates,
            pipelined,
            checked: CheckedChannels::new(),
            confirmed: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            refusals: Refusals::default(),
            blocked: self.blocked.subscribe(),
            alarm_ended: StdMutex::default(),
            problems,
        };
        Ok((Arc::new(session), receiver))
    }

    async fn declare(&self, connection: &Connection) -> Result<(), RabbitError> {
        tokio::spawn(topology::declare_audit_stream(self.settings.clone()));
        topology::declare_for_publishing(connection, &self.settings, self.role).await
    }

    /// Offers the session to publishers until it breaks, or another is to replace it.
    async fn supervise(
        &self,
        session: &Arc<Session>,
        mut problems: mpsc::Receiver<Problem>,
        hosts: &Hosts,
    ) -> Result<Option<(Opened, Hosts)>, RabbitError> {
        let open = || async {
            let mut hosts = hosts.clone();
            self.open(&mut hosts).await.map(|opened| (opened, hosts))
        };
        let mut replacement = pin!(session.certificates.replacement(self.role, None, open));
        let mut events = pin!(session.connection.events_listener());
        // There are no events of the time before the listener.
        if !(session.is_open() && session.connection.status().connected()) {
            return Err(RabbitError::Ended("the connection ended at its beginning"));
        }
        self.offer(Some(session));
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(None),
                event = events.next() => self.on_event(event, session)?,
                // A blocked connection keeps the messages on their way until the alarm ends.
                next = &mut replacement, if !*self.blocked.borrow() => return Ok(Some(next)),
                // A blocked broker answers no declaration.
                Some(problem) = problems.recv(), if !*self.blocked.borrow() => match problem {
                    Problem::Broken(error) => return Err(error),
                    Problem::TopologyMissing => self.declare(&session.connection).await?,
                },
            }
        }
    }

    fn on_event(&self, event: Option<Event>, session: &Arc<Session>) -> Result<(), RabbitError> {
        match event {
            // A queue or an exchange was refused, on a channel of its own.
            Some(Event::Error(_)) if session.is_open() && session.connection.status().connected() => {}
            Some(Event::Error(source)) => {
                return Err(RabbitError::Failed { step: "connection", source });
            }
            None => return Err(RabbitError::Ended("the connection ended")),
            // While blocked, lapin would queue every message in memory without a limit.
            Some(Event::ConnectionBlocked(reason)) => {
                events::broker_blocked(self.role, &reason);
                self.blocked.send_replace(true);
                self.offer(None);
            }
            Some(Event::ConnectionUnblocked) => {
                events::broker_unblocked(self.role);
                *session.alarm_ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                self.blocked.send_replace(false);
                self.offer(Some(session));
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn offer(&self, session: Option<&Arc<Session>>) {
        self.usable.send_replace(session.is_some());
        self.session.send_replace(session.cloned());
    }
}
