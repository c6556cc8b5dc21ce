//! Pumping defence: records of unverified sends, holds, overrides, and recently verified recipients and users.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;

use super::library::Step;
use super::pack::{NO_END, Packer, Unpacker};
use super::unverified::read_record;
use super::{RedisStore, audit};
use crate::domain::audit::AuditRecord;
use crate::domain::defence::{Change, DefenceBatch, Scope, ScopeChanges, ScopeKind};
use crate::domain::defence_list::{
    DefenceList, DefenceOverride, DefenceState, Hold, NewOverride, OverrideAction, OverrideTarget,
};
use crate::domain::keyed_digest::Digest16;
use crate::domain::time::millis;
use crate::store::StoreError;
use crate::store::defence::{DefenceStore, OverrideChange};

const REMOVED: u8 = b'-';
const FULL: &[u8] = b"f";
const DONE: u8 = b'o';
impl RedisStore {
    pub(super) async fn change_override(
        &self,
        target: &OverrideTarget,
        new: Option<&NewOverride<'_>>,
        record: Option<&AuditRecord>,
    ) -> Result<OverrideChange, StoreError> {
        let packed = Packer::new()
            .u8(new.map_or(REMOVED, |new| new.action.letter()))
            .u48(new.map_or(0, |new| millis(new.duration).min(NO_END)))
            .short(&target.name())
            .short(new.map_or("", |new| new.shown).as_bytes())
            .bytes(new.map_or("", |new| new.reason).as_bytes());
        let call = self
            .act_call(Step::SetDefenceOverride, self.keys.defence_overrides(), audit::SHARED, record)
            .arg(self.settings().pack())
            .arg(packed.done());
        self.run_act("set_defence_override", call, record, read_change).await
    }
}

#[async_trait]
impl DefenceStore for RedisStore {
    /// Not watched for faults: changes that wait harm no request.
    async fn add_defence(&self, batch: &DefenceBatch) -> Result<DefenceList, StoreError> {
        let head = Packer::new().bytes(&batch.writer.to_be_bytes()).u32(batch.sequence);
        let prefixes =
            batch.prefixes.iter().flat_map(|prefix| [&prefix.own].into_iter().chain(&prefix.blocks));
        let packed = prefixes.chain(&batch.subjects).fold(head, pack_changes).done();
        let call =
            self.call(Step::AddDefence, &[self.keys.defence_holds()]).arg(self.settings().pack()).arg(packed);
        self.run_unwatched("add_defence", &call, |answer| read_list(&mut Unpacker::new(answer))).await
    }

    async fn defence(&self, scopes: &[(u64, Scope)]) -> Result<DefenceState, StoreError> {
        let packed = scopes.iter().fold(Packer::new(), |packed, (prefix, scope)| {
            packed.u8(scope.kind.letter()).bytes(&scope.id.to_be_bytes()).bytes(&prefix.to_be_bytes())
        });
        let call = self
            .call(Step::Defence, &[self.keys.defence_holds()])
            .arg(self.settings().pack())
            .arg(packed.done());
        self.run("defence", &call, |answer| read_state(answer, scopes.len())).await
    }

    async fn set_defence_override(
        &self,
        target: &OverrideTarget,
        new: Option<&NewOverride<'_>>,
    ) -> Result<OverrideChange, StoreError> {
        self.change_override(target, new, None).await
    }

    async fn note_verified(&self, digests: &[Digest16]) -> Result<(), StoreError> {
        let mut of_shard: BTreeMap<usize, Vec<&Digest16>> = BTreeMap::new();
        for digest in digests {
            of_shard.entry(self.keys.shard_of(digest)).or_default().push(digest);
        }
        // A shard that fails keeps nothing from the others.
        let notes = of_shard.into_values().map(async |digests| {
            let (mut keys, mut packed) = (Vec::with_capacity(digests.len()), Packer::new());
            for digest in &digests {
                let (key, name) = self.keys.verified(digest);
                packed = packed.bytes(&name).flag(!self.verified_parts.is_lately(digest));
                keys.push(key);
            }
            let call = self.call(Step::NoteVerified, &keys).arg(self.settings().pack()).arg(packed.done());
            let read = |answer: &[u8]| (answer == b"n").then_some(());
            self.run_unwatched("note_verified", &call, read).await?;
            self.verified_parts.written(digests);
            Ok(())
        });
        join_all(notes).await.into_iter().collect()
    }

