//! The values that the steps of one request pass on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::doubt_state::DoubtState;
use super::hand_overs::HandOvers;
use super::outage_backoff::OutageBackoff;
use super::providers::Providers;
use super::worker_activity::{CountedWait, WorkerActivity};
use crate::broker::Delivery;
use crate::domain::address::Address;
use crate::domain::code::{Code, CodeScope};
use crate::domain::history::RequestHistory;
use crate::domain::keyed_digest::Digest16;
use crate::domain::outcome::OutcomeError;
use crate::domain::request::SendRequest;
use crate::domain::routes::ProviderIndex;
use crate::domain::sender_pool::RecipientHash;
use crate::domain::trace_context::TraceContext;
use crate::store::{Grant, Lease, LimitSubject, StoreError};
use crate::telemetry::events;
use crate::text::autofill::Autofill;

/// A waiting delivery is requeued after this long. With the default prefetch it may first wait unstarted until another
/// delivery frees a slot: 24 minutes in all. RabbitMQ closes the AMQP channel after its `consumer_timeout`, 30 by default.
pub(super) const HOLD_MAX: Duration = Duration::from_secs(12 * 60);

/// Why a handler stops early. Its delivery is then requeued, delayed or dead-lettered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    Shutdown,
    /// The connection was lost: the broker delivers again.
    DeliveryLost,
    /// Another handler has taken the request over, or nothing shows that this one still has it.
    LeaseLost,
    /// The delivery was held for [`HOLD_MAX`].
    HeldTooLong,
    /// Every provider of the request's route is shut, and half of the slots wait for such routes already. The delivery is delayed,
    /// and requeued only if that fails.
    RouteShut,
    /// Stored data that this request needs cannot be read. The delivery is dead-lettered, and requeued only if that fails.
    RecordUnreadable,
}

impl StopReason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            StopReason::Shutdown => "stopping",
            StopReason::DeliveryLost => "delivery_lost",
            StopReason::LeaseLost => "taken_over",
            StopReason::HeldTooLong => "held_too_long",
            StopReason::RouteShut => "route_shut",
            StopReason::RecordUnreadable => "record_unreadable",
        }
    }
}

/// The events that cancel a wait. The loss of the delivery is noticed only when a wait begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CancelOn {
    /// Shutdown, a lost delivery, and the end of [`HOLD_MAX`]. A requeue loses nothing.
    AnyCause,
    /// Only a lost delivery: the step is nearly done.
    DeliveryLost,
    /// Nothing: only this handler knows the outcome.
    Never,
}

pub(super) struct DeliveryContext<'a> {
    pub(super) delivery: &'a Delivery,
    pub(super) slot: HandlerSlot,
    pub(super) shutdown: &'a CancellationToken,
    pub(super) started_at: Instant,
    pub(super) fencing_token: u64,
    /// The handler has called the provider to send a message.
    pub(super) may_have_sent: AtomicBool,
    /// The context of the handler's span; without tracing, that of the message.
    pub(super) trace: Option<TraceContext>,
}

