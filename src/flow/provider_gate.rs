//! The checks before every send that concern one provider: circuit breaker, concurrency limit, sender, and sender rate.
//!
//! A closed [`ChannelGate`] closes it, too. [`crate::domain`] decides; this file counts the messages in flight and wakes the handlers that
//! wait.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::channel_gate::{ChannelGate, replace};
use super::sender_rate::{RateShare, SenderRateLimiter, TokioClock};
use crate::domain::circuit_breaker::{BreakerState, CircuitBreaker};
use crate::domain::concurrency_limiter::{ConcurrencyLimiter, Load};
use crate::domain::failover::{Availability, ramp_reaches};
use crate::domain::routes::ProviderIndex;
use crate::domain::send_failure::{Scope, SendFailure};
use crate::domain::sender_pool::{
    RecipientHash, RecipientInfo, SenderAssignment, SenderChoice, SenderPool, SenderRefusals, SenderVerdict,
};
use crate::store::retention::ACTIVE_WORKER_FOR;
use crate::telemetry::events::{self, GateUse};

/// No sender is available for the message: each is cooling down or was refused for it. The word is part of the interface
/// and older than the glossary.
pub(super) const NO_SENDER_AVAILABLE: &str = "senders_rest";

/// The pace of a provider's messages in this process.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Messages in flight.
    pub concurrency_max: usize,
    /// Messages a second of one sender over all workers; `None`: no limit.
    pub sender_rate: Option<f64>,
}

/// Of one provider of a channel, shared by all its handlers.
pub(super) struct ProviderGate {
    channel: Arc<ChannelGate>,
    provider: ProviderIndex,
    name: &'static str,
    state: Mutex<State>,
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
    /// When the breaker closed after it had been open.
    recovered_at: Option<Instant>,
    senders: SenderPool,
    /// One for each sender if there is a sender rate, else none.
    rate_limiters: Vec<SenderRateLimiter>,
    rate_share: RateShare,
    /// When a message last asked to enter.
    last_demand: Option<Instant>,
}

impl State {
    /// The worker takes a share of the senders' rate.
    fn is_active(&self) -> bool {
        self.last_demand.is_some_and(|at| at.elapsed() < ACTIVE_WORKER_FOR)
    }
}

pub(super) struct GateSnapshot {
    pub(super) breaker: BreakerState,
    pub(super) breaker_code: Option<u32>,
    pub(super) senders: usize,
    pub(super) senders_suspended: usize,
    pub(super) concurrency_limit: usize,
    pub(super) concurrency_in_use: usize,
}

enum Entry {
    Granted(TicketTerms),
    /// Wait until [`ProviderGate::changed`].
    Wait,
    /// Wait until [`ProviderGate::changed`], and at most for this time.
    WaitFor(Duration),
}

#[derive(Clone, Copy)]
struct TicketTerms {
    breaker_epoch: u64,
    assignment: SenderAssignment,
}

impl ProviderGate {
    pub(super) fn new(
        channel: Arc<ChannelGate>,
        provider: ProviderIndex,
        name: &'static str,
        senders: usize,
        pace: Pace,
    ) -> ProviderGate {
        let Pace { concurrency_max, sender_rate } = pace;
        let started = Instant::now();
        let limiter = |rate| SenderRateLimiter::new(rate, TokioClock(started));
        let rate_limiters = sender_rate.map(|rate| (0..senders.max(1)).map(|_| limiter(rate)).collect());
        let state = State {
            breaker: CircuitBreaker::default(),
            concurrency: ConcurrencyLimiter::new(concurrency_max),
            in_flight: 0,
            breaker_epoch: 0,
            half_open_in_flight: false,
            recovered_at: None,
            senders: SenderPool::new(senders),
            rate_limiters: rate_limiters.unwrap_or_default(),
            rate_share: RateShare::Idle,
            last_demand: None,
        };
        ProviderGate {
            channel,
            provider,
            name,
            state: Mutex::new(state),
            breaker: watch::Sender::new(BreakerState::Closed),
            changed: Notify::new(),
            sender_rate,
            started,
        }
    }

    /// For the state that the worker reports.
    pub(super) fn snapshot(&self) -> GateSnapshot {
        let state = self.lock();
        GateSnapshot {
            breaker: state.breaker.state(),
            breaker_code: state.breaker.provider_code(),
            senders: state.senders.count(),
            senders_suspended: state.senders.suspended(),
            concurrency_limit: state.concurrency.limit(),
            concurrency_in_use: state.in_flight,
        }
    }

    pub(super) async fn wait_until_breaker_opens(&self) {
        self.wait_until_breaker(|state| matches!(state, BreakerState::Open(_))).await;
    }

    pub(super) async fn wait_until_half_open_ends(&self) {
        self.wait_until_breaker(|state| !matches!(state, BreakerState::HalfOpen(_))).await;
    }

    pub(super) fn is_breaker_open(&self) -> bool {
        matches!(*self.breaker.borrow(), BreakerState::Open(_))
    }

    async fn wait_until_breaker(&self, is: impl Fn(BreakerState) -> bool) {
        let mut breaker = self.breaker.subscribe();
        breaker.wait_for(|state| is(*state)).await.expect("the gate keeps its watch channels open");
    }

    /// Nothing may be sent to the provider now.
    pub(super) fn is_closed(&self) -> bool {
        self.channel.closed_by().is_some() || self.is_breaker_open()
    }

