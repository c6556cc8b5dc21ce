//! The books of all shards, as this process has read them last.
//!
//! A shard that does not answer goes on spending, so it counts with the amounts that it had, in each hour and day that follows, too.

use std::sync::{Mutex, MutexGuard};

use crate::domain::budget::{BookEntry, Period, SpendBook};

#[derive(Clone, Copy, Debug, Default)]
struct KnownBook {
    /// `None`: not read yet.
    book: Option<SpendBook>,
    /// Its last reading had no answer.
    is_silent: bool,
}

#[derive(Default)]
pub(super) struct ShardBooks(Mutex<Vec<KnownBook>>);

impl ShardBooks {
    pub(super) fn answered(&self, shard: usize, book: SpendBook) {
        self.change(shard, |known| *known = KnownBook { book: Some(book), is_silent: false });
    }

    pub(super) fn unanswered(&self, shard: usize) {
        self.change(shard, |known| known.is_silent = true);
    }

    /// The number of the current hour or day, and what all shards but one have in it.
    pub(super) fn sum_without(&self, shard: Option<usize>, period: Period) -> (u32, BookEntry) {
        sum_without(&self.lock(), shard, period)
    }

    fn change(&self, shard: usize, change: impl FnOnce(&mut KnownBook)) {
        let mut books = self.lock();
        if books.len() <= shard {
            books.resize(shard + 1, KnownBook::default());
        }
        change(&mut books[shard]);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<KnownBook>> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }
}

fn sum_without(books: &[KnownBook], shard: Option<usize>, period: Period) -> (u32, BookEntry) {
    let known = |is_silent: bool| {
        let read = books.iter().filter(move |known| known.is_silent == is_silent);
        read.filter_map(|known| known.book).map(move |book| book.of(period))
    };
    let newest = known(false).map(|(number, _)| number).max();
    let number = newest.or_else(|| known(true).map(|(number, _)| number).max()).unwrap_or_default();
    let highest = [true, false].into_iter().flat_map(known).map(|(_, entry)| entry);
    let highest = highest.max_by_key(|entry| entry.sum()).unwrap_or_default();
    let others = books.iter().enumerate().filter(|(other, _)| Some(*other) != shard);
    let entries = others.map(|(_, known)| match (known.book.map(|book| book.of(period)), known.is_silent) {
        (Some((its, entry)), is_silent) if is_silent || its == number => entry,
        // One that was silent from the start may have spent as much as the others.
        (None, true) => highest,
        _ => BookEntry::default(),
    });
    (number, entries.fold(BookEntry::default(), BookEntry::plus))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::amount::Amount;

    fn book(hour_number: u32, reserved: u64, committed: u64) -> SpendBook {
        let amount = Amount::from_micros;
        let hour = BookEntry { reserved: amount(reserved), committed: amount(committed) };
        SpendBook { hour, hour_number, ..SpendBook::default() }
    }

    fn hour(books: &ShardBooks, without: Option<usize>) -> (u32, u64) {
        let (number, entry) = books.sum_without(without, Period::Hour);
        (number, entry.sum().micros())
    }

    #[test]
    fn a_silent_shard_counts_as_it_was_and_the_others_as_they_are() {
        let books = ShardBooks::default();
        for shard in 0..3 {
            books.answered(shard, book(7, 10, 1));
        }
        assert_eq!(hour(&books, None), (7, 33));
        books.unanswered(1);
        books.answered(0, book(7, 10, 100));
        assert_eq!((hour(&books, None), hour(&books, Some(0))), ((7, 132), (7, 22)));
        for shard in [0, 2] {
            books.answered(shard, book(8, 5, 0));
        }
        assert_eq!(hour(&books, Some(0)), (8, 16), "its reserve counts in the next hour, too");
        books.answered(1, book(8, 0, 2));
        assert_eq!(hour(&books, None), (8, 12));
    }

    #[test]
    fn a_shard_that_never_answered_counts_as_the_highest() {
        let books = ShardBooks::default();
        assert_eq!(hour(&books, Some(0)), (0, 0), "nothing was read yet");
        books.answered(0, book(7, 1, 1));
        books.answered(1, book(7, 20, 0));
        books.unanswered(2);
        assert_eq!((hour(&books, None), hour(&books, Some(1))), ((7, 42), (7, 22)));
    }

    #[test]
    fn a_book_of_the_hour_before_counts_for_nothing_while_its_shard_answers() {
        let books = ShardBooks::default();
        books.answered(0, book(7, 10, 0));
        books.answered(1, book(8, 3, 0));
        assert_eq!(hour(&books, None), (8, 3));
        for shard in [0, 1] {
            books.unanswered(shard);
        }
        assert_eq!(hour(&books, None), (8, 13), "all are silent");
    }
}
