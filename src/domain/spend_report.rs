//! The spend of a time that an operator asks about.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use super::amount::{Amount, Currency};
use super::budget::BudgetUse;
use super::conversion::{Bucket, BucketWidth, Dimension, OTHER};
use super::conversion_report::ConversionQuery;
use super::spend::{Sampled, SpendCounts, SpendGroup, StoredSpend};
use super::time::{UnixMillis, millis, serialize_rfc3339};

/// The name of the row for all that have no row.
pub const OTHER_ROW: &str = "other";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpendQuery {
    pub by: SpendGroup,
    pub since: Duration,
    pub rows_max: u32,
}

impl SpendQuery {
    /// Amounts are in the same buckets as the counts of codes.
    pub fn buckets(&self, now: UnixMillis) -> Vec<Bucket> {
        let (by, since, rows_max) = (Dimension::Channel, self.since, self.rows_max);
        ConversionQuery { by, since, rows_max }.buckets(now)
    }

    /// The days between the time and the one that it is compared with: whole ones, so that the times of the day are the same. `None`: that
    /// time is not kept any more.
    pub fn days_before(&self) -> Option<u32> {
        let days = u32::try_from(self.since.as_secs().div_ceil(DAY.as_secs())).ok()?;
        (days <= DAYS_COMPARED_MAX).then_some(days)
    }
}

const DAY: Duration = Duration::from_secs(86_400);
/// Twice as many are kept.
const DAYS_COMPARED_MAX: u32 = 7;

/// A time some days ago, in whole hours: of an hour that is in it in part, a part counts.
#[derive(Clone, Copy, Debug)]
pub struct TimeBefore {
    pub from: UnixMillis,
    pub until: UnixMillis,
}

impl TimeBefore {
    pub fn new(from: UnixMillis, until: UnixMillis, days: u32) -> TimeBefore {
        let before = |at: UnixMillis| UnixMillis(at.0.saturating_sub(millis(DAY * days)));
        TimeBefore { from: before(from), until: before(until) }
    }

    pub fn buckets(&self) -> Vec<Bucket> {
        let first = Bucket::of(BucketWidth::Hour, self.from);
        std::iter::successors(Some(first), |bucket| Some(bucket.next()))
            .take_while(|bucket| bucket.start() < self.until)
            .collect()
    }

