//! Consumes deliveries, processes a bounded number at once, and settles each of them.
//!
//! Each handler is a task. A panic is caught inside the task, which keeps the delivery, so neither it nor the handler
//! slot is lost. During a pause no delivery starts, and the handlers of those in flight wait at the gate.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::after_panic::AfterPanic;
use super::context::{DeliveryContext, HOLD_MAX, HandlerSlot, HandlerSlots, StopReason};
use super::gateway::ChannelGateway;
use super::random::random_id;
use crate::broker::pause::pause_is;
use crate::broker::{Delivery, RequestConsumer, Settlement};
use crate::telemetry::events;
use crate::telemetry::trace::RequestSpan;

/// The longest wait for the next buffered delivery of a consumer.
const BUFFERED_WAIT: Duration = Duration::from_millis(50);
/// A delivery that could not be delayed is requeued after this time: at once it would be back at once.
const NOT_DELAYED_WAIT: Duration = Duration::from_secs(15);

/// A worker process runs one for each channel.
pub struct ConsumerLoop {
    gateway: Arc<ChannelGateway>,
    slots: Arc<HandlerSlots>,
    shutdown: CancellationToken,
    paused: watch::Receiver<bool>,
    grace: Duration,
}

impl ConsumerLoop {
    /// At most `handlers_max` deliveries are processed at once. At shutdown the loop drains for at most `grace`.
    pub fn new(
        gateway: Arc<ChannelGateway>,
        handlers_max: usize,
        grace: Duration,
        shutdown: CancellationToken,
    ) -> ConsumerLoop {
        let never_paused = watch::Sender::new(false).subscribe();
        ConsumerLoop {
            slots: Arc::new(HandlerSlots::new(handlers_max, gateway.activity.clone())),
            gateway,
            shutdown,
            paused: never_paused,
            grace,
        }
    }

    pub fn pausing_when(self, paused: watch::Receiver<bool>) -> ConsumerLoop {
        ConsumerLoop { paused, ..self }
    }

    /// Runs until shutdown, then drains. Returns the number of unfinished deliveries, which go to another worker.
    pub async fn run(mut self, mut consumer: Box<dyn RequestConsumer>) -> usize {
        let mut handlers = JoinSet::new();
        while let Some((slot, delivery)) = self.next(consumer.as_mut()).await {
            let (gateway, shutdown) = (self.gateway.clone(), self.shutdown.clone());
            // Boxed, because a task moves its future some times, and this one is 6 kB.
            handlers.spawn(Box::pin(async move {
                let span = gateway.span_of(&delivery);
                span.scope(handle(&gateway, delivery, slot, &shutdown, &span)).await;
            }));
            while handlers.try_join_next().is_some() {}
        }
        events::stopping(self.gateway.channel, self.grace);
        self.gateway.activity.begin_drain();
        consumer.cancel().await;
        let drained = tokio::time::timeout(self.grace, async {
            while let Some(delivery) = consumer.next().await {
                requeue(delivery, StopReason::Shutdown);
            }
            while handlers.join_next().await.is_some() {}
            self.gateway.replies.finish().await;
        });
        // The remaining handlers are counted and dropped.
        let _ = drained.await;
        consumer.close().await;
        handlers.len()
    }

