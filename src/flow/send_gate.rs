//! The checks before every send: kill switch, circuit breaker, concurrency limit, sender, and sender rate.
//!
//! While the gate is closed its channel's consumer loop consumes nothing, and requests in flight wait until their
//! deadline. [`crate::domain`] decides; this file counts the messages in flight and wakes the handlers that wait.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::pause_log::{ClosedBy, PauseLog};
use super::sender_rate::{RateShare, SenderRateLimiter, TokioClock};
use crate::domain::channel::Channel;
use crate::domain::circuit_breaker::{BreakerState, CircuitBreaker};
use crate::domain::concurrency_limiter::{ConcurrencyLimiter, Load};
use crate::domain::send_failure::{Scope, SendFailure};
use crate::domain::sender_pool::{
    RecipientHash, RecipientInfo, SenderAssignment, SenderChoice, SenderPool, SenderRefusals, SenderVerdict,
};
use crate::store::retention::ACTIVE_WORKER_FOR;
use crate::store::{SharedState, StoreFault};
use crate::telemetry::events::{self, GateUse};

/// Then the kill switch counts as unknown, and the gate closes.
const STORE_SILENT_AFTER: Duration = Duration::from_millis(750);

/// No sender is available for the message: each is cooling down or was refused for it. The word is part of the interface
/// and older than the glossary.
pub(super) const NO_SENDER_AVAILABLE: &str = "senders_rest";

/// Of one channel, shared by all its handlers.
pub struct SendGate {
    channel: Channel,
    state: Mutex<State>,
    closed_by: watch::Sender<Option<ClosedBy>>,
    paused: watch::Sender<bool>,
    breaker: watch::Sender<BreakerState>,
    /// Wakes the handlers that wait to enter.
    changed: Notify,
    /// Messages a second of one sender over all workers; `None`: no limit.
    sender_rate: Option<f64>,
    started: Instant,
}

struct State {
    breaker: CircuitBreaker,
    concurrency: ConcurrencyLimiter,
    in_flight: usize,
    /// Counts the changes of the breaker's state: it ignores the answer to a message of an earlier epoch.
    breaker_epoch: u64,
    /// The one message that the half-open breaker lets through.
    half_open_in_flight: bool,
    kill_switch_on: bool,
    store_answered_at: Option<Instant>,
    store_silent: bool,
    /// Of the last heartbeat, if it got no usable answer.
    store_fault: Option<StoreFault>,
    /// The name of a key that all requests share and that the store cannot read.
    damaged_key: Option<String>,
    pause_log: PauseLog,
    senders: SenderPool,
    /// One for each sender if there is a sender rate, else none.
    rate_limiters: Vec<SenderRateLimiter>,
    rate_share: RateShare,
    /// When a message last asked to enter.
    last_demand: Option<Instant>,
}

impl State {
    fn store_answered(&mut self) {
        (self.store_answered_at, self.store_silent, self.store_fault) = (Some(Instant::now()), false, None);
    }

    /// The worker takes a share of the senders' rate.
    fn is_active(&self) -> bool {
        self.last_demand.is_some_and(|at| at.elapsed() < ACTIVE_WORKER_FOR)
    }
}

pub(super) struct GateSnapshot {
    pub(super) closed_by: Option<ClosedBy>,
    pub(super) breaker: BreakerState,
    pub(super) breaker_code: Option<u32>,
    pub(super) senders: usize,
    pub(super) senders_suspended: usize,
    pub(super) concurrency_limit: usize,
    pub(super) concurrency_in_use: usize,
}

enum Entry {
    Granted(TicketTerms),
    /// Wait until [`SendGate::changed`].
    Wait,
    /// Wait until [`SendGate::changed`], and at most for this time.
    WaitFor(Duration),
}

#[derive(Clone, Copy)]
struct TicketTerms {
    breaker_epoch: u64,
    assignment: SenderAssignment,
}

impl SendGate {
    pub fn new(
        channel: Channel,
        concurrency_max: usize,
        senders: usize,
        sender_rate: Option<f64>,
    ) -> SendGate {
        let started = Instant::now();
        let limiter = |rate| SenderRateLimiter::new(rate, TokioClock(started));
        let rate_limiters = sender_rate.map(|rate| (0..senders.max(1)).map(|_| limiter(rate)).collect());
        let state = State {
            breaker: CircuitBreaker::default(),
            concurrency: ConcurrencyLimiter::new(concurrency_max),
            in_flight: 0,
            breaker_epoch: 0,
            half_open_in_flight: false,
            kill_switch_on: false,
            store_answered_at: None,
            store_silent: false,
            store_fault: None,
            damaged_key: None,
            pause_log: PauseLog::default(),
            senders: SenderPool::new(senders),
            rate_limiters: rate_limiters.unwrap_or_default(),
            rate_share: RateShare::Idle,
            last_demand: None,
        };
        SendGate {
            channel,
            state: Mutex::new(state),
            closed_by: watch::Sender::new(None),
            paused: watch::Sender::new(false),
            breaker: watch::Sender::new(BreakerState::Closed),
            changed: Notify::new(),
            sender_rate,
            started,
        }
    }

