//! Counts of sent and verified codes, and amounts spent, by bucket and dimension, in parts of a bounded number of names.

use std::collections::{BTreeMap, HashMap};

use crate::domain::conversion::{Bucket, BucketWidth, CodeCounts, Dimension, NAMES_MAX, OTHER, StoredCounts};
use crate::domain::conversion_batch::ConversionBatch;
use crate::domain::spend::{SpendCounts, SpendGroup, StoredSpend};
use crate::domain::time::UnixMillis;
use crate::store::retention::{CONVERSION_WRITER_KEPT, CONVERSION_WRITERS_MAX};

/// Counts under one name.
trait Counts: Copy + Default {
    /// It decides which names stay.
    fn sent(&self) -> u32;
    fn add(&mut self, other: Self);
}

impl Counts for CodeCounts {
    fn sent(&self) -> u32 {
        self.sent
    }

    fn add(&mut self, other: CodeCounts) {
        CodeCounts::add(self, other);
    }
}

impl Counts for SpendCounts {
    fn sent(&self) -> u32 {
        self.messages
    }

    fn add(&mut self, other: SpendCounts) {
        SpendCounts::add(self, other);
    }
}

#[derive(Default)]
pub(super) struct Conversion {
    codes: Parts<Dimension, CodeCounts>,
    amounts: Parts<SpendGroup, SpendCounts>,
    /// The last batch of each writer, and when it came.
    writers: HashMap<u64, (UnixMillis, u32)>,
}

impl Conversion {
    pub(super) fn add(&mut self, batch: &ConversionBatch, now: UnixMillis) {
        if !self.is_new(batch, now) {
            return;
        }
        let codes = batch.entries.iter();
        let codes = codes.map(|entry| (entry.bucket, entry.dimension, entry.name.as_str(), entry.counts));
        self.codes.add(codes.map(|code| (code, code.1)), now);
        let amounts = batch.spend.iter();
        let amounts = amounts.map(|entry| (entry.bucket, entry.group, entry.name.as_str(), entry.counts));
        self.amounts.add(amounts.map(|amount| (amount, amount.1.names())), now);
    }

    pub(super) fn read(
        &self,
        dimension: Dimension,
        buckets: &[Bucket],
        now: UnixMillis,
    ) -> Vec<StoredCounts> {
        let sums = self.codes.read(dimension, dimension, buckets, now).into_iter();
        let stored = |((bucket, name), counts): ((Bucket, &str), _)| StoredCounts {
            bucket,
            name: name.to_owned(),
            counts,
        };
        sums.map(stored).collect()
    }

    pub(super) fn read_spend(
        &self,
        group: SpendGroup,
        buckets: &[Bucket],
        now: UnixMillis,
    ) -> Vec<StoredSpend> {
        let sums = self.amounts.read(group, group.names(), buckets, now).into_iter();
        let stored = |((bucket, name), counts): ((Bucket, &str), _)| StoredSpend {
            bucket,
            name: name.to_owned(),
            counts,
        };
        sums.map(stored).collect()
    }

    pub(super) fn sweep(&mut self, now: UnixMillis) {
        self.codes.sweep(now);
        self.amounts.sweep(now);
    }

    fn is_new(&mut self, batch: &ConversionBatch, now: UnixMillis) -> bool {
        let last = self.writers.get(&batch.writer);
        let is_kept = |at: UnixMillis| at.plus(CONVERSION_WRITER_KEPT) > now;
        if last.is_some_and(|(at, sequence)| is_kept(*at) && batch.sequence <= *sequence) {
            return false;
        }
        if self.writers.insert(batch.writer, (now, batch.sequence)).is_none() {
            self.writers.retain(|_, (at, _)| is_kept(*at));
            self.forget_oldest_writers(batch.writer);
        }
        true
    }

    fn forget_oldest_writers(&mut self, new: u64) {
        let excess = self.writers.len().saturating_sub(CONVERSION_WRITERS_MAX);
        let others = self.writers.iter().filter(|(writer, _)| **writer != new);
        let mut others: Vec<(UnixMillis, u64)> = others.map(|(writer, (at, _))| (*at, *writer)).collect();
        others.sort_unstable();
        for (_, writer) in others.into_iter().take(excess) {
            self.writers.remove(&writer);
        }
    }
}

