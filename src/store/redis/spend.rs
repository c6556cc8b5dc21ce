//! The book under the budgets, and its arguments of an admission and a completion: `spend.lua`.

use async_trait::async_trait;
use futures_util::future::join_all;

use super::RedisStore;
use super::keys::{Key, Keys};
use super::library::Step;
use super::pack::{Packer, Unpacker};
use crate::domain::amount::Amount;
use crate::domain::budget::{BookEntry, Period, Reservation, SpendBook, Spent, UtcOffset};
use crate::domain::conversion::Bucket;
use crate::domain::keyed_digest::Digest16;
use crate::domain::spend::{SpendGroup, StoredSpend};
use crate::store::{SpendStore, StoreError};

#[async_trait]
impl SpendStore for RedisStore {
    /// A shard that does not answer counts as it was: its spend stands still, too.
    async fn spend_book(&self, offset: UtcOffset) -> Result<SpendBook, StoreError> {
        let shards = self.keys.shards();
        let answers = join_all((0..shards).map(|shard| self.read_book(shard, offset))).await;
        let mut books = self.books.lock();
        books.resize(shards, SpendBook::default());
        let (mut failure, mut newest) = (None, SpendBook::default());
        for (book, answer) in books.iter_mut().zip(answers) {
            match answer {
                Ok(answer) => {
                    *book = answer;
                    (newest.hour_number, newest.day_number) = (answer.hour_number, answer.day_number);
                }
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        for period in Period::ALL {
            let (number, _) = newest.of(period);
            let sum = sum(books.iter(), period, number);
            match period {
                Period::Hour => newest.hour = sum,
                Period::Day => newest.day = sum,
            }
        }
        Ok(newest)
    }

    async fn spend(&self, group: SpendGroup, buckets: &[Bucket]) -> Result<Vec<StoredSpend>, StoreError> {
        self.read_spend(group, buckets).await
    }
}

/// The entries of a period in those books that are at it.
fn sum<'a>(books: impl IntoIterator<Item = &'a SpendBook>, period: Period, number: u32) -> BookEntry {
    let entries = books.into_iter().map(|book| book.of(period)).filter(|(its, _)| *its == number);
    entries.fold(BookEntry::default(), |sum, (_, entry)| sum.plus(entry))
}

impl RedisStore {
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
        let books = self.books.lock();
        let others =
            || books.iter().enumerate().filter(move |(shard, _)| *shard != own).map(|(_, book)| book);
        let head = Packer::new().u16(offset.shifted()).u48(amount.micros());
        let packed = Period::ALL.into_iter().fold(head, |packed, period| {
            let number = others().map(|book| book.of(period).0).max().unwrap_or_default();
            let sum = sum(others(), period, number).sum();
            packed.optional48(budgets.of(period).map(Amount::micros)).u32(number).u48(sum.micros())
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
    Some(SpendBook { hour, hour_number, day, day_number })
}

impl Keys {
    fn book_of(&self, shard: usize) -> Key {
        self.of_shard(shard, b"e", b"")
    }
}