    pub fn paused(&self) -> watch::Receiver<bool> {
        self.paused.subscribe()
    }

    pub(super) fn closed_by(&self) -> Option<ClosedBy> {
        if self.lock().store_answered_at.is_some_and(|at| at.elapsed() >= STORE_SILENT_AFTER) {
            self.check_store_silence();
        }
        *self.closed_by.borrow()
    }

    /// For the state that the worker reports.
    pub(super) fn snapshot(&self) -> GateSnapshot {
        let closed_by = self.closed_by();
        let state = self.lock();
        GateSnapshot {
            closed_by,
            breaker: state.breaker.state(),
            breaker_code: state.breaker.provider_code(),
            senders: state.senders.count(),
            senders_suspended: state.senders.suspended(),
            concurrency_limit: state.concurrency.limit(),
            concurrency_in_use: state.in_flight,
        }
    }

    pub(super) async fn wait_until_open(&self) {
        self.wait_until(|closed_by| closed_by.is_none()).await;
    }

    /// The kill switch does not stop lookups.
    pub(super) async fn wait_until_provider_reachable(&self) {
        self.wait_until(|closed_by| closed_by != Some(ClosedBy::Breaker)).await;
    }

    pub(super) async fn wait_until_breaker_opens(&self) {
        self.wait_until_breaker(|state| matches!(state, BreakerState::Open(_))).await;
    }

    pub(super) async fn wait_until_half_open_ends(&self) {
        self.wait_until_breaker(|state| !matches!(state, BreakerState::HalfOpen(_))).await;
    }

    pub fn is_breaker_open(&self) -> bool {
        matches!(*self.breaker.borrow(), BreakerState::Open(_))
    }

    async fn wait_until_breaker(&self, is: impl Fn(BreakerState) -> bool) {
        let mut breaker = self.breaker.subscribe();
        breaker.wait_for(|state| is(*state)).await.expect("the gate keeps its watch channels open");
    }

    async fn wait_until(&self, is: impl Fn(Option<ClosedBy>) -> bool) {
        let mut closed_by = self.closed_by.subscribe();
        closed_by.wait_for(|cause| is(*cause)).await.expect("the gate keeps its watch channels open");
    }

