//! Consumes the request queue of a channel, over one connection that is rebuilt whenever it is lost.
//!
//! The broker reports no deleted exchange or binding, so each session declares the topology again from time to time.

mod session;

use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use lapin::Consumer;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::session::{DECLARE_INTERVAL, Opened, ROLE, Session, retire};
use super::RabbitSettings;
use super::ack_writer::AckWriter;
use super::error::RabbitError;
use super::hosts::Hosts;
use super::reconnect::ReconnectBackoff;
use crate::broker::pause::pause_is;
use crate::broker::{Delivery, RequestConsumer};
use crate::domain::channel;
use crate::telemetry::events;

/// The prefetch is 1 for this long after a message that `lapin` could not parse.
const CAUTION: Duration = Duration::from_secs(5);

pub struct RabbitConsumer {
    deliveries: mpsc::Receiver<Delivery>,
    consuming: watch::Receiver<bool>,
    fault: watch::Receiver<Option<String>>,
    paused: watch::Sender<bool>,
    cancelled: CancellationToken,
    supervisor: JoinHandle<()>,
    /// Ends the supervisor when the consumer is dropped.
    ended: DropGuard,
}

impl RabbitConsumer {
    /// Connects in the background, without a last attempt.
    pub fn start(settings: RabbitSettings, of: channel::Channel) -> RabbitConsumer {
        let (sender, deliveries) = mpsc::channel(usize::from(settings.prefetch));
        let (consuming_sender, consuming) = watch::channel(false);
        let (fault_sender, fault) = watch::channel(None);
        let (paused, paused_receiver) = watch::channel(false);
        let cancelled = CancellationToken::new();
        let ended = CancellationToken::new();
        let supervisor = Supervisor {
            of,
            queue: settings.names.requests_of(of),
            settings,
            deliveries: Some(sender),
            consuming: consuming_sender,
            fault: fault_sender,
            retired: TaskTracker::new(),
            paused: paused_receiver,
            is_unanswered: false,
            cancelled: cancelled.clone(),
            ended: ended.clone(),
        };
        let supervisor = tokio::spawn(supervisor.run());
        let ended = ended.drop_guard();
        RabbitConsumer { deliveries, consuming, fault, paused, cancelled, supervisor, ended }
    }

    /// True while consuming or paused, with the topology as declared; for readiness.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.consuming.clone()
    }

    /// The reason for which there is no connection, for readiness. It names hosts by their places in `AMQP_URL`.
    pub fn fault(&self) -> watch::Receiver<Option<String>> {
        self.fault.clone()
    }
}

#[async_trait]
impl RequestConsumer for RabbitConsumer {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            let delivery = self.deliveries.recv().await?;
            // The broker redelivers the buffer of a lost connection.
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
        // The supervisor bounds its own steps. It can only fail by a panic, which is logged.
        let _ = self.supervisor.await;
    }
}

struct Supervisor {
    settings: RabbitSettings,
    of: channel::Channel,
    queue: String,
    /// `None` after a cancellation, when all deliveries are handed over.
    deliveries: Option<mpsc::Sender<Delivery>>,
    consuming: watch::Sender<bool>,
    /// The last error, while not connected.
    fault: watch::Sender<Option<String>>,
    /// Replaced sessions with unsettled deliveries.
    retired: TaskTracker,
    paused: watch::Receiver<bool>,
    /// The last repeated declaration had no answer.
    is_unanswered: bool,
    /// No more deliveries; the buffer is still handed over.
    cancelled: CancellationToken,
    /// The consumer was closed or dropped.
    ended: CancellationToken,
}

impl Supervisor {
    /// Runs sessions until one ends in order.
    async fn run(mut self) {
        self.run_sessions().await;
        self.deliveries = None;
        self.retired.close();
        self.retired.wait().await;
    }

