//! What stands between a message and the provider: the kill switch, the breaker, the senders that rest, the pace of each
//! one, and how many messages are under way at once.
//!
//! While the gate is shut nothing is taken from the queue, and what is in flight is held: not failed, not counted as
//! tried. While every sender rests what is in flight is held, too. Everything is decided in [`crate::domain`]; here is who
//! waits for it.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::domain::channel::Channel;
use crate::domain::circuit_breaker::{BreakerState, CircuitBreaker};
use crate::domain::concurrency::{ConcurrencyLimiter, Load};
use crate::domain::send_failure::{Scope, SendFailure};
use crate::domain::sender_pool::{
    RecipientHash, RecipientInfo, SenderAssignment, SenderChoice, SenderPool, SenderRefusals, SenderVerdict,
};
use crate::store::SharedState;
use crate::telemetry::events;

/// Without a word from the store for this long nobody knows whether the kill switch is on.
const STORE_SILENT_AFTER: Duration = Duration::from_millis(750);
/// A worker whose last message is no older than this takes part in the senders' pace.
const BUSY_FOR: Duration = Duration::from_secs(1);

/// What holds a message back while no sender may carry it: the word of logs, metrics and notes.
pub(super) const SENDERS_COOLING_DOWN: &str = "senders_rest";

/// The way to the provider, shared by everything in flight.
pub struct SendGate {
    channel: Channel,
    state: Mutex<State>,
    /// What holds messages back, if anything does.
    shut: watch::Sender<Option<ClosedBy>>,
    paused: watch::Sender<bool>,
    breaker: watch::Sender<BreakerState>,
    /// There may be a place, or another share of the pace.
    moved: Notify,
    /// Messages a second of one sender over all workers, if that is bounded.
    pace: Option<f64>,
    started: Instant,
}

/// Why nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// Somebody turned the kill switch on.
    KillSwitch,
    /// The store is silent, so nobody knows whether somebody did.
    StoreSilent,
    /// The provider fails everybody.
    Breaker,
}

impl ClosedBy {
    /// The word of logs, metrics and notes.
    pub const fn as_str(self) -> &'static str {
        match self {
            ClosedBy::KillSwitch => "kill_switch",
            ClosedBy::StoreSilent => "store_silent",
            ClosedBy::Breaker => "breaker",
        }
    }
}

struct State {
    breaker: CircuitBreaker,
    window: ConcurrencyLimiter,
    under_way: usize,
    /// Counts the times that the breaker changed: an answer to a message of an earlier one says nothing of now.
    era: u64,
    /// The one message that tries the way again is under way.
    trying: bool,
    stopped: bool,
    /// When the store last told of the kill switch; nothing if nobody asks it.
    heard: Option<Instant>,
    silent: bool,
    senders: SenderPool,
    /// One for each sender, where their pace is bounded.
    paces: Vec<SenderRateLimiter>,
    part: RateShare,
    wanted: Option<Instant>,
}

/// This worker's part of the senders' pace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RateShare {
    /// It has nothing to send, or the store has not counted it yet.
    None,
    /// It was counted. The others learn of it within one pulse, so it begins with the next.
    Counted,
    /// One of so many.
    Of(u32),
}

/// The pace of one sender, as far as it is this worker's.
struct SenderRateLimiter {
    limiter: Limiter,
    /// After another part became ours: not sooner than this.
    ready: Instant,
    last: Option<Instant>,
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, TokioTime, NoOpMiddleware<Nanos>>;

/// What a message gets at the gate.
enum Entry {
    In(TicketTerms),
    Wait,
    WaitFor(Duration),
}

/// What a message may do.
#[derive(Clone, Copy)]
struct TicketTerms {
    era: u64,
    carried: SenderAssignment,
}

impl SendGate {
    /// The gate of a channel. It lets at most `window_max` messages be under way, and `pace` a second of each of the `senders`.
    pub fn new(channel: Channel, window_max: usize, senders: usize, pace: Option<f64>) -> SendGate {
        let state = State {
            breaker: CircuitBreaker::default(),
            window: ConcurrencyLimiter::new(window_max),
            under_way: 0,
            era: 0,
            trying: false,
            stopped: false,
            heard: None,
            silent: false,
            senders: SenderPool::new(senders),
            paces: Vec::new(),
            part: RateShare::None,
            wanted: None,
        };
        let gate = SendGate {
            channel,
            state: Mutex::new(state),
            shut: watch::Sender::new(None),
            paused: watch::Sender::new(false),
            breaker: watch::Sender::new(BreakerState::Closed),
            moved: Notify::new(),
            pace,
            started: Instant::now(),
        };
        if pace.is_some() {
            gate.lock().paces = (0..senders.max(1)).map(|_| gate.pace_of_one(1, None)).collect();
        }
        gate
    }

