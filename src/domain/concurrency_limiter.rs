//! The concurrency limit: how many messages may be in flight to the provider.
//!
//! Additive increase, multiplicative decrease: as many good answers as the limit raise it by one. A 429 halves the limit,
//! and an answer much slower than usual lowers it by a fifth. The limit falls at most once a second, because the answers
//! that were in flight show the same problem.

use std::time::Duration;

pub const CONCURRENCY_MIN: usize = 2;
/// An answer is slow if it takes this many times the usual time.
const SLOW_FACTOR: f64 = 3.0;
/// An answer within this time is never slow.
const SLOW_MIN: Duration = Duration::from_secs(1);
/// The weight of one answer in the moving average.
const USUAL_WEIGHT: f64 = 0.05;
/// The least time between two decreases.
const DECREASE_PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// The provider answered, in this time.
    Answered(Duration),
    Throttled,
    /// No answer, or one that says nothing of the load.
    Unknown,
}

/// A limit between [`CONCURRENCY_MIN`] and its maximum, where it starts.
#[derive(Debug)]
pub struct ConcurrencyLimiter {
    limit: f64,
    max: f64,
    usual_seconds: Option<f64>,
    decreased_at: Option<Duration>,
}

impl ConcurrencyLimiter {
    pub fn new(max: usize) -> ConcurrencyLimiter {
        let max = max.max(1) as f64;
        ConcurrencyLimiter { limit: max, max, usual_seconds: None, decreased_at: None }
    }

    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Updates the limit by an answer. `now` counts from a fixed moment.
    pub fn record_answer(&mut self, now: Duration, load: Load) {
        match load {
            Load::Throttled => self.decrease(now, 0.5),
            Load::Answered(took) if self.is_slow(took) => {
                self.decrease(now, 0.8);
                self.update_usual(took);
            }
            Load::Answered(took) => {
                self.update_usual(took);
                self.limit = (self.limit + 1.0 / self.limit).min(self.max);
            }
            Load::Unknown => {}
        }
    }

    fn is_slow(&self, took: Duration) -> bool {
        took > SLOW_MIN && self.usual_seconds.is_some_and(|usual| took.as_secs_f64() > usual * SLOW_FACTOR)
    }

    fn update_usual(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.usual_seconds =
            Some(self.usual_seconds.map_or(took, |usual| usual + (took - usual) * USUAL_WEIGHT));
    }

    fn decrease(&mut self, now: Duration, factor: f64) {
        if self.decreased_at.is_some_and(|at| now.saturating_sub(at) < DECREASE_PAUSE) {
            return;
        }
        self.decreased_at = Some(now);
        self.limit = (self.limit * factor).max((CONCURRENCY_MIN as f64).min(self.max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Load = Load::Answered(Duration::from_millis(100));

    #[test]
    fn a_storm_of_429s_halves_it_once_a_second_and_never_below_its_least() {
        let mut limiter = ConcurrencyLimiter::new(64);
        (0..100).for_each(|n| limiter.record_answer(Duration::from_millis(n * 9), Load::Throttled));
        assert_eq!(limiter.limit(), 32);
        (1..100).for_each(|n| limiter.record_answer(Duration::from_secs(n), Load::Throttled));
        assert_eq!(limiter.limit(), CONCURRENCY_MIN);
    }

    #[test]
    fn as_many_good_answers_as_the_limit_add_one_place() {
        let mut limiter = ConcurrencyLimiter::new(64);
        limiter.record_answer(Duration::ZERO, Load::Throttled);
        (0..33).for_each(|_| limiter.record_answer(Duration::ZERO, QUICK));
        assert_eq!(limiter.limit(), 33);
        (0..10_000).for_each(|_| limiter.record_answer(Duration::ZERO, QUICK));
        assert_eq!(limiter.limit(), 64);
    }

    #[test]
    fn slow_answers_lower_it_and_become_usual() {
        let mut limiter = ConcurrencyLimiter::new(50);
        (0..100).for_each(|_| limiter.record_answer(Duration::ZERO, QUICK));
        let slow = Load::Answered(Duration::from_secs(4));
        limiter.record_answer(Duration::ZERO, slow);
        assert_eq!(limiter.limit(), 40);
        (1..200).for_each(|n| limiter.record_answer(Duration::from_secs(n), slow));
        let then = limiter.limit();
        (200..400).for_each(|n| limiter.record_answer(Duration::from_secs(n), slow));
        assert!(limiter.limit() > then);
    }

    proptest::proptest! {
        #[test]
        fn it_stays_within_its_bounds(max in 1_usize..200, loads in proptest::collection::vec(0_u64..20_000, 0..300)) {
            let mut limiter = ConcurrencyLimiter::new(max);
            for (n, load) in loads.iter().enumerate() {
                let load = if load % 3 == 0 { Load::Throttled } else { Load::Answered(Duration::from_millis(*load)) };
                limiter.record_answer(Duration::from_millis(n as u64 * 300), load);
                proptest::prop_assert!(limiter.limit() >= CONCURRENCY_MIN.min(max) && limiter.limit() <= max);
            }
        }
    }
}