    async fn run_sessions(&mut self) {
        let mut backoff = ReconnectBackoff::new(ROLE, Some(self.of));
        let mut hosts = self.settings.hosts();
        let mut prefetch = self.settings.prefetch;
        loop {
            let started = Instant::now();
            let ended = self.session(&mut hosts, prefetch).await;
            self.consuming.send_replace(false);
            let Err(error) = ended else { return };
            self.fault.send_replace(Some(error.for_readiness()));
            // A message that lapin cannot parse ends each session that receives it. With a prefetch of 1 it does not raise
            // the delivery counts of others, until the broker dead-letters it.
            prefetch = if error.is_unparsable() { 1 } else { self.settings.prefetch };
            let delay = backoff.after(&error, started.elapsed(), &mut hosts);
            tokio::select! {
                biased;
                () = self.stopped() => return,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    /// Waits for a cancellation or the end of the consumer.
    async fn stopped(&self) {
        tokio::select! {
            () = self.cancelled.cancelled() => {}
            () = self.ended.cancelled() => {}
        }
    }

    /// One connection, from connecting to its end, and those that replace it. `Ok` if we ended it.
    async fn session(&mut self, hosts: &mut Hosts, prefetch: u16) -> Result<(), RabbitError> {
        let paused = *self.paused.borrow();
        let mut opened = tokio::select! {
            biased;
            () = self.stopped() => return Ok(()),
            opened = Session::open(&self.settings, hosts, self.of, prefetch, paused) => opened?,
        };
        loop {
            self.consuming.send_replace(true);
            self.fault.send_replace(None);
            let (session, mut consumer, settlements) = opened;
            events::broker_connected(ROLE, Some(self.of), session.place.as_deref());
            let mut acks = AckWriter::start(&session.channel, settlements, self.settings.prefetch);
            let ended = tokio::select! {
                biased;
                ended = self.hand_over(&session, &mut consumer, hosts) => ended,
                failed = acks.failure() => Err(failed),
            };
            if let Ok(Some(next)) = ended {
                let deliveries = self.deliveries.clone();
                self.retired.spawn(retire(session, consumer, acks, deliveries, self.ended.clone()));
                (opened, *hosts) = next;
                continue;
            }
            if ended.is_ok() {
                acks.finish().await;
                events::broker_closed(ROLE, Some(self.of));
            }
            session.close().await;
            return ended.map(drop);
        }
    }

    /// Hands deliveries over until the consumer ends, or another session is to replace this one.
    async fn hand_over(
        &mut self,
        session: &Session,
        consumer: &mut Option<Consumer>,
        hosts: &Hosts,
    ) -> Result<Option<(Opened, Hosts)>, RabbitError> {
        let mut failure = pin!(session.failure());
        let settings = self.settings.clone();
        let of = self.of;
        let open = || async {
            let mut hosts = hosts.clone();
            let opened = Session::open(&settings, &mut hosts, of, settings.prefetch, true).await;
            opened.map(|opened| (opened, hosts))
        };
        let mut replacement = pin!(session.certificates.replacement(ROLE, Some(of), open));
        let names = self.settings.names.clone();
        let mut declared = pin!(session.declare_again(&names, self.of));
        let (cancelled, ended) = (self.cancelled.clone(), self.ended.clone());
        let (mut cancelled, mut ended) = (pin!(cancelled.cancelled()), pin!(ended.cancelled()));
        let (mut pausing, mut resuming) = (self.paused.clone(), self.paused.clone());
        let mut caution_over = pin!(tokio::time::sleep(CAUTION));
        let mut prefetch = session.prefetch;
        let mut phase = if consumer.is_some() { self.consuming_with(prefetch) } else { Phase::Paused };
        loop {
            tokio::select! {
                biased;
                () = &mut ended => return Ok(None),
                error = &mut failure => return Err(error),
                () = &mut cancelled, if phase != Phase::Draining => {
                    phase = Phase::Draining;
                    self.consuming.send_replace(false);
                    match consumer {
                        Some(_) => session.cancel().await?,
                        None => self.deliveries = None,
                    }
                }
                next = &mut replacement, if !matches!(phase, Phase::Pausing | Phase::Draining) => return Ok(Some(next)),
                outcome = &mut declared, if phase != Phase::Draining => {
                    self.report_topology(session, &outcome);
                    declared.set(session.declare_again(&names, self.of));
                }
                () = pause_is(&mut pausing, true), if matches!(phase, Phase::Consuming | Phase::Cautious) => {
                    phase = Phase::Pausing;
                    session.cancel().await?;
                }
                () = pause_is(&mut resuming, false), if phase == Phase::Paused => {
                    *consumer = Some(session.consume(&self.queue, prefetch).await?);
                    caution_over.as_mut().reset(Instant::now() + CAUTION);
                    phase = self.consuming_with(prefetch);
                }
                () = &mut caution_over, if phase == Phase::Cautious => {
                    phase = Phase::Pausing;
                    prefetch = self.settings.prefetch;
                    session.cancel().await?;
                }
                ended = session.hand_over(consumer.as_mut(), self.deliveries.as_ref()) => match (ended?, phase) {
                    ((), Phase::Draining) => self.deliveries = None,
                    ((), Phase::Pausing) => {
                        *consumer = None;
                        phase = Phase::Paused;
                    }
                    ((), Phase::Consuming | Phase::Cautious | Phase::Paused) => {
                        return Err(RabbitError::Ended("the broker cancelled the consumer"));
                    }
                },
            }
        }
    }

    /// Requests in flight are not disturbed where an object was refused: only readiness changes. A declaration that the
    /// broker did not answer changes nothing: it is repeated, and the loss of the connection is noticed elsewhere.
    fn report_topology(&mut self, session: &Session, outcome: &Result<(), RabbitError>) {
        let is_declared = match outcome {
            Err(error) if error.is_refusal() => {
                events::topology_refused(ROLE, Some(self.of), error, Some(DECLARE_INTERVAL));
                false
            }
            Err(error) if self.is_unanswered => {
                return events::declaration_unanswered(ROLE, Some(self.of), error, DECLARE_INTERVAL);
            }
            Err(error) => {
                self.is_unanswered = true;
                return events::declaration_retried(ROLE, Some(self.of), error, Some(DECLARE_INTERVAL));
            }
            Ok(()) => true,
        };
        self.is_unanswered = false;
        if is_declared && !*self.consuming.borrow() {
            events::broker_restored(ROLE, Some(self.of), session.place.as_deref());
        }
        self.consuming.send_if_modified(|consuming| std::mem::replace(consuming, is_declared) != is_declared);
    }

    fn consuming_with(&self, prefetch: u16) -> Phase {
        events::prefetch_set(self.of, prefetch);
        if prefetch < self.settings.prefetch { Phase::Cautious } else { Phase::Consuming }
    }
}

/// The state of the AMQP consumer. It gives the consumer's end its meaning.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Consuming,
    /// With a prefetch of 1, because an unparsable message may be next.
    Cautious,
    /// Cancelled to pause, or to raise the prefetch again.
    Pausing,
    Paused,
    /// Cancelled for good.
    Draining,
}