/// The parts of all buckets, by a property.
struct Parts<By, C>(BTreeMap<(Bucket, By, u8), Part<C>>);

impl<By: Ord, C> Default for Parts<By, C> {
    fn default() -> Self {
        Parts(BTreeMap::new())
    }
}

impl<By: Copy + Ord, C: Counts> Parts<By, C> {
    /// Entries, each with the dimension of its name.
    fn add<'a>(
        &mut self,
        entries: impl Iterator<Item = ((u32, By, &'a str, C), Dimension)>,
        now: UnixMillis,
    ) {
        let mut added: BTreeMap<(Bucket, By, u8), Vec<(String, C)>> = BTreeMap::new();
        for ((bucket, by, entry_name, counts), dimension) in entries {
            // A clock that is ahead counts now.
            let narrow = BucketWidth::FiveMinutes;
            let number = bucket.min(Bucket::of(narrow, now).number);
            let narrow = Bucket { width: narrow, number };
            for bucket in [narrow, Bucket::of(BucketWidth::Hour, narrow.start())] {
                if bucket.kept_until() <= now {
                    continue;
                }
                let names = added.entry((bucket, by, dimension.part(entry_name))).or_default();
                match names.iter_mut().find(|(name, _)| name == entry_name) {
                    Some((_, sum)) => sum.add(counts),
                    None => names.push((entry_name.to_owned(), counts)),
                }
            }
        }
        for (key, names) in added {
            self.0.entry(key).or_default().add(names);
        }
    }

    fn read(
        &self,
        by: By,
        dimension: Dimension,
        buckets: &[Bucket],
        now: UnixMillis,
    ) -> BTreeMap<(Bucket, &str), C> {
        let mut sums: BTreeMap<(Bucket, &str), C> = BTreeMap::new();
        for bucket in buckets.iter().filter(|bucket| bucket.kept_until() > now) {
            for part in 0..dimension.parts() {
                let Some(part) = self.0.get(&(*bucket, by, part)) else { continue };
                let names = part.names.iter().map(|(name, counts)| (name.as_str(), *counts));
                for (name, counts) in names.chain(part.other.map(|counts| (OTHER, counts))) {
                    sums.entry((*bucket, name)).or_default().add(counts);
                }
            }
        }
        sums
    }

    fn sweep(&mut self, now: UnixMillis) {
        self.0.retain(|(bucket, ..), _| bucket.kept_until() > now);
    }
}

struct Part<C> {
    /// In the order in which they came.
    names: Vec<(String, C)>,
    other: Option<C>,
}

impl<C> Default for Part<C> {
    fn default() -> Self {
        Part { names: Vec::new(), other: None }
    }
}

impl<C: Counts> Part<C> {
    fn add(&mut self, added: Vec<(String, C)>) {
        let is_known = |name: &str| self.names.iter().any(|(known, _)| known == name);
        let new = added.iter().filter(|(name, _)| name != OTHER && !is_known(name)).count();
        let missing = (self.names.len() + new).saturating_sub(NAMES_MAX);
        self.evict(missing, &added);
        for (name, counts) in added {
            if let Some((_, known)) = self.names.iter_mut().find(|(known, _)| *known == name) {
                known.add(counts);
            } else if name != OTHER && self.names.len() < NAMES_MAX {
                self.names.push((name, counts));
            } else {
                self.other.get_or_insert_default().add(counts);
            }
        }
    }

    /// Moves those with the fewest sends, of these the oldest, to the others.
    fn evict(&mut self, count: usize, kept: &[(String, C)]) {
        let is_kept = |name: &str| kept.iter().any(|(other, _)| other == name);
        let candidates = self.names.iter().filter(|(name, _)| !is_kept(name));
        let mut candidates: Vec<(u32, String)> =
            candidates.map(|(name, counts)| (counts.sent(), name.clone())).collect();
        candidates.sort_by_key(|(sent, _)| *sent);
        for (_, evicted) in candidates.into_iter().take(count) {
            let place = self.names.iter().position(|(name, _)| *name == evicted).expect("it is one of them");
            let (_, counts) = self.names.remove(place);
            self.other.get_or_insert_default().add(counts);
        }
    }
}