    /// Whether anything holds messages back, as it changes.
    pub fn paused(&self) -> watch::Receiver<bool> {
        self.paused.subscribe()
    }

    /// What holds messages back now. Whoever has not heard of the kill switch for too long holds them back, too.
    pub(super) fn closed_by(&self) -> Option<ClosedBy> {
        if self.lock().heard.is_some_and(|at| at.elapsed() >= STORE_SILENT_AFTER) {
            self.store_silent();
        }
        *self.shut.borrow()
    }

    /// Waits until nothing holds messages back.
    pub(super) async fn opened(&self) {
        self.until(|shut| shut.is_none()).await;
    }

    /// Waits until the provider may be asked something, though no message may go.
    pub(super) async fn reachable(&self) {
        self.until(|shut| shut != Some(ClosedBy::Breaker)).await;
    }

    /// Waits until the provider fails everybody.
    pub(super) async fn broken(&self) {
        self.breaker_is(|state| matches!(state, BreakerState::Open(_))).await;
    }

    /// Waits until it is known whether the provider is well again.
    pub(super) async fn decided(&self) {
        self.breaker_is(|state| !matches!(state, BreakerState::HalfOpen(_))).await;
    }

    /// True while the provider fails everybody.
    pub fn is_broken(&self) -> bool {
        matches!(*self.breaker.borrow(), BreakerState::Open(_))
    }

    async fn breaker_is(&self, is: impl Fn(BreakerState) -> bool) {
        let mut state = self.breaker.subscribe();
        state.wait_for(|state| is(*state)).await.expect("the gate holds the sender");
    }

    async fn until(&self, is: impl Fn(Option<ClosedBy>) -> bool) {
        let mut shut = self.shut.subscribe();
        shut.wait_for(|shut| is(*shut)).await.expect("the gate holds the sender");
    }

    /// Lets a message that these senders have refused through at once, or not at all.
    pub(super) fn try_enter(
        &self,
        recipient: RecipientHash,
        refusals: &SenderRefusals,
    ) -> Option<GateTicket<'_>> {
        match self.enter_now(recipient, refusals) {
            Entry::In(leave) => Some(GateTicket { gate: self, leave, learnt: false }),
            Entry::Wait | Entry::WaitFor(_) => None,
        }
    }

    /// True while every sender rests after a refusal, or has refused the message.
    pub(super) fn senders_cooling_down(&self, refusals: &SenderRefusals) -> bool {
        self.lock().senders.none_available(refusals)
    }