    pub fn part(&self, stored: StoredSpend) -> StoredSpend {
        let (start, end) = (stored.bucket.start(), stored.bucket.end());
        let inside = end.min(self.until).since(start.max(self.from));
        let micros = u128::from(stored.counts.amount.micros()) * u128::from(millis(inside)) / 3_600_000;
        let amount = Amount::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        StoredSpend { counts: SpendCounts { amount, ..stored.counts }, ..stored }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpendRow {
    pub name: String,
    pub messages: u32,
    pub amount: Amount,
    /// As long ago as the report says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Amount>,
}

impl SpendRow {
    fn new(name: &str, counts: SpendCounts) -> SpendRow {
        SpendRow { name: name.to_owned(), messages: counts.messages, amount: counts.amount, before: None }
    }
}

/// Messages whose price the provider was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SpendSample {
    pub messages: u32,
    /// By our prices.
    pub expected: Amount,
    /// By the provider's.
    pub paid: Amount,
    /// In percent of what was expected; absent without a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f64>,
    /// Messages with a price in another currency: they are not among the others.
    pub other_currency: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpendReport {
    pub currency: Currency,
    /// There is no file of prices.
    pub is_estimate: bool,
    pub budgets: Vec<BudgetUse>,
    pub by: &'static str,
    #[serde(serialize_with = "serialize_rfc3339")]
    pub from: UnixMillis,
    #[serde(serialize_with = "serialize_rfc3339")]
    pub until: UnixMillis,
    /// `before` is the amount of the same time so many days earlier; absent if that is not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days_before: Option<u32>,
    /// The highest amounts first; the last one may be `other`.
    pub rows: Vec<SpendRow>,
    pub total: SpendRow,
    pub sample: SpendSample,
}

/// The sums of what the store has. A bucket has at most a thousand names, so they stay few.
#[derive(Default)]
pub struct SpendSums(HashMap<String, SpendCounts>);

/// Names that are summed, of all those in the time that is asked for.
const NAMES_SUMMED_MAX: usize = 100_000;

impl SpendSums {
    /// A new name beyond the most is one of the others.
    pub fn add(&mut self, stored: StoredSpend) {
        let StoredSpend { mut name, counts, .. } = stored;
        if self.0.len() >= NAMES_SUMMED_MAX && !self.0.contains_key(&name) {
            OTHER.clone_into(&mut name);
        }
        self.0.entry(name).or_default().add(counts);
    }

    pub fn sample(&self) -> SpendSample {
        let of = |sampled: Sampled| self.0.get(sampled.as_str()).copied().unwrap_or_default();
        let (expected, paid) = (of(Sampled::Expected), of(Sampled::Paid));
        let deviation = (expected.amount > Amount::ZERO).then(|| {
            let percent = (paid.amount.share_of(expected.amount) - 1.0) * 100.0;
            (percent * 10.0).round() / 10.0
        });
        SpendSample {
            messages: expected.messages,
            expected: expected.amount,
            paid: paid.amount,
            deviation,
            other_currency: of(Sampled::OtherCurrency).messages,
        }
    }

    /// Adds the amounts of an earlier time to these rows.
    pub fn compare(self, rows: &mut [SpendRow], total: &mut SpendRow) {
        let SpendSums(mut sums) = self;
        let sum = |counts: &mut dyn Iterator<Item = SpendCounts>| counts.map(|counts| counts.amount).sum();
        total.before = Some(sum(&mut sums.values().copied()));
        let (other, named): (Vec<_>, Vec<_>) = rows.iter_mut().partition(|row| row.name == OTHER_ROW);
        for row in named {
            row.before = Some(sums.remove(&row.name).unwrap_or_default().amount);
        }
        for row in other {
            row.before = Some(sum(&mut sums.values().copied()));
        }
    }

    /// The rows, and their total.
    pub fn rows(self, rows_max: u32) -> (Vec<SpendRow>, SpendRow) {
        let SpendSums(mut sums) = self;
        let mut total = SpendCounts::default();
        sums.values().for_each(|counts| total.add(*counts));
        let mut other = sums.remove(OTHER);
        let mut named: Vec<(String, SpendCounts)> = sums.into_iter().collect();
        named.sort_by(|(a_name, a), (b_name, b)| b.amount.cmp(&a.amount).then_with(|| a_name.cmp(b_name)));
        let rows_max = usize::try_from(rows_max).unwrap_or(usize::MAX).min(named.len());
        for (_, counts) in named.split_off(rows_max) {
            other.get_or_insert_default().add(counts);
        }
        let mut rows: Vec<SpendRow> =
            named.iter().map(|(name, counts)| SpendRow::new(name, *counts)).collect();
        rows.extend(other.map(|counts| SpendRow::new(OTHER_ROW, counts)));
        (rows, SpendRow::new("total", total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(rows: &[(&str, u32, u64)]) -> SpendSums {
        let bucket = Bucket::of(BucketWidth::Hour, UnixMillis(1_800_000_000_000));
        let mut sums = SpendSums::default();
        for (name, messages, micros) in rows {
            let counts = SpendCounts { messages: *messages, amount: Amount::from_micros(*micros) };
            sums.add(StoredSpend { bucket, name: (*name).to_owned(), counts });
        }
        sums
    }

    #[test]
    fn the_highest_amounts_come_first_and_the_rest_together() {
        let (rows, total) = sums(&[("CO", 2, 80), ("MX", 1, 50), ("CO", 1, 40), ("PE", 1, 200)]).rows(2);
        let shown: Vec<(&str, u32, u64)> =
            rows.iter().map(|row| (row.name.as_str(), row.messages, row.amount.micros())).collect();
        assert_eq!(shown, [("PE", 1, 200), ("CO", 3, 120), ("other", 1, 50)]);
        assert_eq!((total.messages, total.amount.micros()), (5, 370));
    }

    #[test]
    fn a_sample_shows_the_deviation_and_mixes_no_currencies() {
        let sample = sums(&[("expected", 4, 200), ("paid", 4, 230), ("other_currency", 3, 0)]).sample();
        assert_eq!((sample.messages, sample.deviation, sample.other_currency), (4, Some(15.0), 3));
        assert_eq!(sums(&[]).sample(), SpendSample::default());
    }

    #[test]
    fn the_same_time_some_days_earlier_counts_parts_of_hours() {
        let hour_at = UnixMillis(1_800_000_000_000);
        let (from, until) =
            (hour_at.plus(Duration::from_secs(1_800)), hour_at.plus(Duration::from_secs(9_000)));
        let before = TimeBefore::new(from, until, 1);
        let buckets = before.buckets();
        assert_eq!(buckets[0].start().plus(DAY), hour_at);
        let part = |bucket: Bucket| {
            let counts = SpendCounts { messages: 2, amount: Amount::from_micros(8_000_000) };
            before.part(StoredSpend { bucket, name: "sms".to_owned(), counts }).counts.amount.micros()
        };
        let parts: Vec<u64> = buckets.into_iter().map(part).collect();
        assert_eq!(parts, [4_000_000, 8_000_000, 4_000_000]);
        let query = |days: u64| SpendQuery {
            by: SpendGroup::Channel,
            since: DAY * u32::try_from(days).expect("few"),
            rows_max: 1,
        };
        assert_eq!([1, 7, 8].map(|days| query(days).days_before()), [Some(1), Some(7), None]);
    }

    #[test]
    fn rows_show_the_amounts_of_before_and_none_is_left_out() {
        let (mut rows, mut total) = sums(&[("CO", 1, 80), ("MX", 1, 50), ("PE", 1, 10)]).rows(1);
        sums(&[("CO", 1, 40), ("PE", 1, 7), ("AR", 1, 3)]).compare(&mut rows, &mut total);
        let before: Vec<_> = rows.iter().map(|row| row.before.map(Amount::micros)).collect();
        assert_eq!((before, total.before.map(Amount::micros)), (vec![Some(40), Some(10)], Some(50)));
    }
}
