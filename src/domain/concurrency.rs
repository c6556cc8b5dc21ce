//! How many messages may be under way at once: more while all goes well, fewer when the provider has enough.
//!
//! Additive increase, multiplicative decrease: each full window of good answers adds one place; a 429 halves the
//! window, an answer much slower than usual takes a fifth off, at most once a second together, because answers that
//! were under way tell of the same trouble.

use std::time::Duration;

/// The fewest at once.
pub const CONCURRENCY_MIN: usize = 2;
/// An answer that takes this many times as long as usual is slow.
const SLOW_TIMES: f64 = 3.0;
/// No answer within this is slow.
const SLOW_MIN: Duration = Duration::from_secs(1);
/// How much one answer moves what is usual.
const USUAL_WEIGHT: f64 = 0.05;
/// How long after the window shrank it does not do so again.
const SHRINK_PAUSE: Duration = Duration::from_secs(1);

/// What an answer says of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// It came, in this time.
    Answered(Duration),
    /// Too many.
    Throttled,
    /// It did not come, or says nothing of the load.
    Unknown,
}

/// A window between [`WINDOW_MIN`] and its size at the start.
#[derive(Debug)]
pub struct ConcurrencyLimiter {
    size: f64,
    max: f64,
    usual_seconds: Option<f64>,
    shrunk_at: Option<Duration>,
}

impl ConcurrencyLimiter {
    /// A window that is open as far as it goes.
    pub fn new(max: usize) -> ConcurrencyLimiter {
        let max = max.max(1) as f64;
        ConcurrencyLimiter { size: max, max, usual_seconds: None, shrunk_at: None }
    }

    /// How many may be under way.
    pub fn limit(&self) -> usize {
        self.size as usize
    }

    /// Learns from an answer at a time since some fixed moment.
    pub fn record_answer(&mut self, now: Duration, load: Load) {
        match load {
            Load::Throttled => self.shrink(now, 0.5),
            Load::Answered(took) if self.is_slow(took) => {
                self.shrink(now, 0.8);
                self.get_used_to(took);
            }
            Load::Answered(took) => {
                self.get_used_to(took);
                self.size = (self.size + 1.0 / self.size).min(self.max);
            }
            Load::Unknown => {}
        }
    }

    fn is_slow(&self, took: Duration) -> bool {
        took > SLOW_MIN && self.usual_seconds.is_some_and(|usual| took.as_secs_f64() > usual * SLOW_TIMES)
    }

    fn get_used_to(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.usual_seconds =
            Some(self.usual_seconds.map_or(took, |usual| usual + (took - usual) * USUAL_WEIGHT));
    }

    fn shrink(&mut self, now: Duration, factor: f64) {
        if self.shrunk_at.is_some_and(|at| now.saturating_sub(at) < SHRINK_PAUSE) {
            return;
        }
        self.shrunk_at = Some(now);
        self.size = (self.size * factor).max((CONCURRENCY_MIN as f64).min(self.max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Load = Load::Answered(Duration::from_millis(100));

    #[test]
    fn a_storm_of_429s_halves_it_once_a_second_and_never_below_its_least() {
        let mut window = ConcurrencyLimiter::new(64);
        (0..100).for_each(|n| window.record_answer(Duration::from_millis(n * 9), Load::Throttled));
        assert_eq!(window.limit(), 32);
        (1..100).for_each(|n| window.record_answer(Duration::from_secs(n), Load::Throttled));
        assert_eq!(window.limit(), CONCURRENCY_MIN);
    }

    #[test]
    fn a_full_window_of_good_answers_adds_one_place() {
        let mut window = ConcurrencyLimiter::new(64);
        window.record_answer(Duration::ZERO, Load::Throttled);
        (0..33).for_each(|_| window.record_answer(Duration::ZERO, QUICK));
        assert_eq!(window.limit(), 33);
        (0..10_000).for_each(|_| window.record_answer(Duration::ZERO, QUICK));
        assert_eq!(window.limit(), 64);
    }

    #[test]
    fn answers_that_become_slow_shrink_it_and_become_usual() {
        let mut window = ConcurrencyLimiter::new(50);
        (0..100).for_each(|_| window.record_answer(Duration::ZERO, QUICK));
        let slow = Load::Answered(Duration::from_secs(4));
        window.record_answer(Duration::ZERO, slow);
        assert_eq!(window.limit(), 40);
        (1..200).for_each(|n| window.record_answer(Duration::from_secs(n), slow));
        let then = window.limit();
        (200..400).for_each(|n| window.record_answer(Duration::from_secs(n), slow));
        assert!(window.limit() > then);
    }

    proptest::proptest! {
        #[test]
        fn it_stays_within_its_bounds(max in 1_usize..200, loads in proptest::collection::vec(0_u64..20_000, 0..300)) {
            let mut window = ConcurrencyLimiter::new(max);
            for (n, load) in loads.iter().enumerate() {
                let load = if load % 3 == 0 { Load::Throttled } else { Load::Answered(Duration::from_millis(*load)) };
                window.record_answer(Duration::from_millis(n as u64 * 300), load);
                proptest::prop_assert!(window.limit() >= CONCURRENCY_MIN.min(max) && window.limit() <= max);
            }
        }
    }
}
