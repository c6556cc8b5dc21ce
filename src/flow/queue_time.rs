//! The longest time that a request taken up in the last minute had waited.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::time::millis;

const PERIOD: Duration = Duration::from_secs(10);
/// A minute, and the period that has just begun.
const PERIODS: u64 = 7;

/// Each place holds the number of a period, in the upper half, and the longest time of it in milliseconds. So a larger
/// value is a later period, or a longer time.
pub struct OldestTaken {
    started: Instant,
    longest: [AtomicU64; PERIODS as usize],
}

impl Default for OldestTaken {
    fn default() -> Self {
        OldestTaken { started: Instant::now(), longest: Default::default() }
    }
}

impl OldestTaken {
    pub(super) fn note(&self, waited: Duration) {
        let (period, waited) = (self.period(), millis(waited).min(u32::MAX.into()));
        self.place(period).fetch_max(period << 32 | waited, Relaxed);
    }

    /// `None` if none was taken up.
    pub(super) fn longest(&self) -> Option<Duration> {
        let first = self.period().saturating_sub(PERIODS - 1);
        let values = self.longest.iter().map(|place| place.load(Relaxed));
        let recent = values.filter(|value| value >> 32 >= first.max(1));
        recent.map(|value| value & u64::from(u32::MAX)).max().map(Duration::from_millis)
    }

    /// From 1, so that a place without a value is that of no period.
    fn period(&self) -> u64 {
        self.started.elapsed().as_secs() / PERIOD.as_secs() + 1
    }

    fn place(&self, period: u64) -> &AtomicU64 {
        &self.longest[usize::try_from(period % PERIODS).expect("a small number")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_time_counts_for_a_minute_and_ten_seconds_at_most() {
        let (oldest, second) = (OldestTaken::default(), Duration::from_secs(1));
        assert_eq!(oldest.longest(), None);
        oldest.note(Duration::ZERO);
        assert_eq!(oldest.longest(), Some(Duration::ZERO), "it was taken up at once");
        oldest.note(40 * second);
        oldest.note(2 * second);
        assert_eq!(oldest.longest(), Some(40 * second));
        tokio::time::advance(60 * second).await;
        oldest.note(3 * second);
        assert_eq!(oldest.longest(), Some(40 * second));
        tokio::time::advance(10 * second).await;
        assert_eq!(oldest.longest(), Some(3 * second));
        tokio::time::advance(600 * second).await;
        assert_eq!(oldest.longest(), None);
    }
}
