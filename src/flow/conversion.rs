//! Counts sent and verified codes in memory, and adds the counts to the store once a second.
//!
//! Counting takes no call of the store. A batch that was not answered is repeated as it was, and the store adds it once. A process that is
//! killed loses the counts of its last second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, timeout};

use super::random::random_id;
use crate::clock::Clock;
use crate::domain::address::Address;
use crate::domain::conversion::{
    CodeCounts, CodeSend, ConversionBatch, ConversionEntry, CountedCode, Dimension,
};
use crate::domain::outcome::Outcome;
use crate::domain::phone::PhoneNumber;
use crate::store::{Grant, Store, StoreError, StoreFault};
use crate::telemetry::events;

const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// A later answer of the store counts as none.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);
/// The store knows a repeated batch for a day.
const REPEATED_FOR: Duration = Duration::from_secs(12 * 3_600);
/// Kinds of codes, such as those of one block in one bucket, that wait for the store. Further numbers count without their digits.
const KINDS_MAX: usize = 20_000;
/// Kinds in one batch. Redis answers nothing else for milliseconds while it adds them.
const KINDS_IN_BATCH: usize = 250;
/// Batches in a second: more than one only while each of them is full.
const BATCHES_MAX: usize = 4;
/// So many batches in a row that fail are logged, once.
const FAILURES_LOGGED: u32 = 3;
/// At shutdown batches are added for so long, with pauses in which the store may come back.
const END_TIMEOUT: Duration = Duration::from_secs(2);
const END_PAUSE: Duration = Duration::from_millis(20);

pub struct ConversionCounter {
    store: Arc<dyn Store>,
    clock: Clock,
    writer: u64,
    counts: Mutex<HashMap<CountedCode, CodeCounts>>,
    outbox: Mutex<Outbox>,
}

#[derive(Default)]
struct Outbox {
    sequence: u32,
    /// Not answered yet, and since when it is tried.
    batch: Option<(Arc<ConversionBatch>, Instant)>,
    /// In a row.
    failures: u32,
}

impl ConversionCounter {
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> ConversionCounter {
        let (counts, outbox) = (Mutex::default(), Mutex::default());
        ConversionCounter { store, clock, writer: random_id(), counts, outbox }
    }

    /// Counts the code of a request that this process has completed, if the request began the life of the code: so a code that is sent
    /// again counts once.
    pub(super) fn completed(&self, to: &Address, grant: &Grant, code_life: Duration, outcome: &Outcome) {
        let began_the_code = grant.expires_at.since(grant.admitted_at) == code_life;
        if let Some(send) = CodeSend::of_outcome(outcome).filter(|_| began_the_code) {
            events::code_sent(to.channel(), to.phone().and_then(PhoneNumber::region));
            self.count(to, send, CodeCounts::SENT);
        }
    }

    /// Counts a verified code in the bucket of its send.
    pub(super) fn verified(&self, to: &Address, first_send: Option<CodeSend>) {
        if let Some(send) = first_send {
            events::code_verified(to.channel(), to.phone().and_then(PhoneNumber::region));
            self.count(to, send, CodeCounts::VERIFIED);
        }
    }

    fn count(&self, to: &Address, send: CodeSend, one: CodeCounts) {
        let code = CountedCode::new(send.at.unwrap_or_else(|| self.clock.now()), to, send.route);
        let mut counts = self.lock();
        let is_full = counts.len() >= KINDS_MAX && !counts.contains_key(&code);
        let code = if is_full { code.without_digits() } else { code };
        counts.entry(code).or_default().add(one);
    }

    /// Until it is dropped.
    pub async fn run(&self) {
        let mut ticks = tokio::time::interval(FLUSH_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.flush_full_batches().await;
        }
    }

    async fn flush_full_batches(&self) {
        for _ in 0..BATCHES_MAX {
            if !self.flush().await || self.lock().len() < KINDS_IN_BATCH {
                return;
            }
        }
    }

    /// At shutdown, when nothing more is counted.
    pub async fn end(&self) {
        let all = async {
            while self.flush().await || self.has_more() {
                tokio::time::sleep(END_PAUSE).await;
            }
        };
        let _ = timeout(END_TIMEOUT, all).await;
    }

    /// Adds one batch to the store. True if there was one, and it was answered. A process that counts nothing asks nothing.
    pub async fn flush(&self) -> bool {
        let Some((batch, tried_since)) = self.next_batch() else { return false };
        let added = timeout(FLUSH_TIMEOUT, self.store.add_conversion(&batch)).await;
        let error = match added.unwrap_or(Err(StoreError::Unavailable(StoreFault::NoAnswer))) {
            Ok(()) => {
                let mut outbox = self.outbox();
                (outbox.batch, outbox.failures) = (None, 0);
                return true;
            }
            Err(error) => error,
        };
        let is_lost = error.is_permanent() || tried_since.elapsed() >= REPEATED_FOR;
        let mut outbox = self.outbox();
        outbox.failures = outbox.failures.saturating_add(1);
        if is_lost {
            outbox.batch = None;
        }
        if is_lost || outbox.failures == FAILURES_LOGGED {
            events::conversion_not_counted(&error, is_lost);
        }
        false
    }

