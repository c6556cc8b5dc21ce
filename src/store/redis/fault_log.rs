//! Logs that the store is unavailable, why, and when that is over: a line a minute for each reason, not one for each call.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::{StoreError, StoreFault};
use crate::telemetry::events;

const LINE_EVERY: Duration = Duration::from_secs(60);
/// An outage is over with an answer this long after its last failure: a server that refuses writes may answer reads.
const OVER_AFTER: Duration = Duration::from_secs(3);
/// A caller that stops waiting after this long got no answer in time. One that stops earlier has another reason, such as a client
/// that went away.
const ANSWER_DUE_AFTER: Duration = Duration::from_millis(400);

#[derive(Default)]
pub(super) struct FaultLog {
    outage: Mutex<Option<Outage>>,
    /// Spares the lock while all is well.
    has_outage: AtomicBool,
    /// Some shards do not answer: the answers of others do not end the outage.
    is_partial: AtomicBool,
}

struct Outage {
    since: Instant,
    last_failure: Instant,
    failures: u64,
    /// One for each reason.
    lines: Vec<Line>,
}

struct Line {
    reason: &'static str,
    written_at: Instant,
    failures_since: u64,
}

impl FaultLog {
    /// The caller pins the call: a future that is passed by value is stored twice.
    pub(super) async fn watch<T>(
        &self,
        call: Pin<&mut impl Future<Output = Result<T, StoreError>>>,
    ) -> Result<T, StoreError> {
        let mut unanswered = Unanswered { log: self, since: Some(Instant::now()) };
        let answer = call.await;
        unanswered.since = None;
        match &answer {
            Err(StoreError::Unavailable(fault)) => self.failed(fault),
            Ok(_) | Err(StoreError::Unreadable { .. }) => self.answered(),
        }
        answer
    }

    fn failed(&self, fault: &StoreFault) {
        events::store_call_unanswered(fault.as_str());
        let now = Instant::now();
        let mut outage = self.lock();
        self.has_outage.store(true, Ordering::Relaxed);
        let outage =
            outage.get_or_insert(Outage { since: now, last_failure: now, failures: 0, lines: Vec::new() });
        (outage.last_failure, outage.failures) = (now, outage.failures + 1);
        let Some(failures) = outage.line_due(fault.as_str(), now) else { return };
        let seconds = (now - outage.since).as_secs();
        events::store_unavailable(fault.as_str(), fault, failures, seconds, fault.may_pass());
    }

    pub(super) fn set_partial(&self, is_partial: bool) {
        self.is_partial.store(is_partial, Ordering::Relaxed);
    }

    fn answered(&self) {
        if !self.has_outage.load(Ordering::Relaxed) || self.is_partial.load(Ordering::Relaxed) {
            return;
        }
        let mut outage = self.lock();
        if let Some(over) = outage.take_if(|outage| outage.last_failure.elapsed() >= OVER_AFTER) {
            self.has_outage.store(false, Ordering::Relaxed);
            events::store_available(over.failures, (over.last_failure - over.since).as_secs());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Outage>> {
        self.outage.lock().expect("nothing panics while it holds the lock")
    }
}

impl Outage {
    /// The failures since the last line of this reason, if another one is due.
    fn line_due(&mut self, reason: &'static str, now: Instant) -> Option<u64> {
        let Some(line) = self.lines.iter_mut().find(|line| line.reason == reason) else {
            self.lines.push(Line { reason, written_at: now, failures_since: 0 });
            return Some(1);
        };
        line.failures_since += 1;
        if now - line.written_at < LINE_EVERY {
            return None;
        }
        line.written_at = now;
        Some(std::mem::take(&mut line.failures_since))
    }
}

/// A call. It is dropped without its answer if the caller stops waiting.
struct Unanswered<'a> {
    log: &'a FaultLog,
    /// `None` once it is answered.
    since: Option<Instant>,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if self.since.is_some_and(|since| since.elapsed() >= ANSWER_DUE_AFTER) {
            self.log.failed(&StoreFault::NoAnswer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn outage() -> Outage {
        let now = Instant::now();
        Outage { since: now, last_failure: now, failures: 0, lines: Vec::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_has_a_line_a_minute_for_each_reason_with_the_failures_since_the_last() {
        let mut outage = outage();
        let mut lines = Vec::new();
        for quarter in 0..=(4 * 121) {
            let reason = if quarter % 4 == 0 { "no_answer" } else { "connection_refused" };
            if let Some(failures) = outage.line_due(reason, Instant::now()) {
                lines.push((quarter / 4, reason, failures));
            }
            tokio::time::advance(Duration::from_millis(250)).await;
        }
        let wanted = [
            (0, "no_answer", 1),
            (0, "connection_refused", 1),
            (60, "no_answer", 60),
            (60, "connection_refused", 180),
            (120, "no_answer", 60),
            (120, "connection_refused", 180),
        ];
        assert_eq!(lines, wanted);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_lasts_while_reads_succeed_and_writes_fail() {
        let log = FaultLog::default();
        let fails = || async { Err::<(), _>(StoreError::Unavailable(StoreFault::OutOfMemory)) };
        let answers = || async { Ok(()) };
        for _ in 0..20 {
            log.watch(pin!(fails())).await.expect_err("it fails");
            tokio::time::advance(Duration::from_millis(250)).await;
            log.watch(pin!(answers())).await.expect("it answers");
            assert!(log.lock().is_some());
        }
        tokio::time::advance(OVER_AFTER).await;
        log.set_partial(true);
        log.watch(pin!(answers())).await.expect("another shard answers");
        assert!(log.lock().is_some());
        log.set_partial(false);
        log.watch(pin!(answers())).await.expect("it answers");
        assert!(log.lock().is_none() && !log.has_outage.load(Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_counts_as_unanswered_if_its_caller_waited_and_not_if_it_left_at_once() {
        let never = std::future::pending::<Result<(), StoreError>>;
        let log = FaultLog::default();
        for (wait, is_unanswered) in [(100, false), (500, true)] {
            let call = pin!(never());
            let watched = tokio::time::timeout(Duration::from_millis(wait), log.watch(call));
            watched.await.expect_err("no answer");
            assert_eq!(log.lock().is_some(), is_unanswered, "{wait} ms");
        }
    }
}
