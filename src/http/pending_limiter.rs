//! How many requests of one person, or from one address, may be queued that nobody takes up.
//!
//! A worker charges the limits when it takes a request up. While none does, whoever keeps pressing would fill the queue,
//! so each process also counts what it published and heard nothing of: a few times what the limits let pass, so that
//! they decide wherever anybody works.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::Quota;

/// All counts begin anew after this long: the window of the limits that they stand before.
const WINDOW: Duration = Duration::from_secs(3_600);
/// How many times a limit may be published and not heard of.
const TIMES: u32 = 3;
/// Users and addresses that are counted at once, in less than 10 MB. Who comes on top of them is not counted.
const COUNTED_MAX: usize = 100_000;

/// Counts what was published and not heard of.
#[derive(Default)]
pub struct PendingLimiter(Mutex<Table>);

struct Table {
    began: Instant,
    counts: HashMap<Digest16, u32>,
}

impl Default for Table {
    fn default() -> Self {
        Table { began: Instant::now(), counts: HashMap::new() }
    }
}

/// When a request was counted.
#[derive(Clone, Copy)]
pub(super) struct Counted(Instant);

impl PendingLimiter {
    /// Counts a request against each name, or against none of them, and tells how long it is refused.
    pub(super) fn enter(&self, names: &[(Digest16, Quota)]) -> Result<Counted, Duration> {
        let mut table = self.lock();
        let now = Instant::now();
        if now.duration_since(table.began) >= WINDOW {
            *table = Table { began: now, counts: std::mem::take(&mut table.counts) };
            table.counts.clear();
        }
        let is_full = |(name, limit): &(Digest16, Quota)| {
            let count = table.counts.get(name).copied().unwrap_or_default();
            limit.count > 0 && count >= limit.count.saturating_mul(TIMES)
        };
        if names.iter().any(is_full) {
            return Err(table.began + WINDOW - now);
        }
        for (name, _) in names.iter().filter(|(_, limit)| limit.count > 0) {
            if table.counts.len() < COUNTED_MAX || table.counts.contains_key(name) {
                *table.counts.entry(*name).or_default() += 1;
            }
        }
        Ok(Counted(table.began))
    }

    /// A request that was counted then is not in the queue.
    pub(super) fn forget(&self, Counted(began): Counted, names: &[Digest16]) {
        let mut table = self.lock();
        if table.began != began {
            return;
        }
        for name in names {
            match table.counts.get_mut(name) {
                Some(0 | 1) => drop(table.counts.remove(name)),
                Some(count) => *count -= 1,
                None => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(nth: usize) -> Digest16 {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&nth.to_be_bytes());
        Digest16::from_random(bytes)
    }

    fn limit(count: u32) -> Quota {
        Quota { count, window: WINDOW }
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_times_the_limit_pass_within_its_window() {
        let unheard = PendingLimiter::default();
        for _ in 0..2 {
            let passed = (0..100).filter(|_| unheard.enter(&[(name(1), limit(10))]).is_ok()).count();
            assert_eq!(passed, 30);
            assert_eq!(unheard.enter(&[(name(1), limit(10))]).err(), Some(WINDOW));
            tokio::time::advance(WINDOW).await;
        }
    }

    #[tokio::test]
    async fn who_is_refused_by_one_name_is_not_counted_by_the_other() {
        let unheard = PendingLimiter::default();
        for _ in 0..100 {
            let _ = unheard.enter(&[(name(1), limit(1)), (name(2), limit(2))]);
        }
        let passed = (0..100).filter(|_| unheard.enter(&[(name(2), limit(2))]).is_ok()).count();
        assert_eq!(passed, 3, "three of six were the first one's");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_heard_of_weighs_nothing() {
        let unheard = PendingLimiter::default();
        for _ in 0..1_000 {
            let counted = unheard.enter(&[(name(1), limit(1))]).expect("nothing waits");
            unheard.forget(counted, &[name(1)]);
        }
        assert!(unheard.lock().counts.is_empty());
        let early = unheard.enter(&[(name(1), limit(1))]).expect("nothing waits");
        tokio::time::advance(WINDOW).await;
        for _ in 0..3 {
            unheard.enter(&[(name(1), limit(1))]).expect("a new window");
        }
        unheard.forget(early, &[name(1)]);
        assert!(unheard.enter(&[(name(1), limit(1))]).is_err(), "it was another window's");
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_refuses_nobody_for_being_full() {
        let unheard = PendingLimiter::default();
        for nth in 0..COUNTED_MAX + 10 {
            assert!(unheard.enter(&[(name(nth), limit(1))]).is_ok());
        }
        assert_eq!(unheard.lock().counts.len(), COUNTED_MAX);
        let passed = (0..100).filter(|_| unheard.enter(&[(name(1), limit(1))]).is_ok()).count();
        assert_eq!(passed, 2, "who is counted still is");
        tokio::time::advance(WINDOW).await;
        unheard.enter(&[(name(COUNTED_MAX + 1), limit(1))]).expect("room");
        assert_eq!(unheard.lock().counts.len(), 1);
    }

    #[tokio::test]
    async fn a_limit_that_is_off_bounds_nothing() {
        let unheard = PendingLimiter::default();
        assert!((0..1_000).all(|_| unheard.enter(&[(name(1), limit(0))]).is_ok()));
        assert!(unheard.lock().counts.is_empty());
    }
}
