//! Counts of sent and verified codes, by bucket and dimension, in parts of a bounded number of names.

use std::collections::{BTreeMap, HashMap};

use crate::domain::conversion::{
    Bucket, BucketWidth, CodeCounts, ConversionBatch, Dimension, NAMES_MAX, OTHER, StoredCounts,
};
use crate::domain::time::UnixMillis;
use crate::store::retention::{CONVERSION_WRITER_KEPT, CONVERSION_WRITERS_MAX};

type PartKey = (Bucket, Dimension, u8);

#[derive(Default)]
pub(super) struct Conversion {
    parts: BTreeMap<PartKey, Part>,
    /// The last batch of each writer, and when it came.
    writers: HashMap<u64, (UnixMillis, u32)>,
}

#[derive(Default)]
struct Part {
    /// In the order in which they came.
    names: Vec<(String, CodeCounts)>,
    other: Option<CodeCounts>,
}

impl Conversion {
    pub(super) fn add(&mut self, batch: &ConversionBatch, now: UnixMillis) {
        if !self.is_new(batch, now) {
            return;
        }
        let mut added: BTreeMap<PartKey, Vec<(String, CodeCounts)>> = BTreeMap::new();
        for entry in &batch.entries {
            // A clock that is ahead counts now.
            let narrow = BucketWidth::FiveMinutes;
            let number = entry.bucket.min(Bucket::of(narrow, now).number);
            let narrow = Bucket { width: narrow, number };
            for bucket in [narrow, Bucket::of(BucketWidth::Hour, narrow.start())] {
                if bucket.kept_until() <= now {
                    continue;
                }
                let key = (bucket, entry.dimension, entry.dimension.part(&entry.name));
                let names = added.entry(key).or_default();
                match names.iter_mut().find(|(name, _)| *name == entry.name) {
                    Some((_, counts)) => counts.add(entry.counts),
                    None => names.push((entry.name.clone(), entry.counts)),
                }
            }
        }
        for (key, names) in added {
            self.parts.entry(key).or_default().add(names);
        }
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

    pub(super) fn read(
        &self,
        dimension: Dimension,
        buckets: &[Bucket],
        now: UnixMillis,
    ) -> Vec<StoredCounts> {
        let mut sums: BTreeMap<(Bucket, &str), CodeCounts> = BTreeMap::new();
        for bucket in buckets.iter().filter(|bucket| bucket.kept_until() > now) {
            for part in 0..dimension.parts() {
                let Some(part) = self.parts.get(&(*bucket, dimension, part)) else { continue };
                let names = part.names.iter().map(|(name, counts)| (name.as_str(), *counts));
                for (name, counts) in names.chain(part.other.map(|counts| (OTHER, counts))) {
                    sums.entry((*bucket, name)).or_default().add(counts);
                }
            }
        }
        let counts = |((bucket, name), counts): ((Bucket, &str), CodeCounts)| StoredCounts {
            bucket,
            name: name.to_owned(),
            counts,
        };
        sums.into_iter().map(counts).collect()
    }

    pub(super) fn sweep(&mut self, now: UnixMillis) {
        self.parts.retain(|(bucket, ..), _| bucket.kept_until() > now);
    }
}

impl Part {
    fn add(&mut self, added: Vec<(String, CodeCounts)>) {
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
    fn evict(&mut self, count: usize, kept: &[(String, CodeCounts)]) {
        let is_kept = |name: &str| kept.iter().any(|(other, _)| other == name);
        let candidates = self.names.iter().filter(|(name, _)| !is_kept(name));
        let mut candidates: Vec<(u32, String)> =
            candidates.map(|(name, counts)| (counts.sent, name.clone())).collect();
        candidates.sort_by_key(|(sent, _)| *sent);
        for (_, evicted) in candidates.into_iter().take(count) {
            let place = self.names.iter().position(|(name, _)| *name == evicted).expect("it is one of them");
            let (_, counts) = self.names.remove(place);
            self.other.get_or_insert_default().add(counts);
        }
    }
}
