//! Deliveries from the request queue, over one connection that is rebuilt whenever it is lost.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt};
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer, Event};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::acks::{self, SettledDelivery};
use super::error::{RabbitError, within};
use super::reconnect::ReconnectBackoff;
use super::{CLOSE_TIMEOUT, RPC_TIMEOUT, RabbitSettings, SETTLE_GRACE, close, connect, properties, topology};
use crate::broker::pause::pause_is;
use crate::broker::{Delivery, RequestConsumer, Settlement, Settler};
use crate::domain::channel;
use crate::telemetry::events;

const ROLE: &str = "requests";
/// How long deliveries are taken one at a time after a message that could not be read.
const CAUTION: Duration = Duration::from_secs(5);

/// Deliveries of the request queue.
pub struct RabbitConsumer {
    deliveries: mpsc::Receiver<Delivery>,
    consuming: watch::Receiver<bool>,
    paused: watch::Sender<bool>,
    cancelled: CancellationToken,
    supervisor: JoinHandle<()>,
    /// Ends the supervisor when the source goes, however it goes.
    ended: DropGuard,
}

impl RabbitConsumer {
    /// Starts to consume in the background, for as long as it takes to connect.
    pub fn start(settings: RabbitSettings, of: channel::Channel) -> RabbitConsumer {
        let (sender, deliveries) = mpsc::channel(usize::from(settings.prefetch));
        let (consuming_sender, consuming) = watch::channel(false);
        let (paused, paused_receiver) = watch::channel(false);
        let cancelled = CancellationToken::new();
        let ended = CancellationToken::new();
        let supervisor = Supervisor {
            of,
            queue: settings.names.requests_of(of),
            settings,
            deliveries: Some(sender),
            consuming: consuming_sender,
            paused: paused_receiver,
            cancelled: cancelled.clone(),
            ended: ended.clone(),
        };
        let supervisor = tokio::spawn(supervisor.run());
        RabbitConsumer { deliveries, consuming, paused, cancelled, supervisor, ended: ended.drop_guard() }
    }

    /// True while the broker hands out deliveries, or would but for a pause: for readiness.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.consuming.clone()
    }
}

#[async_trait]
impl RequestConsumer for RabbitConsumer {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            let delivery = self.deliveries.recv().await?;
            // What was buffered when its connection was lost comes again.
            if !delivery.is_lost() {
                return Some(delivery);
            }
        }
    }

    async fn pause(&mut self) {
        self.paused.send_replace(true);
    }

    async fn resume(&mut self) {
        self.paused.send_replace(false);
    }

    async fn cancel(&mut self) {
        self.cancelled.cancel();
    }

    async fn close(self: Box<Self>) {
        drop(self.ended);
        // The supervisor bounds each of its own steps. It can only fail by panicking, which was reported already.
        let _ = self.supervisor.await;
    }
}

struct Supervisor {
    settings: RabbitSettings,
    of: channel::Channel,
    /// Where requests come from.
    queue: String,
    /// `None` once everything was handed out after a cancellation.
    deliveries: Option<mpsc::Sender<Delivery>>,
    consuming: watch::Sender<bool>,
    /// Nothing more is wanted for now.
    paused: watch::Receiver<bool>,
    /// Nothing more is wanted.
    cancelled: CancellationToken,
    /// Nobody is there any more.
    ended: CancellationToken,
}

