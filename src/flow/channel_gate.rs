//! The checks before every send that concern a whole channel: the kill switch, and whether the store answers and can be read.
//!
//! The gate is closed, too, while the circuit breaker of every provider is open that a route can use. While it is closed its channel's
//! consumer loop consumes nothing, and requests in flight wait until their deadline.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::pause_log::{ClosedBy, PauseLog};
use crate::domain::channel::Channel;
use crate::domain::routes::{PROVIDERS_MAX, ProviderIndex};
use crate::store::{SharedState, StoreFault};
use crate::telemetry::events;

/// Then the kill switch counts as unknown, and the gate closes.
const STORE_SILENT_AFTER: Duration = Duration::from_millis(750);

/// Of one channel, shared by all its handlers and by the gates of its providers.
pub struct ChannelGate {
    channel: Channel,
    state: Mutex<State>,
    closed_by: watch::Sender<Option<ClosedBy>>,
    paused: watch::Sender<bool>,
    /// The gate or the circuit breaker of a provider has changed.
    changed: Notify,
}

struct State {
    /// Those of routes.
    is_used: [bool; PROVIDERS_MAX],
    is_breaker_open: [bool; PROVIDERS_MAX],
    kill_switch_on: bool,
    store_answered_at: Option<Instant>,
    store_silent: bool,
    /// Of the last heartbeat, if it got no usable answer.
    store_fault: Option<StoreFault>,
    /// The name of a key that all requests share and that the store cannot read.
    damaged_key: Option<String>,
    pause_log: PauseLog,
}

impl State {
    fn store_answered(&mut self) {
        (self.store_answered_at, self.store_silent, self.store_fault) = (Some(Instant::now()), false, None);
    }

    fn is_every_provider_shut(&self) -> bool {
        let mut used = (0..PROVIDERS_MAX).filter(|place| self.is_used[*place]).peekable();
        used.peek().is_some() && used.all(|place| self.is_breaker_open[place])
    }
}

impl ChannelGate {
    /// `used`: the providers that a route can use.
    pub(super) fn new(channel: Channel, used: impl IntoIterator<Item = ProviderIndex>) -> ChannelGate {
        let mut is_used = [false; PROVIDERS_MAX];
        used.into_iter().for_each(|provider| is_used[provider.get()] = true);
        let state = State {
            is_used,
            is_breaker_open: [false; PROVIDERS_MAX],
            kill_switch_on: false,
            store_answered_at: None,
            store_silent: false,
            store_fault: None,
            damaged_key: None,
            pause_log: PauseLog::default(),
        };
        ChannelGate {
            channel,
            state: Mutex::new(state),
            closed_by: watch::Sender::new(None),
            paused: watch::Sender::new(false),
            changed: Notify::new(),
        }
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel
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

    pub(super) async fn wait_until_open(&self) {
        let mut closed_by = self.closed_by.subscribe();
        closed_by.wait_for(Option::is_none).await.expect("the gate keeps its watch channels open");
    }

    /// Waits until `is_done`, which is asked at once, and again whenever the gate or a circuit breaker changes.
    pub(super) async fn wait_until(&self, is_done: impl Fn() -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed());
            changed.as_mut().enable();
            if is_done() {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    pub(super) fn breaker_changed(&self, provider: ProviderIndex, is_open: bool) {
        self.update(|state| state.is_breaker_open[provider.get()] = is_open);
        self.changed.notify_waiters();
    }

    /// The number of providers that a route can use.
    pub fn providers(&self) -> usize {
        self.lock().is_used.iter().filter(|is_used| **is_used).count()
    }

    /// True if the circuit breaker of every provider is open that a route can use.
    pub fn is_every_provider_shut(&self) -> bool {
        self.lock().is_every_provider_shut()
    }

    pub(super) fn store_answered(&self, shared: &SharedState) {
        events::kill_switch_read(self.channel, shared.kill_switch_on);
        self.update(|state| {
            state.kill_switch_on = shared.kill_switch_on;
            state.damaged_key = None;
            state.store_answered();
        });
    }

    /// The store cannot read a key that all requests share. It answers, so it is not silent.
    pub(super) fn store_damaged(&self, key: &str) {
        self.update(|state| {
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
        self.update(|state| {
            state.store_silent = state.store_answered_at.is_none_or(|at| at.elapsed() >= STORE_SILENT_AFTER);
        });
    }

    /// Applies a change. If it opens or closes the gate, tells those that watch it, and wakes waiting handlers.
    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let closed_by = match &*state {
            state if state.is_every_provider_shut() => Some(ClosedBy::Breaker),
            State { damaged_key: Some(_), .. } => Some(ClosedBy::StoreDamaged),
            State { kill_switch_on: true, .. } => Some(ClosedBy::KillSwitch),
            State { store_silent: true, .. } => Some(ClosedBy::StoreSilent),
            _ => None,
        };
        let State { pause_log, store_fault, .. } = &mut *state;
        pause_log.note(self.channel, closed_by, store_fault.as_ref());
        if replace(&self.closed_by, closed_by) {
            replace(&self.paused, closed_by.is_some());
            self.changed.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }
}

/// True if the value changed.
pub(super) fn replace<T: PartialEq>(watched: &watch::Sender<T>, new: T) -> bool {
    watched.send_if_modified(|last| {
        let changed = *last != new;
        *last = new;
        changed
    })
}
