//! The spend of the last hours or days, and the budgets.

use crate::domain::amount::Currency;
use crate::domain::budget::{BudgetUse, Budgets, Period};
use crate::domain::conversion::Bucket;
use crate::domain::spend::{SpendGroup, StoredSpend};
use crate::domain::spend_report::{SpendQuery, SpendReport, SpendSums, TimeBefore};
use crate::domain::time::UnixMillis;
use crate::domain::time_zone::Zone;
use crate::store::retention::BUCKETS_READ_MAX;
use crate::store::{Store, StoreError, StoreFault};

/// A part has a hundred names at most.
const PARTS_READ_MAX: usize = 50;

/// The settings that a report shows.
#[derive(Clone, Debug)]
pub struct SpendView {
    pub currency: Currency,
    /// There is no file of prices.
    pub is_estimate: bool,
    pub budgets: Budgets,
    pub zone: Zone,
}

pub async fn spend(
    store: &dyn Store,
    view: &SpendView,
    query: SpendQuery,
    now: UnixMillis,
) -> Result<SpendReport, StoreError> {
    let buckets = query.buckets(now);
    let sample = read(store, SpendGroup::Sample, &buckets).await?.sample();
    let (mut rows, mut total) = read(store, query.by, &buckets).await?.rows(query.rows_max);
    let from = buckets.first().map_or(now, |bucket| bucket.start());
    let days_before = query.days_before();
    if let Some(days) = days_before {
        read_before(store, query.by, TimeBefore::new(from, now, days)).await?.compare(&mut rows, &mut total);
    }
    Ok(SpendReport {
        currency: view.currency,
        is_estimate: view.is_estimate,
        budgets: budgets(store, view, now).await?,
        by: query.by.as_str(),
        from,
        until: now,
        days_before,
        rows,
        total,
        sample,
    })
}

/// None without a budget: nothing is in the book.
async fn budgets(store: &dyn Store, view: &SpendView, now: UnixMillis) -> Result<Vec<BudgetUse>, StoreError> {
    if !view.budgets.are_set() {
        return Ok(Vec::new());
    }
    let offset = view.zone.utc_offset(now);
    let book = store.spend_book(offset).await?;
    // Amounts that may be old are no answer.
    if book.silent_shards > 0 {
        return Err(StoreError::Unavailable(StoreFault::NoAnswer));
    }
    Ok(Period::ALL.map(|period| BudgetUse::of(period, view.budgets, &book, offset)).into())
}

async fn read_before(
    store: &dyn Store,
    group: SpendGroup,
    before: TimeBefore,
) -> Result<SpendSums, StoreError> {
    let mut sums = SpendSums::default();
    for stored in read_all(store, group, &before.buckets()).await? {
        sums.add(before.part(stored));
    }
    Ok(sums)
}

async fn read(store: &dyn Store, group: SpendGroup, buckets: &[Bucket]) -> Result<SpendSums, StoreError> {
    let mut sums = SpendSums::default();
    read_all(store, group, buckets).await?.into_iter().for_each(|stored| sums.add(stored));
    Ok(sums)
}

/// The newest first.
async fn read_all(
    store: &dyn Store,
    group: SpendGroup,
    buckets: &[Bucket],
) -> Result<Vec<StoredSpend>, StoreError> {
    // Redis answers nothing else while it reads, so the more names a bucket may have, the fewer are read at once.
    let at_once = (PARTS_READ_MAX / usize::from(group.names().parts())).clamp(1, BUCKETS_READ_MAX);
    let mut stored = Vec::new();
    for some in buckets.rchunks(at_once) {
        stored.extend(store.spend(group, some).await?);
    }
    Ok(stored)
}