    /// The state of the provider for a message. `refusals` as for [`ProviderGate::try_enter`].
    pub(super) fn availability(&self, recipient: RecipientHash, refusals: &SenderRefusals) -> Availability {
        let state = self.lock();
        let half_open = matches!(state.breaker.state(), BreakerState::HalfOpen(_));
        let has_sender = || {
            let choice = state.senders.choose(recipient, refusals, self.started.elapsed());
            matches!(choice, SenderChoice::Sender(_))
        };
        match state.breaker.state() {
            BreakerState::Open(_) => Availability::Shut,
            BreakerState::HalfOpen(_) if state.half_open_in_flight => Availability::Probing,
            _ if !has_sender() => Availability::NoSender,
            _ if !half_open
                && state.recovered_at.is_some_and(|at| !ramp_reaches(recipient, at.elapsed())) =>
            {
                Availability::Recovering
            }
            _ => Availability::Open,
        }
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
            let mut channel_changed = std::pin::pin!(self.channel.changed());
            channel_changed.as_mut().enable();
            if self.is_closed() {
                return None;
            }
            let wait = match self.enter_now(recipient, &refusals) {
                Entry::Granted(terms) => return Some(GateTicket { gate: self, terms, answered: false }),
                Entry::Wait => None,
                Entry::WaitFor(wait) => Some(wait),
            };
            tokio::select! {
                biased;
                () = changed => {}
                // Another provider may be open now.
                () = channel_changed => if self.channel.providers() > 1 { return None },
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
    }

    fn enter_now(&self, recipient: RecipientHash, refusals: &SenderRefusals) -> Entry {
        let closed = self.is_closed();
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
    pub(super) fn share_rate(&self, active_workers: u32, was_counted: bool) {
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

    /// Applies a change. If it opens or closes the breaker, tells those that watch it, and wakes waiting handlers.
    fn update(&self, change: impl FnOnce(&mut State, Duration)) {
        let mut state = self.lock();
        change(&mut state, self.started.elapsed());
        let breaker = state.breaker.state();
        let before = *self.breaker.borrow();
        if replace(&self.breaker, breaker) {
            events::circuit_breaker_changed(self.channel.channel(), self.name, breaker);
            if self.channel.providers() > 1 {
                events::provider_shut_or_opened(self.channel.channel(), self.name, breaker);
            }
            (state.breaker_epoch, state.half_open_in_flight) = (state.breaker_epoch + 1, false);
            if breaker == BreakerState::Closed && before != BreakerState::Closed {
                state.recovered_at = Some(Instant::now());
            }
            self.channel.breaker_changed(self.provider, matches!(breaker, BreakerState::Open(_)));
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

/// The message counts as in flight until this is dropped.
pub(super) struct GateTicket<'a> {
    gate: &'a ProviderGate,
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
    use crate::domain::channel::Channel;
    use crate::store::SharedState;

    fn gate(sender_rate: Option<f64>) -> ProviderGate {
        let channel = Arc::new(ChannelGate::new(Channel::Sms, [ProviderIndex::ONLY]));
        let pace = Pace { concurrency_max: 8, sender_rate };
        ProviderGate::new(channel, ProviderIndex::ONLY, "test", 1, pace)
    }

    /// A message asks to enter after its worker's heartbeat has left, so the store counts only another worker. The other one
    /// learns of this one a heartbeat later.
    #[tokio::test(start_paused = true)]
    async fn a_worker_that_the_store_has_not_counted_yet_sends_nothing() {
        let gate = gate(Some(10.0));
        let refusals = SenderRefusals::default();
        gate.store_answered(0, false);
        let mut sent_after = None;
        for (heartbeat, workers) in [1, 2, 2].into_iter().enumerate() {
            let was_counted = gate.is_active();
            assert!(gate.try_enter(RecipientHash::of("+573001234567"), &refusals).is_none());
            gate.store_answered(workers, was_counted);
            // Longer than the random start of a share, shorter than the time for which a worker counts as active.
            tokio::time::advance(Duration::from_millis(250)).await;
            let is_sent = gate.try_enter(RecipientHash::of("+573001234567"), &refusals).is_some();
            sent_after = sent_after.or(is_sent.then_some(heartbeat));
        }
        assert_eq!(sent_after, Some(2), "not counted; counted, and the others learn of it; sends");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_of_the_provider_its_recipients_come_back_bit_by_bit() {
        let gate = gate(None);
        let to = |n: u32| RecipientHash::of(&format!("+57300123{n:04}"));
        let account = Some(SendFailure::refused(Scope::Account, None));
        let answer = |n: u32, failure: Option<&SendFailure>| {
            let mut refusals = SenderRefusals::default();
            let ticket = gate.try_enter(to(n), &refusals).expect("it is open");
            let recipient = crate::domain::keyed_digest::Digest16::NONE;
            let to = RecipientInfo { recipient, country: None };
            ticket.answered(to, &mut refusals, failure, Duration::ZERO);
        };
        let open = || {
            let is_open =
                |n: &u32| gate.availability(to(*n), &SenderRefusals::default()) == Availability::Open;
            (0..1_000).filter(is_open).count()
        };
        assert_eq!(open(), 1_000);
        answer(0, account.as_ref());
        assert_eq!(open(), 0);
        gate.probe_succeeded();
        assert_eq!(open(), 1_000, "one message is the trial, whichever it is");
        answer(1, None);
        let first = open();
        assert!((60..140).contains(&first), "{first}");
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(open(), 1_000);
    }

    impl ProviderGate {
        fn store_answered(&self, active_workers: u32, was_counted: bool) {
            let shared = SharedState { kill_switch_on: false, active_workers, log_filter: None };
            self.channel.store_answered(&shared);
            self.share_rate(active_workers, was_counted);
        }
    }
}
