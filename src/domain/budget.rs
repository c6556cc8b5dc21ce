//! Budgets of an hour and of a day, and the book that counts against them.
//!
//! An admission reserves the highest price that its message can have; the completion commits the real one, or gives it back.

use serde::Serialize;

use super::amount::Amount;
use super::reached_limit::ReachedLimit;
use super::time::{UnixMillis, serialize_rfc3339};

const MINUTE: u64 = 60_000;
const DAY_MINUTES: i32 = 1_440;

/// The time for which a budget is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    Hour,
    Day,
}

impl Period {
    pub const ALL: [Period; 2] = [Period::Hour, Period::Day];

    pub const fn as_str(self) -> &'static str {
        match self {
            Period::Hour => "hour",
            Period::Day => "day",
        }
    }

    pub const fn limit(self) -> ReachedLimit {
        match self {
            Period::Hour => ReachedLimit::SpendHour,
            Period::Day => ReachedLimit::SpendDay,
        }
    }

    pub(crate) const fn millis(self) -> u64 {
        match self {
            Period::Hour => 60 * MINUTE,
            Period::Day => 24 * 60 * MINUTE,
        }
    }

    /// The store keeps the current hour and day, those before, and those after: a worker's clock or offset may differ.
    pub const fn is_kept(number: u32, current: u32) -> bool {
        number.abs_diff(current) <= 1
    }
}

/// The minutes by which local time is ahead of UTC. Hours and days begin by local time; where the clocks change, two hours count as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UtcOffset(i32);

impl UtcOffset {
    pub fn new(minutes: i32) -> UtcOffset {
        UtcOffset(minutes.clamp(-DAY_MINUTES, DAY_MINUTES))
    }

    /// Stored and sent as a number that is not negative.
    pub fn shifted(self) -> u32 {
        u32::try_from(self.0 + DAY_MINUTES).expect("it is clamped")
    }

    /// The number of an hour or a day, counted in local time from 1970.
    pub fn number(self, period: Period, at: UnixMillis) -> u32 {
        let ahead = at.0.saturating_add(u64::from(self.shifted()) * MINUTE);
        let local = ahead.saturating_sub(Period::Day.millis());
        u32::try_from(local / period.millis()).unwrap_or(u32::MAX)
    }

    pub fn end(self, period: Period, number: u32) -> UnixMillis {
        let local = (u64::from(number) + 1) * period.millis() + Period::Day.millis();
        UnixMillis(local.saturating_sub(u64::from(self.shifted()) * MINUTE))
    }
}

/// `None`: no budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    pub per_hour: Option<Amount>,
    pub per_day: Option<Amount>,
}

impl Budgets {
    pub const fn of(self, period: Period) -> Option<Amount> {
        match period {
            Period::Hour => self.per_hour,
            Period::Day => self.per_day,
        }
    }

    pub const fn are_set(self) -> bool {
        self.per_hour.is_some() || self.per_day.is_some()
    }
}

/// The amount that an admission reserves, if the budgets allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub amount: Amount,
    pub budgets: Budgets,
    pub offset: UtcOffset,
}

/// The price of a message that was or may have been sent. One that was not sent gives its reservation back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    pub amount: Amount,
    pub offset: UtcOffset,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BookEntry {
    /// Of requests in progress, and of those that were never completed.
    pub reserved: Amount,
    pub committed: Amount,
}

impl BookEntry {
    pub fn sum(self) -> Amount {
        self.reserved.plus(self.committed)
    }

    pub fn plus(self, other: BookEntry) -> BookEntry {
        BookEntry {
            reserved: self.reserved.plus(other.reserved),
            committed: self.committed.plus(other.committed),
        }
    }
}

/// The book of the current hour and day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpendBook {
    pub hour: BookEntry,
    pub hour_number: u32,
    pub day: BookEntry,
    pub day_number: u32,
    /// Shards that did not answer: they count with the amounts that they had.
    pub silent_shards: usize,
}

impl SpendBook {
    pub const fn of(&self, period: Period) -> (u32, BookEntry) {
        match period {
            Period::Hour => (self.hour_number, self.hour),
            Period::Day => (self.day_number, self.day),
        }
    }
}

/// The use of a budget, as operators see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BudgetUse {
    pub period: Period,
    /// Absent without a budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Amount>,
    pub reserved: Amount,
    pub committed: Amount,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<Amount>,
    #[serde(serialize_with = "serialize_rfc3339")]
    pub until: UnixMillis,
}

impl BudgetUse {
    pub fn of(period: Period, budgets: Budgets, book: &SpendBook, offset: UtcOffset) -> BudgetUse {
        let (number, BookEntry { reserved, committed }) = book.of(period);
        let budget = budgets.of(period);
        let left = budget.map(|budget| budget.minus(reserved.plus(committed)));
        BudgetUse { period, budget, reserved, committed, left, until: offset.end(period, number) }
    }
}

/// A budget is nearly used up.
pub fn is_near(used: Amount, budget: Amount) -> bool {
    const NEAR_PERCENT: u64 = 80;
    used.micros() * 100 >= budget.micros() * NEAR_PERCENT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixMillis {
        UnixMillis::parse_rfc3339(text).expect("a time")
    }

    #[test]
    fn days_begin_at_local_midnight() {
        let bogota = UtcOffset::new(-300);
        let [before, after] = ["2026-11-22T04:59:59.999Z", "2026-11-22T05:00:00Z"].map(at);
        let day = bogota.number(Period::Day, after);
        assert_eq!(bogota.number(Period::Day, before) + 1, day);
        assert_eq!(bogota.end(Period::Day, day), at("2026-11-23T05:00:00Z"));
        let kathmandu = UtcOffset::new(345);
        let hour = kathmandu.number(Period::Hour, at("2026-11-22T00:14:59Z"));
        assert_eq!(kathmandu.end(Period::Hour, hour), at("2026-11-22T00:15:00Z"));
        assert_eq!(UtcOffset::default().number(Period::Day, UnixMillis(0)), 0);
    }

    #[test]
    fn a_budget_is_near_from_80_percent_on() {
        let near = |used| is_near(Amount::from_micros(used), Amount::from_micros(100));
        assert_eq!([0, 79, 80, 101].map(near), [false, false, true, true]);
        assert!(is_near(Amount::ZERO, Amount::ZERO));
    }
}
