//! Packs the parts of a record that the scripts do not read: the history, and the outcome.
//!
//! The first byte is the form: 1 an outcome or a history, 2 a rejection that `admit.lua` wrote. JSON, which begins with `{`, is
//! of an older version. A trace, the user, the mark of a caller's code, the network and the providers may follow the history, or the
//! outcome: versions that do not know them leave them unread.

use serde::{Deserialize, Serialize};

use super::pack::Unpacker;
use super::record_parts::{read_parts, with_parts};
use crate::domain::defence::DefenceRule;
use crate::domain::history::{Attempt, HistoryEntry, HistoryEvent, PoisonCause, RequestHistory};
use crate::domain::keyed_digest::Digest16;
use crate::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use crate::domain::reached_limit::ReachedLimit;
use crate::domain::time::UnixMillis;
use crate::store::retention::{NO_PROVIDER_CODE, is_word};

const PACKED: u8 = 1;
const REJECTION: u8 = 2;
const JSON: u8 = b'{';

const STATUSES: [Status; 4] = [Status::Sent, Status::Rejected, Status::Failed, Status::Unknown];

/// Stored by their place, which never changes. A place that only a newer version knows is read as the last.
const ERROR_CODES: [ErrorCode; 15] = [
    ErrorCode::InvalidRequest,
    ErrorCode::InvalidRecipient,
    ErrorCode::Landline,
    ErrorCode::CountryNotAllowed,
    ErrorCode::RateLimited,
    ErrorCode::Cooldown,
    ErrorCode::Suppressed,
    ErrorCode::Blocked,
    ErrorCode::Expired,
    ErrorCode::ChannelDisabled,
    ErrorCode::ProviderRejected,
    ErrorCode::ProviderMisconfigured,
    ErrorCode::ProviderUnavailable,
    ErrorCode::InDoubt,
    ErrorCode::Internal,
];

/// The reasons of `admit.lua`, from 1.
const REJECTION_REASONS: [ErrorCode; 5] = [
    ErrorCode::Expired,
    ErrorCode::Suppressed,
    ErrorCode::Blocked,
    ErrorCode::RateLimited,
    ErrorCode::Cooldown,
];

#[derive(Serialize, Deserialize)]
struct PackedHistory<'a> {
    to: &'a str,
    correlation_id: Option<&'a str>,
    challenge: PackedDigest<'a>,
    #[serde(borrow)]
    entries: Vec<(u64, PackedEvent<'a>)>,
}

/// A challenge id, mostly a digest.
#[derive(Serialize, Deserialize)]
enum PackedDigest<'a> {
    None,
    Digest([u8; 16]),
    Text(&'a str),
}

#[derive(Serialize, Deserialize)]
enum PackedEvent<'a> {
    Admitted(u32),
    Attempted { attempt: u32, sender: Option<u32>, answer: &'a str, provider_code: Option<u32>, ms: u64 },
    TakenOver(bool),
    LookedUp(&'a str),
    ToBeResent(u32),
    WaitsAtGate(&'a str),
    Requeued(&'a str),
    Crashed,
    Panicked,
    TestNumber,
}

#[derive(Serialize, Deserialize)]
struct PackedOutcome<'a> {
    status: u8,
    at: u64,
    purpose: &'a str,
    #[serde(borrow)]
    error: Option<PackedError<'a>>,
    provider: Option<&'a str>,
    message_id: PackedMessageId<'a>,
    attempts: u32,
    segments: Option<u32>,
    expires_at: Option<u64>,
    resend_after: Option<u64>,
    history: PackedHistory<'a>,
}

#[derive(Serialize, Deserialize)]
enum PackedMessageId<'a> {
    None,
    /// The one that the record names before the outcome.
    OfRecord,
    Text(&'a str),
}

/// Of an error that no limit caused: those of limits are rejections.
#[derive(Serialize, Deserialize)]
struct PackedError<'a> {
    code: u8,
    detail: Option<&'a str>,
    provider_code: Option<u32>,
    retry_after: Option<u64>,
}

fn packed<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![PACKED]).expect("it is plain data")
}

