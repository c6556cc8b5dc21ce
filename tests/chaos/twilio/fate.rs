//! The fate of a POST, drawn from a mood.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Answered,
    Slow(Duration),
    /// The connection breaks before the answer.
    Lost {
        accepted: bool,
    },
    /// There is never an answer.
    Hung {
        accepted: bool,
    },
    /// The 201 breaks off in its body.
    CutShort,
    /// A 500.
    Failed {
        accepted: bool,
    },
    Throttled {
        seconds: u64,
    },
    /// A 400 that is final.
    Rejected,
}

impl Fate {
    pub(super) fn accepts(self) -> bool {
        match self {
            Fate::Answered | Fate::Slow(_) | Fate::CutShort => true,
            Fate::Lost { accepted } | Fate::Hung { accepted } | Fate::Failed { accepted } => accepted,
            Fate::Throttled { .. } | Fate::Rejected => false,
        }
    }

    /// The answer does not show whether a message was made.
    pub(super) fn leaves_doubt(self) -> bool {
        matches!(self, Fate::Lost { .. } | Fate::Hung { .. } | Fate::Failed { .. })
    }
}

/// The frequency of each fault, of a thousand POSTs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mood {
    pub lost_accepted: u32,
    pub lost_before: u32,
    pub hung_accepted: u32,
    pub hung_before: u32,
    pub cut_short: u32,
    pub failed_accepted: u32,
    pub failed_before: u32,
    pub throttled: u32,
    /// The largest Retry-After of a throttled POST, in seconds.
    pub retry_after: u64,
    pub rejected: u32,
    pub slow: u32,
    /// The longest delay of a slow answer.
    pub slow_ms: u64,
    /// Of a thousand lookups.
    pub lookups_failed: u32,
    /// Of a thousand lookups.
    pub lookups_lost: u32,
}

impl Mood {
    /// No fault, and a usual answer time, so that kills and cuts meet messages in flight.
    pub const ORDINARY: Mood = Mood { slow: 1_000, slow_ms: 500, ..Mood::CALM };
    /// A few of each fault.
    pub const UNEASY: Mood = Mood {
        lost_accepted: 8,
        lost_before: 8,
        hung_accepted: 3,
        hung_before: 3,
        cut_short: 5,
        failed_accepted: 5,
        failed_before: 5,
        throttled: 30,
        retry_after: 2,
        rejected: 5,
        slow: 900,
        slow_ms: 500,
        lookups_failed: 50,
        lookups_lost: 0,
    };
    /// About half of the POSTs have a fault.
    pub const STORM: Mood = Mood {
        lost_accepted: 40,
        lost_before: 40,
        hung_accepted: 15,
        hung_before: 15,
        cut_short: 20,
        failed_accepted: 40,
        failed_before: 40,
        throttled: 200,
        retry_after: 3,
        rejected: 20,
        slow: 100,
        slow_ms: 2_500,
        lookups_failed: 300,
        lookups_lost: 0,
    };
    /// No message and no lookup is answered, and half of the messages are made.
    pub const DEAD: Mood = Mood {
        lost_accepted: 250,
        lost_before: 250,
        hung_accepted: 250,
        hung_before: 250,
        lookups_lost: 1_000,
        ..Mood::CALM
    };
    /// Every POST fails.
    pub const THROTTLING: Mood = Mood { throttled: 1_000, retry_after: 3, ..Mood::CALM };
    /// No fault at all.
    pub const CALM: Mood = Mood {
        lost_accepted: 0,
        lost_before: 0,
        hung_accepted: 0,
        hung_before: 0,
        cut_short: 0,
        failed_accepted: 0,
        failed_before: 0,
        throttled: 0,
        retry_after: 0,
        rejected: 0,
        slow: 0,
        slow_ms: 0,
        lookups_failed: 0,
        lookups_lost: 0,
    };

    pub(super) fn fate(&self, seed: u64, request: &str, nth: u64) -> Fate {
        let mut rng = rng_of((seed, request, nth));
        let fates = [
            (self.lost_accepted, Fate::Lost { accepted: true }),
            (self.lost_before, Fate::Lost { accepted: false }),
            (self.hung_accepted, Fate::Hung { accepted: true }),
            (self.hung_before, Fate::Hung { accepted: false }),
            (self.cut_short, Fate::CutShort),
            (self.failed_accepted, Fate::Failed { accepted: true }),
            (self.failed_before, Fate::Failed { accepted: false }),
            (self.throttled, Fate::Throttled { seconds: rng.u64(1..=self.retry_after.max(1)) }),
            (self.rejected, Fate::Rejected),
            (self.slow, Fate::Slow(Duration::from_millis(rng.u64(0..=self.slow_ms)))),
        ];
        drawn(rng.u32(0..1_000), &fates)
    }

    pub(super) fn lookup_fate(&self, seed: u64, nth: u64) -> Fate {
        let mut rng = rng_of((seed, "lookup", nth));
        let each = self.lookups_failed / 4;
        let fates = [
            (self.lookups_lost, Fate::Lost { accepted: false }),
            (each, Fate::Lost { accepted: false }),
            (each, Fate::Failed { accepted: false }),
            (each, Fate::Throttled { seconds: 1 }),
            (each, Fate::Slow(Duration::from_millis(rng.u64(0..=self.slow_ms)))),
        ];
        drawn(rng.u32(0..1_000), &fates)
    }
}

fn rng_of(about: (u64, &str, u64)) -> fastrand::Rng {
    let mut hasher = DefaultHasher::new();
    about.hash(&mut hasher);
    fastrand::Rng::with_seed(hasher.finish())
}

fn drawn(mut lot: u32, fates: &[(u32, Fate)]) -> Fate {
    for &(share, fate) in fates {
        match lot.checked_sub(share) {
            Some(rest) => lot = rest,
            None => return fate,
        }
    }
    Fate::Answered
}
