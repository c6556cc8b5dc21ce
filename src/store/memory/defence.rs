//! Pumping defence: records of unverified sends in parts of a bounded number, holds, overrides, and recently verified numbers.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::domain::defence::{
    BLOCK_PARTS, DefenceBatch, ENDED_HOLD_KEPT, HOLDS_MAX, PrefixChanges, RECORDS_DROPPED, RECORDS_MAX,
    RELIEF_EIGHTHS, Scope, ScopeChanges, ScopeKind, UnverifiedRecord, minute_of,
};
use crate::domain::defence_list::{
    DefenceList, DefenceOverride, DefenceState, Hold, NewOverride, OVERRIDES_MAX, OverrideTarget,
    VERIFIED_FOR,
};
use crate::domain::keyed_digest::Digest16;
use crate::domain::time::{UnixMillis, millis};
use crate::store::defence::OverrideChange;
use crate::store::retention::{CONVERSION_WRITER_KEPT, DEFENCE_KEPT, VERIFIED_DROPPED, VERIFIED_MAX};

const MINUTE: Duration = Duration::from_secs(60);
const DAY_MILLIS: u64 = 86_400_000;

type Part = BTreeMap<u64, UnverifiedRecord>;

#[derive(Default)]
pub(super) struct Defence {
    /// By the kind of their scopes and their number, and when they were last written.
    parts: BTreeMap<(ScopeKind, u64), (UnixMillis, Part)>,
    /// Those of blocks stay for a while after their end.
    holds: HashMap<Scope, StoredHold>,
    overrides: BTreeMap<OverrideTarget, DefenceOverride>,
    /// The last batch of each writer.
    writers: HashMap<u64, (UnixMillis, u32)>,
    /// By the part of a digest and its name there: the day of the last verification.
    verified: BTreeMap<u16, BTreeMap<u64, u64>>,
}

#[derive(Clone, Copy)]
struct StoredHold {
    until: UnixMillis,
    /// Of the budget, at which it ends.
    eighths: u8,
    /// The rest in the buckets at its end, which does not count to the prefix.
    left: [u32; 2],
}

impl StoredHold {
    fn new(record: &UnverifiedRecord, minutes: u32, eighths: u8, now: UnixMillis) -> StoredHold {
        StoredHold { until: now.plus(minutes * MINUTE), eighths, left: record.left_in(minutes) }
    }

    fn is_kept(&self, scope: Scope, now: UnixMillis) -> bool {
        let is_remembered = scope.kind == ScopeKind::Block && self.left[1] > 0;
        self.until > now || is_remembered && self.until.plus(ENDED_HOLD_KEPT) > now
    }
}

/// The records that a batch touches, until they are written.
#[derive(Default)]
struct Touched(BTreeMap<(ScopeKind, u64), Part>);

impl Touched {
    fn insert(&mut self, scope: Scope, part: u64, record: UnverifiedRecord) {
        self.0.entry((scope.kind, part)).or_default().insert(scope.id, record);
    }
}

impl Defence {
    pub(super) fn add(&mut self, batch: &DefenceBatch, now: UnixMillis) -> DefenceList {
        self.holds.retain(|scope, hold| hold.is_kept(*scope, now));
        if batch.sequence > 0 && self.is_new(batch, now) {
            let mut touched = Touched::default();
            batch.prefixes.iter().for_each(|prefix| self.add_prefix(prefix, &mut touched, now));
            batch.subjects.iter().for_each(|subject| self.add_subject(subject, &mut touched, now));
            self.write(touched, now);
            self.drop_holds(now);
        }
        self.list(now)
    }

    fn is_new(&mut self, batch: &DefenceBatch, now: UnixMillis) -> bool {
        let last = self.writers.get(&batch.writer);
        let is_known =
            last.is_some_and(|(at, last)| at.plus(CONVERSION_WRITER_KEPT) > now && batch.sequence <= *last);
        if !is_known {
            self.writers.insert(batch.writer, (now, batch.sequence));
        }
        !is_known
    }