pub(super) fn pack_history(history: &RequestHistory) -> Vec<u8> {
    with_parts(packed(&PackedHistory::of(history)), history)
}

pub(super) fn pack_outcome(outcome: &Outcome) -> Vec<u8> {
    let place = |status| STATUSES.iter().position(|known| *known == status).expect("every status is listed");
    let packed = packed(&PackedOutcome {
        status: u8::try_from(place(outcome.status)).expect("there are few"),
        at: outcome.at.0,
        purpose: &outcome.purpose,
        error: outcome.error.as_ref().map(PackedError::of),
        provider: outcome.provider.as_deref(),
        message_id: match outcome.provider_message_id.as_deref() {
            None => PackedMessageId::None,
            Some(id) if is_word(id) => PackedMessageId::OfRecord,
            Some(id) => PackedMessageId::Text(id),
        },
        attempts: outcome.attempts,
        segments: outcome.segments,
        expires_at: outcome.expires_at.map(|at| at.0),
        resend_after: outcome.resend_after,
        history: PackedHistory::of(&outcome.history),
    });
    with_parts(packed, &outcome.history)
}

/// The number of the defence's rule may follow: versions that do not know it leave it unread.
pub(super) fn pack_error(error: &OutcomeError) -> Vec<u8> {
    let mut packed = packed(&PackedError::of(error));
    packed.extend(error.rule.map(DefenceRule::stored));
    packed
}

fn read_error(bytes: &[u8]) -> Option<OutcomeError> {
    let (error, rest) = postcard::take_from_bytes::<PackedError<'_>>(bytes).ok()?;
    let rule = rest.first().copied().and_then(DefenceRule::from_stored);
    Some(OutcomeError { rule, ..error.read() })
}

pub(super) fn read_history(bytes: &[u8]) -> Option<RequestHistory> {
    match bytes.split_first()? {
        (&PACKED, rest) => {
            let (history, rest) = postcard::take_from_bytes::<PackedHistory<'_>>(rest).ok()?;
            Some(read_parts(history.read(), rest))
        }
        (&JSON, _) => serde_json::from_slice(bytes).ok(),
        _ => None,
    }
}

/// Reads what a completed record holds after its common fields: message id, unnamed messages and outcome.
pub(super) fn read_completion(bytes: &[u8]) -> Option<Outcome> {
    let mut words = Unpacker::new(bytes);
    let (_shows_claim, message_id, _unnamed) = (words.u8()?, words.long_text()?, words.long()?);
    let outcome = words.rest();
    match outcome.split_first()? {
        (&PACKED, rest) => {
            let (outcome, rest) = postcard::take_from_bytes::<PackedOutcome<'_>>(rest).ok()?;
            let mut outcome = outcome.read(message_id)?;
            outcome.history = read_parts(std::mem::take(&mut outcome.history), rest);
            Some(outcome)
        }
        (&REJECTION, rest) => read_rejection(rest),
        (&JSON, _) => serde_json::from_slice(outcome).ok(),
        _ => None,
    }
}

/// A completed record as forgetting leaves it: its outcome with the history of [`RequestHistory::forgotten`].
pub(super) struct ForgottenOutcome {
    pub(super) packed: Vec<u8>,
    /// It has lost something.
    pub(super) is_changed: bool,
    pub(super) provider: Option<String>,
    pub(super) message_id: Option<String>,
}

