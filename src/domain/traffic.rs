//! The recent traffic of one channel of a worker: how requests ended, and how long they and the provider took.
//!
//! Counts of several workers can be added up, so that any process shows all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::outcome::{ErrorCode, Status};
use super::time::millis;

/// Requests by status and reason. In the packed form each kind is a status, a reason and a count: later reasons follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutcomeCounts(BTreeMap<[u8; 2], u32>);

/// Kinds in a packed form, so that it stays below 256 bytes: the most frequent ones.
const KINDS_MAX: usize = 32;
/// A status, a reason and a count.
const KIND_BYTES: usize = 6;

impl OutcomeCounts {
    pub fn of(counts: &[(Status, Option<ErrorCode>, u32)]) -> OutcomeCounts {
        let mut outcomes = OutcomeCounts::default();
        for (status, reason, count) in counts {
            *outcomes.0.entry(kind(*status, *reason)).or_default() += count;
        }
        outcomes
    }

    pub fn count(&mut self, status: Status, reason: Option<ErrorCode>) {
        let count = self.0.entry(kind(status, reason)).or_default();
        *count = count.saturating_add(1);
    }

    pub fn add(&mut self, more: &OutcomeCounts) {
        for (kind, more) in &more.0 {
            let count = self.0.entry(*kind).or_default();
            *count = count.saturating_add(*more);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The most frequent ones first.
    pub fn iter(&self) -> impl Iterator<Item = (Status, Option<ErrorCode>, u32)> {
        let mut counts: Vec<([u8; 2], u32)> = self.0.iter().map(|(kind, count)| (*kind, *count)).collect();
        counts.sort_by_key(|(kind, count)| (std::cmp::Reverse(*count), *kind));
        counts.into_iter().filter_map(|([status, reason], count)| {
            let status = *Status::ALL.get(usize::from(status))?;
            let reason = reason.checked_sub(1).map(|at| ErrorCode::ALL.get(usize::from(at)).copied());
            Some((status, reason.flatten(), count))
        })
    }

    pub(super) fn pack(&self) -> Vec<u8> {
        let mut counts: Vec<([u8; 2], u32)> = self.0.iter().map(|(kind, count)| (*kind, *count)).collect();
        counts.sort_by_key(|(kind, count)| (std::cmp::Reverse(*count), *kind));
        let pack = |(kind, count): &([u8; 2], u32)| [&kind[..], &count.to_be_bytes()].concat();
        counts.iter().take(KINDS_MAX).flat_map(pack).collect()
    }

    /// A reason that only a later version knows is shown as none.
    pub(super) fn unpack(packed: &[u8]) -> OutcomeCounts {
        let kinds = packed.as_chunks::<KIND_BYTES>().0.iter();
        OutcomeCounts(
            kinds
                .map(|[status, reason, a, b, c, d]| {
                    ([*status, *reason], u32::from_be_bytes([*a, *b, *c, *d]))
                })
                .collect(),
        )
    }
}

/// Reason 0 is none.
fn kind(status: Status, reason: Option<ErrorCode>) -> [u8; 2] {
    [status as u8, reason.map_or(0, |reason| reason as u8 + 1)]
}

/// Upper bounds in milliseconds. Durations above the last one are counted in a bucket of their own.
const BOUNDS: [u64; 12] = [10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 120_000];
const BUCKETS: usize = BOUNDS.len() + 1;

/// Durations, counted in buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DurationCounts([u32; BUCKETS]);

impl DurationCounts {
    pub fn of(durations: &[Duration]) -> DurationCounts {
        let mut counts = DurationCounts::default();
        durations.iter().for_each(|duration| counts.count(*duration));
        counts
    }

    pub fn count(&mut self, duration: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < millis(duration));
        self.0[bucket] = self.0[bucket].saturating_add(1);
    }

    pub fn add(&mut self, more: &DurationCounts) {
        for (count, more) in self.0.iter_mut().zip(more.0) {
            *count = count.saturating_add(more);
        }
    }

    pub fn total(&self) -> u64 {
        self.0.iter().map(|count| u64::from(*count)).sum()
    }

    /// The milliseconds that this share of the durations does not exceed, between the bounds of its bucket in proportion. Beyond
    /// the last bound it is that bound. `None` without durations.
    pub fn quantile_ms(&self, share: f64) -> Option<u64> {
        let total = self.total();
        let wanted = share * total as f64;
        let (mut before, mut lower) = (0.0, 0);
        for (count, upper) in self.0.iter().zip(BOUNDS) {
            let within = before + f64::from(*count);
            if *count > 0 && within >= wanted {
                let part = (wanted - before) / f64::from(*count);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "between two bounds"
                )]
                return Some(lower + ((upper - lower) as f64 * part).round() as u64);
            }
            (before, lower) = (within, upper);
        }
        (total > 0).then_some(BOUNDS[BOUNDS.len() - 1])
    }

    pub(super) fn pack(&self) -> Vec<u8> {
        self.0.iter().flat_map(|count| count.to_be_bytes()).collect()
    }

    /// `None` with other buckets than ours.
    pub(super) fn unpack(packed: &[u8]) -> Option<DurationCounts> {
        let counts: Vec<u32> =
            packed.as_chunks::<4>().0.iter().map(|bytes| u32::from_be_bytes(*bytes)).collect();
        Some(DurationCounts(counts.try_into().ok().filter(|_| packed.len().is_multiple_of(4))?))
    }
}

