//! The conversion of the last hours or days.

use std::time::Duration;

use crate::domain::conversion::Dimension;
use crate::domain::conversion_report::{ConversionQuery, ConversionReport, conversion_report};
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
    let mut stored = Vec::new();
    for some in buckets.chunks(at_once) {
        stored.extend(store.conversion(query.by, some).await?);
    }
    Ok(conversion_report(query, &buckets, stored, code_life, now))
}