    async fn has_verified(&self, digest: Digest16) -> Result<bool, StoreError> {
        let (key, name) = self.keys.verified(&digest);
        let call = self.call(Step::HasVerified, &[key]).arg(self.settings().pack()).arg(&name);
        let read = |answer: &[u8]| match answer {
            b"1" => Some(true),
            b"0" => Some(false),
            _ => None,
        };
        self.run("has_verified", &call, read).await
    }

    async fn forget_verified(&self, digest: Digest16) -> Result<(), StoreError> {
        let (key, name) = self.keys.verified(&digest);
        let call = self.call(Step::ForgetVerified, &[key]).arg(self.settings().pack()).arg(&name);
        self.run("forget_verified", &call, |answer| (answer == b"n").then_some(())).await
    }
}

fn pack_changes(packed: Packer, of: &ScopeChanges) -> Packer {
    let changes = of.changes.iter().fold(Packer::new(), |packed, change| {
        let Change { minute, sent, verified } = *change;
        packed.u32(minute).u16(sent.into()).u16(verified.into())
    });
    let [_, hour @ ..] = of.budget.hour.to_be_bytes();
    let [_, day @ ..] = of.budget.day.to_be_bytes();
    packed
        .u8(of.scope.kind.letter())
        .bytes(&of.scope.id.to_be_bytes())
        .bytes(&hour)
        .bytes(&day)
        .u16(of.weight.into())
        .long(&changes.done())
}

fn read_list(words: &mut Unpacker<'_>) -> Option<DefenceList> {
    let mut list = DefenceList { unreadable: words.u16()?, ..DefenceList::default() };
    for _ in 0..words.u16()? {
        let kind = ScopeKind::of_letter(words.u8()?)?;
        let scope = Scope { kind, id: u64::from_be_bytes(words.bytes(8)?.try_into().ok()?) };
        list.holds.push(Hold { scope, left: Duration::from_millis(words.u48()?) });
    }
    list.holds.sort_by_key(|hold| hold.scope);
    for _ in 0..words.u16()? {
        list.overrides.push(read_override(words)?);
    }
    list.overrides.sort_by(|one, other| one.target.cmp(&other.target));
    Some(list)
}

fn read_override(words: &mut Unpacker<'_>) -> Option<DefenceOverride> {
    Some(DefenceOverride {
        target: OverrideTarget::read(words.short()?)?,
        left: Duration::from_millis(words.u48()?),
        until: words.time()?,
        since: words.time()?,
        action: OverrideAction::of_letter(words.u8()?)?,
        shown: words.short_text()?.to_owned(),
        reason: words.long_text()?.to_owned(),
    })
}

fn read_state(answer: &[u8], records: usize) -> Option<DefenceState> {
    let mut words = Unpacker::new(answer);
    let list = read_list(&mut words)?;
    let mut state = DefenceState { list, records: Vec::with_capacity(records) };
    for _ in 0..records {
        let has_record = words.u8()? == 1;
        state.records.push(if has_record { Some(read_record(&mut words)?) } else { None });
    }
    words.is_empty().then_some(state)
}

fn read_change(answer: &[u8]) -> Option<OverrideChange> {
    if answer == FULL {
        return Some(OverrideChange::Full);
    }
    let (&DONE, rest) = answer.split_first()? else { return None };
    let mut words = Unpacker::new(rest);
    let before = if words.is_empty() { None } else { Some(read_override(&mut words)?) };
    Some(OverrideChange::Done { before })
}