/// The ends of requests in the last ten minutes, and durations of the last minute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub ended: OutcomeCounts,
    /// From the start of a handler until the broker confirmed the result.
    pub handled: DurationCounts,
    /// Answers of the provider.
    pub provider: DurationCounts,
}

impl Traffic {
    pub fn add(&mut self, more: &Traffic) {
        self.ended.add(&more.ended);
        self.handled.add(&more.handled);
        self.provider.add(&more.provider);
    }
}

const ENDED_PERIOD: Duration = Duration::from_secs(60);
const ENDED_PERIODS: usize = 10;
const DURATION_PERIOD: Duration = Duration::from_secs(10);
const DURATION_PERIODS: usize = 7;

/// Collects traffic, and forgets what is old. Times count from any fixed moment.
#[derive(Debug, Default)]
pub struct RecentTraffic {
    ended: Periods<OutcomeCounts, ENDED_PERIODS>,
    handled: Periods<DurationCounts, DURATION_PERIODS>,
    provider: Periods<DurationCounts, DURATION_PERIODS>,
}

impl RecentTraffic {
    pub fn request_ended(
        &mut self,
        now: Duration,
        status: Status,
        reason: Option<ErrorCode>,
        took: Duration,
    ) {
        self.ended.at(period(now, ENDED_PERIOD)).count(status, reason);
        self.handled.at(period(now, DURATION_PERIOD)).count(took);
    }

    pub fn provider_answered(&mut self, now: Duration, took: Duration) {
        self.provider.at(period(now, DURATION_PERIOD)).count(took);
    }

    pub fn total(&mut self, now: Duration) -> Traffic {
        let mut traffic = Traffic::default();
        self.ended.until(period(now, ENDED_PERIOD)).for_each(|counts| traffic.ended.add(counts));
        self.handled.until(period(now, DURATION_PERIOD)).for_each(|counts| traffic.handled.add(counts));
        self.provider.until(period(now, DURATION_PERIOD)).for_each(|counts| traffic.provider.add(counts));
        traffic
    }
}

fn period(now: Duration, length: Duration) -> u64 {
    now.as_secs() / length.as_secs()
}

/// The values of the last periods, each at the place of its number.
#[derive(Debug)]
struct Periods<T, const N: usize> {
    last: u64,
    values: [T; N],
}