impl DeliveryContext<'_> {
    pub(super) async fn sleep(&self, wait: Duration, cancel_on: CancelOn) -> Result<(), StopReason> {
        self.wait_for(std::future::pending::<()>(), wait, cancel_on).await.map(|_| ())
    }

    /// `None` after `wait_max`.
    pub(super) async fn wait_for<T>(
        &self,
        future: impl Future<Output = T>,
        wait_max: Duration,
        cancel_on: CancelOn,
    ) -> Result<Option<T>, StopReason> {
        if self.delivery.is_lost() && cancel_on != CancelOn::Never {
            return Err(StopReason::DeliveryLost);
        }
        if cancel_on != CancelOn::AnyCause {
            return Ok(tokio::time::timeout(wait_max, future).await.ok());
        }
        let hold_left = HOLD_MAX.saturating_sub(self.started_at.elapsed());
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Err(StopReason::Shutdown),
            done = future => Ok(Some(done)),
            () = tokio::time::sleep(hold_left), if hold_left <= wait_max => Err(StopReason::HeldTooLong),
            () = tokio::time::sleep(wait_max) => Ok(None),
        }
    }

    /// Another delivery is processed meanwhile.
    pub(super) async fn sleep_without_slot(&mut self, wait: Duration) -> Result<(), StopReason> {
        self.slot.release();
        self.sleep(wait, CancelOn::AnyCause).await?;
        let free_slot = HandlerSlot::acquire(&self.slot.slots);
        if let Some(slot) = self.wait_for(free_slot, Duration::MAX, CancelOn::AnyCause).await? {
            self.slot = slot;
        }
        Ok(())
    }

    /// Repeats a call until the store answers.
    pub(super) async fn retry_store<T, Answer>(
        &self,
        call_name: &'static str,
        cancel_on: CancelOn,
        mut call: impl FnMut() -> Answer,
    ) -> Result<T, StopReason>
    where
        Answer: Future<Output = Result<T, StoreError>>,
    {
        let mut backoff = OutageBackoff::new();
        loop {
            match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let wait = self.wait_after_failure(call_name, &error, &mut backoff)?;
                    let counted = self.slot.wait_begins();
                    self.sleep(wait, cancel_on).await?;
                    drop(counted);
                }
            }
        }
    }

    /// The wait before a failed call of the store is repeated, unless that would fail likewise.
    pub(super) fn wait_after_failure(
        &self,
        call_name: &'static str,
        error: &StoreError,
        backoff: &mut OutageBackoff,
    ) -> Result<Duration, StopReason> {
        let wait = (!error.is_permanent()).then(|| backoff.next_wait());
        events::store_failed(call_name, error, error.is_outage(), wait);
        wait.ok_or(StopReason::RecordUnreadable)
    }
}

/// The slots of a channel, and the count of their work.
pub(super) struct HandlerSlots {
    free: Arc<Semaphore>,
    activity: Arc<WorkerActivity>,
}

impl HandlerSlots {
    pub(super) fn new(handlers_max: usize, activity: Arc<WorkerActivity>) -> HandlerSlots {
        activity.set_handlers_max(handlers_max);
        HandlerSlots { free: Arc::new(Semaphore::new(handlers_max)), activity }
    }
}

/// Each delivery in process holds a slot, except during `sleep_without_slot`.
pub(super) struct HandlerSlot {
    slots: Arc<HandlerSlots>,
    held: Option<OwnedSemaphorePermit>,
    taken_at: Instant,
    waited_micros: AtomicU64,
}

impl HandlerSlot {
    pub(super) async fn acquire(slots: &Arc<HandlerSlots>) -> HandlerSlot {
        let held = slots.free.clone().acquire_owned().await.expect("the semaphore is never closed");
        slots.activity.slot_taken();
        HandlerSlot {
            slots: slots.clone(),
            held: Some(held),
            taken_at: Instant::now(),
            waited_micros: AtomicU64::new(0),
        }
    }

    /// Until the answer is dropped, the slot is held and does no work.
    pub(super) fn wait_begins(&self) -> CountedWait<'_> {
        self.slots.activity.wait_begins(&self.waited_micros)
    }

    fn release(&mut self) {
        if self.held.take().is_some() {
            let waited = Duration::from_micros(self.waited_micros.load(Ordering::Relaxed));
            self.slots.activity.slot_freed(self.taken_at.elapsed().saturating_sub(waited));
        }
    }
}

impl Drop for HandlerSlot {
    fn drop(&mut self) {
        self.release();
    }
}

/// A request that passed every check but those of the store.
pub(super) struct ValidRequest<'a> {
    pub(super) request: &'a SendRequest<'a>,
    pub(super) to: Address,
    pub(super) autofill: Option<Autofill>,
    pub(super) recipient: Digest16,
    pub(super) user: Option<Digest16>,
    pub(super) ip: Option<Digest16>,
    pub(super) network: Option<Digest16>,
    /// The providers that may send the message, in order.
    pub(super) order: Vec<ProviderIndex>,
    /// The error to reject a new request with. A request that has a record goes on.
    pub(super) reject_if_new: Option<OutcomeError>,
    /// The fixed code of a test number.
    pub(super) test_code: Option<Code>,
}

