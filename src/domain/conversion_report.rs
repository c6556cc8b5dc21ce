//! The conversion of a time that an operator asks about: which buckets it has, and their sums.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use super::conversion::{Bucket, BucketWidth, CodeCounts, Dimension, OTHER, StoredCounts};
use super::time::{UnixMillis, millis, serialize_rfc3339};

pub const SINCE_RULE: &str = "must be a number of minutes (5m), hours (2h) or days (15d), from 5m to 15d";
pub const SINCE_DEFAULT: Duration = Duration::from_secs(2 * 3_600);
const SINCE_MIN: Duration = Duration::from_secs(300);
const SINCE_MAX: Duration = BucketWidth::Hour.kept();
pub const ROWS_DEFAULT: u32 = 100;
pub const ROWS_MAX: u32 = 5_000;
/// Names that are summed, of all those in the time that is asked for.
const NAMES_SUMMED_MAX: usize = 100_000;
/// A block with fewer sends is not shown: its few people have numbers that differ in three digits.
pub const BLOCK_SENDS_SHOWN_MIN: u32 = 5;
/// The name of the row for all that have no row.
const OTHER_ROW: &str = "other";

/// Reads `90m`, `2h` or `7d`.
pub fn parse_since(text: &str) -> Option<Duration> {
    let (at, unit) = text.char_indices().last()?;
    let (number, unit) = (
        &text[..at],
        match unit {
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        },
    );
    let is_number = (1..=5).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && !number.starts_with('0');
    let seconds = is_number.then(|| number.parse::<u64>().ok())?? * unit;
    let since = Duration::from_secs(seconds);
    (SINCE_MIN..=SINCE_MAX).contains(&since).then_some(since)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversionQuery {
    pub by: Dimension,
    pub since: Duration,
    pub rows_max: u32,
}

impl ConversionQuery {
    /// The buckets from `now - since` on: of five minutes for two hours; for longer whole hours, and of five minutes only since the
    /// beginning of the last hour, so that codes whose life is not over are kept apart. The first bucket may begin earlier.
    pub fn buckets(&self, now: UnixMillis) -> Vec<Bucket> {
        let from = UnixMillis(now.0.saturating_sub(millis(self.since)));
        let hour = BucketWidth::Hour;
        let last_hour = UnixMillis(now.0.saturating_sub(millis(hour.duration())));
        let narrow_from =
            if self.since <= SINCE_DEFAULT { from } else { Bucket::of(hour, last_hour).start() };
        let mut buckets = Vec::new();
        let mut bucket = Bucket::of(hour, from);
        // If the narrow ones begin with the asked time, no hour is whole.
        while bucket.end() <= narrow_from {
            buckets.push(bucket);
            bucket = bucket.next();
        }
        let mut bucket = Bucket::of(BucketWidth::FiveMinutes, narrow_from);
        while bucket.start() <= now {
            buckets.push(bucket);
            bucket = bucket.next();
        }
        buckets
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConversionRow {
    pub name: String,
    pub sent: u32,
    pub verified: u32,
    /// Not verified, and the code's life is over.
    pub unverified: u32,
    /// Not verified, and the code can still be.
    pub pending: u32,
    /// Verified among those whose code's life is over; absent if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConversionReport {
    pub by: &'static str,
    #[serde(serialize_with = "serialize_rfc3339")]
    pub from: UnixMillis,
    #[serde(serialize_with = "serialize_rfc3339")]
    pub until: UnixMillis,
    /// Seconds after which a code that is not verified counts as unverified.
    pub code_life: u64,
    /// Most sends first; the last one may be `other`.
    pub rows: Vec<ConversionRow>,
    pub total: ConversionRow,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    sent: u32,
    verified: u32,
    pending: u32,
    settled: CodeCounts,
}

impl Sums {
    fn count(&mut self, counts: CodeCounts, is_settled: bool) {
        self.sent = self.sent.saturating_add(counts.sent);
        self.verified = self.verified.saturating_add(counts.verified);
        if is_settled {
            self.settled.add(counts);
        } else {
            self.pending = self.pending.saturating_add(counts.sent.saturating_sub(counts.verified));
        }
    }

    fn add(&mut self, other: Sums) {
        self.sent = self.sent.saturating_add(other.sent);
        self.verified = self.verified.saturating_add(other.verified);
        self.pending = self.pending.saturating_add(other.pending);
        self.settled.add(other.settled);
    }

    fn row(self, name: &str) -> ConversionRow {
        let Sums { sent, verified, pending, settled } = self;
        let rate = (settled.sent > 0).then(|| {
            let rate = f64::from(settled.verified.min(settled.sent)) / f64::from(settled.sent);
            (rate * 10_000.0).round() / 10_000.0
        });
        let unverified = settled.sent.saturating_sub(settled.verified);
        ConversionRow { name: name.to_owned(), sent, verified, unverified, pending, rate }
    }
}

/// The sums of what the store has, bucket by bucket: all of them at once would take much memory.
pub struct ConversionSums {
    query: ConversionQuery,
    code_life: Duration,
    now: UnixMillis,
    sums: HashMap<String, Sums>,
}

impl ConversionSums {
    pub fn new(query: ConversionQuery, code_life: Duration, now: UnixMillis) -> ConversionSums {
        ConversionSums { query, code_life, now, sums: HashMap::new() }
    }

    /// A new name beyond the most is one of the others, so the newest buckets come first.
    pub fn add(&mut self, stored: StoredCounts) {
        let StoredCounts { bucket, mut name, counts } = stored;
        if self.sums.len() >= NAMES_SUMMED_MAX && !self.sums.contains_key(&name) {
            OTHER.clone_into(&mut name);
        }
        let is_settled = bucket.end().plus(self.code_life) <= self.now;
        self.sums.entry(name).or_default().count(counts, is_settled);
    }

    /// `from` is the beginning of the first bucket.
    pub fn report(self, from: UnixMillis) -> ConversionReport {
        let ConversionSums { query, code_life, now, mut sums } = self;
        let mut total = Sums::default();
        sums.values().for_each(|sum| total.add(*sum));
        let mut other = sums.remove(OTHER);
        let is_shown = |sum: &Sums| query.by != Dimension::Block || sum.sent >= BLOCK_SENDS_SHOWN_MIN;
        let (mut shown, hidden): (Vec<_>, Vec<_>) = sums.into_iter().partition(|(_, sum)| is_shown(sum));
        shown.sort_by(|(a_name, a), (b_name, b)| b.sent.cmp(&a.sent).then_with(|| a_name.cmp(b_name)));
        let rows_max = usize::try_from(query.rows_max).unwrap_or(usize::MAX).min(shown.len());
        let left_out = shown.split_off(rows_max);
        for (_, sum) in hidden.into_iter().chain(left_out) {
            other.get_or_insert_default().add(sum);
        }
        let mut rows: Vec<ConversionRow> = shown.iter().map(|(name, sum)| sum.row(name)).collect();
        rows.extend(other.map(|sum| sum.row(OTHER_ROW)));
        ConversionReport {
            by: query.by.as_str(),
            from,
            until: now,
            code_life: code_life.as_secs(),
            rows,
            total: total.row("total"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(600);
    /// The beginning of an hour.
    const HOUR_AT: UnixMillis = UnixMillis(1_800_000_000_000);

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    fn query(by: Dimension, since: Duration) -> ConversionQuery {
        ConversionQuery { by, since, rows_max: ROWS_DEFAULT }
    }

    fn report(
        query: ConversionQuery,
        counts: impl IntoIterator<Item = StoredCounts>,
        now: UnixMillis,
    ) -> ConversionReport {
        let mut sums = ConversionSums::new(query, LIFE, now);
        counts.into_iter().for_each(|stored| sums.add(stored));
        sums.report(query.buckets(now)[0].start())
    }

    fn stored(bucket: Bucket, name: &str, sent: u32, verified: u32) -> StoredCounts {
        StoredCounts { bucket, name: name.to_owned(), counts: CodeCounts { sent, verified } }
    }

    #[test]
    fn a_time_is_read_within_its_bounds() {
        for (text, seconds) in [("5m", 300), ("90m", 5_400), ("2h", 7_200), ("15d", 15 * 86_400)] {
            assert_eq!(parse_since(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "m", "4m", "2", "2 h", "-2h", "16d", "361h", "999999m", "2w", "²h"] {
            assert_eq!(parse_since(text), None, "{text}");
        }
    }

    #[test]
    fn buckets_cover_the_time_without_a_gap_and_all_are_kept() {
        for since in [minutes(5), minutes(60), minutes(120), minutes(121), minutes(24 * 60), SINCE_MAX] {
            for past in [0, 1, 59_999, 3_599_999] {
                let now = UnixMillis(HOUR_AT.0 + past);
                let buckets = query(Dimension::Channel, since).buckets(now);
                let from = UnixMillis(now.0 - millis(since));
                assert!(buckets[0].start() <= from && from < buckets[0].end(), "{since:?} {past}");
                for pair in buckets.windows(2) {
                    assert_eq!(pair[0].end(), pair[1].start(), "{since:?} {past}");
                }
                let last = buckets.last().expect("there is one");
                assert!(last.start() <= now && now < last.end(), "{since:?} {past}");
                assert!(buckets.iter().all(|bucket| bucket.kept_until() > now), "{since:?} {past}");
                // Each code whose life is over, and none whose is not, stands apart.
                let young = buckets.iter().filter(|bucket| bucket.end().plus(LIFE) > now);
                assert!(young.clone().all(|bucket| bucket.width == BucketWidth::FiveMinutes));
                assert!(young.count() <= 3, "{since:?} {past}");
            }
        }
    }

    #[test]
    fn a_code_is_pending_until_its_life_is_over_and_the_rate_leaves_it_out() {
        let now = HOUR_AT.plus(minutes(30));
        let bucket = |ago| Bucket::of(BucketWidth::FiveMinutes, UnixMillis(now.0 - millis(minutes(ago))));
        let (old, young) = (bucket(20), bucket(3));
        let query = query(Dimension::Country, minutes(60));
        let counts = [stored(old, "CO", 10, 7), stored(young, "CO", 5, 1), stored(young, "MX", 4, 4)];
        let report = report(query, counts, now);
        let row = |name: &str, sent, verified, unverified, pending, rate| ConversionRow {
            name: name.to_owned(),
            sent,
            verified,
            unverified,
            pending,
            rate,
        };
        assert_eq!(report.rows, [row("CO", 15, 8, 3, 4, Some(0.7)), row("MX", 4, 4, 0, 0, None)]);
        assert_eq!(report.total, row("total", 19, 12, 3, 4, Some(0.7)));
    }

    #[test]
    fn blocks_of_few_people_and_rows_beyond_the_most_are_among_the_others() {
        let now = HOUR_AT.plus(minutes(30));
        let bucket = Bucket::of(BucketWidth::FiveMinutes, HOUR_AT);
        let query = ConversionQuery { rows_max: 2, ..query(Dimension::Block, minutes(60)) };
        let counts = [
            stored(bucket, "+573001234", 4, 4),
            stored(bucket, "+573001235", 5, 1),
            stored(bucket, "+573001236", 9, 0),
            stored(bucket, "+573001237", 7, 2),
            stored(bucket, OTHER, 3, 3),
        ];
        let report = report(query, counts, now);
        let shown: Vec<(&str, u32, u32)> =
            report.rows.iter().map(|row| (row.name.as_str(), row.sent, row.verified)).collect();
        assert_eq!(shown, [("+573001236", 9, 0), ("+573001237", 7, 2), ("other", 12, 8)]);
        assert_eq!((report.total.sent, report.total.verified), (28, 10));
    }

    #[test]
    fn the_names_that_are_summed_are_bounded_and_no_code_is_left_out() {
        let bucket = Bucket::of(BucketWidth::FiveMinutes, HOUR_AT);
        let names = NAMES_SUMMED_MAX + 10;
        let counts = (0..names).map(|name| stored(bucket, &format!("+57{name:010}"), 5, 1));
        let again = stored(bucket, &format!("+57{:010}", 0), 5, 1);
        let query = ConversionQuery { rows_max: 1, ..query(Dimension::Block, minutes(60)) };
        let report = report(query, counts.chain([again]), HOUR_AT.plus(minutes(30)));
        assert_eq!((report.rows[0].sent, report.rows.len()), (10, 2));
        assert_eq!(report.total.sent, 5 * (u32::try_from(names).expect("small") + 1));
    }
}