    /// The record of a scope, brought to this minute; `None` without one.
    fn advanced(
        &self,
        of: &ScopeChanges,
        part: u64,
        touched: &Touched,
        now: UnixMillis,
    ) -> Option<UnverifiedRecord> {
        let key = (of.scope.kind, part);
        let just_changed = touched.0.get(&key).and_then(|part| part.get(&of.scope.id));
        let mut record = just_changed.copied().or_else(|| self.record(key, of.scope.id, now))?;
        record.advance(minute_of(now));
        Some(record)
    }

    /// The record of a block, a user or a network with its changes; `None`: it has none, and these are verifications alone.
    fn changed(
        &self,
        of: &ScopeChanges,
        part: u64,
        touched: &Touched,
        now: UnixMillis,
    ) -> Option<UnverifiedRecord> {
        let has_sends = of.changes.iter().any(|change| change.sent > 0);
        let known = self.advanced(of, part, touched, now);
        let mut record = known.or_else(|| has_sends.then(|| UnverifiedRecord::new(minute_of(now))))?;
        record.budget = of.budget;
        for change in &of.changes {
            record.apply(*change, minute_of(now));
            if of.scope.kind.earns() {
                record.earn(change.verified, of.weight);
            }
        }
        Some(record)
    }

    fn record(&self, key: (ScopeKind, u64), id: u64, now: UnixMillis) -> Option<UnverifiedRecord> {
        let (written, part) = self.parts.get(&key)?;
        part.get(&id).copied().filter(|_| written.plus(DEFENCE_KEPT) > now)
    }

    fn add_prefix(&mut self, of: &PrefixChanges, touched: &mut Touched, now: UnixMillis) {
        let (own, minute) = (&of.own, minute_of(now));
        let prefix = own.scope.id;
        let own_part = own.scope.part(prefix);
        let known = self.advanced(own, own_part, touched, now);
        let mut record = known.unwrap_or_else(|| UnverifiedRecord::new(minute));
        record.budget = own.budget;
        own.changes.iter().for_each(|change| record.apply(*change, minute));
        for block in &of.blocks {
            if !self.is_held(block.scope, now) {
                block.changes.iter().for_each(|change| record.apply(*change, minute));
            }
            let part = block.scope.part(prefix);
            let Some(of_block) = self.changed(block, part, touched, now) else { continue };
            let outside = self.outside(block.scope, &of_block, now);
            if self.hold(block.scope, &of_block, block.scope.kind.release_eighths(), block.weight, now) {
                record.subtract(&of_block, outside);
            }
            touched.insert(block.scope, part, of_block);
        }
        if record.is_over_budget(own.weight) && !self.is_held(own.scope, now) {
            self.relieve(&mut record, own, touched, now);
        }
        self.hold(own.scope, &record, own.scope.kind.release_eighths(), own.weight, now);
        touched.insert(own.scope, own_part, record);
    }

    /// Holds the blocks of a prefix that have many unverified sends.
    fn relieve(
        &mut self,
        record: &mut UnverifiedRecord,
        own: &ScopeChanges,
        touched: &Touched,
        now: UnixMillis,
    ) {
        let prefix = own.scope.id;
        for nth in 0..BLOCK_PARTS {
            let part = Scope { kind: ScopeKind::Block, id: nth }.part(prefix);
            let key = (ScopeKind::Block, part);
            let stored = self.parts.get(&key).filter(|(written, _)| written.plus(DEFENCE_KEPT) > now);
            let mut blocks = stored.map(|(_, part)| part.clone()).unwrap_or_default();
            blocks.extend(touched.0.get(&key).into_iter().flatten().map(|(id, record)| (*id, *record)));
            for (id, mut block) in blocks {
                let scope = Scope { kind: ScopeKind::Block, id };
                if !id.to_string().starts_with(&prefix.to_string()) || self.is_held(scope, now) {
                    continue;
                }
                block.advance(minute_of(now));
                if block.has_many(own.weight) {
                    let outside = self.outside(scope, &block, now);
                    let minutes = block.minutes_until(RELIEF_EIGHTHS).max(1);
                    self.holds.insert(scope, StoredHold::new(&block, minutes, RELIEF_EIGHTHS, now));
                    record.subtract(&block, outside);
                }
            }
        }
    }

