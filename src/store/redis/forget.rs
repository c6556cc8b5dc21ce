//! Forgets a recipient, and keeps the list of messages whose texts the provider is still to delete.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use super::RedisStore;
use super::library::Step;
use super::pack::{NO_END, Packer, Unpacker};
use super::records::{ForgottenOutcome, forget_outcome, pack_history};
use crate::domain::history::RequestHistory;
use crate::domain::keyed_digest::Digest16;
use crate::domain::time::{UnixMillis, millis};
use crate::store::StoreError;
use crate::store::forget::{
    ForgetAnswer, ForgetStore, Forgotten, KeptMarks, KeptSuppression, Listing, REDACTION_JOB_KEPT,
    REDACTION_JOBS_MAX, REDACTION_LEASE, REDACTION_MESSAGES_MAX, REDACTION_TRIED_FOR, REDACTIONS_TAKEN_EVERY,
    Redaction, RedactionEnd, RedactionJob, RedactionsAdded, SentMessage,
};
use crate::store::retention::{NO_PROVIDER_CODE, is_word};

/// Requests may end between the reading and the change.
const TRIES_MAX: u32 = 8;
/// The first SCAN call; each answers the cursor of the next, and the last answers this one again.
const FIRST_CURSOR: &str = "0";

/// Completed records as they are to be, by the 17 bytes of the request, each with its end.
type Records = BTreeMap<[u8; 17], (UnixMillis, ForgottenOutcome)>;

enum Changed {
    Again,
    InProgress(Duration),
    Forgotten(Forgotten),
}

#[async_trait]
impl ForgetStore for RedisStore {
    /// The records that the recipient's value names, and then those that only a scan of its shard finds.
    async fn forget(&self, recipient: Digest16) -> Result<ForgetAnswer, StoreError> {
        let mut records = Records::new();
        let answer = self.forget_records(&recipient, &mut records).await?;
        let ForgetAnswer::Forgotten(forgotten) = answer else { return Ok(answer) };
        let (known, mut cursor) = (records.len(), FIRST_CURSOR.to_owned());
        loop {
            cursor = self.read_records(&recipient, &cursor, &mut records).await?;
            if cursor == FIRST_CURSOR {
                break;
            }
        }
        if records.len() == known {
            return Ok(ForgetAnswer::Forgotten(with_records(forgotten, &records)));
        }
        Ok(match self.forget_records(&recipient, &mut records).await? {
            ForgetAnswer::Forgotten(rest) => {
                let (codes, note) = (forgotten.codes + rest.codes, forgotten.note || rest.note);
                ForgetAnswer::Forgotten(with_records(Forgotten { codes, note, ..rest }, &records))
            }
            in_progress => in_progress,
        })
    }

    async fn add_redactions(
        &self,
        recipient: Digest16,
        message_ids: &[String],
        listing: Listing,
    ) -> Result<RedactionsAdded, StoreError> {
        let number = |count: usize| u32::try_from(count).expect("a small number");
        let place = Listing::ALL.iter().position(|known| *known == listing).expect("every one is listed");
        let head = Packer::new()
            .u32(number(REDACTION_JOBS_MAX))
            .u32(number(REDACTION_MESSAGES_MAX))
            .u48(millis(REDACTION_JOB_KEPT))
            .digest(&recipient)
            .u8(u8::try_from(place).expect("there are few"));
        let message_ids = message_ids.iter().filter(|id| is_word(id) && id.len() <= 255);
        let packed = message_ids.fold(head, |packed, id| packed.short(id.as_bytes()));
        let call = self
            .call(Step::AddRedactions, &self.keys.redactions())
            .arg(self.settings().pack())
            .arg(packed.done());
        self.run("redactions", &call, |answer| match answer {
            b"a" => Some(RedactionsAdded::Added),
            b"f" => Some(RedactionsAdded::TooManyJobs),
            _ => None,
        })
        .await
    }

    async fn take_redactions(&self, count_max: u32) -> Result<Vec<Redaction>, StoreError> {
        let bounds = Packer::new()
            .u32(count_max)
            .millis32(millis(REDACTIONS_TAKEN_EVERY))
            .millis32(millis(REDACTION_LEASE));
        let call = self
            .call(Step::TakeRedactions, &self.keys.redactions())
            .arg(self.settings().pack())
            .arg(bounds.done());
        self.run_unwatched("redactions", &call, redactions).await
    }

    async fn end_redaction(&self, redaction: &Redaction, end: RedactionEnd) -> Result<(), StoreError> {
        let (letter, wait) = match end {
            RedactionEnd::Done => (b'd', Duration::ZERO),
            RedactionEnd::NotFound => (b'n', Duration::ZERO),
            RedactionEnd::Later(wait) => (b'l', wait),
        };
        let packed = Packer::new()
            .u8(letter)
            .millis32(millis(wait))
            .u48(millis(REDACTION_TRIED_FOR))
            .digest(&redaction.recipient)
            .bytes(redaction.message_id.as_bytes());
        let call = self
            .call(Step::EndRedaction, &self.keys.redactions())
            .arg(self.settings().pack())
            .arg(packed.done());
        self.run_unwatched("redactions", &call, |answer| (answer == b"e").then_some(())).await
    }

    async fn redaction_jobs(&self) -> Result<Vec<RedactionJob>, StoreError> {
        let [jobs, _] = self.keys.redactions();
        let call = self
            .call(Step::RedactionJobs, &[jobs])
            .arg(self.settings().pack())
            .arg(Packer::new().u48(millis(REDACTION_JOB_KEPT)).done());
        self.run("redactions", &call, redaction_jobs).await
    }
}

