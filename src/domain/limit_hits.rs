//! Counts the requests that each limit refused in the last hour.

use super::reached_limit::ReachedLimit;

/// Requests refused, by limit. The order is that of the packed form: later limits follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitHits([u32; ReachedLimit::ALL.len()]);

impl LimitHits {
    pub fn of(hits: &[(ReachedLimit, u32)]) -> LimitHits {
        let mut counts = LimitHits::default();
        for (limit, count) in hits {
            counts.0[*limit as usize] += count;
        }
        counts
    }

    pub fn iter(&self) -> impl Iterator<Item = (ReachedLimit, u32)> {
        ReachedLimit::ALL.into_iter().zip(self.0)
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }

    pub fn add(&mut self, more: &LimitHits) {
        for (count, more) in self.0.iter_mut().zip(more.0) {
            *count = count.saturating_add(more);
        }
    }

    pub(super) fn pack(&self) -> Vec<u8> {
        self.0.iter().flat_map(|count| count.to_be_bytes()).collect()
    }

    /// Limits that only a later version knows are left out; of those that an earlier one does not know the count is 0.
    pub(super) fn unpack(packed: &[u8]) -> LimitHits {
        let mut hits = LimitHits::default();
        for (count, bytes) in hits.0.iter_mut().zip(packed.as_chunks::<4>().0) {
            *count = u32::from_be_bytes(*bytes);
        }
        hits
    }
}

const MINUTES: usize = 60;

/// The counts of each of the last 60 minutes.
#[derive(Debug)]
pub struct LimitHitsOfHour {
    /// Since any fixed moment.
    minute: u64,
    counts: [LimitHits; MINUTES],
}

impl Default for LimitHitsOfHour {
    fn default() -> Self {
        LimitHitsOfHour { minute: 0, counts: [LimitHits::default(); MINUTES] }
    }
}

impl LimitHitsOfHour {
    pub fn add(&mut self, minute: u64, limit: ReachedLimit) {
        self.forget_until(minute);
        self.counts[place(minute)].add(&LimitHits::of(&[(limit, 1)]));
    }

    pub fn total(&mut self, minute: u64) -> LimitHits {
        self.forget_until(minute);
        let mut total = LimitHits::default();
        self.counts.iter().for_each(|hits| total.add(hits));
        total
    }

    /// The minutes after the last one that was counted get the places of those an hour before.
    fn forget_until(&mut self, minute: u64) {
        let passed = minute.saturating_sub(self.minute).min(MINUTES as u64);
        for back in 0..passed {
            self.counts[place(minute - back)] = LimitHits::default();
        }
        self.minute = self.minute.max(minute);
    }
}

fn place(minute: u64) -> usize {
    usize::try_from(minute % MINUTES as u64).expect("below 60")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_counts_for_an_hour() {
        let mut hits = LimitHitsOfHour::default();
        let cooldowns = |count| LimitHits::of(&[(ReachedLimit::Cooldown, count)]);
        hits.add(5, ReachedLimit::Cooldown);
        hits.add(5, ReachedLimit::Cooldown);
        hits.add(64, ReachedLimit::Cooldown);
        assert_eq!(hits.total(64), cooldowns(3));
        assert_eq!(hits.total(65), cooldowns(1), "those of minute 5 are an hour old");
        assert_eq!(hits.total(123), cooldowns(1));
        assert_eq!(hits.total(1_000_000), cooldowns(0), "after a long pause nothing is left");
        hits.add(999_999, ReachedLimit::All);
        assert_eq!(
            hits.total(1_000_000),
            LimitHits::of(&[(ReachedLimit::All, 1)]),
            "a clock that lags a little"
        );
    }

    #[test]
    fn counts_of_other_versions_read_back_as_far_as_they_are_known() {
        let hits = LimitHits::of(&ReachedLimit::ALL.map(|limit| (limit, 1 + limit as u32)));
        let mut packed = hits.pack();
        assert_eq!(LimitHits::unpack(&packed), hits);
        packed.extend([0, 0, 0, 9]);
        assert_eq!(LimitHits::unpack(&packed), hits);
        assert_eq!(LimitHits::unpack(&packed[..4]), LimitHits::of(&[(ReachedLimit::Number, 1)]));
    }
}
