//! Takes deliveries, never more at once than allowed, and makes sure that each is settled.
//!
//! The broker hands out a bounded number, and of these a bounded number is handled. A handling runs inside a panic
//! fence and its delivery stays outside, so that a panic costs one message and no slot.
//!
//! During a pause nothing new is begun, and what was taken before it goes on. What the source holds is kept, for as long
//! as brokers allow.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Gateway, outage_waits, random_id};
use crate::broker::{Delivery, RequestConsumer, Settlement};
use crate::store::StoreError;
use crate::telemetry::events;

/// A delivery that only waits is put back after this long. Brokers end a consumer that holds one for 30 minutes, and it
/// may have lain prefetched behind another that was held for as long.
const HOLD_MAX: Duration = Duration::from_secs(12 * 60);
/// A delivery that made the worker panic this often is set aside.
const PANICS_MAX: u64 = 5;

/// How long a source is given to come up with one more of what it holds.
const BUFFERED_WAIT: Duration = Duration::from_millis(50);

/// Handles deliveries from one source until it is told to stop.
pub struct Worker {
    gateway: Arc<Gateway>,
    permits: Arc<Semaphore>,
    stop: CancellationToken,
    paused: watch::Receiver<bool>,
    grace: Duration,
}

impl Worker {
    /// A worker that handles at most `concurrency` deliveries at once and, told to stop, waits `grace` for them.
    pub fn new(
        gateway: Arc<Gateway>,
        concurrency: usize,
        grace: Duration,
        stop: CancellationToken,
    ) -> Worker {
        let never = watch::Sender::new(false).subscribe();
        Worker { gateway, permits: Arc::new(Semaphore::new(concurrency)), stop, paused: never, grace }
    }

    /// The same worker, which begins nothing new while `paused` is true.
    pub fn pausing_when(self, paused: watch::Receiver<bool>) -> Worker {
        Worker { paused, ..self }
    }

    /// Runs until told to stop and drained, or until the grace period is over: then it drops what is left, which the
    /// broker gives to another. Answers how many that were.
    pub async fn run(mut self, mut source: Box<dyn RequestConsumer>) -> usize {
        let mut handlings = JoinSet::new();
        while let Some((permit, delivery)) = self.next(source.as_mut()).await {
            let (gateway, permits, stop) = (self.gateway.clone(), self.permits.clone(), self.stop.clone());
            handlings.spawn(async move {
                let slot = ConcurrencySlot { permits, permit: Some(permit) };
                handle(&gateway, delivery, slot, &stop).await;
            });
            while handlings.try_join_next().is_some() {}
        }
        events::stopping(self.gateway.channel, self.grace);
        source.cancel().await;
        let drained = tokio::time::timeout(self.grace, async {
            while let Some(delivery) = source.next().await {
                requeue(delivery, RequeueReason::Stopping);
            }
            while handlings.join_next().await.is_some() {}
            self.gateway.replies.finish().await;
        });
        // The end of the grace period is an end like any other: what is left is counted and dropped.
        let _ = drained.await;
        source.close().await;
        handlings.len()
    }

    /// The next delivery with leave to handle it; nothing once the worker is told to stop.
    ///
    /// The permit comes second: held while there is nothing to do, it would be missing where a handling wants its own
    /// back. The one delivery that waits for a permit was prefetched in any case.
    async fn next(&mut self, source: &mut dyn RequestConsumer) -> Option<(OwnedSemaphorePermit, Delivery)> {
        let mut held = None;
        loop {
            if *self.paused.borrow() {
                self.wait_out_pause(source, &mut held).await;
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    held.into_iter().for_each(|delivery| requeue(delivery, RequeueReason::Stopping));
                    return None;
                }
                () = pause_changed(&mut self.paused, true) => {}
                delivery = source.next(), if held.is_none() => held = Some(delivery?),
                permit = self.permits.clone().acquire_owned(), if held.is_some() => {
                    let permit = permit.expect("the semaphore is never closed");
                    return Some((permit, held.expect("there is one")));
                }
            }
        }
    }

    /// Waits until a pause is over or the worker is told to stop. What waits for too long meanwhile is put back.
    async fn wait_out_pause(&mut self, source: &mut dyn RequestConsumer, held: &mut Option<Delivery>) {
        events::consumption_paused(self.gateway.channel);
        source.pause().await;
        // The oldest of what the source holds tells how long all of it may stay.
        if held.is_none() {
            *held = tokio::task::unconstrained(source.next()).now_or_never().flatten();
        }
        let oldest = held.as_ref().map_or_else(Instant::now, |delivery| delivery.arrived);
        let over = async {
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = pause_changed(&mut self.paused, false) => {}
            }
        };
        let mut over = pin!(over);
        if tokio::time::timeout_at(oldest + HOLD_MAX, &mut over).await.is_err() {
            held.take().into_iter().for_each(|delivery| requeue(delivery, RequeueReason::HeldTooLong));
            while let Ok(Some(delivery)) = tokio::time::timeout(BUFFERED_WAIT, source.next()).await {
                requeue(delivery, RequeueReason::HeldTooLong);
            }
            over.await;
        }
        if !self.stop.is_cancelled() {
            events::consumption_resumed(self.gateway.channel);
            source.resume().await;
        }
    }
}

fn requeue(delivery: Delivery, reason: RequeueReason) {
    events::delivery_requeued(reason.as_str());
    delivery.settle(Settlement::Requeue);
}