impl Supervisor {
    /// Sessions, one after another, until one ends in order.
    async fn run(mut self) {
        let mut pace = ReconnectBackoff::new(ROLE, Some(self.of));
        let mut prefetch = self.settings.prefetch;
        loop {
            let started = Instant::now();
            let ended = self.session(prefetch).await;
            self.consuming.send_replace(false);
            let Err(error) = ended else { return };
            // A message that lapin cannot read ends the session each time it comes. Taken alone, it does not raise the
            // delivery counts of others until the broker sets it aside.
            prefetch = if error.is_unreadable() { 1 } else { self.settings.prefetch };
            let delay = pace.after(&error, started.elapsed());
            tokio::select! {
                biased;
                () = self.stopped() => return,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    /// Nothing more is wanted, or nobody is there.
    async fn stopped(&self) {
        tokio::select! {
            () = self.cancelled.cancelled() => {}
            () = self.ended.cancelled() => {}
        }
    }

    /// One connection, from connecting to its end. `Ok` if the end was asked for.
    async fn session(&mut self, prefetch: u16) -> Result<(), RabbitError> {
        let paused = *self.paused.borrow();
        let (session, consumer, settlements) = tokio::select! {
            biased;
            () = self.stopped() => return Ok(()),
            opened = Session::open(&self.settings, self.of, prefetch, paused) => opened?,
        };
        self.consuming.send_replace(true);
        events::broker_connected(ROLE, Some(self.of));
        let (finish, batch_max) = (CancellationToken::new(), acks::batch_max(self.settings.prefetch));
        let ended = {
            let mut acks = pin!(acks::write_all(&session.channel, settlements, batch_max, finish.clone()));
            let ended = tokio::select! {
                biased;
                ended = self.hand_over(&session, consumer) => ended,
                failed = &mut acks => failed,
            };
            if ended.is_ok() {
                finish.cancel();
                // What cannot be written in time comes again.
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, acks).await;
                tokio::time::sleep(SETTLE_GRACE).await;
            }
            ended
        };
        session.link.lost.store(true, Ordering::Release);
        close(&session.connection).await;
        if ended.is_ok() {
            events::broker_closed(ROLE, Some(self.of));
        }
        ended
    }

    /// Hands deliveries over until the source ends.
    async fn hand_over(
        &mut self,
        session: &Session,
        mut consumer: Option<Consumer>,
    ) -> Result<(), RabbitError> {
        let mut failure = pin!(failure(session.connection.events_listener()));
        let (cancelled, ended) = (self.cancelled.clone(), self.ended.clone());
        let (mut cancelled, mut ended) = (pin!(cancelled.cancelled()), pin!(ended.cancelled()));
        let (mut pausing, mut resuming) = (self.paused.clone(), self.paused.clone());
        let mut caution_over = pin!(tokio::time::sleep(CAUTION));
        let mut prefetch = session.prefetch;
        let mut phase = if consumer.is_some() { self.consuming_with(prefetch) } else { Phase::Paused };
        loop {
            tokio::select! {
                biased;
                () = &mut ended => return Ok(()),
                error = &mut failure => return Err(error),
                () = &mut cancelled, if phase != Phase::Draining => {
                    phase = Phase::Draining;
                    self.consuming.send_replace(false);
                    match consumer {
                        Some(_) => session.cancel().await?,
                        None => self.deliveries = None,
                    }
                }
                () = pause_is(&mut pausing, true), if matches!(phase, Phase::Consuming | Phase::Cautious) => {
                    phase = Phase::Pausing;
                    session.cancel().await?;
                }
                () = pause_is(&mut resuming, false), if phase == Phase::Paused => {
                    consumer = Some(session.consume(&self.queue, prefetch).await?);
                    caution_over.as_mut().reset(Instant::now() + CAUTION);
                    phase = self.consuming_with(prefetch);
                }
                () = &mut caution_over, if phase == Phase::Cautious => {
                    phase = Phase::Pausing;
                    prefetch = self.settings.prefetch;
                    session.cancel().await?;
                }
                more = session.hand_over_one(consumer.as_mut(), self.deliveries.as_ref()) => match (more?, phase) {
                    (More::Maybe, _) => {}
                    (More::None, Phase::Draining) => self.deliveries = None,
                    (More::None, Phase::Pausing) => {
                        consumer = None;
                        phase = Phase::Paused;
                    }
                    (More::None, Phase::Consuming | Phase::Cautious | Phase::Paused) => {
                        return Err(RabbitError::Ended("the broker cancelled the consumer"));
                    }
                },
            }
        }
    }

    fn consuming_with(&self, prefetch: u16) -> Phase {
        if prefetch < self.settings.prefetch { Phase::Cautious } else { Phase::Consuming }
    }
}

/// What the end of a consumer means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It was not asked for.
    Consuming,
    /// The same; one delivery at a time, because a message that cannot be read may be near.
    Cautious,
    /// There is none any more; another one follows, once that is wanted.
    Pausing,
    /// There is none.
    Paused,
    /// Everything that was wanted was handed over.
    Draining,
}

/// One connection, and how much of the queue it takes at first.
struct Session {
    connection: Connection,
    channel: Channel,
    prefetch: u16,
    link: Arc<Link>,
    /// Consumers so far.
    consumers: AtomicU32,
}

type Opened = (Session, Option<Consumer>, mpsc::UnboundedReceiver<SettledDelivery>);

/// What the deliveries of a session share with it.
struct Link {
    lost: AtomicBool,
    settlements: mpsc::UnboundedSender<SettledDelivery>,
}

enum More {
    Maybe,
    None,
}

impl Session {
    async fn open(
        settings: &RabbitSettings,
        of: channel::Channel,
        prefetch: u16,
        paused: bool,
    ) -> Result<Opened, RabbitError> {
        let connection = connect(settings, ROLE).await?;
        let channel = within("open a channel", RPC_TIMEOUT, connection.create_channel()).await?;
        topology::declare_for_taking(&channel, &settings.names, of).await?;
        // Never longer than the prefetch, because each delivery is settled at most once.
        let (settlements, receiver) = mpsc::unbounded_channel();
        let link = Arc::new(Link { lost: AtomicBool::new(false), settlements });
        let session = Session { connection, channel, prefetch, link, consumers: AtomicU32::new(0) };
        let consumer = match paused {
            true => None,
            false => Some(session.consume(&settings.names.requests_of(of), prefetch).await?),
        };
        Ok((session, consumer, receiver))
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Consumer, RabbitError> {
        let limited = self.channel.basic_qos(prefetch, BasicQosOptions::default());
        within("limit the prefetch", RPC_TIMEOUT, limited).await?;
        // Never a name twice: to a consumer that comes again under the same one a quorum queue delivers what it still
        // holds in a way that ends the channel (seen with RabbitMQ 3.10).
        let nth = self.consumers.fetch_add(1, Ordering::Relaxed) + 1;
        let (queue, tag) = (queue.into(), consumer_tag(nth).into());
        let options = BasicConsumeOptions::default();
        let consumer = self.channel.basic_consume(queue, tag, options, FieldTable::default());
        within("consume", RPC_TIMEOUT, consumer).await
    }

    async fn cancel(&self) -> Result<(), RabbitError> {
        let nth = self.consumers.load(Ordering::Relaxed);
        let cancelled = self.channel.basic_cancel(consumer_tag(nth).into(), BasicCancelOptions::default());
        within("cancel the consumer", RPC_TIMEOUT, cancelled).await
    }

    /// Hands one delivery over when there are both a delivery and room for it. Never ends without a consumer and a
    /// sender.
    async fn hand_over_one(
        &self,
        consumer: Option<&mut Consumer>,
        sender: Option<&mpsc::Sender<Delivery>>,
    ) -> Result<More, RabbitError> {
        let (Some(consumer), Some(sender)) = (consumer, sender) else {
            return std::future::pending().await;
        };
        // Without a receiver the source is gone, which ends the session by itself.
        let Ok(room) = sender.reserve().await else {
            return std::future::pending().await;
        };
        match consumer.next().await {
            Some(Ok(delivery)) => room.send(self.delivery(delivery)),
            Some(Err(source)) => {
                return Err(RabbitError::Failed { step: "consume", source });
            }
            None => return Ok(More::None),
        }
        Ok(More::Maybe)
    }

    fn delivery(&self, delivery: lapin::message::Delivery) -> Delivery {
        Delivery {
            properties: properties::incoming(&delivery.properties, delivery.redelivered),
            settler: Box::new(RabbitSettler { tag: delivery.delivery_tag, link: Arc::clone(&self.link) }),
            arrived: Instant::now(),
            body: delivery.data,
        }
    }
}

/// What the `nth` consumer of a session is called.
fn consumer_tag(nth: u32) -> String {
    format!("otpost-{nth}")
}

/// The first event that ends a connection.
async fn failure(events: impl Stream<Item = Event>) -> RabbitError {
    let mut events: Pin<&mut _> = pin!(events);
    while let Some(event) = events.next().await {
        if let Event::Error(source) = event {
            return RabbitError::Failed { step: "connection", source };
        }
    }
    RabbitError::Ended("the connection ended")
}

struct RabbitSettler {
    tag: u64,
    link: Arc<Link>,
}

impl Settler for RabbitSettler {
    fn settle(self: Box<Self>, settlement: Settlement) {
        // After its session nobody takes it, which is harmless: the message comes again.
        let _ = self.link.settlements.send((self.tag, settlement));
    }

    fn is_lost(&self) -> bool {
        self.link.lost.load(Ordering::Acquire)
    }
}