/// `bytes` as for [`read_completion`].
pub(super) fn forget_outcome(bytes: &[u8]) -> Option<ForgottenOutcome> {
    let outcome = read_completion(bytes)?;
    let history = outcome.history.forgotten();
    let is_changed = history != outcome.history;
    let mut words = Unpacker::new(bytes);
    let _fields = (words.u8()?, words.long()?, words.long()?);
    let packed = words.rest();
    let packed = match packed.split_first()? {
        // Only this form has the limit that refused the request.
        (&REJECTION, rest) => [&packed[..=rejection_head(rest)?], &pack_history(&history)].concat(),
        _ => pack_outcome(&Outcome { history, ..outcome.clone() }),
    };
    let Outcome { provider, provider_message_id: message_id, .. } = outcome;
    Some(ForgottenOutcome { packed, is_changed, provider, message_id })
}

/// The length of a rejection before its history.
fn rejection_head(bytes: &[u8]) -> Option<usize> {
    let mut words = Unpacker::new(bytes);
    let _fields = (words.time()?, words.u8()?, words.u32()?, words.u32()?, words.short()?, words.long()?);
    Some(bytes.len() - words.rest().len())
}

/// A rejection as `admit.lua` writes it.
fn read_rejection(bytes: &[u8]) -> Option<Outcome> {
    let mut words = Unpacker::new(bytes);
    let (at, reason, retry_after, provider_code) = (words.time()?, words.u8()?, words.u32()?, words.u32()?);
    let (purpose, error) = (words.short_text()?, words.long()?);
    let error = match usize::from(reason).checked_sub(1) {
        None => match error.split_first()? {
            (&PACKED, rest) => read_error(rest)?,
            _ => return None,
        },
        Some(place) => {
            let code = *REJECTION_REASONS.get(place)?;
            OutcomeError {
                provider_code: (provider_code != NO_PROVIDER_CODE).then_some(provider_code),
                retry_after: (retry_after > 0).then_some(retry_after.into()),
                limit: match code {
                    // An older version stored none.
                    ErrorCode::RateLimited => error.first().copied().and_then(ReachedLimit::from_stored),
                    ErrorCode::Cooldown => Some(ReachedLimit::Cooldown),
                    _ => None,
                },
                ..OutcomeError::of(code)
            }
        }
    };
    let rejected = Outcome::with_error(Status::Rejected, at, purpose, error);
    Some(Outcome { history: read_history(words.rest())?, ..rejected })
}

