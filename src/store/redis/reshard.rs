//! Changes the number of shards: `reshard.lua` has the steps.
//!
//! Between 16 and 256 the way leads by one shard, as shards of both have the same names.

use futures_util::future::try_join_all;

use super::RedisStore;
use super::keys::Key;
use super::library::Step;
use super::opening::other_format;
use super::pack::{Packer, Unpacker};
use super::step_call::Call;
use crate::domain::audit::AuditRecord;
use crate::domain::shards::Shards;
use crate::store::resharding::{ReshardAnswer, ReshardRefusal, Resharding, StoredCounts};
use crate::store::{StoreError, StoreFault};

const STEP: &str = "reshard";

/// The answer of the first step.
enum Begun {
    From(Shards),
    NoData,
    Refused(ReshardRefusal),
    OtherLayout(StoreFault),
}

/// A recipient's suppression, packed as `reshard.write` takes it.
struct Suppression {
    recipient: [u8; 16],
    packed: Vec<u8>,
}

impl RedisStore {
    /// Changes the number of shards, while no process runs. An interrupted change is finished by the same call again.
    pub async fn reshard(&self, change: &Resharding) -> Result<ReshardAnswer, StoreError> {
        self.reshard_recorded(change, None).await
    }

    /// The record is written before anything changes.
    pub async fn reshard_recorded(
        &self,
        change: &Resharding,
        mut record: Option<&AuditRecord>,
    ) -> Result<ReshardAnswer, StoreError> {
        let (mut first, mut moved, mut forgotten) = (None, 0, StoredCounts::default());
        loop {
            let from = match self.begin_reshard(change.to, true).await? {
                Begun::From(from) => from,
                // The first part of the way by one shard was interrupted.
                Begun::Refused(ReshardRefusal::OtherChange { from, to }) if to == next(from, change.to) => {
                    from
                }
                Begun::NoData => return Ok(ReshardAnswer::Unneeded),
                Begun::Refused(refusal) => return Ok(ReshardAnswer::Refused(refusal)),
                Begun::OtherLayout(fault) => return Err(StoreError::Unavailable(fault)),
            };
            if from == change.to {
                if !change.dry_run {
                    self.delete_other_shards(from).await?;
                }
                break;
            }
            first = first.or(Some(from));
            let counts = self.survey(from).await?;
            if let Some(refusal) = refusal_by(change, &counts) {
                return Ok(ReshardAnswer::Refused(refusal));
            }
            forgotten.add(&counts);
            if change.dry_run {
                moved = self.move_suppressions(from, None).await?;
                break;
            }
            let next = next(from, change.to);
            if let Some(record) = record.take() {
                self.record_reshard(STEP, record).await?;
            }
            if let Begun::Refused(refusal) = self.begin_reshard(next, false).await? {
                return Ok(ReshardAnswer::Refused(refusal));
            }
            self.delete_shards(next).await?;
            moved = self.move_suppressions(from, Some(next)).await?;
            self.gather_outboxes(from).await?;
            self.finish_reshard().await?;
            self.delete_shards(from).await?;
        }
        Ok(match first {
            Some(from) => ReshardAnswer::Done { from, suppressions: moved, forgotten },
            None => ReshardAnswer::Unneeded,
        })
    }

    async fn begin_reshard(&self, to: Shards, only_asks: bool) -> Result<Begun, StoreError> {
        let call = self
            .call(Step::BeginReshard, &[self.keys.format()])
            .arg(self.settings().pack())
            .arg(to.count())
            .arg(u8::from(only_asks));
        self.answer(STEP, &call, begun).await
    }

