//! Messages to the broker, each confirmed, over one connection that is rebuilt whenever it is lost.
//!
//! Results and replies share one pipelined channel. There `lapin` may hand the return of one message to the publisher of
//! another, so a return decides nothing: it is logged by its own message id. Requests and dead letters must reach a
//! queue; they take a second channel one at a time, where a return can only be their own.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection, Event};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::{RabbitError, within};
use super::properties::{Envelope, Routes};
use super::reconnect::ReconnectBackoff;
use super::{RPC_TIMEOUT, RabbitSettings, close, connect, topology};
use crate::broker::{Outgoing, Probe, PublishError, Publisher, Target};
use crate::telemetry::events;

/// For a message to be written and confirmed.
pub(super) const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a message waits for a connection.
pub(super) const LINE_TIMEOUT: Duration = Duration::from_secs(1);
/// `lapin` remembers each message that was given up, for as long as its channel lives.
const GIVEN_UP_MAX: u64 = 10_000;

/// Publishes to the exchanges of one gateway.
pub struct RabbitPublisher {
    routes: Routes,
    line: watch::Receiver<Option<Arc<Line>>>,
    usable: watch::Receiver<bool>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
    /// Ends the supervisor when the publisher goes, however it goes.
    _ended: DropGuard,
}

impl RabbitPublisher {
    /// Starts to connect in the background, for as long as it takes. `role` names the connection in logs and metrics.
    pub fn start(role: &'static str, settings: RabbitSettings) -> RabbitPublisher {
        let routes = Routes::new(&settings.names);
        let (line_sender, line) = watch::channel(None);
        let (usable_sender, usable) = watch::channel(false);
        let stop = CancellationToken::new();
        let supervisor =
            Supervisor { role, settings, line: line_sender, usable: usable_sender, stop: stop.clone() };
        let supervisor = Mutex::new(Some(tokio::spawn(supervisor.run())));
        RabbitPublisher { routes, line, usable, supervisor, _ended: stop.clone().drop_guard(), stop }
    }

    /// True while the broker takes messages, for readiness.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.usable.clone()
    }

    /// Closes the connection. What is not confirmed by now stays so.
    pub async fn close(&self) {
        self.stop.cancel();
        if let Some(supervisor) = self.supervisor.lock().await.take() {
            // The supervisor bounds its own steps. It can only fail by panicking, which was reported already.
            let _ = supervisor.await;
        }
    }

    async fn line(&self) -> Result<Arc<Line>, PublishError> {
        if let Some(line) = self.line.borrow().as_ref().filter(|line| line.is_open()) {
            return Ok(Arc::clone(line));
        }
        let mut changes = self.line.clone();
        let open = changes.wait_for(|line| line.as_ref().is_some_and(|line| line.is_open()));
        match timeout(LINE_TIMEOUT, open).await {
            Ok(Ok(line)) => Ok(Arc::clone(line.as_ref().expect("waited for one"))),
            Ok(Err(_)) | Err(_) => Err(PublishError::NotTaken("not connected".to_owned())),
        }
    }
}

#[async_trait]
impl Publisher for RabbitPublisher {
    async fn publish(&self, message: Outgoing<'_>) -> Result<(), PublishError> {
        let Some(letter) = self.routes.envelope(&message) else {
            return unaddressable(&message);
        };
        let line = self.line().await?;
        match message.target {
            Target::Results { .. } | Target::Reply { .. } => {
                line.publish_pipelined(letter, message.body).await
            }
            Target::Requests(_) | Target::Dead(_) => line.publish_checked(letter, message.body).await,
        }
    }
}

#[async_trait]
impl Probe for RabbitPublisher {
    async fn probe(&self) -> Result<(), String> {
        match *self.usable.borrow() {
            true => Ok(()),
            false => Err("not connected, or it blocks publishers".to_owned()),
        }
    }
}

