//! Pumping defence: budgets of codes that were sent and not verified, by block, prefix, user and client network.
//!
//! A record counts in whole minutes. The sends of its last three minutes are pending; then those that are not verified move to two leaky
//! buckets: one leaks its budget in an hour, for bursts, the other in a day, for trickles.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keyed_digest::Digest16;
use super::time::UnixMillis;

/// Minutes in which a send is pending.
pub const PENDING_MINUTES: usize = 3;
/// A hold lasts no longer, unless sends go on.
pub const HOLD_MINUTES_MAX: u32 = 1_440;
/// Holds at a time, with those of blocks that ended lately. Of more, those are dropped first, then those of the lowest rank that end first.
pub const HOLDS_MAX: usize = 1_000;
/// Records in one part of the store. Redis keeps hashes of up to 128 fields compact.
pub const RECORDS_MAX: usize = 100;
/// A full part drops all records without unverified sends; or at least so many at once, those with the least.
pub const RECORDS_DROPPED: usize = 25;
/// The blocks of a prefix are in so many parts.
pub const BLOCK_PARTS: u64 = 8;
/// A block's hold is remembered for so long after its end: in it, at most half of a day's budget has leaked.
pub const ENDED_HOLD_KEPT: Duration = Duration::from_secs(43_200);
/// In thousandths: a pending send counts in full.
pub const WEIGHT_FULL: u16 = 1_000;

const HOUR_MINUTES: u64 = 60;
const DAY_MINUTES: u64 = 1_440;
const PENDING_MAX: u32 = 65_535;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefenceMode {
    Off,
    /// Refusals are counted and logged, and everything is sent.
    #[default]
    Monitor,
    Enforce,
}

impl DefenceMode {
    pub const ALL: [DefenceMode; 3] = [DefenceMode::Off, DefenceMode::Monitor, DefenceMode::Enforce];

    pub const fn as_str(self) -> &'static str {
        match self {
            DefenceMode::Off => "off",
            DefenceMode::Monitor => "monitor",
            DefenceMode::Enforce => "enforce",
        }
    }
}

/// The rule that refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DefenceRule {
    /// Too many codes to the block of the number were not verified.
    UnverifiedBlock,
    /// Too many codes to the prefix of the number were not verified.
    UnverifiedPrefix,
    /// Too many codes of the user were not verified.
    UnverifiedUser,
    /// Too many codes of the client network were not verified.
    UnverifiedNetwork,
    /// An operator denies it.
    Denied,
}

impl DefenceRule {
    pub const ALL: [DefenceRule; 5] = [
        DefenceRule::UnverifiedBlock,
        DefenceRule::UnverifiedPrefix,
        DefenceRule::UnverifiedUser,
        DefenceRule::UnverifiedNetwork,
        DefenceRule::Denied,
    ];

