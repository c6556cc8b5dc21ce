//! Reads stored values, which `layout.lua` describes. `None` where a value is damaged.

use super::charges::{Charge, read_charges};
use super::pack::Unpacker;
use crate::domain::keyed_digest::Digest16;
use crate::domain::receipt::DeliveryStatus;
use crate::domain::time::UnixMillis;
use crate::store::RecordedReceipt;
use crate::store::retention::NO_PROVIDER_CODE;

const LAYOUT: u8 = 2;
const STAGES: [&str; 3] = ["sending", "waiting", "doubt"];
const COMPLETED: u8 = 4;
/// Added to a state that charges follow.
const CHARGES: u8 = 16;
const CHARGES_REFUNDED: u8 = 32;
/// A time, and the 17 bytes of a request.
const REQUEST_ENTRY: usize = 23;
/// A time, and the 8 bytes of a check.
const CHECK_ENTRY: usize = 14;

/// The bytes behind the header, if that is right.
fn without_header(value: &[u8]) -> Option<Unpacker<'_>> {
    let mut words = Unpacker::new(value);
    let (layout, length) = (words.u8()?, words.u24()?);
    let rest = words.rest();
    (layout == LAYOUT && usize::try_from(length) == Ok(rest.len())).then(|| Unpacker::new(rest))
}

/// Of a challenge: id, key id, digest of the code, and whether the caller chose it.
pub(super) struct CodeFacts<'a> {
    pub(super) callers_code: bool,
    pub(super) id: Digest16,
    pub(super) digest: Digest16,
    pub(super) kid: &'a str,
}

impl<'a> CodeFacts<'a> {
    pub(super) fn read(words: &mut Unpacker<'a>) -> Option<CodeFacts<'a>> {
        Some(CodeFacts {
            callers_code: words.u8()? == 1,
            id: words.digest()?,
            digest: words.digest()?,
            kid: words.short_text()?,
        })
    }
}

pub(super) struct Challenge<'a> {
    pub(super) purpose: &'a str,
    pub(super) expires: UnixMillis,
    pub(super) checks: u32,
    pub(super) used_by: &'a [u8],
    pub(super) facts: CodeFacts<'a>,
    pub(super) verification_sid: &'a str,
    /// Each with the SID that it asked about.
    pub(super) unfinished_checks: Vec<(&'a [u8], &'a str)>,
}

impl<'a> Challenge<'a> {
    fn read(words: &mut Unpacker<'a>) -> Option<Challenge<'a>> {
        let (purpose, mut body) = (words.short_text()?, Unpacker::new(words.long()?));
        let mut challenge = Challenge {
            purpose,
            expires: body.time()?,
            checks: body.u8()?.into(),
            used_by: body.short()?,
            facts: CodeFacts::read(&mut body)?,
            verification_sid: "",
            unfinished_checks: Vec::new(),
        };
        if !body.is_empty() {
            challenge.verification_sid = body.short_text()?;
        }
        while !body.is_empty() {
            challenge.unfinished_checks.push((body.bytes(8)?, body.short_text()?));
        }
        Some(challenge)
    }
}

/// An entry of a log: its time, and the request or check.
pub(super) type Entry<'a> = (UnixMillis, &'a [u8]);

/// Reads a log of entries of one width.
pub(super) fn log(log: &[u8], width: usize) -> Option<Vec<Entry<'_>>> {
    let (mut words, mut entries) = (Unpacker::new(log), Vec::new());
    while !words.is_empty() {
        entries.push((words.time()?, words.bytes(width - 6)?));
    }
    Some(entries)
}

pub(super) struct Recipient<'a> {
    pub(super) kept_until: UnixMillis,
    pub(super) cooldown_until: UnixMillis,
    pub(super) cooldown_deadline: UnixMillis,
    pub(super) cooldown_request: &'a [u8],
    pub(super) suppression_code: u32,
    /// 0: not suppressed; `NO_END`: without end.
    pub(super) suppressed_until: u64,
    pub(super) sends: Vec<Entry<'a>>,
    pub(super) refunds: Vec<Entry<'a>>,
    pub(super) unsent: Vec<Entry<'a>>,
    pub(super) wrong: Vec<Entry<'a>>,
    pub(super) challenges: Vec<Challenge<'a>>,
}