/// Waits until a pause is `wanted` or over; for ever once nobody is there to want anything.
async fn pause_changed(paused: &mut watch::Receiver<bool>, wanted: bool) {
    if paused.wait_for(|paused| *paused == wanted).await.is_err() {
        std::future::pending().await
    }
}

async fn handle(gateway: &Gateway, delivery: Delivery, slot: ConcurrencySlot, stop: &CancellationToken) {
    let counted = events::handler_started();
    let mut turn =
        DeliveryContext { delivery: &delivery, slot, stop, taken: Instant::now(), owner: random_id() };
    let handled = AssertUnwindSafe(gateway.process(&mut turn)).catch_unwind().await;
    let settlement = match handled {
        Ok(Ok(())) => Settlement::Ack,
        Ok(Err(reason)) => {
            events::delivery_requeued(reason.as_str());
            Settlement::Requeue
        }
        Err(_panic) => panicked(gateway, &mut turn).await,
    };
    drop(turn);
    drop(counted);
    delivery.settle(settlement);
}

/// Gives a delivery another chance, until it has had enough of them.
async fn panicked(gateway: &Gateway, turn: &mut DeliveryContext<'_>) -> Settlement {
    let delivery_count = turn.delivery.properties.delivery_count;
    events::handler_panicked(delivery_count);
    if delivery_count + 1 < PANICS_MAX {
        return Settlement::Requeue;
    }
    let set_aside = AssertUnwindSafe(gateway.dead_letter_poison(turn)).catch_unwind().await;
    if matches!(set_aside, Ok(Ok(()))) { Settlement::Ack } else { Settlement::Requeue }
}

/// Why a delivery goes back to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequeueReason {
    /// The worker stops, and this one only waits.
    Stopping,
    /// The broker took it back already.
    Lost,
    /// Another handling has the request.
    TakenOver,
    /// It was held for as long as a broker lets a consumer hold one.
    HeldTooLong,
}

impl RequeueReason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            RequeueReason::Stopping => "stopping",
            RequeueReason::Lost => "delivery_lost",
            RequeueReason::TakenOver => "taken_over",
            RequeueReason::HeldTooLong => "held_too_long",
        }
    }
}

/// What a wait gives way to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CancelOn {
    /// Nothing is lost by giving the delivery back: a stop, a lost delivery and a long hold end the wait.
    Shutdown,
    /// What is known is to be told: only a lost delivery ends the wait, as its next handling tells it then.
    DeliveryLost,
    /// What is known is known to this handling alone: only the end of the process ends the wait.
    Never,
}

/// One handling of one delivery.
pub(super) struct DeliveryContext<'a> {
    pub(super) delivery: &'a Delivery,
    pub(super) slot: ConcurrencySlot,
    stop: &'a CancellationToken,
    /// When the delivery was taken.
    pub(super) taken: Instant,
    /// Names this handling in the store.
    pub(super) owner: u64,
}

impl DeliveryContext<'_> {
    /// Waits, unless the delivery has to go back.
    pub(super) async fn sleep(&self, wait: Duration, until: CancelOn) -> Result<(), RequeueReason> {
        self.wait_for(std::future::pending::<()>(), wait, until).await.map(|_| ())
    }

    /// Waits for something, for a while at most, unless the delivery has to go back.
    pub(super) async fn wait_for<T>(
        &self,
        what: impl Future<Output = T>,
        at_most: Duration,
        until: CancelOn,
    ) -> Result<Option<T>, RequeueReason> {
        if self.delivery.is_lost() && until != CancelOn::Never {
            return Err(RequeueReason::Lost);
        }
        if until != CancelOn::Shutdown {
            return Ok(tokio::time::timeout(at_most, what).await.ok());
        }
        let hold_left = HOLD_MAX.saturating_sub(self.taken.elapsed());
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(RequeueReason::Stopping),
            done = what => Ok(Some(done)),
            () = tokio::time::sleep(hold_left), if hold_left <= at_most => Err(RequeueReason::HeldTooLong),
            () = tokio::time::sleep(at_most) => Ok(None),
        }
    }

    /// Waits for room to go on, after the slot was lent.
    pub(super) async fn reacquire_slot(&mut self) -> Result<(), RequeueReason> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(RequeueReason::Stopping),
            () = self.slot.reacquire() => Ok(()),
        }
    }

    /// Asks the store until it answers. An outage holds the delivery; it neither loses nor repeats it.
    pub(super) async fn retry_store<T, Asked>(
        &self,
        step: &'static str,
        until: CancelOn,
        mut ask: impl FnMut() -> Asked,
    ) -> Result<T, RequeueReason>
    where
        Asked: Future<Output = Result<T, StoreError>>,
    {
        let mut waits = None;
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let wait = waits.get_or_insert_with(outage_waits).next().expect("the waits have no end");
                    events::store_failed(step, &error, Some(wait));
                    self.sleep(wait, until).await?;
                }
            }
        }
    }
}

/// Leave to handle one more delivery. It can be lent back during a long wait.
pub(super) struct ConcurrencySlot {
    permits: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl ConcurrencySlot {
    /// Lets another delivery be handled meanwhile.
    pub(super) fn release(&mut self) {
        self.permit = None;
    }

    /// Waits for room again.
    async fn reacquire(&mut self) {
        if self.permit.is_none() {
            let permit = self.permits.clone().acquire_owned().await;
            self.permit = Some(permit.expect("the semaphore is never closed"));
        }
    }
}
