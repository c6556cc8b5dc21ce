//! Counts sent and verified codes and the amounts spent in memory, and adds the counts to the store once a second.
//!
//! Counting takes no call of the store. A batch that was not answered is repeated as it was, and the store adds it once. A process that is
//! killed loses the counts of its last second.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, timeout};

use super::random::random_id;
use crate::clock::Clock;
use crate::domain::address::Address;
use crate::domain::amount::Amount;
use crate::domain::conversion::{
    Bucket, BucketWidth, CodeCounts, CodeSend, ConversionEntry, CountedCode, Dimension,
};
use crate::domain::conversion_batch::ConversionBatch;
use crate::domain::outcome::Outcome;
use crate::domain::phone::PhoneNumber;
use crate::domain::spend::{Sampled, SpendCounts, SpendEntry, SpendGroup};
use crate::store::{Store, StoreError, StoreFault};
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
    counts: Mutex<HashMap<CountedCode, Counted>>,
    /// A few at a time: one message in a hundred.
    sampled: Mutex<Vec<SpendEntry>>,
    outbox: Mutex<Outbox>,
}

/// Counts of codes that have all in common.
#[derive(Clone, Copy, Default)]
struct Counted {
    codes: CodeCounts,
    spend: SpendCounts,
}

impl Counted {
    const SENT: Counted = Counted::of(CodeCounts::SENT);
    const VERIFIED: Counted = Counted::of(CodeCounts::VERIFIED);

    const fn of(codes: CodeCounts) -> Counted {
        Counted { codes, spend: SpendCounts { messages: 0, amount: Amount::ZERO } }
    }