    fn next_batch(&self) -> Option<(Arc<ConversionBatch>, Instant)> {
        let mut outbox = self.outbox();
        if outbox.batch.is_none() {
            let taken = self.take_counts();
            if taken.is_empty() {
                return None;
            }
            outbox.sequence += 1;
            let (writer, sequence) = (self.writer, outbox.sequence);
            let batch = ConversionBatch { writer, sequence, entries: entries(&taken) };
            outbox.batch = Some((Arc::new(batch), Instant::now()));
        }
        outbox.batch.clone()
    }

    fn has_more(&self) -> bool {
        self.outbox().batch.is_some() || !self.lock().is_empty()
    }

    fn take_counts(&self) -> Vec<(CountedCode, CodeCounts)> {
        let mut counts = self.lock();
        if counts.len() <= KINDS_IN_BATCH {
            return counts.drain().collect();
        }
        let kinds: Vec<CountedCode> = counts.keys().copied().take(KINDS_IN_BATCH).collect();
        kinds.into_iter().filter_map(|kind| Some((kind, counts.remove(&kind)?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CountedCode, CodeCounts>> {
        self.counts.lock().expect("nothing panics while it holds the lock")
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().expect("nothing panics while it holds the lock")
    }
}

/// Sums the counts by bucket, dimension and name, in the order in which these come.
fn entries(counts: &[(CountedCode, CodeCounts)]) -> Vec<ConversionEntry> {
    let mut places: HashMap<(u32, Dimension, String), usize> = HashMap::new();
    let mut entries: Vec<ConversionEntry> = Vec::new();
    for (code, counts) in counts {
        for (bucket, dimension, name) in code.names() {
            let place = *places.entry((bucket, dimension, name.clone())).or_insert(entries.len());
            if place == entries.len() {
                entries.push(ConversionEntry { bucket, dimension, name, counts: *counts });
            } else {
                entries[place].counts.add(*counts);
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::conversion::{ProviderWord, Route};
    use crate::domain::time::UnixMillis;
    use crate::store::memory::MemoryStore;

    const AT: UnixMillis = UnixMillis(1_800_000_000_000);

    fn counter() -> ConversionCounter {
        let store = MemoryStore::new(Clock::System);
        store.set_time(AT);
        ConversionCounter::new(Arc::new(store), Clock::System)
    }

    fn to(number: u32) -> Address {
        let region = "CO".parse().expect("a country");
        Address::parse(&format!("+57300{number:07}"), region).expect("a number")
    }

    fn send() -> CodeSend {
        let route = Some(Route { provider: ProviderWord::new("twilio"), sender: 1 });
        CodeSend { at: Some(AT), route }
    }

    #[test]
    fn the_kinds_that_wait_are_bounded_and_no_code_is_left_out() {
        let counter = counter();
        let blocks = u32::try_from(KINDS_MAX).expect("a small number") + 50;
        for block in 0..blocks {
            counter.count(&to(block % 10_000 * 1_000 + block / 10_000), send(), CodeCounts::SENT);
            counter.count(&to(block % 10_000 * 1_000), send(), CodeCounts::VERIFIED);
        }
        assert!(counter.lock().len() <= KINDS_MAX + 1, "{}", counter.lock().len());
        let mut sum = CodeCounts::default();
        counter.lock().values().for_each(|counts| sum.add(*counts));
        assert_eq!((sum.sent, sum.verified), (blocks, blocks));
    }

    #[tokio::test]
    async fn more_kinds_than_a_batch_has_are_added_one_batch_after_the_other() {
        let counter = counter();
        for block in 0..2_500 {
            counter.count(&to(block * 1_000), send(), CodeCounts::SENT);
        }
        counter.flush_full_batches().await;
        assert_eq!((counter.outbox().sequence, counter.lock().len()), (4, 1_500), "as many as a second has");
        counter.end().await;
        let bucket = crate::domain::conversion::Bucket::of(crate::domain::conversion::BucketWidth::Hour, AT);
        let channel = counter.store.conversion(Dimension::Channel, &[bucket]).await.expect("answers");
        assert_eq!(channel.iter().map(|stored| stored.counts.sent).collect::<Vec<_>>(), [2_500]);
        assert_eq!(counter.outbox().sequence, 10);
        assert!(!counter.flush().await, "nothing waits");
    }
}
