//! The book under the budgets, and its arguments of an admission and a completion: `spend.lua`.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::RedisStore;
use super::keys::{Key, Keys};
use super::library::Step;
use super::pack::{Packer, Unpacker};
use crate::domain::amount::Amount;
use crate::domain::budget::{BookEntry, Period, Reservation, SpendBook, Spent, UtcOffset};
use crate::domain::conversion::Bucket;
use crate::domain::keyed_digest::Digest16;
use crate::domain::spend::{SpendGroup, StoredSpend};
use crate::store::{SpendStore, StoreError, StoreFault};

/// A later answer of one shard counts as none, so that the others are known.
const BOOK_TIMEOUT: Duration = Duration::from_millis(400);

#[async_trait]
impl SpendStore for RedisStore {
    /// A shard that does not answer counts as it was.
    async fn spend_book(&self, offset: UtcOffset) -> Result<SpendBook, StoreError> {
        let shards = self.keys.shards();
        let readings = join_all((0..shards).map(|shard| self.learn_book(shard, offset))).await;
        let mut failures: Vec<StoreError> = readings.into_iter().filter_map(Result::err).collect();
        if failures.len() == shards {
            return Err(failures.swap_remove(0));
        }
        let [(hour_number, hour), (day_number, day)] =
            Period::ALL.map(|period| self.books.sum_without(None, period));
        Ok(SpendBook { hour, hour_number, day, day_number, silent_shards: failures.len() })
    }

    async fn spend(&self, group: SpendGroup, buckets: &[Bucket]) -> Result<Vec<StoredSpend>, StoreError> {
        self.read_spend(group, buckets).await
    }
}

impl RedisStore {
    /// Each book is kept as it comes: a caller that stops waiting loses none.
    async fn learn_book(&self, shard: usize, offset: UtcOffset) -> Result<(), StoreError> {
        let answer = timeout(BOOK_TIMEOUT, self.read_book(shard, offset)).await;
        match answer.unwrap_or(Err(StoreError::Unavailable(StoreFault::NoAnswer))) {
            Ok(book) => {
                self.books.answered(shard, book);
                Ok(())
            }
            Err(error) => {
                self.books.unanswered(shard);
                Err(error)
            }
        }
    }

    async fn read_book(&self, shard: usize, offset: UtcOffset) -> Result<SpendBook, StoreError> {
        let call = self
            .call(Step::SpendBook, &[self.keys.book_of(shard)])
            .arg(self.settings().pack())
            .arg(Packer::new().u16(offset.shifted()).done());
        self.run("spend_book", &call, read_book).await
    }

    /// As `reports.spend.asked` reads it: with the budgets and the sums of the other shards.
    pub(super) fn pack_reservation(&self, recipient: &Digest16, spend: Option<Reservation>) -> Vec<u8> {
        let Some(Reservation { amount, budgets, offset }) = spend else { return Vec::new() };
        let own = self.keys.shard_of(recipient);
        let head = Packer::new().u16(offset.shifted()).u48(amount.micros());
        let packed = Period::ALL.into_iter().fold(head, |packed, period| {
            let (number, others) = self.books.sum_without(Some(own), period);
            packed.optional48(budgets.of(period).map(Amount::micros)).u32(number).u48(others.sum().micros())
        });
        packed.done()
    }
}

/// As `reports.spend.ending` reads it.
pub(super) fn pack_spent(spent: Option<Spent>) -> Vec<u8> {
    spent.map_or_else(Vec::new, |Spent { amount, offset }| {
        Packer::new().u16(offset.shifted()).u48(amount.micros()).done()
    })
}

fn read_book(answer: &[u8]) -> Option<SpendBook> {
    let mut words = Unpacker::new(answer);
    let mut entry = || {
        let amount = |micros: u64| Amount::from_micros(micros);
        let number = words.u32()?;
        Some((number, BookEntry { reserved: amount(words.u48()?), committed: amount(words.u48()?) }))
    };
    let ((hour_number, hour), (day_number, day)) = (entry()?, entry()?);
    Some(SpendBook { hour, hour_number, day, day_number, silent_shards: 0 })
}

impl Keys {
    fn book_of(&self, shard: usize) -> Key {
        self.of_shard(shard, b"e", b"")
    }
}