    fn add_subject(&mut self, of: &ScopeChanges, touched: &mut Touched, now: UnixMillis) {
        let part = of.scope.part(0);
        let Some(record) = self.changed(of, part, touched, now) else { return };
        self.hold(of.scope, &record, of.scope.kind.release_eighths(), of.weight, now);
        touched.insert(of.scope, part, record);
    }

    /// Begins a hold of a scope over its budget, or changes the end of one. True if it begins.
    fn hold(
        &mut self,
        scope: Scope,
        record: &UnverifiedRecord,
        eighths: u8,
        weight: u16,
        now: UnixMillis,
    ) -> bool {
        if let Some(held) = self.holds.get(&scope).copied().filter(|hold| hold.until > now) {
            let minutes = record.minutes_until(held.eighths);
            if minutes == 0 || now.plus(minutes * MINUTE) != held.until {
                self.holds.insert(scope, StoredHold::new(record, minutes, held.eighths, now));
            }
            self.holds.retain(|known, hold| *known != scope || hold.is_kept(scope, now));
            return false;
        }
        let begins = record.is_over_budget(weight);
        if begins {
            let minutes = record.minutes_until(eighths).max(1);
            self.holds.insert(scope, StoredHold::new(record, minutes, eighths, now));
        }
        begins
    }

    fn is_held(&self, scope: Scope, now: UnixMillis) -> bool {
        self.holds.get(&scope).is_some_and(|hold| hold.until > now)
    }

    /// The part of a block's buckets that does not count to its prefix, as an earlier hold has taken it off.
    fn outside(&self, scope: Scope, record: &UnverifiedRecord, now: UnixMillis) -> [u32; 2] {
        let Some(ended) = self.holds.get(&scope).filter(|hold| hold.until <= now) else { return [0; 2] };
        let minutes = minute_of(now) - minute_of(ended.until);
        let [hour, day] = ended.left;
        [
            hour.saturating_sub(minutes.saturating_mul(record.budget.hour)),
            day.saturating_sub(minutes.saturating_mul(record.budget.day)),
        ]
    }

    fn drop_holds(&mut self, now: UnixMillis) {
        let excess = self.holds.len().saturating_sub(HOLDS_MAX);
        let rank = |scope: &Scope, hold: &StoredHold| if hold.until > now { scope.kind.rank() } else { 0 };
        let mut all: Vec<(u8, UnixMillis, Scope)> =
            self.holds.iter().map(|(scope, hold)| (rank(scope, hold), hold.until, *scope)).collect();
        all.sort_unstable();
        for (.., scope) in all.into_iter().take(excess) {
            self.holds.remove(&scope);
        }
    }

    fn write(&mut self, touched: Touched, now: UnixMillis) {
        for (key, records) in touched.0 {
            let (written, part) = self.parts.entry(key).or_insert((now, Part::new()));
            if written.plus(DEFENCE_KEPT) <= now {
                part.clear();
            }
            let new = records.keys().filter(|id| !part.contains_key(id)).count();
            let excess = (part.len() + new).saturating_sub(RECORDS_MAX);
            if new > 0 && excess > 0 {
                drop_least(part, &records, excess.max(RECORDS_DROPPED), minute_of(now));
            }
            part.extend(records);
            *written = now;
        }
    }

    fn list(&self, now: UnixMillis) -> DefenceList {
        let held = self.holds.iter().filter(|(_, hold)| hold.until > now);
        let mut holds: Vec<Hold> =
            held.map(|(scope, hold)| Hold { scope: *scope, left: hold.until.since(now) }).collect();
        holds.sort_by_key(|hold| hold.scope);
        let in_force = self.overrides.values().filter(|known| known.until > now);
        let overrides =
            in_force.map(|known| DefenceOverride { left: known.until.since(now), ..known.clone() });
        DefenceList { holds, overrides: overrides.collect(), unreadable: 0 }
    }

    pub(super) fn state(&self, scopes: &[(u64, Scope)], now: UnixMillis) -> DefenceState {
        let record = |(prefix, scope): &(u64, Scope)| {
            let mut record = self.record((scope.kind, scope.part(*prefix)), scope.id, now)?;
            record.advance(minute_of(now));
            Some(record)
        };
        DefenceState { list: self.list(now), records: scopes.iter().map(record).collect() }
    }