    /// `None` at shutdown. The delivery comes before its slot: an idle loop that held a slot would keep it from a handler
    /// that gave up its own for a wait (`sleep_without_slot`).
    async fn next(&mut self, consumer: &mut dyn RequestConsumer) -> Option<(HandlerSlot, Delivery)> {
        let mut waiting = None;
        loop {
            if *self.paused.borrow() {
                self.wait_out_pause(consumer, &mut waiting).await;
            }
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => {
                    waiting.into_iter().for_each(|delivery| requeue(delivery, StopReason::Shutdown));
                    return None;
                }
                () = pause_is(&mut self.paused, true) => {}
                delivery = consumer.next(), if waiting.is_none() => waiting = Some(delivery?),
                slot = HandlerSlot::acquire(&self.slots), if waiting.is_some() => {
                    return Some((slot, waiting.expect("a delivery waits for the slot")));
                }
            }
        }
    }

    /// Requeues every waiting delivery after [`HOLD_MAX`].
    async fn wait_out_pause(&mut self, consumer: &mut dyn RequestConsumer, waiting: &mut Option<Delivery>) {
        events::consumption_paused(self.gateway.channel);
        consumer.pause().await;
        // The oldest buffered delivery sets the time limit for all of them.
        if waiting.is_none() {
            *waiting = tokio::task::unconstrained(consumer.next()).now_or_never().flatten();
        }
        let oldest = waiting.as_ref().map_or_else(Instant::now, |delivery| delivery.arrived);
        let over = async {
            tokio::select! {
                () = self.shutdown.cancelled() => {}
                () = pause_is(&mut self.paused, false) => {}
            }
        };
        let mut over = pin!(over);
        if tokio::time::timeout_at(oldest + HOLD_MAX, &mut over).await.is_err() {
            waiting.take().into_iter().for_each(|delivery| requeue(delivery, StopReason::HeldTooLong));
            while let Ok(Some(delivery)) = tokio::time::timeout(BUFFERED_WAIT, consumer.next()).await {
                requeue(delivery, StopReason::HeldTooLong);
            }
            over.await;
        }
        if !self.shutdown.is_cancelled() {
            events::consumption_resumed(self.gateway.channel);
            consumer.resume().await;
        }
    }
}

fn requeue(delivery: Delivery, reason: StopReason) {
    events::delivery_requeued(reason.as_str());
    delivery.settle(Settlement::Requeue);
}

async fn handle(
    gateway: &ChannelGateway,
    delivery: Delivery,
    slot: HandlerSlot,
    shutdown: &CancellationToken,
    span: &RequestSpan,
) {
    let in_flight = events::handler_started();
    let trace = match span.context() {
        Some(context) => Some(context.clone()),
        None => delivery.properties.trace(),
    };
    let mut handler = DeliveryContext {
        delivery: &delivery,
        slot,
        shutdown,
        started_at: Instant::now(),
        fencing_token: random_id(),
        may_have_sent: AtomicBool::new(false),
        trace,
    };
    let processed = AssertUnwindSafe(gateway.process(&mut handler)).catch_unwind().await;
    let is_route_shut = matches!(processed, Ok(Err(StopReason::RouteShut)));
    let settlement = match processed {
        Ok(Ok(())) => Settlement::Ack,
        Ok(Err(reason)) => {
            span.stopped(reason.as_str());
            settle_stopped(gateway, &handler, reason).await
        }
        Err(_panic) => {
            span.stopped("panic");
            // Boxed, to keep the future of the others small.
            Box::pin(settle_panicked(gateway, &handler)).await
        }
    };
    drop(handler);
    drop(in_flight);
    gateway.activity.delivery_ended();
    if is_route_shut && settlement == Settlement::Requeue {
        // The slot is free by now.
        shutdown.run_until_cancelled(tokio::time::sleep(NOT_DELAYED_WAIT)).await;
    }
    let _span = gateway.span_of_settlement(settlement);
    delivery.settle(settlement);
}

/// Requeues the delivery of a handler that stopped, delays it, or dead-letters it if a requeue would repeat the failure.
async fn settle_stopped(
    gateway: &ChannelGateway,
    handler: &DeliveryContext<'_>,
    reason: StopReason,
) -> Settlement {
    let is_settled = match reason {
        StopReason::RecordUnreadable => gateway.dead_letter_unreadable(handler).await.is_ok(),
        StopReason::RouteShut => gateway.delay(handler).await.is_ok(),
        _ => false,
    };
    if is_settled {
        return Settlement::Ack;
    }
    events::delivery_requeued(reason.as_str());
    Settlement::Requeue
}

/// Requeues the delivery of a handler that panicked so that every version of the broker counts it, or dead-letters it.
async fn settle_panicked(gateway: &ChannelGateway, handler: &DeliveryContext<'_>) -> Settlement {
    let requeued = match AssertUnwindSafe(gateway.after_panic(handler)).catch_unwind().await {
        Ok(Ok(AfterPanic::DeadLettered)) => return Settlement::Ack,
        Ok(Ok(AfterPanic::Requeue)) | Err(_) => Settlement::Requeue,
        Ok(Err(reason)) => settle_stopped(gateway, handler, reason).await,
    };
    if requeued == Settlement::Requeue { Settlement::RequeueCounted } else { requeued }
}
