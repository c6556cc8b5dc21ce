//! The conversion of the last hours or days.

use std::time::Duration;

use crate::domain::conversion::Dimension;
use crate::domain::conversion_report::{ConversionQuery, ConversionReport, ConversionSums};
use crate::domain::time::UnixMillis;
use crate::store::retention::BUCKETS_READ_MAX;
use crate::store::{Store, StoreError};

/// `code_life` is that of these settings.
pub async fn conversion(
    store: &dyn Store,
    query: ConversionQuery,
    code_life: Duration,
    now: UnixMillis,
) -> Result<ConversionReport, StoreError> {
    let buckets = query.buckets(now);
    // A bucket has thousands of blocks, so that Redis would stand still for long if it read several at once.
    let at_once = if query.by == Dimension::Block { 1 } else { BUCKETS_READ_MAX };
    let mut sums = ConversionSums::new(query, code_life, now);
    for some in buckets.rchunks(at_once) {
        store.conversion(query.by, some).await?.into_iter().for_each(|stored| sums.add(stored));
    }
    Ok(sums.report(buckets.first().map_or(now, |bucket| bucket.start())))
}
