//! Bounds the requests of one user, or from one client address, that are published and not yet answered.
//!
//! A worker charges the limits when it admits a request. Without a running worker, repeated requests would fill the
//! queue, so each process counts its own pending requests. The bound is a multiple of the limits, so that the limits
//! decide wherever a worker runs.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::Quota;
use crate::domain::reached_limit::ReachedLimit;

/// All counts restart after this time: the window of the limits by user and by address.
const WINDOW: Duration = Duration::from_secs(3_600);
/// Pending requests as a multiple of the limit.
const LIMIT_FACTOR: u32 = 3;
/// Users and addresses that are counted at once, in less than 10 MB. Further ones are not bounded.
const COUNTED_MAX: usize = 100_000;

#[derive(Default)]
pub struct PendingLimiter(Mutex<Counts>);

struct Counts {
    window_start: Instant,
    by_digest: HashMap<Digest16, u32>,
}

impl Default for Counts {
    fn default() -> Self {
        Counts { window_start: Instant::now(), by_digest: HashMap::new() }
    }
}

/// A counted request: the start of the window that it was counted in.
#[derive(Clone, Copy)]
pub(super) struct PendingCount(Instant);

/// A user, recipient, client address or network, with the limit that its bound is a multiple of.
#[derive(Clone, Copy)]
pub(super) struct PendingSubject {
    pub(super) digest: Digest16,
    pub(super) limit: ReachedLimit,
    pub(super) quota: Quota,
}

/// A bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PendingFull {
    /// Names the first subject at its bound.
    pub(super) limit: ReachedLimit,
    /// Until the next window.
    pub(super) wait: Duration,
}

impl PendingLimiter {
    /// Counts a request against each subject, or against none of them if one is at its bound.
    pub(super) fn add(&self, subjects: &[PendingSubject]) -> Result<PendingCount, PendingFull> {
        let mut counts = self.lock();
        let now = Instant::now();
        if now.duration_since(counts.window_start) >= WINDOW {
            counts.window_start = now;
            counts.by_digest.clear();
        }
        let is_full = |subject: &&PendingSubject| {
            let count = counts.by_digest.get(&subject.digest).copied().unwrap_or_default();
            subject.quota.count > 0 && count >= subject.quota.count.saturating_mul(LIMIT_FACTOR)
        };
        if let Some(full) = subjects.iter().find(is_full) {
            return Err(PendingFull { limit: full.limit, wait: counts.window_start + WINDOW - now });
        }
        for PendingSubject { digest, .. } in subjects.iter().filter(|subject| subject.quota.count > 0) {
            if counts.by_digest.len() < COUNTED_MAX || counts.by_digest.contains_key(digest) {
                *counts.by_digest.entry(*digest).or_default() += 1;
            }
        }
        Ok(PendingCount(counts.window_start))
    }

    /// Removes a request that is no longer pending. A count of an earlier window is gone already.
    pub(super) fn remove(&self, PendingCount(window_start): PendingCount, subjects: &[PendingSubject]) {
        let mut counts = self.lock();
        if counts.window_start != window_start {
            return;
        }
        for PendingSubject { digest, .. } in subjects {
            match counts.by_digest.get_mut(digest) {
                Some(0 | 1) => drop(counts.by_digest.remove(digest)),
                Some(count) => *count -= 1,
                None => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(nth: usize, count: u32) -> PendingSubject {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&nth.to_be_bytes());
        let quota = Quota { count, window: WINDOW };
        PendingSubject { digest: Digest16::from_bytes(bytes), limit: ReachedLimit::User, quota }
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_times_the_limit_pass_within_its_window() {
        let pending = PendingLimiter::default();
        for _ in 0..2 {
            let passed = (0..100).filter(|_| pending.add(&[subject(1, 10)]).is_ok()).count();
            assert_eq!(passed, 30);
            let full = PendingFull { limit: ReachedLimit::User, wait: WINDOW };
            assert_eq!(pending.add(&[subject(1, 10)]).err(), Some(full));
            tokio::time::advance(WINDOW).await;
        }
    }

    #[tokio::test]
    async fn a_request_refused_for_one_subject_is_not_counted_for_the_other() {
        let pending = PendingLimiter::default();
        for _ in 0..100 {
            let _ = pending.add(&[subject(1, 1), subject(2, 2)]);
        }
        let passed = (0..100).filter(|_| pending.add(&[subject(2, 2)]).is_ok()).count();
        assert_eq!(passed, 3, "three of six were counted with the first subject");
    }

    #[tokio::test]
    async fn the_limit_of_the_subject_at_its_bound_is_named() {
        let pending = PendingLimiter::default();
        let user = subject(1, 2);
        let network = PendingSubject { limit: ReachedLimit::Network, ..subject(2, 1) };
        let full = (0..10).find_map(|_| pending.add(&[user, network]).err()).expect("it is bounded");
        assert_eq!(full.limit, ReachedLimit::Network);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answered_request_is_no_longer_counted() {
        let pending = PendingLimiter::default();
        for _ in 0..1_000 {
            let count = pending.add(&[subject(1, 1)]).expect("nothing is pending");
            pending.remove(count, &[subject(1, 1)]);
        }
        assert!(pending.lock().by_digest.is_empty());
        let early = pending.add(&[subject(1, 1)]).expect("nothing is pending");
        tokio::time::advance(WINDOW).await;
        for _ in 0..3 {
            pending.add(&[subject(1, 1)]).expect("a new window");
        }
        pending.remove(early, &[subject(1, 1)]);
        assert!(pending.add(&[subject(1, 1)]).is_err(), "the removed count belonged to the window before");
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_a_full_table_refuses_no_request() {
        let pending = PendingLimiter::default();
        for nth in 0..COUNTED_MAX + 10 {
            assert!(pending.add(&[subject(nth, 1)]).is_ok());
        }
        assert_eq!(pending.lock().by_digest.len(), COUNTED_MAX);
        let passed = (0..100).filter(|_| pending.add(&[subject(1, 1)]).is_ok()).count();
        assert_eq!(passed, 2, "a subject in the table is still counted");
        tokio::time::advance(WINDOW).await;
        pending.add(&[subject(COUNTED_MAX + 1, 1)]).expect("room");
        assert_eq!(pending.lock().by_digest.len(), 1);
    }

    #[tokio::test]
    async fn a_limit_that_is_off_bounds_nothing() {
        let pending = PendingLimiter::default();
        assert!((0..1_000).all(|_| pending.add(&[subject(1, 0)]).is_ok()));
        assert!(pending.lock().by_digest.is_empty());
    }
}
