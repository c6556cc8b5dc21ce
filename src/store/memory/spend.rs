//! Reads the book, and the amounts of buckets.

use async_trait::async_trait;

use super::MemoryStore;
use crate::domain::budget::{SpendBook, UtcOffset};
use crate::domain::conversion::Bucket;
use crate::domain::spend::{SpendGroup, StoredSpend};
use crate::store::{SpendStore, StoreError};

#[async_trait]
impl SpendStore for MemoryStore {
    async fn spend_book(&self, offset: UtcOffset) -> Result<SpendBook, StoreError> {
        Ok(self.step(|state, now| state.book.read(offset, now)))
    }

    async fn spend(&self, group: SpendGroup, buckets: &[Bucket]) -> Result<Vec<StoredSpend>, StoreError> {
        Ok(self.step(|state, now| state.conversion.read_spend(group, buckets, now)))
    }
}
