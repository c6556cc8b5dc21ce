//! Counts the work of one channel of a worker, for the state that it reports.
//!
//! A slot that is held while its handler waits for the send gate, or for the next attempt, does no work: more slots would wait, too. So
//! such waits are left out of the time for which a slot is busy.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use super::limit_counter::LimitCounter;
use super::queue_time::OldestTaken;
use super::traffic_meter::TrafficMeter;
use crate::domain::time::micros;
use crate::domain::worker_state::{ProcessRole, Rate};

/// The rate is an average over about this time.
const RATE_OVER: Duration = Duration::from_secs(10);
/// The capacity comes from the deliveries of about this time, or from the last ones before.
const CAPACITY_OVER: Duration = Duration::from_secs(60);

/// Shared by the handlers of a channel.
pub struct WorkerActivity {
    role: ProcessRole,
    started: Instant,
    handlers_max: AtomicU32,
    in_flight: AtomicU32,
    waiting: AtomicU32,
    ended: AtomicU64,
    busy_micros: AtomicU64,
    draining: AtomicBool,
    pub(super) oldest_taken: OldestTaken,
    pub(super) limits: LimitCounter,
    pub(super) traffic: TrafficMeter,
}

/// Since the start.
#[derive(Clone, Copy, Default)]
pub(super) struct Totals {
    ended: u64,
    busy_micros: u64,
}

impl Default for WorkerActivity {
    fn default() -> Self {
        WorkerActivity::of_process(ProcessRole::Worker)
    }
}

impl WorkerActivity {
    pub fn of_process(role: ProcessRole) -> WorkerActivity {
        WorkerActivity {
            role,
            started: Instant::now(),
            handlers_max: AtomicU32::default(),
            in_flight: AtomicU32::default(),
            waiting: AtomicU32::default(),
            ended: AtomicU64::default(),
            busy_micros: AtomicU64::default(),
            draining: AtomicBool::default(),
            oldest_taken: OldestTaken::default(),
            limits: LimitCounter::default(),
            traffic: TrafficMeter::default(),
        }
    }

    pub(super) fn role(&self) -> ProcessRole {
        self.role
    }

    pub(super) fn set_handlers_max(&self, handlers_max: usize) {
        self.handlers_max.store(u32::try_from(handlers_max).unwrap_or(u32::MAX), Relaxed);
    }

    pub(super) fn begin_drain(&self) {
        self.draining.store(true, Relaxed);
    }

    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn handlers_max(&self) -> u32 {
        self.handlers_max.load(Relaxed)
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    pub(super) fn totals(&self) -> Totals {
        Totals { ended: self.ended.load(Relaxed), busy_micros: self.busy_micros.load(Relaxed) }
    }

    pub(super) fn delivery_ended(&self) {
        self.ended.fetch_add(1, Relaxed);
    }

    pub(super) fn slot_taken(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    pub(super) fn slot_freed(&self, busy: Duration) {
        self.in_flight.fetch_sub(1, Relaxed);
        self.busy_micros.fetch_add(micros(busy), Relaxed);
    }

    /// Until the answer is dropped. Adds its time to `waited_micros`.
    pub(super) fn wait_begins<'a>(&'a self, waited_micros: &'a AtomicU64) -> CountedWait<'a> {
        self.waiting.fetch_add(1, Relaxed);
        CountedWait { activity: self, waited_micros, began: Instant::now() }
    }
}

/// A wait of a handler that holds a slot.
pub(super) struct CountedWait<'a> {
    activity: &'a WorkerActivity,
    waited_micros: &'a AtomicU64,
    began: Instant,
}

impl Drop for CountedWait<'_> {
    fn drop(&mut self) {
        self.activity.waiting.fetch_sub(1, Relaxed);
        self.waited_micros.fetch_add(micros(self.began.elapsed()), Relaxed);
    }
}

/// Averages of the totals, which it reads at intervals.
#[derive(Default)]
pub(super) struct ActivityMeter {
    last: Totals,
    rate: f64,
    ended: f64,
    busy_seconds: f64,
}

impl ActivityMeter {
    pub(super) fn update(&mut self, totals: Totals, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let ended = (totals.ended - self.last.ended) as f64;
        let busy_seconds = (totals.busy_micros - self.last.busy_micros) as f64 / 1e6;
        self.last = totals;
        let kept = |over: Duration| (-seconds / over.as_secs_f64()).exp();
        self.rate += (ended / seconds - self.rate) * (1.0 - kept(RATE_OVER));
        self.ended = self.ended * kept(CAPACITY_OVER) + ended;
        self.busy_seconds = self.busy_seconds * kept(CAPACITY_OVER) + busy_seconds;
    }

    pub(super) fn rate(&self) -> Rate {
        Rate::per_second(self.rate)
    }

    pub(super) fn capacity(&self, handlers_max: u32) -> Option<Rate> {
        let is_known = self.ended > 0.0 && self.busy_seconds > 0.0;
        is_known.then(|| Rate::per_second(f64::from(handlers_max) * self.ended / self.busy_seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn totals(ended: u64, busy_seconds: u64) -> Totals {
        Totals { ended, busy_micros: busy_seconds * 1_000_000 }
    }

    #[test]
    fn the_capacity_is_the_rate_of_all_slots_while_none_waits() {
        let mut meter = ActivityMeter::default();
        assert_eq!(meter.capacity(64), None, "nothing has ended");
        // Each delivery keeps a slot busy for 2 s.
        meter.update(totals(5, 10), SECOND);
        assert_eq!(meter.capacity(64), Some(Rate::per_second(32.0)));
        for _ in 0..600 {
            meter.update(totals(5, 10), SECOND);
        }
        assert_eq!(meter.capacity(64), Some(Rate::per_second(32.0)), "known while the worker is idle");
        assert_eq!(meter.rate(), Rate::default());
        // From then on 1 s.
        for second in 1..=300 {
            meter.update(totals(5 + 40 * second, 10 + 40 * second), SECOND);
        }
        let capacity = meter.capacity(64).expect("known").as_f64();
        assert!((capacity - 64.0).abs() < 0.5, "{capacity}");
        let rate = meter.rate().as_f64();
        assert!((rate - 40.0).abs() < 0.01, "{rate}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_counts_until_it_ends() {
        let (activity, waited) = (WorkerActivity::default(), AtomicU64::default());
        activity.slot_taken();
        let wait = activity.wait_begins(&waited);
        tokio::time::advance(3 * SECOND).await;
        assert_eq!((activity.in_flight(), activity.waiting()), (1, 1));
        drop(wait);
        activity.slot_freed(SECOND);
        activity.delivery_ended();
        let Totals { ended, busy_micros } = activity.totals();
        assert_eq!((activity.in_flight(), activity.waiting(), ended, busy_micros), (0, 0, 1, 1_000_000));
        assert_eq!(waited.load(Relaxed), 3_000_000);
    }
}