impl ValidRequest<'_> {
    pub(super) fn lease(&self, handler: &DeliveryContext<'_>) -> Lease<'_> {
        let purpose = self.request.purpose.as_str();
        Lease {
            subject: LimitSubject {
                recipient: self.recipient,
                purpose,
                user: self.user,
                ip: self.ip,
                network: self.network,
            },
            request_id: &self.request.id,
            token: handler.fencing_token,
        }
    }

    pub(super) fn recipient_hash(&self) -> RecipientHash {
        RecipientHash::of(self.to.as_str())
    }

    pub(super) fn code_scope(&self) -> CodeScope<'_> {
        CodeScope { channel: self.to.channel(), address: self.to.as_str(), purpose: &self.request.purpose }
    }
}

/// An admitted request while it is being sent.
pub(super) struct SendContext<'a> {
    pub(super) handler: &'a DeliveryContext<'a>,
    pub(super) valid: &'a ValidRequest<'a>,
    pub(super) state: SendState,
}

impl<'a> SendContext<'a> {
    pub(super) fn request_id(&self) -> &'a str {
        self.valid.request.id.as_str()
    }

    pub(super) fn purpose(&self) -> &'a str {
        self.valid.request.purpose.as_str()
    }

    pub(super) fn lease(&self) -> Lease<'a> {
        self.valid.lease(self.handler)
    }

    pub(super) fn time_left(&self) -> Duration {
        self.state.deadline.saturating_duration_since(Instant::now())
    }
}

pub(super) struct SendState {
    pub(super) grant: Grant,
    /// `None` if the provider makes the code.
    pub(super) code: Option<Code>,
    pub(super) history: RequestHistory,
    pub(super) attempts_made: u32,
    pub(super) doubt: DoubtState,
    pub(super) hand_overs: HandOvers,
    pub(super) deadline: Instant,
    /// If a whole call of the provider does not fit before this moment, the lease is renewed first.
    pub(super) lease_enough_until: Instant,
    /// The error of the outcome if the deadline passes before another attempt.
    pub(super) last_error: Option<OutcomeError>,
}

impl SendState {
    /// The lease is renewed before the next attempt.
    pub(super) fn require_new_lease(&mut self) {
        self.lease_enough_until = Instant::now();
    }

    /// Names in the history the providers that may have the message and, if an attempt begins, the one that gets it.
    pub(super) fn name_providers(&mut self, providers: &Providers, next: Option<ProviderIndex>) {
        self.history.handed_to = self.doubt.names(providers, next);
        self.hand_overs.recorded = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Properties, Settlement, Settler};

    struct NeverLost;

    impl Settler for NeverLost {
        fn settle(self: Box<Self>, _: Settlement) {}

        fn is_lost(&self) -> bool {
            false
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_finds_no_slot_after_its_sleep_holds_its_delivery_no_longer_than_others() {
        let started_at = Instant::now();
        let slots = Arc::new(HandlerSlots::new(1, Arc::default()));
        let shutdown = CancellationToken::new();
        let delivery = Delivery {
            body: Vec::new(),
            properties: Properties::default(),
            arrived: started_at,
            settler: Box::new(NeverLost),
        };
        let slot = HandlerSlot::acquire(&slots).await;
        let mut handler = DeliveryContext {
            delivery: &delivery,
            slot,
            shutdown: &shutdown,
            started_at,
            fencing_token: 1,
            may_have_sent: AtomicBool::new(false),
            trace: None,
        };
        let (slept, _other) = tokio::join!(
            tokio::time::timeout(2 * HOLD_MAX, handler.sleep_without_slot(Duration::from_secs(60))),
            HandlerSlot::acquire(&slots)
        );
        assert_eq!(slept.ok(), Some(Err(StopReason::HeldTooLong)));
        assert_eq!(started_at.elapsed(), HOLD_MAX);
    }
}