    /// `refusals` names the senders that the provider already refused for the message.
    pub(super) fn try_enter(
        &self,
        recipient: RecipientHash,
        refusals: &SenderRefusals,
    ) -> Option<GateTicket<'_>> {
        match self.enter_now(recipient, refusals) {
            Entry::Granted(terms) => Some(GateTicket { gate: self, terms, answered: false }),
            Entry::Wait | Entry::WaitFor(_) => None,
        }
    }

    pub(super) fn no_sender_available(&self, refusals: &SenderRefusals) -> bool {
        self.lock().senders.none_available(refusals)
    }

    /// `None` if the gate closes.
    pub(super) async fn enter(
        &self,
        recipient: RecipientHash,
        refusals: SenderRefusals,
    ) -> Option<GateTicket<'_>> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.closed_by().is_some() {
                return None;
            }
            match self.enter_now(recipient, &refusals) {
                Entry::Granted(terms) => return Some(GateTicket { gate: self, terms, answered: false }),
                Entry::Wait => changed.await,
                Entry::WaitFor(wait) => {
                    tokio::select! {
                        biased;
                        () = changed => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }

    fn enter_now(&self, recipient: RecipientHash, refusals: &SenderRefusals) -> Entry {
        let closed = self.closed_by().is_some();
        let mut guard = self.lock();
        let state = &mut *guard;
        state.last_demand = Some(Instant::now());
        let half_open = matches!(state.breaker.state(), BreakerState::HalfOpen(_));
        let has_room =
            if half_open { !state.half_open_in_flight } else { state.in_flight < state.concurrency.limit() };
        if closed || !has_room {
            return Entry::Wait;
        }
        let sender = match state.senders.choose(recipient, refusals, self.started.elapsed()) {
            SenderChoice::Sender(sender) => sender,
            SenderChoice::NoneAvailable(Some(wait)) => return Entry::WaitFor(wait),
            SenderChoice::NoneAvailable(None) => return Entry::Wait,
        };
        if self.sender_rate.is_some() {
            if !matches!(state.rate_share, RateShare::OneOf(_)) {
                return Entry::Wait;
            }
            if let Err(wait) = state.rate_limiters[sender].try_send() {
                return Entry::WaitFor(wait);
            }
        }
        state.in_flight += 1;
        state.half_open_in_flight = half_open;
        let is_trial = state.senders.assign(sender);
        let assignment = SenderAssignment { sender, is_trial, started: self.started.elapsed() };
        Entry::Granted(TicketTerms { breaker_epoch: state.breaker_epoch, assignment })
    }

    /// Adapts sender, circuit breaker and concurrency.
    fn record_answer(
        &self,
        terms: TicketTerms,
        to: RecipientInfo<'_>,
        refusals: &mut SenderRefusals,
        failure: Option<&SendFailure>,
        elapsed: Duration,
    ) -> SenderVerdict {
        let mut verdict = SenderVerdict::Nothing;
        self.update(|state, now| {
            verdict = state.senders.record_answer(terms.assignment, to, refusals, now, failure);
            // A refusal that several senders got may concern our account. The breaker counts it as unrecognised: it opens
            // once several recipients got one.
            let unrecognised = SendFailure::refused(Scope::Unrecognised, None);
            if terms.breaker_epoch == state.breaker_epoch {
                let from_several_senders = verdict == SenderVerdict::RefusedFromSeveralSenders;
                let failure = if from_several_senders { Some(&unrecognised) } else { failure };
                state.breaker.record_answer(to.recipient, failure);
            }
            state.concurrency.record_answer(now, load_of(failure, elapsed));
        });
        // A sender may be available now.
        if terms.assignment.is_trial
            || matches!(verdict, SenderVerdict::Works | SenderVerdict::RefusedFromSeveralSenders)
        {
            self.changed.notify_waiters();
        }
        verdict
    }

    pub(super) fn measure(&self) -> GateUse {
        let state = self.lock();
        GateUse {
            concurrency_limit: state.concurrency.limit(),
            in_use: state.in_flight,
            senders_suspended: state.senders.suspended(),
        }
    }

    pub(super) fn probe_succeeded(&self) {
        self.update(|state, _| state.breaker.probe_succeeded());
    }

    pub(super) fn is_active(&self) -> bool {
        self.sender_rate.is_some() && self.lock().is_active()
    }

    /// `was_counted`: the heartbeat counted this worker as active.
    pub(super) fn store_answered(&self, shared: SharedState, was_counted: bool) {
        self.share_rate(shared.active_workers, was_counted);
        events::kill_switch_read(self.channel, shared.kill_switch_on);
        self.update(|state, _| {
            state.kill_switch_on = shared.kill_switch_on;
            state.damaged_key = None;
            state.store_answered();
        });
    }

    /// The store cannot read a key that all requests share. It answers, so it is not silent.
    pub(super) fn store_damaged(&self, key: &str) {
        self.update(|state, _| {
            if state.damaged_key.as_deref() != Some(key) {
                events::shared_key_damaged(self.channel, key);
                state.damaged_key = Some(key.to_owned());
            }
            state.store_answered();
        });
    }

    /// A refusal is no answer to a heartbeat.
    pub(super) fn store_unavailable(&self, fault: StoreFault) {
        self.lock().store_fault = Some(fault);
        self.check_store_silence();
    }

    /// The reason, while the store is silent.
    pub fn store_silence(&self) -> Option<StoreFault> {
        let state = self.lock();
        state.store_silent.then(|| state.store_fault.clone().unwrap_or(StoreFault::NoAnswer))
    }

    /// The name of the shared key that cannot be read.
    pub fn damaged_key(&self) -> Option<String> {
        self.lock().damaged_key.clone()
    }

    pub(super) fn check_store_silence(&self) {
        self.update(|state, _| {
            state.store_silent = state.store_answered_at.is_none_or(|at| at.elapsed() >= STORE_SILENT_AFTER);
        });
    }

    fn share_rate(&self, active_workers: u32, was_counted: bool) {
        let mut state = self.lock();
        let share = state.rate_share.next(was_counted, active_workers);
        if let (RateShare::OneOf(workers), Some(rate)) = (share, self.sender_rate)
            && share != state.rate_share
        {
            let limiters =
                state.rate_limiters.iter().map(|limiter| limiter.shared_by(workers, rate)).collect();
            state.rate_limiters = limiters;
        }
        state.rate_share = share;
        drop(state);
        self.changed.notify_waiters();
    }

    /// A trial message without an answer leaves the trial to a later one.
    fn release(&self, terms: TicketTerms, answered: bool) {
        let trial_undecided = terms.assignment.is_trial && !answered;
        self.update(|state, now| {
            state.in_flight -= 1;
            state.half_open_in_flight &= terms.breaker_epoch != state.breaker_epoch;
            if trial_undecided {
                state.senders.trial_undecided(terms.assignment.sender, now);
            }
        });
        if trial_undecided {
            self.changed.notify_waiters();
        }
    }

    /// Applies a change. If it opens or closes the gate or the breaker, tells those that watch it, and wakes waiting
    /// handlers.
    fn update(&self, change: impl FnOnce(&mut State, Duration)) {
        let mut state = self.lock();
        change(&mut state, self.started.elapsed());
        let breaker = state.breaker.state();
        let closed_by = match breaker {
            BreakerState::Open(_) => Some(ClosedBy::Breaker),
            _ if state.damaged_key.is_some() => Some(ClosedBy::StoreDamaged),
            _ if state.kill_switch_on => Some(ClosedBy::KillSwitch),
            _ if state.store_silent => Some(ClosedBy::StoreSilent),
            _ => None,
        };
        let State { pause_log, store_fault, .. } = &mut *state;
        pause_log.note(self.channel, closed_by, store_fault.as_ref());
        if replace(&self.closed_by, closed_by) {
            replace(&self.paused, closed_by.is_some());
            self.changed.notify_waiters();
        }
        if replace(&self.breaker, breaker) {
            events::circuit_breaker_changed(self.channel, breaker);
            (state.breaker_epoch, state.half_open_in_flight) = (state.breaker_epoch + 1, false);
            self.changed.notify_waiters();
        }
        if state.concurrency.limit() > state.in_flight {
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }
}

fn load_of(failure: Option<&SendFailure>, elapsed: Duration) -> Load {
    match failure {
        None | Some(SendFailure::Refused { .. }) => Load::Answered(elapsed),
        Some(SendFailure::Throttled { .. }) => Load::Throttled,
        // No measure of the provider's capacity: `Deferred` is the wait of one mailbox, the others are no answer.
        Some(
            SendFailure::Deferred { .. } | SendFailure::NotConnected { .. } | SendFailure::InDoubt { .. },
        ) => Load::Unknown,
    }
}

/// True if the value changed.
fn replace<T: PartialEq>(watched: &watch::Sender<T>, new: T) -> bool {
    watched.send_if_modified(|last| {
        let changed = *last != new;
        *last = new;
        changed
    })
}

/// The message counts as in flight until this is dropped.
pub(super) struct GateTicket<'a> {
    gate: &'a SendGate,
    terms: TicketTerms,
    answered: bool,
}

impl GateTicket<'_> {
    /// Counted from 0.
    pub(super) fn sender(&self) -> usize {
        self.terms.assignment.sender
    }

    /// Adds a refused sender to `refusals`.
    pub(super) fn answered(
        mut self,
        to: RecipientInfo<'_>,
        refusals: &mut SenderRefusals,
        failure: Option<&SendFailure>,
        elapsed: Duration,
    ) -> SenderVerdict {
        self.answered = true;
        self.gate.record_answer(self.terms, to, refusals, failure, elapsed)
    }
}