    /// The word on the wire and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            DefenceRule::UnverifiedBlock => "unverified_block",
            DefenceRule::UnverifiedPrefix => "unverified_prefix",
            DefenceRule::UnverifiedUser => "unverified_user",
            DefenceRule::UnverifiedNetwork => "unverified_network",
            DefenceRule::Denied => "denied",
        }
    }

    /// The sentence for people.
    pub const fn message(self) -> &'static str {
        match self {
            DefenceRule::UnverifiedBlock => "too many codes to numbers like this one were not verified",
            DefenceRule::UnverifiedPrefix => "too many codes to this prefix were not verified",
            DefenceRule::UnverifiedUser => "too many codes of this user were not verified",
            DefenceRule::UnverifiedNetwork => "too many codes of this client network were not verified",
            DefenceRule::Denied => "an operator has stopped messages to this recipient",
        }
    }

    /// People who have verified a code are exempt. The word of an operator has no exemption.
    pub const fn has_exemption(self) -> bool {
        !matches!(self, DefenceRule::Denied)
    }

    /// The number in the store, which never changes.
    pub const fn stored(self) -> u8 {
        self as u8 + 1
    }

    pub fn from_stored(number: u8) -> Option<DefenceRule> {
        DefenceRule::ALL.into_iter().find(|rule| rule.stored() == number)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScopeKind {
    /// A number without its last three digits.
    Block,
    /// The country code and three digits.
    Prefix,
    User,
    /// The network around a client IP.
    Network,
}

impl ScopeKind {
    pub const ALL: [ScopeKind; 4] =
        [ScopeKind::Block, ScopeKind::Prefix, ScopeKind::User, ScopeKind::Network];

    pub const fn as_str(self) -> &'static str {
        match self {
            ScopeKind::Block => "block",
            ScopeKind::Prefix => "prefix",
            ScopeKind::User => "user",
            ScopeKind::Network => "network",
        }
    }

    /// In names of stored keys: it never changes.
    pub const fn letter(self) -> u8 {
        match self {
            ScopeKind::Block => b'b',
            ScopeKind::Prefix => b'p',
            ScopeKind::User => b'u',
            ScopeKind::Network => b'n',
        }
    }

    pub fn of_letter(letter: u8) -> Option<ScopeKind> {
        ScopeKind::ALL.into_iter().find(|kind| kind.letter() == letter)
    }

    pub const fn rule(self) -> DefenceRule {
        match self {
            ScopeKind::Block => DefenceRule::UnverifiedBlock,
            ScopeKind::Prefix => DefenceRule::UnverifiedPrefix,
            ScopeKind::User => DefenceRule::UnverifiedUser,
            ScopeKind::Network => DefenceRule::UnverifiedNetwork,
        }
    }

    /// The budget without history.
    pub const fn floor(self) -> Budget {
        match self {
            ScopeKind::Block => Budget { hour: 20, day: 60 },
            ScopeKind::Prefix => Budget { hour: 500, day: 2_000 },
            ScopeKind::User => Budget { hour: 10, day: 20 },
            ScopeKind::Network => Budget { hour: 60, day: 200 },
        }
    }

    /// Of too many holds those of the lowest rank are dropped first: a crowd of users opens no block.
    pub const fn rank(self) -> u8 {
        match self {
            ScopeKind::User => 1,
            ScopeKind::Network => 2,
            ScopeKind::Block => 3,
            ScopeKind::Prefix => 4,
        }
    }

    /// Verifications earn room for the sends of others: people behind one carrier's addresses share a network.
    pub const fn earns(self) -> bool {
        matches!(self, ScopeKind::Network)
    }

    /// `DEFENCE_BUDGET_PERCENT` of the floor.
    pub fn floor_in_percent(self, percent: u32) -> Budget {
        let part = |count: u32| (count * percent / 100).max(1);
        let Budget { hour, day } = self.floor();
        Budget { hour: part(hour), day: part(day) }
    }

    /// A hold ends when at most so many eighths of the budget are used. A block opens late: it is little used by anyone else.
    pub const fn release_eighths(self) -> u8 {
        match self {
            ScopeKind::Block => 4,
            ScopeKind::Prefix | ScopeKind::User | ScopeKind::Network => 7,
        }
    }
}

/// A block that is held to relieve its prefix opens when at most so many eighths of its own budget are used.
pub const RELIEF_EIGHTHS: u8 = 1;

/// A block or a prefix by its digits, a user or a network by eight bytes of its keyed digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    pub kind: ScopeKind,
    pub id: u64,
}

impl Scope {
    pub fn of_digest(kind: ScopeKind, digest: Digest16) -> Scope {
        let bytes = digest.bytes();
        Scope { kind, id: u64::from_be_bytes(*bytes.first_chunk().expect("a digest has 16 bytes")) }
    }

    /// The part of the store that has the record: it never changes. The blocks of a prefix are in [`BLOCK_PARTS`] parts.
    pub fn part(self, prefix: u64) -> u64 {
        match self.kind {
            ScopeKind::Block => prefix % 512 * BLOCK_PARTS + self.id % BLOCK_PARTS,
            ScopeKind::Prefix => self.id % 64,
            ScopeKind::User => self.id % 1_024,
            ScopeKind::Network => self.id % 256,
        }
    }

    /// Digits after a plus sign; of a digest the first four bytes.
    pub fn shown(self) -> String {
        match self.kind {
            ScopeKind::Block | ScopeKind::Prefix => format!("+{}", self.id),
            ScopeKind::User | ScopeKind::Network => format!("{:08x}", self.id >> 32),
        }
    }
}

/// The scopes in which a send counts, beside its prefix. In those with few sends it does not, nor its verification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountedScopes(u8);

impl CountedScopes {
    pub const NONE: CountedScopes = CountedScopes(0);
    pub const ALL: CountedScopes = CountedScopes(u8::MAX);

    const fn bit(kind: ScopeKind) -> u8 {
        1 << kind as u8
    }