/// A key that AMQP cannot carry belongs to nobody, like a queue that is gone.
fn unaddressable(message: &Outgoing<'_>) -> Result<(), PublishError> {
    events::result_unroutable(message.message_id);
    Ok(())
}

/// A connection to publish on.
struct Line {
    connection: Connection,
    pipelined: Channel,
    /// Empty while a message is on its way, so that one that was given up takes its channel along.
    checked: Mutex<Option<Channel>>,
    confirmed: AtomicU64,
    given_up: AtomicU64,
    troubles: mpsc::Sender<Trouble>,
}

/// What a publisher tells the supervisor.
enum Trouble {
    /// The connection must be built anew.
    Broken(RabbitError),
    /// An exchange or a queue of ours is missing.
    Incomplete,
}

impl Line {
    /// False from the moment its channel is lost, before the supervisor knows.
    fn is_open(&self) -> bool {
        self.pipelined.status().connected()
    }

    async fn publish_pipelined(&self, letter: Envelope, body: &[u8]) -> Result<(), PublishError> {
        let confirmed_before = self.confirmed.load(Ordering::Relaxed);
        match send(&self.pipelined, letter, body).await {
            Ok(Confirmation::Ack(returned)) => {
                self.confirmed.fetch_add(1, Ordering::Relaxed);
                if let Some(returned) = returned {
                    report_return(&returned);
                }
                Ok(())
            }
            Ok(_) => Err(PublishError::NotTaken("refused".to_owned())),
            Err(error) => {
                let unconfirmed = PublishError::Unconfirmed(error.to_string());
                if self.is_broken_by(&error, confirmed_before) {
                    self.tell(Trouble::Broken(error));
                }
                Err(unconfirmed)
            }
        }
    }

    /// A message that was not confirmed in time does not condemn the line while others are, as when one reply queue has
    /// lost its leader, nor while the broker says itself that it takes none.
    fn is_broken_by(&self, error: &RabbitError, confirmed_before: u64) -> bool {
        let RabbitError::TimedOut(_) = error else {
            return true;
        };
        let given_up = self.given_up.fetch_add(1, Ordering::Relaxed) + 1;
        let silent = self.confirmed.load(Ordering::Relaxed) == confirmed_before;
        given_up > GIVEN_UP_MAX || (silent && !self.connection.status().blocked())
    }

    async fn publish_checked(&self, letter: Envelope, body: &[u8]) -> Result<(), PublishError> {
        let sent = timeout(CONFIRM_TIMEOUT, self.send_checked(letter, body)).await;
        match sent.unwrap_or(Err(RabbitError::TimedOut("publish"))) {
            Ok(Confirmation::Ack(None)) => Ok(()),
            Ok(Confirmation::Ack(Some(_))) => {
                self.tell(Trouble::Incomplete);
                Err(PublishError::Unroutable)
            }
            Ok(_) => Err(PublishError::NotTaken("refused".to_owned())),
            Err(error) => {
                // A missing exchange closes the channel and nothing else; a lost connection tells of itself.
                self.tell(Trouble::Incomplete);
                Err(PublishError::Unconfirmed(error.to_string()))
            }
        }
    }

    /// Sends one message at a time. The lock is held across the confirm: that is its purpose.
    async fn send_checked(&self, letter: Envelope, body: &[u8]) -> Result<Confirmation, RabbitError> {
        let mut slot = self.checked.lock().await;
        let channel = match slot.take() {
            Some(channel) if channel.status().connected() => channel,
            _ => open_confirming(&self.connection).await?,
        };
        let confirmation = send(&channel, letter, body).await?;
        *slot = Some(channel);
        Ok(confirmation)
    }

    /// The first trouble is enough: what follows while it waits to be heard is its consequence.
    fn tell(&self, trouble: Trouble) {
        let _ = self.troubles.try_send(trouble);
    }
}