impl<T: Default, const N: usize> Default for Periods<T, N> {
    fn default() -> Self {
        Periods { last: 0, values: std::array::from_fn(|_| T::default()) }
    }
}

impl<T: Default, const N: usize> Periods<T, N> {
    fn at(&mut self, period: u64) -> &mut T {
        self.forget_until(period);
        &mut self.values[Self::place(period)]
    }

    fn until(&mut self, period: u64) -> impl Iterator<Item = &T> {
        self.forget_until(period);
        self.values.iter()
    }

    /// The periods after the last one get the places of the oldest ones.
    fn forget_until(&mut self, period: u64) {
        let passed = period.saturating_sub(self.last).min(N as u64);
        for back in 0..passed {
            self.values[Self::place(period - back)] = T::default();
        }
        self.last = self.last.max(period);
    }

    fn place(period: u64) -> usize {
        usize::try_from(period % N as u64).expect("a small number")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn outcomes_count_for_ten_minutes_and_durations_for_one() {
        let mut recent = RecentTraffic::default();
        recent.request_ended(at(5), Status::Sent, None, Duration::from_millis(80));
        recent.request_ended(at(65), Status::Failed, Some(ErrorCode::ProviderRejected), at(1));
        recent.provider_answered(at(65), at(1));
        let one = (Status::Sent, None, 1);
        let other = (Status::Failed, Some(ErrorCode::ProviderRejected), 1);
        let total = recent.total(at(66));
        assert_eq!(total.ended, OutcomeCounts::of(&[one, other]));
        assert_eq!((total.handled.total(), total.provider.total()), (2, 1));
        let total = recent.total(at(599));
        assert_eq!((total.ended, total.handled.total()), (OutcomeCounts::of(&[one, other]), 0));
        assert_eq!(recent.total(at(600)).ended, OutcomeCounts::of(&[other]));
        assert_eq!(recent.total(at(100_000)), Traffic::default());
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let counts = DurationCounts::of(&[Duration::from_millis(60); 100]);
        assert_eq!(counts.quantile_ms(0.5), Some(75));
        assert_eq!(DurationCounts::default().quantile_ms(0.5), None);
        let mut slow = DurationCounts::of(&[Duration::from_secs(900)]);
        assert_eq!(slow.quantile_ms(0.5), Some(120_000), "beyond the last bound");
        slow.add(&DurationCounts::of(&[Duration::ZERO; 3]));
        assert_eq!(slow.quantile_ms(0.5), Some(7), "two of the three that took no time");
    }

    #[test]
    fn packed_counts_read_back_as_far_as_they_are_known() {
        let all = Status::ALL.into_iter().flat_map(|status| {
            let reasons = ErrorCode::ALL.into_iter().map(Some).chain([None]);
            reasons.map(move |reason| (status, reason, 7 + status as u32))
        });
        let outcomes = OutcomeCounts::of(&all.collect::<Vec<_>>());
        assert_eq!(outcomes.pack().len(), KINDS_MAX * KIND_BYTES);
        let few =
            OutcomeCounts::of(&[(Status::Sent, None, 300), (Status::Unknown, Some(ErrorCode::InDoubt), 2)]);
        assert_eq!(OutcomeCounts::unpack(&few.pack()), few);
        let later = OutcomeCounts::unpack(&[0, 200, 0, 0, 0, 1, 90, 0, 0, 0, 0, 1]);
        assert_eq!(later.iter().collect::<Vec<_>>(), [(Status::Sent, None, 1)]);
        let durations = DurationCounts::of(&[at(1), at(2)]);
        assert_eq!(DurationCounts::unpack(&durations.pack()), Some(durations));
        assert_eq!(DurationCounts::unpack(&[0; 8]), None);
    }

    #[test]
    fn the_places_in_the_packed_form_are_those_of_the_lists() {
        for (place, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(status as usize, place);
        }
        for (place, code) in ErrorCode::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, place, "{}", code.as_str());
        }
    }
}