    #[must_use]
    pub const fn with(self, kind: ScopeKind) -> CountedScopes {
        CountedScopes(self.0 | CountedScopes::bit(kind))
    }

    pub const fn has(self, kind: ScopeKind) -> bool {
        self.0 & CountedScopes::bit(kind) != 0
    }

    /// The byte in the store, which never changes.
    pub const fn stored(self) -> u8 {
        self.0
    }

    pub const fn from_stored(byte: u8) -> CountedScopes {
        CountedScopes(byte)
    }
}

/// Unverified sends that are allowed: they leak from the buckets in an hour, and in a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    pub hour: u32,
    pub day: u32,
}

impl Budget {
    /// The most that a record holds in three bytes.
    const MAX: u32 = (1 << 24) - 1;

    #[must_use]
    pub fn plus(self, normal: Budget) -> Budget {
        Budget {
            hour: self.hour.saturating_add(normal.hour).min(Budget::MAX),
            day: self.day.saturating_add(normal.day).min(Budget::MAX),
        }
    }
}

/// Sends of one minute, and of those that are verified now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Since 1970.
    pub minute: u32,
    pub sent: u16,
    pub verified: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeChanges {
    pub scope: Scope,
    pub budget: Budget,
    /// The share of the pending sends that counts, in thousandths: those that are expected to stay unverified.
    pub weight: u16,
    pub changes: Vec<Change>,
}

/// A prefix with its blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixChanges {
    /// Those beside the changes of blocks.
    pub own: ScopeChanges,
    /// They count to the prefix as well, unless the block is held.
    pub blocks: Vec<ScopeChanges>,
}

/// The changes of a process since its last batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefenceBatch {
    pub writer: u64,
    /// Rises with each batch of a writer: the store adds each once. 0: there are no changes.
    pub sequence: u32,
    pub prefixes: Vec<PrefixChanges>,
    /// Users and networks.
    pub subjects: Vec<ScopeChanges>,
}

pub fn minute_of(at: UnixMillis) -> u32 {
    u32::try_from(at.0 / 60_000).unwrap_or(u32::MAX)
}

/// The unverified sends of a scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnverifiedRecord {
    pub minute: u32,
    /// Sends of this minute, of the one before, and of the one before that.
    pub pending: [u32; PENDING_MINUTES],
    /// In sixtieths of a send: so the budget leaks by a whole number each minute.
    pub hour: u32,
    /// In parts of 1,440.
    pub day: u32,
    pub budget: Budget,
}

impl UnverifiedRecord {
    pub fn new(minute: u32) -> UnverifiedRecord {
        UnverifiedRecord { minute, ..UnverifiedRecord::default() }
    }

    /// Moves what is no longer pending to the buckets, and lets them leak.
    pub fn advance(&mut self, minute: u32) {
        let elapsed = minute.saturating_sub(self.minute);
        if elapsed == 0 {
            return;
        }
        let stays = PENDING_MINUTES.saturating_sub(usize::try_from(elapsed).unwrap_or(usize::MAX));
        let aged: u64 = self.pending[stays..].iter().copied().map(u64::from).sum();
        let mut pending = [0; PENDING_MINUTES];
        pending[PENDING_MINUTES - stays..].copy_from_slice(&self.pending[..stays]);
        let leaked = |bucket: u32, minutes: u64, budget: u32| {
            let filled = u64::from(bucket) + minutes * aged;
            capped(filled.saturating_sub(u64::from(elapsed) * u64::from(budget)))
        };
        self.hour = leaked(self.hour, HOUR_MINUTES, self.budget.hour);
        self.day = leaked(self.day, DAY_MINUTES, self.budget.day);
        (self.minute, self.pending) = (minute, pending);
    }

    /// A clock that is ahead counts now. A verification that finds no pending send of its minute is taken off the buckets.
    pub fn apply(&mut self, change: Change, now: u32) {
        let age = usize::try_from(self.minute.saturating_sub(change.minute.min(now))).unwrap_or(usize::MAX);
        let (sent, mut verified) = (u32::from(change.sent), u32::from(change.verified));
        if let Some(pending) = self.pending.get_mut(age) {
            *pending = (*pending + sent).min(PENDING_MAX);
            let taken = verified.min(*pending);
            *pending -= taken;
            verified -= taken;
        } else {
            self.hour = capped(u64::from(self.hour) + HOUR_MINUTES * u64::from(sent));
            self.day = capped(u64::from(self.day) + DAY_MINUTES * u64::from(sent));
        }
        self.hour = capped(u64::from(self.hour).saturating_sub(HOUR_MINUTES * u64::from(verified)));
        self.day = capped(u64::from(self.day).saturating_sub(DAY_MINUTES * u64::from(verified)));
    }