impl RedisStore {
    async fn forget_records(
        &self,
        recipient: &Digest16,
        records: &mut Records,
    ) -> Result<ForgetAnswer, StoreError> {
        for _ in 0..TRIES_MAX {
            self.read_records(recipient, "", records).await?;
            match self.write_forgotten(recipient, records).await? {
                Changed::Forgotten(forgotten) => return Ok(ForgetAnswer::Forgotten(forgotten)),
                Changed::InProgress(left) => return Ok(ForgetAnswer::InProgress(left)),
                Changed::Again => {}
            }
        }
        Ok(ForgetAnswer::InProgress(Duration::from_secs(1)))
    }

    /// Adds to the records, and returns the next cursor.
    async fn read_records(
        &self,
        recipient: &Digest16,
        cursor: &str,
        records: &mut Records,
    ) -> Result<String, StoreError> {
        let call = self
            .call(Step::ForgettableRecords, &[self.keys.recipient(recipient)])
            .arg(self.settings().pack())
            .arg(cursor);
        self.run("forget", &call, |answer| read_records(answer, records)).await
    }

    async fn write_forgotten(&self, recipient: &Digest16, records: &Records) -> Result<Changed, StoreError> {
        let packed = records.iter().fold(Packer::new(), |packed, (request, (kept_until, outcome))| {
            let length = u32::try_from(outcome.packed.len()).expect("an outcome is short");
            packed.bytes(request).u48(kept_until.0).u32(length).bytes(&outcome.packed)
        });
        let call = self
            .call(Step::Forget, &[self.keys.recipient(recipient)])
            .arg(self.settings().pack())
            .arg(pack_history(&RequestHistory::default()))
            .arg(packed.done());
        self.run("forget", &call, changed).await
    }
}

fn with_records(forgotten: Forgotten, records: &Records) -> Forgotten {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let outcomes = || records.values().map(|(_, outcome)| outcome);
    let messages = outcomes().filter_map(|outcome| {
        Some(SentMessage { provider: outcome.provider.clone()?, message_id: outcome.message_id.clone()? })
    });
    let last = records.values().map(|(kept_until, _)| *kept_until).max();
    Forgotten {
        histories: number(outcomes().filter(|outcome| outcome.is_changed).count()),
        messages: messages.collect(),
        kept: KeptMarks { requests: last.map(|until| (number(records.len()), until)), ..forgotten.kept },
        ..forgotten
    }
}

/// Adds the records to those known, and returns the next cursor.
fn read_records(answer: &[u8], records: &mut Records) -> Option<String> {
    let mut words = Unpacker::new(answer);
    let next_cursor = words.short_text()?.to_owned();
    while !words.is_empty() {
        let (request, kept_until) = (words.bytes(17)?.try_into().ok()?, words.time()?);
        let length = usize::try_from(words.u32()?).ok()?;
        let outcome = forget_outcome(words.bytes(length)?)?;
        // One that was read before has lost its history since.
        match records.get(&request) {
            Some((known_until, _)) if *known_until == kept_until => {}
            _ => drop(records.insert(request, (kept_until, outcome))),
        }
    }
    Some(next_cursor)
}

fn changed(answer: &[u8]) -> Option<Changed> {
    let mut words = Unpacker::new(answer);
    match words.u8()? {
        b'a' => Some(Changed::Again),
        b'b' => Some(Changed::InProgress(Duration::from_millis(words.u48()?))),
        b'f' => {
            let (codes, note, limits_until) = (words.u8()?.into(), words.u8()? == 1, words.u48()?);
            let (code, suppressed_until, opt_status_until) = (words.u32()?, words.u48()?, words.u48()?);
            let suppression = KeptSuppression {
                provider_code: (code != NO_PROVIDER_CODE).then_some(code),
                until: (suppressed_until != NO_END).then_some(UnixMillis(suppressed_until)),
            };
            let kept = KeptMarks {
                requests: None,
                limits_until: (limits_until > 0).then_some(UnixMillis(limits_until)),
                suppression: (suppressed_until > 0).then_some(suppression),
                opt_status_until: opt_status_until.checked_sub(1).map(UnixMillis),
            };
            Some(Changed::Forgotten(Forgotten { codes, note, kept, ..Forgotten::default() }))
        }
        _ => None,
    }
}

fn redactions(answer: &[u8]) -> Option<Vec<Redaction>> {
    let (mut words, mut taken) = (Unpacker::new(answer), Vec::new());
    while !words.is_empty() {
        taken.push(Redaction { recipient: words.digest()?, message_id: words.short_text()?.to_owned() });
    }
    Some(taken)
}

fn redaction_jobs(answer: &[u8]) -> Option<Vec<RedactionJob>> {
    let (mut words, mut jobs) = (Unpacker::new(answer), Vec::new());
    while !words.is_empty() {
        let (recipient, begun) = (words.digest()?, words.time()?);
        let [total, done, failed, not_found] = [words.u32()?, words.u32()?, words.u32()?, words.u32()?];
        let listing = *Listing::ALL.get(usize::from(words.u8()?))?;
        let failed = failed.saturating_sub(not_found);
        jobs.push(RedactionJob { recipient, begun, total, done, failed, not_found, listing });
    }
    jobs.sort_by_key(|job| (std::cmp::Reverse(job.begun), job.recipient));
    Some(jobs)
}