    /// Lets a message through when there is a place for it, a sender, and that one's pace allows; nothing if the gate
    /// shuts.
    pub(super) async fn enter(
        &self,
        recipient: RecipientHash,
        refusals: SenderRefusals,
    ) -> Option<GateTicket<'_>> {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.closed_by().is_some() {
                return None;
            }
            match self.enter_now(recipient, &refusals) {
                Entry::In(leave) => return Some(GateTicket { gate: self, leave, learnt: false }),
                Entry::Wait => moved.await,
                Entry::WaitFor(wait) => {
                    tokio::select! {
                        biased;
                        () = moved => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }

    fn enter_now(&self, recipient: RecipientHash, refusals: &SenderRefusals) -> Entry {
        let shut = self.closed_by().is_some();
        let mut state = self.lock();
        state.wanted = Some(Instant::now());
        let is_probe = matches!(state.breaker.state(), BreakerState::HalfOpen(_));
        let has_room = if is_probe { !state.trying } else { state.under_way < state.window.limit() };
        if shut || !has_room {
            return Entry::Wait;
        }
        let sender = match state.senders.choose(recipient, refusals, self.started.elapsed()) {
            SenderChoice::Sender(sender) => sender,
            SenderChoice::NoneAvailable(Some(wait)) => return Entry::WaitFor(wait),
            SenderChoice::NoneAvailable(None) => return Entry::Wait,
        };
        if self.pace.is_some() {
            if !matches!(state.part, RateShare::Of(_)) {
                return Entry::Wait;
            }
            let now = Instant::now();
            let pace = &mut state.paces[sender];
            if pace.ready > now {
                return Entry::WaitFor(pace.ready - now);
            }
            if let Err(not_until) = pace.limiter.check() {
                return Entry::WaitFor(not_until.wait_time_from(TokioTime(self.started).now()));
            }
            pace.last = Some(now);
        }
        state.under_way += 1;
        state.trying = is_probe;
        let is_probe = state.senders.assign(sender);
        let carried = SenderAssignment { sender, is_probe, started: self.started.elapsed() };
        Entry::In(TicketTerms { era: state.era, carried })
    }

    /// Learns from the provider's answer to a message, and says what that means for its sender.
    fn learn(
        &self,
        leave: TicketTerms,
        to: RecipientInfo<'_>,
        refusals: &mut SenderRefusals,
        failure: Option<&SendFailure>,
        took: Duration,
    ) -> SenderVerdict {
        let load = match failure {
            None | Some(SendFailure::Rejected { .. }) => Load::Answered(took),
            Some(SendFailure::Throttled { .. }) => Load::Throttled,
            // Why one mailbox has to wait says nothing of how much the provider can take.
            Some(
                SendFailure::Deferred { .. } | SendFailure::Unreachable { .. } | SendFailure::InDoubt { .. },
            ) => Load::Unknown,
        };
        let mut lesson = SenderVerdict::Nothing;
        self.change(|state, now| {
            lesson = state.senders.record_answer(leave.carried, to, refusals, now, failure);
            // Should every sender be lost at once, each recipient's refusals look like its own: somebody has to notice.
            let strange = SendFailure::rejected(Scope::Unrecognised, None);
            if leave.era == state.era {
                let not_the_sender = lesson == SenderVerdict::NotTheSender;
                state
                    .breaker
                    .record_answer(to.recipient, if not_the_sender { Some(&strange) } else { failure });
            }
            state.window.record_answer(now, load);
        });
        // Whoever waits may have a sender now.
        if leave.carried.is_probe || matches!(lesson, SenderVerdict::Works | SenderVerdict::NotTheSender) {
            self.moved.notify_waiters();
        }
        lesson
    }

    /// The provider answered a probe well.
    pub(super) fn probe_succeeded(&self) {
        self.change(|state, _| state.breaker.probe_succeeded());
    }

    /// True if this worker takes its share of the senders' pace.
    pub(super) fn is_busy(&self) -> bool {
        self.pace.is_some() && self.lock().wanted.is_some_and(|at| at.elapsed() < BUSY_FOR)
    }

    /// The store told what concerns all workers.
    pub(super) fn store_answered(&self, pulse: SharedState) {
        let mut state = self.lock();
        let busy = pulse.active_workers > 0 && state.wanted.is_some_and(|at| at.elapsed() < BUSY_FOR);
        let part = match (busy, state.part) {
            (false, _) => RateShare::None,
            (true, RateShare::None) => RateShare::Counted,
            (true, RateShare::Counted | RateShare::Of(_)) => RateShare::Of(pulse.active_workers),
        };
        if let RateShare::Of(workers) = part
            && part != state.part
        {
            let before = std::mem::take(&mut state.paces);
            state.paces = before.iter().map(|pace| self.pace_of_one(workers, Some(pace))).collect();
        }
        state.part = part;
        drop(state);
        self.moved.notify_waiters();
        self.change(|state, _| {
            state.stopped = pulse.kill_switch_on;
            state.heard = Some(Instant::now());
            state.silent = false;
        });
    }

    /// The store did not tell.
    pub(super) fn store_silent(&self) {
        self.change(|state, _| {
            state.silent = state.heard.is_none_or(|at| at.elapsed() >= STORE_SILENT_AFTER);
        });
    }

    /// One sender's pace among so many workers. Who sent a moment ago goes on from there; who did not begins somewhere in
    /// the period, so that workers that begin together do not send together.
    fn pace_of_one(&self, workers: u32, before: Option<&SenderRateLimiter>) -> SenderRateLimiter {
        let pace = self.pace.expect("only where there is one");
        let period = Duration::from_secs_f64(f64::from(workers) / pace);
        let now = Instant::now();
        let ready = match before {
            Some(SenderRateLimiter { last: Some(last), .. }) if *last + period > now => *last + period,
            Some(SenderRateLimiter { ready, .. }) if *ready > now && *ready < now + period => *ready,
            _ => now + period.mul_f64(fastrand::f64()),
        };
        let quota = Quota::with_period(period).expect("a pace is more than nothing");
        let limiter = RateLimiter::direct_with_clock(quota, TokioTime(self.started));
        SenderRateLimiter { limiter, ready, last: before.and_then(|pace| pace.last) }
    }

    fn leave(&self, leave: TicketTerms, learnt: bool) {
        let untried = leave.carried.is_probe && !learnt;
        self.change(|state, now| {
            state.under_way -= 1;
            state.trying &= leave.era != state.era;
            if untried {
                state.senders.probe_not_sent(leave.carried.sender, now);
            }
        });
        if untried {
            self.moved.notify_waiters();
        }
    }

    fn change(&self, act: impl FnOnce(&mut State, Duration)) {
        let mut state = self.lock();
        act(&mut state, self.started.elapsed());
        let breaker = state.breaker.state();
        let shut = match (breaker, state.stopped, state.silent) {
            (BreakerState::Open(_), _, _) => Some(ClosedBy::Breaker),
            (_, true, _) => Some(ClosedBy::KillSwitch),
            (_, _, true) => Some(ClosedBy::StoreSilent),
            (_, false, false) => None,
        };
        if set(&self.shut, shut) {
            events::gate_changed(self.channel, shut.map(ClosedBy::as_str));
            set(&self.paused, shut.is_some());
            self.moved.notify_waiters();
        }
        if set(&self.breaker, breaker) {
            (state.era, state.trying) = (state.era + 1, false);
            self.moved.notify_waiters();
        }
        if state.window.limit() > state.under_way {
            self.moved.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }
}

/// Says what is so now, if it was not so before.
fn set<T: PartialEq>(told: &watch::Sender<T>, now: T) -> bool {
    told.send_if_modified(|known| {
        let changed = *known != now;
        *known = now;
        changed
    })
}

/// One message's leave to be under way.
pub(super) struct GateTicket<'a> {
    gate: &'a SendGate,
    leave: TicketTerms,
    learnt: bool,
}

impl GateTicket<'_> {
    /// Which sender carries the message, counted from 0.
    pub(super) fn sender(&self) -> usize {
        self.leave.carried.sender
    }

    /// The provider has answered. The gate learns from it, notes who refused the message, and says what that means for
    /// its sender.
    pub(super) fn answered(
        mut self,
        to: RecipientInfo<'_>,
        refusals: &mut SenderRefusals,
        failure: Option<&SendFailure>,
        took: Duration,
    ) -> SenderVerdict {
        self.learnt = true;
        self.gate.learn(self.leave, to, refusals, failure, took)
    }
}

impl Drop for GateTicket<'_> {
    fn drop(&mut self) {
        self.gate.leave(self.leave, self.learnt);
    }
}

/// Tokio's time as the limiter reads it, so that a test's pause holds for it too.
#[derive(Clone, Debug)]
struct TokioTime(Instant);

impl GovernorClock for TokioTime {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}
