//! Sliding-window limits, as pure arithmetic over the times of earlier events.

use std::time::Duration;

use super::time::{UnixMillis, millis};

/// At most `count` events in any `window`. A count of 0 means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Events allowed in a window; 0 for any number.
    pub count: u32,
    /// The length of the sliding window.
    pub window: Duration,
}

/// How long until one more event is allowed; zero if it is allowed now.
///
/// `events` are times in rising order. The limit is reached exactly when the `count`-th newest event is still
/// inside the window, and it ends when that event leaves it.
pub fn wait(quota: Quota, events: &[UnixMillis], now: UnixMillis) -> Duration {
    let Some(blocking) = quota.count.checked_sub(1).and_then(|newer| nth_newest(events, newer)) else {
        return Duration::ZERO;
    };
    UnixMillis(blocking.0 + millis(quota.window)).since(now)
}

/// How many events lie inside the window.
pub fn used(quota: Quota, events: &[UnixMillis], now: UnixMillis) -> u32 {
    let inside = events.iter().filter(|at| at.0 + millis(quota.window) > now.0).count();
    u32::try_from(inside).unwrap_or(u32::MAX)
}

fn nth_newest(events: &[UnixMillis], n: u32) -> Option<UnixMillis> {
    let from_end = usize::try_from(n).ok()?.checked_add(1)?;
    events.len().checked_sub(from_end).map(|at| events[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[track_caller]
    fn check(count: u32, events: &[u64], now: u64, expected_ms: u64) {
        let events: Vec<_> = events.iter().copied().map(UnixMillis).collect();
        let quota = Quota { count, window: HOUR };
        assert_eq!(wait(quota, &events, UnixMillis(now)), Duration::from_millis(expected_ms));
    }

    #[test]
    fn a_limit_blocks_until_its_oldest_counted_event_leaves_the_window() {
        check(2, &[], 5, 0);
        check(2, &[10], 20, 0);
        check(2, &[10, 15], 20, 3_599_990);
        check(2, &[10, 15], 3_600_009, 1);
        check(2, &[10, 15], 3_600_010, 0);
        check(1, &[10, 15], 3_600_010, 5);
    }

    #[test]
    fn zero_turns_a_limit_off() {
        check(0, &[1, 2, 3], 4, 0);
    }

    #[test]
    fn what_left_the_window_no_longer_counts() {
        let quota = Quota { count: 5, window: HOUR };
        let events = [UnixMillis(0), UnixMillis(1)];
        assert_eq!(used(quota, &events, UnixMillis(3_600_000)), 1);
    }
}
