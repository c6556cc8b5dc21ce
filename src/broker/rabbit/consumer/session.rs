//! One connection of a consumer, and its deliveries.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer, Event};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::rabbit::ack_writer::AckWriter;
use crate::broker::rabbit::acks::SettledDelivery;
use crate::broker::rabbit::connect::{OpenConnection, close, connect};
use crate::broker::rabbit::error::{RabbitError, within};
use crate::broker::rabbit::hosts::Hosts;
use crate::broker::rabbit::tls::Certificates;
use crate::broker::rabbit::{RPC_TIMEOUT, RabbitSettings, properties, topology};
use crate::broker::{Delivery, Names, Settlement, Settler};
use crate::domain::channel;

pub(super) const ROLE: &str = "requests";
/// The longest time that a deleted exchange or binding stays away, and that a replaced one goes unnoticed.
pub(super) const DECLARE_INTERVAL: Duration = Duration::from_secs(10);
/// A replaced session is closed after this time at the latest: then the broker redelivers what it has unsettled. Longer than a
/// delivery may be held, and shorter than RabbitMQ's `consumer_timeout` of half an hour.
const RETIRED_MAX: Duration = Duration::from_secs(25 * 60);
const RETIRED_GRACE: Duration = Duration::from_secs(2);
const SETTLED_POLL: Duration = Duration::from_millis(100);

pub(super) struct Session {
    pub(super) connection: OpenConnection,
    /// The place of its host in `AMQP_URL`.
    pub(super) place: Option<String>,
    pub(super) channel: Channel,
    pub(super) prefetch: u16,
    pub(super) certificates: Certificates,
    link: Arc<Link>,
    /// The number of consumers started so far.
    consumers: AtomicU32,
}

pub(super) type Opened = (Session, Option<Consumer>, mpsc::UnboundedReceiver<SettledDelivery>);

/// The state that a session shares with its deliveries.
struct Link {
    lost: AtomicBool,
    settlements: mpsc::UnboundedSender<SettledDelivery>,
}

impl Session {
    pub(super) async fn open(
        settings: &RabbitSettings,
        hosts: &mut Hosts,
        of: channel::Channel,
        prefetch: u16,
        paused: bool,
    ) -> Result<Opened, RabbitError> {
        let certificates = Certificates::of(settings.tls.as_ref());
        let connection = connect(settings, hosts, ROLE).await?;
        let place = hosts.place();
        let declared = topology::declare_for_consuming(&connection, &settings.names, of).await;
        topology::despite_bindings(ROLE, Some(of), declared)?;
        let channel = topology::open(&connection).await?;
        // The prefetch bounds this channel, because each delivery is settled at most once.
        let (settlements, receiver) = mpsc::unbounded_channel();
        let link = Arc::new(Link { lost: AtomicBool::new(false), settlements });
        let consumers = AtomicU32::new(0);
        let session = Session { connection, place, channel, prefetch, certificates, link, consumers };
        let consumer = match paused {
            true => None,
            false => Some(session.consume(&settings.names.requests_of(of), prefetch).await?),
        };
        Ok((session, consumer, receiver))
    }

    /// Declares the topology once more, on a channel of its own, which a refusal closes; then reads the depths of the queues.
    pub(super) async fn declare_again(&self, names: &Names, of: channel::Channel) -> Result<(), RabbitError> {
        tokio::time::sleep(DECLARE_INTERVAL).await;
        topology::declare_for_consuming(&self.connection, names, of).await?;
        // Without a reading the metrics leave the queue out.
        let _ = topology::read_depths(&self.connection, names, of).await;
        Ok(())
    }

    /// The first event that ends the connection. A refusal ends only the channel that declares the topology again.
    pub(super) async fn failure(&self) -> RabbitError {
        let mut events = pin!(self.connection.events_listener());
        while let Some(event) = events.next().await {
            if let Event::Error(source) = event
                && !(self.connection.status().connected() && self.channel.status().connected())
            {
                return RabbitError::Failed { step: "connection", source };
            }
        }
        RabbitError::Ended("the connection ended")
    }

