//! The budgets of the pumping defence: the floors, and what is normal for the hour of the week by the counts of conversion.
//!
//! Normal is the lesser of the unverified codes of 7 and of 14 days before: without two weeks of history that is none, and an attack last
//! week raises no budget.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::domain::conversion::{Bucket, BucketWidth, CodeCounts, Dimension};
use crate::domain::defence::{Budget, Scope, ScopeKind};
use crate::domain::time::UnixMillis;
use crate::store::{Store, StoreError, StoreFault};

/// A later answer of the store counts as none.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
const WEEK_HOURS: u32 = 168;
const DAY_HOURS: u32 = 24;
/// Fewer unverified codes of a block in an hour are covered by the floor.
const BLOCK_UNVERIFIED_MIN: u32 = 5;
const EXPECTED_EVERY: Duration = Duration::from_secs(300);
/// After a failure.
const PAUSE: Duration = Duration::from_secs(60);
/// The share of codes that is expected to be verified, in thousandths, where less is known.
const EXPECTED: u32 = 700;
const EXPECTED_MIN: u32 = 300;
const EXPECTED_MAX: u32 = 800;
/// Codes of a country in a day from which its own share counts.
const SENT_MIN: u32 = 100;

type Country = [u8; 2];

pub(super) struct Budgets {
    /// Of the floors.
    percent: u32,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Unverified codes that are normal in each of the last 24 hours.
    hours: BTreeMap<u32, HashMap<Scope, u32>>,
    normal: HashMap<Scope, Budget>,
    expected: HashMap<Country, u32>,
    expected_at: Option<Instant>,
    paused_until: Option<Instant>,
}

impl Budgets {
    pub(super) fn new(percent: u32) -> Budgets {
        Budgets { percent, known: Mutex::default() }
    }

    pub(super) fn budget(&self, scope: Scope) -> Budget {
        let normal = self.lock().normal.get(&scope).copied().unwrap_or_default();
        scope.kind.floor_in_percent(self.percent).plus(normal)
    }

    /// The share of pending sends that counts, in thousandths.
    pub(super) fn weight(&self, country: Option<Country>) -> u16 {
        let known = self.lock();
        let expected = country.and_then(|country| known.expected.get(&country)).copied().unwrap_or(EXPECTED);
        u16::try_from(1_000 - expected.clamp(EXPECTED_MIN, EXPECTED_MAX)).expect("at most 700")
    }

    /// Reads one hour, or the countries, if something is missing. Called once a second.
    pub(super) async fn refresh(&self, store: &dyn Store, now: UnixMillis) {
        let is_paused = self.lock().paused_until.is_some_and(|until| Instant::now() < until);
        if !is_paused && self.try_refresh(store, now).await.is_err() {
            self.lock().paused_until = Some(Instant::now() + PAUSE);
        }
    }

    async fn try_refresh(&self, store: &dyn Store, now: UnixMillis) -> Result<(), StoreError> {
        let this_hour = Bucket::of(BucketWidth::Hour, now).number;
        let hours = self.refresh_hours(store, this_hour).await;
        let countries = self.refresh_expected(store, this_hour).await;
        hours.and(countries)
    }

    /// An hour that cannot be read counts as empty, or it would keep the others from being read.
    async fn refresh_hours(&self, store: &dyn Store, this_hour: u32) -> Result<(), StoreError> {
        let first = this_hour.saturating_sub(DAY_HOURS - 1);
        let missing = {
            let known = self.lock();
            (first..=this_hour).rev().find(|hour| !known.hours.contains_key(hour))
        };
        if let Some(hour) = missing {
            let normal = match answered(normal_of_hour(store, hour)).await {
                Err(error) if error.is_permanent() => HashMap::new(),
                normal => normal?,
            };
            let mut known = self.lock();
            known.hours.insert(hour, normal);
            known.hours.retain(|hour, _| (first..=this_hour).contains(hour));
            known.normal = sums(&known.hours, this_hour);
        }
        Ok(())
    }

    async fn refresh_expected(&self, store: &dyn Store, this_hour: u32) -> Result<(), StoreError> {
        if self.lock().expected_at.is_none_or(|at| at.elapsed() >= EXPECTED_EVERY) {
            let expected = answered(expected_by_country(store, this_hour)).await?;
            let mut known = self.lock();
            (known.expected, known.expected_at) = (expected, Some(Instant::now()));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nothing panics while it holds the lock")
    }
}

pub(super) async fn answered<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(ANSWER_TIMEOUT, call).await.unwrap_or(Err(StoreError::Unavailable(StoreFault::NoAnswer)))
}

async fn normal_of_hour(store: &dyn Store, hour: u32) -> Result<HashMap<Scope, u32>, StoreError> {
    let mut normal = HashMap::new();
    for (dimension, kind, least) in [
        (Dimension::Prefix, ScopeKind::Prefix, 1),
        (Dimension::Block, ScopeKind::Block, BLOCK_UNVERIFIED_MIN),
    ] {
        let last_week = unverified(store, dimension, hour.saturating_sub(WEEK_HOURS)).await?;
        let week_before = unverified(store, dimension, hour.saturating_sub(2 * WEEK_HOURS)).await?;
        for (id, count) in last_week {
            let count = count.min(week_before.get(&id).copied().unwrap_or_default());
            if count >= least {
                normal.insert(Scope { kind, id }, count);
            }
        }
    }
    Ok(normal)
}

async fn unverified(
    store: &dyn Store,
    dimension: Dimension,
    hour: u32,
) -> Result<HashMap<u64, u32>, StoreError> {
    let counts = store.conversion(dimension, &[Bucket { width: BucketWidth::Hour, number: hour }]).await?;
    let of_digits = counts.into_iter().filter_map(|stored| {
        let CodeCounts { sent, verified } = stored.counts;
        Some((stored.name.strip_prefix('+')?.parse().ok()?, sent.saturating_sub(verified)))
    });
    Ok(of_digits.collect())
}

fn sums(hours: &BTreeMap<u32, HashMap<Scope, u32>>, this_hour: u32) -> HashMap<Scope, Budget> {
    let mut sums: HashMap<Scope, Budget> = HashMap::new();
    for (hour, counts) in hours {
        for (scope, count) in counts {
            let sum = sums.entry(*scope).or_default();
            sum.day = sum.day.saturating_add(*count);
            if *hour == this_hour {
                sum.hour = *count;
            }
        }
    }
    sums
}

/// The share of the codes of the last 24 whole hours that were verified, in thousandths.
async fn expected_by_country(store: &dyn Store, this_hour: u32) -> Result<HashMap<Country, u32>, StoreError> {
    let hours = this_hour.saturating_sub(DAY_HOURS)..this_hour;
    let buckets: Vec<Bucket> = hours.map(|number| Bucket { width: BucketWidth::Hour, number }).collect();
    let mut sums: HashMap<Country, CodeCounts> = HashMap::new();
    for stored in store.conversion(Dimension::Country, &buckets).await? {
        if let Ok(country) = Country::try_from(stored.name.as_bytes()) {
            sums.entry(country).or_default().add(stored.counts);
        }
    }
    let share = |counts: CodeCounts| {
        let verified = u64::from(counts.verified.min(counts.sent));
        u32::try_from(1_000 * verified / u64::from(counts.sent.max(1))).expect("at most 1,000")
    };
    let enough = sums.into_iter().filter(|(_, counts)| counts.sent >= SENT_MIN);
    Ok(enough.map(|(country, counts)| (country, share(counts))).collect())
}
