//! The book under the budgets of an hour and of a day.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::amount::Amount;
use crate::domain::budget::{BookEntry, Period, Reservation, SpendBook, Spent, UtcOffset};
use crate::domain::reached_limit::ReachedLimit;
use crate::domain::time::UnixMillis;

#[derive(Default)]
pub(super) struct Book(BTreeMap<(Period, u32), BookEntry>);

/// The amount that a request reserved, and where.
#[derive(Clone, Copy)]
pub(super) struct Reserved {
    amount: Amount,
    hour: u32,
    day: u32,
    at: UnixMillis,
}

impl Reserved {
    const fn number(self, period: Period) -> u32 {
        match period {
            Period::Hour => self.hour,
            Period::Day => self.day,
        }
    }

    /// Without an offset: the current hour or day, or the one before it.
    fn number_since(self, period: Period, now: UnixMillis) -> u32 {
        let passed = now.since(self.at).as_millis() / u128::from(period.millis());
        self.number(period).saturating_add(u32::try_from(passed).unwrap_or(u32::MAX))
    }
}

impl Book {
    /// Of two budgets that do not allow the amount the one with the longer wait refuses it.
    pub(super) fn refusal(
        &self,
        spend: Option<Reservation>,
        now: UnixMillis,
    ) -> Option<(ReachedLimit, Duration)> {
        let Reservation { amount, budgets, offset } = spend?;
        let refusal = |period: Period| {
            let number = offset.number(period, now);
            let used = self.entry(period, number).sum();
            let is_over = used.micros() + amount.micros() > budgets.of(period)?.micros();
            is_over.then(|| (period.limit(), offset.end(period, number).since(now)))
        };
        let refusals = Period::ALL.into_iter().filter_map(refusal);
        refusals.reduce(|longest, other| if other.1 > longest.1 { other } else { longest })
    }

    pub(super) fn reserve(&mut self, spend: Option<Reservation>, now: UnixMillis) -> Option<Reserved> {
        let Reservation { amount, offset, .. } = spend?;
        let [hour, day] = Period::ALL.map(|period| offset.number(period, now));
        let reserved = Reserved { amount, hour, day, at: now };
        for period in Period::ALL {
            let current = reserved.number(period);
            self.0.retain(|(its, number), _| *its != period || Period::is_kept(*number, current));
            let entry = self.0.entry((period, current)).or_default();
            entry.reserved = entry.reserved.plus(amount);
        }
        Some(reserved)
    }

    /// A request counts in the hour and the day in which it reserved. If they leave the book, or it reserved nothing, it counts now.
    pub(super) fn end(
        &mut self,
        reserved: Option<Reserved>,
        spent: Option<Spent>,
        nothing_sent: bool,
        now: UnixMillis,
    ) {
        let price = spent.map(|spent| spent.amount).or(reserved.map(|reserved| reserved.amount));
        let price = price.filter(|_| !nothing_sent).unwrap_or_default();
        for period in Period::ALL {
            let current = spent.map(|spent| spent.offset.number(period, now));
            let current = current.or_else(|| Some(reserved?.number_since(period, now)));
            let Some(current) = current else { continue };
            self.0.retain(|(its, number), _| *its != period || Period::is_kept(*number, current));
            let own = reserved.map(|reserved| (period, reserved.number(period)));
            if let (Some(reserved), Some(entry)) = (reserved, own.and_then(|own| self.0.get_mut(&own))) {
                entry.reserved = entry.reserved.minus(reserved.amount);
                entry.committed = entry.committed.plus(price);
            } else if price > Amount::ZERO {
                let entry = self.0.entry((period, current)).or_default();
                entry.committed = entry.committed.plus(price);
            }
        }
    }

    fn entry(&self, period: Period, number: u32) -> BookEntry {
        self.0.get(&(period, number)).copied().unwrap_or_default()
    }

    pub(super) fn read(&self, offset: UtcOffset, now: UnixMillis) -> SpendBook {
        let [hour_number, day_number] = Period::ALL.map(|period| offset.number(period, now));
        SpendBook {
            hour: self.entry(Period::Hour, hour_number),
            hour_number,
            day: self.entry(Period::Day, day_number),
            day_number,
            silent_shards: 0,
        }
    }
}
