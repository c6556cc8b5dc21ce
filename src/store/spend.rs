//! Amounts spent: the book under the budgets, and what was spent on what.

use async_trait::async_trait;

use super::error::StoreError;
use crate::domain::budget::{SpendBook, UtcOffset};
use crate::domain::conversion::Bucket;
use crate::domain::spend::{SpendGroup, StoredSpend};

/// Amounts are added with the counts of codes, [`add_conversion`](super::Store::add_conversion); reservations are made and ended by
/// [`admit`](super::Store::admit) and [`complete`](super::Store::complete), in the same step as the record.
#[async_trait]
pub trait SpendStore: Send + Sync {
    /// The book of the current hour and day, over all requests.
    async fn spend_book(&self, offset: UtcOffset) -> Result<SpendBook, StoreError>;

    /// The amounts of these buckets, at most [`BUCKETS_READ_MAX`](super::retention::BUCKETS_READ_MAX), in the order of bucket and name. A
    /// bucket whose time is over has none.
    async fn spend(&self, group: SpendGroup, buckets: &[Bucket]) -> Result<Vec<StoredSpend>, StoreError>;
}
