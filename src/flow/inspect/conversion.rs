//! The conversion of the last hours or days.

use std::time::Duration;

use crate::domain::conversion_report::{ConversionQuery, ConversionReport, ConversionSums};
use crate::domain::time::UnixMillis;
use crate::store::retention::BUCKETS_READ_MAX;
use crate::store::{Store, StoreError};

/// A part has a hundred names at most.
const PARTS_READ_MAX: usize = 50;

/// `code_life` is that of these settings.
pub async fn conversion(
    store: &dyn Store,
    query: ConversionQuery,
    code_life: Duration,
    now: UnixMillis,
) -> Result<ConversionReport, StoreError> {
    let buckets = query.buckets(now);
    // Redis answers nothing else while it reads, so the more names a bucket may have, the fewer are read at once.
    let at_once = (PARTS_READ_MAX / usize::from(query.by.parts())).clamp(1, BUCKETS_READ_MAX);
    let mut sums = ConversionSums::new(query, code_life, now);
    for some in buckets.rchunks(at_once) {
        store.conversion(query.by, some).await?.into_iter().for_each(|stored| sums.add(stored));
    }
    Ok(sums.report(buckets.first().map_or(now, |bucket| bucket.start())))
}