impl Drop for GateTicket<'_> {
    fn drop(&mut self) {
        self.gate.release(self.terms, self.answered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message asks to enter after its worker's heartbeat has left, so the store counts only another worker. The other one
    /// learns of this one a heartbeat later.
    #[tokio::test(start_paused = true)]
    async fn a_worker_that_the_store_has_not_counted_yet_sends_nothing() {
        let gate = SendGate::new(Channel::Sms, 8, 1, Some(10.0));
        let refusals = SenderRefusals::default();
        let shared = |active_workers| SharedState { kill_switch_on: false, active_workers, log_filter: None };
        gate.store_answered(shared(0), false);
        let mut sent_after = None;
        for (heartbeat, workers) in [1, 2, 2].into_iter().enumerate() {
            let was_counted = gate.is_active();
            gate.store_answered_during_demand(shared(workers), was_counted, &refusals);
            // Longer than the random start of a share, shorter than the time for which a worker counts as active.
            tokio::time::advance(Duration::from_millis(250)).await;
            let is_sent = gate.try_enter(RecipientHash::of("+573001234567"), &refusals).is_some();
            sent_after = sent_after.or(is_sent.then_some(heartbeat));
        }
        assert_eq!(sent_after, Some(2), "not counted; counted, and the others learn of it; sends");
    }

    impl SendGate {
        fn store_answered_during_demand(
            &self,
            shared: SharedState,
            was_counted: bool,
            refusals: &SenderRefusals,
        ) {
            assert!(self.try_enter(RecipientHash::of("+573001234567"), refusals).is_none());
            self.store_answered(shared, was_counted);
        }
    }
}