impl<'a> PackedHistory<'a> {
    fn of(history: &'a RequestHistory) -> PackedHistory<'a> {
        let entry = |entry: &'a HistoryEntry| (entry.at.0, PackedEvent::of(&entry.event));
        PackedHistory {
            to: &history.to,
            correlation_id: history.correlation_id.as_deref(),
            challenge: match history.challenge.as_deref() {
                None => PackedDigest::None,
                Some(text) => match Digest16::parse(text) {
                    // Digits in another case would read back as other ones.
                    Some(digest) if Digest16::from_bytes(digest.bytes()) == digest => {
                        PackedDigest::Digest(digest.bytes())
                    }
                    _ => PackedDigest::Text(text),
                },
            },
            entries: history.entries.iter().map(entry).collect(),
        }
    }

    fn read(self) -> RequestHistory {
        let entry =
            |(at, event): (u64, PackedEvent<'_>)| HistoryEntry { at: UnixMillis(at), event: event.read() };
        RequestHistory {
            to: self.to.to_owned(),
            correlation_id: self.correlation_id.map(str::to_owned),
            trace: None,
            user: None,
            network: None,
            counted: None,
            callers_code: false,
            handed_to: Vec::new(),
            challenge: match self.challenge {
                PackedDigest::None => None,
                PackedDigest::Digest(bytes) => Some(hex::encode(bytes)),
                PackedDigest::Text(text) => Some(text.to_owned()),
            },
            entries: self.entries.into_iter().map(entry).collect(),
        }
    }
}

impl<'a> PackedEvent<'a> {
    fn of(event: &'a HistoryEvent) -> PackedEvent<'a> {
        match event {
            HistoryEvent::Admitted(sends) => PackedEvent::Admitted(*sends),
            HistoryEvent::Attempted(Attempt { attempt, sender, answer, provider_code, ms, .. }) => {
                PackedEvent::Attempted {
                    attempt: *attempt,
                    sender: *sender,
                    answer,
                    provider_code: *provider_code,
                    ms: *ms,
                }
            }
            HistoryEvent::TookOver(in_doubt) => PackedEvent::TakenOver(*in_doubt),
            HistoryEvent::LookedUp(answer) => PackedEvent::LookedUp(answer),
            HistoryEvent::ToBeResent(attempt) => PackedEvent::ToBeResent(*attempt),
            HistoryEvent::WaitsAtGate(reason) => PackedEvent::WaitsAtGate(reason),
            HistoryEvent::Requeued(reason) => PackedEvent::Requeued(reason),
            HistoryEvent::DeadLettered(PoisonCause::Crash) => PackedEvent::Crashed,
            HistoryEvent::DeadLettered(PoisonCause::Panic) => PackedEvent::Panicked,
            HistoryEvent::TestNumber => PackedEvent::TestNumber,
        }
    }

    fn read(self) -> HistoryEvent {
        match self {
            PackedEvent::Admitted(sends) => HistoryEvent::Admitted(sends),
            PackedEvent::Attempted { attempt, sender, answer, provider_code, ms } => {
                let answer = answer.to_owned();
                HistoryEvent::Attempted(Attempt {
                    answer,
                    provider_code,
                    ..Attempt::accepted(attempt, sender, ms)
                })
            }
            PackedEvent::TakenOver(in_doubt) => HistoryEvent::TookOver(in_doubt),
            PackedEvent::LookedUp(answer) => HistoryEvent::LookedUp(answer.to_owned()),
            PackedEvent::ToBeResent(attempt) => HistoryEvent::ToBeResent(attempt),
            PackedEvent::WaitsAtGate(reason) => HistoryEvent::WaitsAtGate(reason.to_owned()),
            PackedEvent::Requeued(reason) => HistoryEvent::Requeued(reason.to_owned()),
            PackedEvent::Crashed => HistoryEvent::DeadLettered(PoisonCause::Crash),
            PackedEvent::Panicked => HistoryEvent::DeadLettered(PoisonCause::Panic),
            PackedEvent::TestNumber => HistoryEvent::TestNumber,
        }
    }
}

impl PackedOutcome<'_> {
    fn read(self, message_id: &str) -> Option<Outcome> {
        Some(Outcome {
            status: *STATUSES.get(usize::from(self.status))?,
            at: UnixMillis(self.at),
            purpose: self.purpose.to_owned(),
            error: self.error.map(PackedError::read),
            provider: self.provider.map(str::to_owned),
            provider_message_id: match self.message_id {
                PackedMessageId::None => None,
                PackedMessageId::OfRecord => Some(message_id.to_owned()),
                PackedMessageId::Text(text) => Some(text.to_owned()),
            },
            attempts: self.attempts,
            segments: self.segments,
            expires_at: self.expires_at.map(UnixMillis),
            resend_after: self.resend_after,
            history: self.history.read(),
        })
    }
}

impl<'a> PackedError<'a> {
    fn of(error: &'a OutcomeError) -> PackedError<'a> {
        let place = ERROR_CODES.iter().position(|known| *known == error.code).expect("every code is listed");
        PackedError {
            code: u8::try_from(place).expect("there are few"),
            detail: error.detail.as_deref(),
            provider_code: error.provider_code,
            retry_after: error.retry_after,
        }
    }

    fn read(self) -> OutcomeError {
        OutcomeError {
            code: *ERROR_CODES.get(usize::from(self.code)).unwrap_or(&ErrorCode::Internal),
            detail: self.detail.map(str::to_owned),
            provider_code: self.provider_code,
            retry_after: self.retry_after,
            limit: None,
            rule: None,
        }
    }
}