    async fn survey(&self, shards: Shards) -> Result<StoredCounts, StoreError> {
        let mut counts = StoredCounts::default();
        for tag in self.tags(shards) {
            let mut cursor = 0;
            loop {
                let call = self.tag_call(Step::SurveyShard, &tag, cursor);
                let (next, found) = self.answer(STEP, &call, surveyed).await?;
                counts.add(&found);
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(counts)
    }

    /// Copies all suppressions, or only counts them.
    async fn move_suppressions(&self, from: Shards, to: Option<Shards>) -> Result<u64, StoreError> {
        let mut moved = 0;
        for tag in self.tags(from) {
            let mut cursor = 0;
            loop {
                let call = self.tag_call(Step::ReadSuppressions, &tag, cursor);
                let (next, found) = self.answer(STEP, &call, suppressions).await?;
                if let Some(to) = to {
                    try_join_all(found.iter().map(|suppression| self.write_suppression(to, suppression)))
                        .await?;
                }
                moved += found.len() as u64;
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(moved)
    }

    async fn write_suppression(&self, to: Shards, suppression: &Suppression) -> Result<(), StoreError> {
        let recipient = &suppression.recipient;
        let shard = usize::from(recipient[0]) * usize::from(to.count()) / 256;
        let key = [self.tags(to)[shard].as_slice(), b"s", recipient].concat();
        let call = self.call(Step::WriteSuppression, &[key]).arg(self.settings().pack());
        self.answer(STEP, &call.arg(suppression.packed.as_slice()), done).await
    }

    /// The audit records of a shard move to the outbox that stays.
    async fn gather_outboxes(&self, from: Shards) -> Result<(), StoreError> {
        for tag in self.tags(from).iter().filter(|_| from != Shards::ONE) {
            self.gather_outbox(STEP, [tag, b"outbox".as_slice()].concat()).await?;
        }
        Ok(())
    }

    async fn finish_reshard(&self) -> Result<(), StoreError> {
        let call = self.call(Step::FinishReshard, &[self.keys.format()]).arg(self.settings().pack());
        self.answer(STEP, &call, done).await
    }

    /// Deletes the shards of other numbers, which an interrupted change may have left.
    async fn delete_other_shards(&self, shards: Shards) -> Result<(), StoreError> {
        for other in Shards::ALL.into_iter().filter(|other| *other != shards) {
            let own = self.tags(shards);
            for tag in self.tags(other).iter().filter(|tag| !own.contains(tag)) {
                self.delete_shard(tag).await?;
            }
        }
        Ok(())
    }

    async fn delete_shards(&self, shards: Shards) -> Result<(), StoreError> {
        for tag in self.tags(shards) {
            self.delete_shard(&tag).await?;
        }
        Ok(())
    }

    async fn delete_shard(&self, tag: &[u8]) -> Result<(), StoreError> {
        let mut cursor = 0;
        loop {
            cursor = self.answer(STEP, &self.tag_call(Step::DeleteShard, tag, cursor), number).await?;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    fn tag_call(&self, step: Step, tag: &[u8], cursor: u64) -> Call<'_> {
        self.call(step, &[[tag, b"suppressed"].concat()]).arg(self.settings().pack()).arg(cursor)
    }

    /// The prefixes of the keys of each shard.
    fn tags(&self, shards: Shards) -> Vec<Key> {
        let format = self.keys.format();
        let shared = format.strip_suffix(b"format").expect("the key ends so");
        if shards == Shards::ONE {
            return vec![shared.to_vec()];
        }
        let open = shared.strip_suffix(b"}:").expect("the prefix ends so");
        (0..shards.count()).map(|shard| [open, format!(":{shard:02x}}}:").as_bytes()].concat()).collect()
    }
}

fn next(from: Shards, to: Shards) -> Shards {
    if from == Shards::ONE || from == to { to } else { Shards::ONE }
}

fn refusal_by(change: &Resharding, counts: &StoredCounts) -> Option<ReshardRefusal> {
    if counts.unreadable > 0 {
        Some(ReshardRefusal::Unreadable(counts.unreadable))
    } else if counts.live_requests > 0 {
        Some(ReshardRefusal::LiveRequests(counts.live_requests))
    } else if counts.has_limits() && !change.forget_limits {
        Some(ReshardRefusal::Limits(*counts))
    } else {
        None
    }
}

fn begun(answer: &[u8]) -> Option<Begun> {
    let words: Vec<&str> = str::from_utf8(answer).ok()?.split(' ').collect();
    match words[..] {
        ["n"] => Some(Begun::NoData),
        ["r"] => Some(Begun::Refused(ReshardRefusal::Running)),
        ["l"] => Some(Begun::Refused(ReshardRefusal::OldLayout)),
        ["x", from, to] => Some(Begun::Refused(ReshardRefusal::OtherChange {
            from: from.parse().ok()?,
            to: to.parse().ok()?,
        })),
        ["f", number] => Some(Begun::OtherLayout(other_format(number))),
        ["b", from] => from.parse().ok().map(Begun::From),
        _ => None,
    }
}

fn surveyed(answer: &[u8]) -> Option<(u64, StoredCounts)> {
    let words: Vec<u64> =
        str::from_utf8(answer).ok()?.split(' ').map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let [cursor, live_requests, completed_requests, limits, codes, receipts, unreadable] = words[..] else {
        return None;
    };
    let counts = StoredCounts { live_requests, completed_requests, limits, codes, receipts, unreadable };
    Some((cursor, counts))
}

fn suppressions(answer: &[u8]) -> Option<(u64, Vec<Suppression>)> {
    let (mut words, mut found) = (Unpacker::new(answer), Vec::new());
    let cursor = words.short_text()?.parse().ok()?;
    while !words.is_empty() {
        let recipient = words.bytes(16)?.try_into().ok()?;
        let (code, until, note) = (words.u32()?, words.u48()?, words.long()?);
        found.push(Suppression { recipient, packed: Packer::new().u32(code).u48(until).bytes(note).done() });
    }
    Some((cursor, found))
}

fn number(answer: &[u8]) -> Option<u64> {
    str::from_utf8(answer).ok()?.parse().ok()
}

fn done(answer: &[u8]) -> Option<()> {
    (answer == b"r").then_some(())
}