    pub(super) async fn consume(&self, queue: &str, prefetch: u16) -> Result<Consumer, RabbitError> {
        let limited = self.channel.basic_qos(prefetch, BasicQosOptions::default());
        within("limit the prefetch", RPC_TIMEOUT, limited).await?;
        // Each consumer tag is new: to a consumer that returns under its old tag a quorum queue redelivers its unsettled
        // messages in a way that ends the channel (seen with RabbitMQ 3.10).
        let nth = self.consumers.fetch_add(1, Ordering::Relaxed) + 1;
        let (queue, tag) = (queue.into(), consumer_tag(nth).into());
        let options = BasicConsumeOptions::default();
        let consumer = self.channel.basic_consume(queue, tag, options, FieldTable::default());
        within("consume", RPC_TIMEOUT, consumer).await
    }

    pub(super) async fn cancel(&self) -> Result<(), RabbitError> {
        let nth = self.consumers.load(Ordering::Relaxed);
        let cancelled = self.channel.basic_cancel(consumer_tag(nth).into(), BasicCancelOptions::default());
        within("cancel the consumer", RPC_TIMEOUT, cancelled).await
    }

    /// Hands deliveries over, each as soon as there is room, until the AMQP consumer has ended. Without a consumer and a
    /// sender it waits for ever. Dropping it loses no delivery.
    pub(super) async fn hand_over(
        &self,
        consumer: Option<&mut Consumer>,
        sender: Option<&mpsc::Sender<Delivery>>,
    ) -> Result<(), RabbitError> {
        let (Some(consumer), Some(sender)) = (consumer, sender) else {
            return std::future::pending().await;
        };
        // Without a receiver the consumer was dropped, and `ended` ends the session.
        while let Ok(room) = sender.reserve().await {
            match consumer.next().await {
                Some(Ok(delivery)) => room.send(self.delivery(delivery)),
                Some(Err(source)) => return Err(RabbitError::Failed { step: "consume", source }),
                None => return Ok(()),
            }
        }
        std::future::pending().await
    }

    /// The broker redelivers what is not settled.
    pub(super) async fn close(&self) {
        self.link.lost.store(true, Ordering::Release);
        close(&self.connection).await;
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

/// Ends a session that another has replaced, over its own connection: once its deliveries are settled, or the consumer is
/// closed.
pub(super) async fn retire(
    session: Session,
    mut consumer: Option<Consumer>,
    mut acks: AckWriter,
    deliveries: Option<mpsc::Sender<Delivery>>,
    ended: CancellationToken,
) {
    let settled = async {
        if consumer.is_some() {
            session.cancel().await?;
            session.hand_over(consumer.as_mut(), deliveries.as_ref()).await?;
        }
        drop(deliveries);
        // Each unsettled delivery holds it, too.
        while Arc::strong_count(&session.link) > 1 {
            tokio::time::sleep(SETTLED_POLL).await;
        }
        Ok(())
    };
    let finished = tokio::select! {
        biased;
        () = ended.cancelled() => Ok(()),
        failure = session.failure() => Err(failure),
        failure = acks.failure() => Err(failure),
        settled = tokio::time::timeout(RETIRED_MAX, settled) => settled.unwrap_or(Ok(())),
    };
    if finished.is_ok() {
        acks.finish().await;
        // Nothing waits for this end, so a busy broker gets more time for acknowledgements.
        let _ = tokio::time::timeout(RETIRED_GRACE, ended.cancelled()).await;
    }
    session.close().await;
}

fn consumer_tag(nth: u32) -> String {
    format!("otpost-{nth}")
}

struct RabbitSettler {
    tag: u64,
    link: Arc<Link>,
}

impl Settler for RabbitSettler {
    fn settle(self: Box<Self>, settlement: Settlement) {
        // After the session no task receives it, which is harmless: the broker redelivers the message.
        let _ = self.link.settlements.send((self.tag, settlement));
    }

    fn is_lost(&self) -> bool {
        self.link.lost.load(Ordering::Acquire)
    }
}