    /// Takes off as many other sends as are expected to stay unverified for one that is verified.
    pub fn earn(&mut self, verified: u16, weight: u16) {
        let others = u64::from(verified) * u64::from(weight);
        let earned = |minutes: u64| minutes * others / u64::from(WEIGHT_FULL.saturating_sub(weight).max(1));
        self.hour = capped(u64::from(self.hour).saturating_sub(earned(HOUR_MINUTES)));
        self.day = capped(u64::from(self.day).saturating_sub(earned(DAY_MINUTES)));
    }

    /// Takes the share of a block off its prefix, but for what is not in it: the levels that an earlier hold has left.
    pub fn subtract(&mut self, block: &UnverifiedRecord, [hour_outside, day_outside]: [u32; 2]) {
        for (pending, of_block) in self.pending.iter_mut().zip(block.pending) {
            *pending = pending.saturating_sub(of_block);
        }
        self.hour = self.hour.saturating_sub(block.hour.saturating_sub(hour_outside));
        self.day = self.day.saturating_sub(block.day.saturating_sub(day_outside));
    }

    /// The levels of both buckets in so many minutes, if no pending send is verified.
    pub fn left_in(&self, minutes: u32) -> [u32; 2] {
        let [hour, day] = self.levels(WEIGHT_FULL).map(|level| level / 1_000);
        let leaked =
            |level: u64, leak: u32| capped(level.saturating_sub(u64::from(minutes) * u64::from(leak)));
        [leaked(hour, self.budget.hour), leaked(day, self.budget.day)]
    }

    pub fn pending_sends(&self) -> u32 {
        self.pending.iter().sum()
    }

    /// The levels of both buckets with the share of the pending sends, in thousandths of their units.
    fn levels(&self, weight: u16) -> [u64; 2] {
        let pending = u64::from(self.pending_sends()) * u64::from(weight);
        [
            1_000 * u64::from(self.hour) + HOUR_MINUTES * pending,
            1_000 * u64::from(self.day) + DAY_MINUTES * pending,
        ]
    }

    fn sizes(&self) -> [u64; 2] {
        [HOUR_MINUTES * u64::from(self.budget.hour), DAY_MINUTES * u64::from(self.budget.day)]
    }

    pub fn is_over_budget(&self, weight: u16) -> bool {
        self.levels(weight).into_iter().zip(self.sizes()).any(|(level, size)| level > 1_000 * size)
    }

    /// At least a quarter of the budget of an hour or of a day.
    pub fn has_many(&self, weight: u16) -> bool {
        self.levels(weight).into_iter().zip(self.sizes()).any(|(level, size)| 4 * level >= 1_000 * size)
    }

    /// Minutes until at most so many eighths of the budgets are used, if no pending send is verified. 0: they are now.
    pub fn minutes_until(&self, eighths: u8) -> u32 {
        let full = self.levels(WEIGHT_FULL).map(|level| level / 1_000);
        let leaks = [self.budget.hour, self.budget.day];
        let minutes = full.into_iter().zip(self.sizes()).zip(leaks).map(|((level, size), leak)| {
            let excess = level.saturating_sub(size * u64::from(eighths) / 8);
            excess.div_ceil(u64::from(leak).max(1))
        });
        let longest = minutes.max().unwrap_or_default();
        u32::try_from(longest).unwrap_or(u32::MAX).min(HOLD_MINUTES_MAX)
    }

    /// The order in which a full part drops records.
    pub fn worth(&self) -> u64 {
        u64::from(self.day) + DAY_MINUTES * u64::from(self.pending_sends())
    }

    /// Unverified sends in the buckets of an hour and of a day, rounded down.
    pub fn unverified(&self) -> Budget {
        let sends =
            |bucket: u32, minutes: u64| u32::try_from(u64::from(bucket) / minutes).unwrap_or(u32::MAX);
        Budget { hour: sends(self.hour, HOUR_MINUTES), day: sends(self.day, DAY_MINUTES) }
    }
}

fn capped(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
