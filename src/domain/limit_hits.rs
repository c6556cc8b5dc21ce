//! Counts the requests that each limit refused in the last hour.

use super::outcome::{ErrorCode, OutcomeError};

/// A limit, as results, metrics and the status name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitWord {
    Number,
    NumberDay,
    User,
    Ip,
    Network,
    All,
    Cooldown,
    WrongCodes,
    Refunds,
    /// An outcome that does not name it.
    NotNamed,
}

/// Requests refused, by limit. The order is that of the packed form: later limits follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitHits([u32; LimitWord::ALL.len()]);

impl LimitWord {
    pub const ALL: [LimitWord; 10] = [
        LimitWord::Number,
        LimitWord::NumberDay,
        LimitWord::User,
        LimitWord::Ip,
        LimitWord::Network,
        LimitWord::All,
        LimitWord::Cooldown,
        LimitWord::WrongCodes,
        LimitWord::Refunds,
        LimitWord::NotNamed,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            LimitWord::Number => "number",
            LimitWord::NumberDay => "number_day",
            LimitWord::User => "user",
            LimitWord::Ip => "ip",
            LimitWord::Network => "network",
            LimitWord::All => "all",
            LimitWord::Cooldown => "cooldown",
            LimitWord::WrongCodes => "wrong_codes",
            LimitWord::Refunds => "refunds",
            LimitWord::NotNamed => "not_named",
        }
    }

    pub fn parse(word: &str) -> Option<LimitWord> {
        LimitWord::ALL.into_iter().find(|limit| limit.as_str() == word)
    }

    /// `None` if no limit refused the request.
    pub fn of_error(error: &OutcomeError) -> Option<LimitWord> {
        LimitWord::of_code(error.code)
    }

    pub fn of_code(code: ErrorCode) -> Option<LimitWord> {
        match code {
            ErrorCode::Cooldown => Some(LimitWord::Cooldown),
            ErrorCode::RateLimited => Some(LimitWord::NotNamed),
            _ => None,
        }
    }
}

impl LimitHits {
    pub fn of(hits: &[(LimitWord, u32)]) -> LimitHits {
        let mut counts = LimitHits::default();
        for (limit, count) in hits {
            counts.0[*limit as usize] += count;
        }
        counts
    }

    pub fn iter(&self) -> impl Iterator<Item = (LimitWord, u32)> {
        LimitWord::ALL.into_iter().zip(self.0)
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }

    pub fn add(&mut self, more: &LimitHits) {
        for (count, more) in self.0.iter_mut().zip(more.0) {
            *count = count.saturating_add(more);
        }
    }

    pub(super) fn pack(&self) -> Vec<u8> {
        self.0.iter().flat_map(|count| count.to_be_bytes()).collect()
    }

    /// Limits that only a later version knows are left out; of those that an earlier one does not know the count is 0.
    pub(super) fn unpack(packed: &[u8]) -> LimitHits {
        let mut hits = LimitHits::default();
        for (count, bytes) in hits.0.iter_mut().zip(packed.as_chunks::<4>().0) {
            *count = u32::from_be_bytes(*bytes);
        }
        hits
    }
}

const MINUTES: usize = 60;

/// The counts of each of the last 60 minutes.
#[derive(Debug)]
pub struct LimitHitsOfHour {
    /// Since any fixed moment.
    minute: u64,
    counts: [LimitHits; MINUTES],
}

impl Default for LimitHitsOfHour {
    fn default() -> Self {
        LimitHitsOfHour { minute: 0, counts: [LimitHits::default(); MINUTES] }
    }
}

impl LimitHitsOfHour {
    pub fn add(&mut self, minute: u64, limit: LimitWord) {
        self.forget_until(minute);
        self.counts[place(minute)].add(&LimitHits::of(&[(limit, 1)]));
    }

    pub fn total(&mut self, minute: u64) -> LimitHits {
        self.forget_until(minute);
        let mut total = LimitHits::default();
        self.counts.iter().for_each(|hits| total.add(hits));
        total
    }

    /// The minutes after the last one that was counted get the places of those an hour before.
    fn forget_until(&mut self, minute: u64) {
        let passed = minute.saturating_sub(self.minute).min(MINUTES as u64);
        for back in 0..passed {
            self.counts[place(minute - back)] = LimitHits::default();
        }
        self.minute = self.minute.max(minute);
    }
}

fn place(minute: u64) -> usize {
    usize::try_from(minute % MINUTES as u64).expect("below 60")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_counts_for_an_hour() {
        let mut hits = LimitHitsOfHour::default();
        let cooldowns = |count| LimitHits::of(&[(LimitWord::Cooldown, count)]);
        hits.add(5, LimitWord::Cooldown);
        hits.add(5, LimitWord::Cooldown);
        hits.add(64, LimitWord::Cooldown);
        assert_eq!(hits.total(64), cooldowns(3));
        assert_eq!(hits.total(65), cooldowns(1), "those of minute 5 are an hour old");
        assert_eq!(hits.total(123), cooldowns(1));
        assert_eq!(hits.total(1_000_000), cooldowns(0), "after a long pause nothing is left");
        hits.add(999_999, LimitWord::All);
        assert_eq!(
            hits.total(1_000_000),
            LimitHits::of(&[(LimitWord::All, 1)]),
            "a clock that lags a little"
        );
    }

    #[test]
    fn counts_of_other_versions_read_back_as_far_as_they_are_known() {
        let hits = LimitHits::of(&LimitWord::ALL.map(|limit| (limit, 1 + limit as u32)));
        let mut packed = hits.pack();
        assert_eq!(LimitHits::unpack(&packed), hits);
        packed.extend([0, 0, 0, 9]);
        assert_eq!(LimitHits::unpack(&packed), hits);
        assert_eq!(LimitHits::unpack(&packed[..4]), LimitHits::of(&[(LimitWord::Number, 1)]));
    }
}