    pub(super) fn set_override(
        &mut self,
        target: &OverrideTarget,
        new: Option<&NewOverride<'_>>,
        now: UnixMillis,
    ) -> OverrideChange {
        self.overrides.retain(|_, known| known.until > now);
        let before = self
            .overrides
            .get(target)
            .map(|known| DefenceOverride { left: known.until.since(now), ..known.clone() });
        let Some(new) = new else {
            self.overrides.remove(target);
            return OverrideChange::Done { before };
        };
        if before.is_none() && self.overrides.len() >= OVERRIDES_MAX {
            return OverrideChange::Full;
        }
        let known = DefenceOverride {
            target: target.clone(),
            action: new.action,
            since: now,
            until: now.plus(new.duration),
            left: new.duration,
            shown: new.shown.to_owned(),
            reason: new.reason.to_owned(),
        };
        self.overrides.insert(target.clone(), known);
        OverrideChange::Done { before }
    }

    pub(super) fn note_verified(&mut self, digests: &[Digest16], now: UnixMillis) {
        let today = now.0 / DAY_MILLIS;
        let mut new: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        for digest in digests {
            let (part, name) = verified_name(*digest);
            new.entry(part).or_default().push(name);
        }
        for (part, names) in new {
            let part = self.verified.entry(part).or_default();
            for name in names {
                if part.len() >= VERIFIED_MAX && !part.contains_key(&name) {
                    drop_oldest(part, today);
                }
                part.insert(name, today);
            }
        }
    }

    pub(super) fn has_verified(&self, digest: Digest16, now: UnixMillis) -> bool {
        let (part, name) = verified_name(digest);
        let day = self.verified.get(&part).and_then(|part| part.get(&name));
        day.is_some_and(|day| is_recent(*day, now.0 / DAY_MILLIS))
    }

    pub(super) fn forget_verified(&mut self, digest: Digest16) {
        let (part, name) = verified_name(digest);
        if let Some(part) = self.verified.get_mut(&part) {
            part.remove(&name);
        }
    }

    pub(super) fn sweep(&mut self, now: UnixMillis) {
        self.parts.retain(|_, (written, _)| written.plus(DEFENCE_KEPT) > now);
        self.writers.retain(|_, (at, _)| at.plus(CONVERSION_WRITER_KEPT) > now);
        let today = now.0 / DAY_MILLIS;
        self.verified.values_mut().for_each(|part| part.retain(|_, day| is_recent(*day, today)));
        self.verified.retain(|_, part| !part.is_empty());
    }
}

/// All without unverified sends; or if these are too few, those with the least, of these the ones that were written first.
fn drop_least(part: &mut Part, kept: &Part, count: usize, minute: u32) {
    let candidates = part.iter().filter(|(id, _)| !kept.contains_key(id));
    let mut candidates: Vec<(u64, u32, u64)> = candidates
        .map(|(id, record)| {
            let mut now = *record;
            now.advance(minute);
            (now.worth(), record.minute, *id)
        })
        .collect();
    candidates.sort_unstable();
    let empty = candidates.iter().filter(|(worth, ..)| *worth == 0).count();
    for (.., id) in candidates.into_iter().take(count.max(empty)) {
        part.remove(&id);
    }
}

fn drop_oldest(part: &mut BTreeMap<u64, u64>, today: u64) {
    let before = part.len();
    part.retain(|_, day| is_recent(*day, today));
    if part.len() == before {
        let mut days: Vec<(u64, u64)> = part.iter().map(|(name, day)| (*day, *name)).collect();
        days.sort_unstable();
        for (_, name) in days.into_iter().take(VERIFIED_DROPPED) {
            part.remove(&name);
        }
    }
}

fn is_recent(day: u64, today: u64) -> bool {
    today.saturating_sub(day) * DAY_MILLIS <= millis(VERIFIED_FOR)
}

/// The part of a digest, and its name there.
fn verified_name(digest: Digest16) -> (u16, u64) {
    let bytes = digest.bytes();
    let part = u16::from_be_bytes([bytes[0], bytes[1]]);
    (part, u64::from_be_bytes(*bytes[2..].first_chunk().expect("a digest has 16 bytes")))
}