impl<'a> Recipient<'a> {
    pub(super) fn read(value: &'a [u8]) -> Option<Recipient<'a>> {
        let mut words = without_header(value)?;
        let mut recipient = Recipient {
            kept_until: words.time()?,
            cooldown_until: words.time()?,
            cooldown_deadline: words.time()?,
            cooldown_request: words.short()?,
            suppression_code: words.u32()?,
            suppressed_until: words.u48()?,
            sends: log(words.long()?, REQUEST_ENTRY)?,
            refunds: log(words.long()?, REQUEST_ENTRY)?,
            unsent: log(words.long()?, REQUEST_ENTRY)?,
            wrong: log(words.long()?, CHECK_ENTRY)?,
            challenges: Vec::new(),
        };
        while !words.is_empty() {
            recipient.challenges.push(Challenge::read(&mut words)?);
        }
        Some(recipient)
    }
}

/// The common fields of a request's record, and the rest, which [`InProgress`] or `records.rs` reads.
pub(super) struct Record<'a> {
    pub(super) recipient: Digest16,
    /// `None`: completed.
    pub(super) stage: Option<&'static str>,
    /// Zeros: requeued.
    pub(super) token: &'a [u8],
    pub(super) kept_until: UnixMillis,
    pub(super) receipt: Option<RecordedReceipt>,
    pub(super) charges: Vec<Charge>,
    /// Its charges were refunded.
    pub(super) is_refunded: bool,
    pub(super) rest: &'a [u8],
}

impl<'a> Record<'a> {
    pub(super) fn read(value: &'a [u8]) -> Option<Record<'a>> {
        let mut words = without_header(value)?;
        let (recipient, state) = (words.digest()?, words.u8()?);
        let (token, kept_until, receipt) = (words.bytes(8)?, words.time()?, words.long()?);
        let (state, is_refunded, charges) = match state {
            0..=COMPLETED => (state, false, Vec::new()),
            CHARGES..CHARGES_REFUNDED => (state - CHARGES, false, read_charges(words.short()?)?),
            CHARGES_REFUNDED.. => (state - CHARGES_REFUNDED, true, read_charges(words.short()?)?),
            _ => return None,
        };
        let stage = match state {
            COMPLETED => None,
            state => Some(*STAGES.get(usize::from(state.checked_sub(1)?))?),
        };
        let receipt = if receipt.is_empty() { None } else { Some(recorded_receipt(receipt)?) };
        Some(Record {
            recipient,
            stage,
            token,
            kept_until,
            receipt,
            charges,
            is_refunded,
            rest: words.rest(),
        })
    }

    pub(super) fn has_lease(&self) -> bool {
        self.token != [0; 8]
    }
}

fn recorded_receipt(receipt: &[u8]) -> Option<RecordedReceipt> {
    let mut words = Unpacker::new(receipt);
    let (message_id, _rank) = (words.long_text()?.to_owned(), words.u8()?);
    let status = DeliveryStatus::from_index(words.u8()?)?;
    let (published, provider_code) = (words.u8()? == 1, words.u32()?);
    let provider_code = (provider_code != NO_PROVIDER_CODE).then_some(provider_code);
    Some(RecordedReceipt { message_id, status, provider_code, published, at: words.time()? })
}

/// The rest of the record of a request in progress.
pub(super) struct InProgress<'a> {
    pub(super) busy_until: UnixMillis,
    pub(super) attempts_started: u32,
    pub(super) attempt_started_at: UnixMillis,
    pub(super) attempts_in_doubt: u32,
    pub(super) unfinished_leases: u32,
    pub(super) admitted_at: UnixMillis,
    pub(super) expires: UnixMillis,
    pub(super) deadline: UnixMillis,
    pub(super) purpose: &'a str,
    pub(super) facts: CodeFacts<'a>,
    pub(super) history: &'a [u8],
}

impl<'a> InProgress<'a> {
    pub(super) fn read(rest: &'a [u8]) -> Option<InProgress<'a>> {
        let mut words = Unpacker::new(rest);
        Some(InProgress {
            busy_until: words.time()?,
            attempts_started: words.u16()?,
            attempt_started_at: words.time()?,
            attempts_in_doubt: words.u16()?,
            unfinished_leases: words.u16()?,
            admitted_at: words.time()?,
            expires: words.time()?,
            deadline: words.time()?,
            purpose: words.short_text()?,
            facts: CodeFacts::read(&mut Unpacker::new(words.short()?))?,
            history: words.rest(),
        })
    }
}