    fn add(&mut self, other: Counted) {
        self.codes.add(other.codes);
        self.spend.add(other.spend);
    }
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
        let (counts, sampled, outbox) = (Mutex::default(), Mutex::default(), Mutex::default());
        ConversionCounter { store, clock, writer: random_id(), counts, sampled, outbox }
    }

    /// Counts the code of a request that this process has completed, if the request began it: so a code that is sent again counts once.
    pub(super) fn completed(&self, to: &Address, began_the_code: bool, outcome: &Outcome) {
        if let Some(send) = CodeSend::of_outcome(outcome).filter(|_| began_the_code) {
            events::code_sent(to.channel(), to.phone().and_then(PhoneNumber::region));
            self.count(to, send, Counted::SENT);
        }
    }

    /// Counts the price of a message that this process has completed, now.
    pub(super) fn spent(&self, to: &Address, amount: Amount, outcome: &Outcome) {
        let Some(send) = CodeSend::of_outcome(outcome) else { return };
        events::spent(to.channel(), to.phone().and_then(PhoneNumber::region), amount);
        let spend = SpendCounts::of(amount);
        self.count(to, CodeSend { at: None, ..send }, Counted { spend, ..Counted::default() });
    }

    /// Counts a message whose price the provider has named. While the store is away few wait.
    pub(super) fn sampled(&self, amounts: &[(Sampled, Amount)]) {
        let bucket = Bucket::of(BucketWidth::FiveMinutes, self.clock.now()).number;
        let mut sampled = self.sampled.lock().expect("nothing panics while it holds the lock");
        if sampled.len() < KINDS_IN_BATCH {
            sampled.extend(amounts.iter().map(|(what, amount)| SpendEntry {
                bucket,
                group: SpendGroup::Sample,
                name: what.as_str().to_owned(),
                counts: SpendCounts::of(*amount),
            }));
        }
    }

    /// Counts a verified code in the bucket of its send.
    pub(super) fn verified(&self, to: &Address, first_send: Option<CodeSend>) {
        if let Some(send) = first_send {
            events::code_verified(to.channel(), to.phone().and_then(PhoneNumber::region));
            self.count(to, send, Counted::VERIFIED);
        }
    }

    fn count(&self, to: &Address, send: CodeSend, one: Counted) {
        let code = CountedCode::new(send.at.unwrap_or_else(|| self.clock.now()), to, send.sent_by);
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
            let (taken, sampled) = (self.take_counts(), self.take_sampled());
            if taken.is_empty() && sampled.is_empty() {
                return None;
            }
            outbox.sequence += 1;
            let (writer, sequence) = (self.writer, outbox.sequence);
            let (entries, mut spend) = (entries(&taken), amounts(&taken));
            spend.extend(sampled);
            let batch = ConversionBatch { writer, sequence, entries, spend };
            outbox.batch = Some((Arc::new(batch), Instant::now()));
        }
        outbox.batch.clone()
    }

    fn take_sampled(&self) -> Vec<SpendEntry> {
        std::mem::take(&mut *self.sampled.lock().expect("nothing panics while it holds the lock"))
    }

    fn has_more(&self) -> bool {
        self.outbox().batch.is_some() || !self.lock().is_empty()
    }

    fn take_counts(&self) -> Vec<(CountedCode, Counted)> {
        let mut counts = self.lock();
        if counts.len() <= KINDS_IN_BATCH {
            return counts.drain().collect();
        }
        let kinds: Vec<CountedCode> = counts.keys().copied().take(KINDS_IN_BATCH).collect();
        kinds.into_iter().filter_map(|kind| Some((kind, counts.remove(&kind)?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CountedCode, Counted>> {
        self.counts.lock().expect("nothing panics while it holds the lock")
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().expect("nothing panics while it holds the lock")
    }
}

/// Sums the counts by bucket, dimension and name, in the order in which these come.
fn entries(counted: &[(CountedCode, Counted)]) -> Vec<ConversionEntry> {
    let mut sums = Sums::<Dimension, CodeCounts>::default();
    for (code, Counted { codes, .. }) in
        counted.iter().filter(|(_, counted)| counted.codes != CodeCounts::default())
    {
        code.names().for_each(|name| sums.of(name).add(*codes));
    }
    let entry = |((bucket, dimension, name), counts)| ConversionEntry { bucket, dimension, name, counts };
    sums.in_order().map(entry).collect()
}

fn amounts(counted: &[(CountedCode, Counted)]) -> Vec<SpendEntry> {
    let mut sums = Sums::<SpendGroup, SpendCounts>::default();
    for (code, Counted { spend, .. }) in counted.iter().filter(|(_, counted)| counted.spend.messages > 0) {
        let names = code.names();
        let names = names.filter_map(|(bucket, by, name)| Some((bucket, SpendGroup::of(by)?, name)));
        names.for_each(|name| sums.of(name).add(*spend));
    }
    let entry = |((bucket, group, name), counts)| SpendEntry { bucket, group, name, counts };
    sums.in_order().map(entry).collect()
}

/// Sums by bucket, property and name.
struct Sums<By, C> {
    places: HashMap<(u32, By, String), usize>,
    sums: Vec<((u32, By, String), C)>,
}

impl<By, C> Default for Sums<By, C> {
    fn default() -> Self {
        Sums { places: HashMap::new(), sums: Vec::new() }
    }
}

impl<By: Copy + Eq + Hash, C: Default> Sums<By, C> {
    fn of(&mut self, name: (u32, By, String)) -> &mut C {
        let place = *self.places.entry(name.clone()).or_insert(self.sums.len());
        if place == self.sums.len() {
            self.sums.push((name, C::default()));
        }
        &mut self.sums[place].1
    }

    fn in_order(self) -> impl Iterator<Item = ((u32, By, String), C)> {
        self.sums.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::conversion::{ProviderSender, ProviderWord};
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
        let sent_by = Some(ProviderSender { provider: ProviderWord::new("twilio"), sender: 1 });
        CodeSend { at: Some(AT), sent_by }
    }

    #[test]
    fn the_kinds_that_wait_are_bounded_and_no_code_is_left_out() {
        let counter = counter();
        let blocks = u32::try_from(KINDS_MAX).expect("a small number") + 50;
        for block in 0..blocks {
            counter.count(&to(block % 10_000 * 1_000 + block / 10_000), send(), Counted::SENT);
            counter.count(&to(block % 10_000 * 1_000), send(), Counted::VERIFIED);
        }
        assert!(counter.lock().len() <= KINDS_MAX + 1, "{}", counter.lock().len());
        let mut sum = CodeCounts::default();
        counter.lock().values().for_each(|counted| sum.add(counted.codes));
        assert_eq!((sum.sent, sum.verified), (blocks, blocks));
    }

    #[tokio::test]
    async fn more_kinds_than_a_batch_has_are_added_one_batch_after_the_other() {
        let counter = counter();
        for block in 0..2_500 {
            counter.count(&to(block * 1_000), send(), Counted::SENT);
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

    #[tokio::test]
    async fn the_price_of_a_message_counts_by_what_it_has_in_common_with_others() {
        let counter = counter();
        let at =
            crate::domain::conversion::Bucket::of(crate::domain::conversion::BucketWidth::FiveMinutes, AT);
        for number in 0..3 {
            let spend = SpendCounts::of(Amount::from_micros(40_000));
            counter.count(&to(number), send(), Counted { spend, ..Counted::default() });
        }
        counter.end().await;
        for (group, name) in [(SpendGroup::Country, "CO"), (SpendGroup::Sender, "twilio 1")] {
            let stored = counter.store.spend(group, &[at]).await.expect("answers");
            let [one] = stored.as_slice() else { panic!("{group:?}: {stored:?}") };
            assert_eq!(
                (one.name.as_str(), one.counts.messages, one.counts.amount.micros()),
                (name, 3, 120_000)
            );
        }
        let codes = counter.store.conversion(Dimension::Channel, &[at]).await.expect("answers");
        assert!(codes.is_empty(), "no code began: {codes:?}");
    }
}