pub(super) async fn send(
    channel: &Channel,
    letter: Envelope,
    body: &[u8],
) -> Result<Confirmation, RabbitError> {
    let Envelope { exchange, routing_key, properties, mandatory } = letter;
    let options = BasicPublishOptions { mandatory, immediate: false };
    let confirmed =
        async { channel.basic_publish(exchange, routing_key, options, body, properties).await?.await };
    within("publish", CONFIRM_TIMEOUT, confirmed).await
}

fn report_return(returned: &lapin::message::BasicReturnMessage) {
    let message_id = returned.delivery.properties.message_id();
    events::result_unroutable(message_id.as_ref().map_or("", |id| id.as_str()));
}

pub(super) async fn open_confirming(connection: &Connection) -> Result<Channel, RabbitError> {
    let channel = within("open a channel", RPC_TIMEOUT, connection.create_channel()).await?;
    let selected = channel.confirm_select(ConfirmSelectOptions::default());
    within("ask for confirms", RPC_TIMEOUT, selected).await?;
    Ok(channel)
}

struct Supervisor {
    role: &'static str,
    settings: RabbitSettings,
    line: watch::Sender<Option<Arc<Line>>>,
    usable: watch::Sender<bool>,
    stop: CancellationToken,
}

impl Supervisor {
    /// Sessions, one after another, until nobody wants any.
    async fn run(self) {
        let mut pace = ReconnectBackoff::new(self.role, None);
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
        let (line, troubles) = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(()),
            opened = self.open() => opened?,
        };
        events::broker_connected(self.role, None);
        let ended = self.watch_over(&line, troubles).await;
        self.offer(None);
        close(&line.connection).await;
        if ended.is_ok() {
            events::broker_closed(self.role, None);
        }
        ended
    }

    async fn open(&self) -> Result<(Arc<Line>, mpsc::Receiver<Trouble>), RabbitError> {
        let connection = connect(&self.settings, self.role).await?;
        self.declare(&connection).await?;
        let pipelined = open_confirming(&connection).await?;
        let (troubles, receiver) = mpsc::channel(1);
        let line = Line {
            connection,
            pipelined,
            checked: Mutex::new(None),
            confirmed: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            troubles,
        };
        Ok((Arc::new(line), receiver))
    }

    async fn declare(&self, connection: &Connection) -> Result<(), RabbitError> {
        topology::declare_for_publishing(connection, &self.settings.names, self.role).await
    }

    /// Offers the line for as long as it is good.
    async fn watch_over(
        &self,
        line: &Arc<Line>,
        mut troubles: mpsc::Receiver<Trouble>,
    ) -> Result<(), RabbitError> {
        let mut events = pin!(line.connection.events_listener());
        self.offer(Some(line));
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                event = events.next() => self.on_event(event, line)?,
                Some(trouble) = troubles.recv() => match trouble {
                    Trouble::Broken(error) => return Err(error),
                    Trouble::Incomplete => self.declare(&line.connection).await?,
                },
            }
        }
    }

    fn on_event(&self, event: Option<Event>, line: &Arc<Line>) -> Result<(), RabbitError> {
        match event {
            // Of a queue or an exchange that was refused on a channel of its own.
            Some(Event::Error(_)) if line.is_open() && line.connection.status().connected() => {}
            Some(Event::Error(source)) => {
                return Err(RabbitError::Failed { step: "connection", source });
            }
            None => return Err(RabbitError::Ended("the connection ended")),
            // While blocked, lapin would queue every message in memory without a limit.
            Some(Event::ConnectionBlocked(reason)) => {
                events::broker_blocked(self.role, &reason);
                self.offer(None);
            }
            Some(Event::ConnectionUnblocked) => {
                events::broker_unblocked(self.role);
                self.offer(Some(line));
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn offer(&self, line: Option<&Arc<Line>>) {
        self.usable.send_replace(line.is_some());
        self.line.send_replace(line.cloned());
    }
}
