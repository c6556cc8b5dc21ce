//! Reads the answers of the steps. Each begins with a letter, which the script describes.

use std::collections::HashSet;
use std::time::Duration;

use super::keys::{self, read_request_id};
use super::pack::{NO_END, Unpacker};
use super::records::{read_completion, read_history};
use super::values::{CodeFacts, InProgress, Recipient, Record};
use crate::domain::challenge::ChallengeId;
use crate::domain::history::RequestHistory;
use crate::domain::keyed_digest::Digest16;
use crate::domain::log_filter::{LogFilter, TemporaryLogFilter};
use crate::domain::opt_status::OptAnswer;
use crate::domain::reached_limit::ReachedLimit;
use crate::domain::suppression::SuppressionEntry;
use crate::domain::time::UnixMillis;
use crate::domain::verdict::Verdict;
use crate::store::code_check::{CheckAnswer, CodeRequest, ProviderCheckStart};
use crate::store::retention::{CHALLENGE_KEPT_AFTER, NO_PROVIDER_CODE, RECENT_MAX};
use crate::store::{
    Admission, AdmissionInput, ClaimAnswer, CodeState, CompletionAnswer, Damaged, Grant, KillSwitch,
    OverdueReceipt, PanicCount, ProgressAnswer, ReceiptAnswer, RequestRecord, RequestState, RequestSummary,
    SharedState, StoreError, Usage,
};

fn letter(answer: &[u8]) -> Option<(u8, Unpacker<'_>)> {
    answer.split_first().map(|(letter, rest)| (*letter, Unpacker::new(rest)))
}

fn text(words: Unpacker<'_>) -> Option<String> {
    String::from_utf8(words.rest().to_vec()).ok()
}

fn millis(words: &mut Unpacker<'_>) -> Option<Duration> {
    words.u48().map(Duration::from_millis)
}

pub(super) fn admission(answer: &[u8], input: &AdmissionInput<'_>) -> Option<Admission> {
    let (letter, mut words) = letter(answer)?;
    match letter {
        b'p' => Some(Admission::GateClosed),
        b'b' => millis(&mut words).map(Admission::Busy),
        b's' => {
            Some(Admission::CrashSuspect { unfinished_leases: words.u16()?, time_left: millis(&mut words)? })
        }
        b'e' => {
            let ours = words.u8()? == b'1';
            Some(Admission::Completed { outcome: read_completion(words.rest())?, ours })
        }
        b'n' => {
            let proposal = &input.proposal;
            let facts = CodeFacts {
                callers_code: proposal.callers_code,
                id: Digest16::parse(proposal.id.as_str())?,
                digest: proposal.digest,
                kid: proposal.kid,
            };
            new_grant(&mut words, |_| Some(facts)).map(Admission::Granted)
        }
        b'c' => new_grant(&mut words, CodeFacts::read).map(Admission::Granted),
        b'g' => grant_again(words).map(Admission::Granted),
        b'd' => grant_again(words).map(Admission::InDoubt),
        b'r' => {
            let sends = words.u16()?;
            grant(&mut words).map(|grant| Admission::Granted(Grant { sends, ..grant }))
        }
        _ => None,
    }
}

fn new_grant<'a>(
    words: &mut Unpacker<'a>,
    facts: impl FnOnce(&mut Unpacker<'a>) -> Option<CodeFacts<'a>>,
) -> Option<Grant> {
    let (now, sends, expires_at, deadline) = (words.time()?, words.u16()?, words.time()?, words.time()?);
    let facts = facts(words)?;
    Some(Grant {
        attempt: 1,
        challenge: ChallengeId::from_digest(facts.id),
        kid: facts.kid.to_owned(),
        digest: facts.digest,
        callers_code: facts.callers_code,
        admitted_at: now,
        expires_at,
        deadline,
        now,
        attempt_started_at: now,
        attempts_in_doubt: 0,
        unfinished_leases: 1,
        sends,
        history: None,
    })
}

fn grant_again(mut words: Unpacker<'_>) -> Option<Grant> {
    let grant = grant(&mut words)?;
    Some(Grant { history: Some(read_history(words.rest())?), ..grant })
}

fn grant(words: &mut Unpacker<'_>) -> Option<Grant> {
    let (now, attempt, attempt_started_at) = (words.time()?, words.u16()?, words.time()?);
    let (attempts_in_doubt, unfinished_leases) = (words.u16()?, words.u16()?);
    let (admitted_at, expires_at, deadline) = (words.time()?, words.time()?, words.time()?);
    let facts = words.short()?;
    let facts = CodeFacts::read(&mut Unpacker::new(facts))?;
    Some(Grant {
        attempt,
        challenge: ChallengeId::from_digest(facts.id),
        kid: facts.kid.to_owned(),
        digest: facts.digest,
        callers_code: facts.callers_code,
        admitted_at,
        expires_at,
        deadline,
        now,
        attempt_started_at,
        attempts_in_doubt,
        unfinished_leases,
        sends: 0,
        history: None,
    })
}

pub(super) fn progress_answer(answer: &[u8]) -> Option<ProgressAnswer> {
    let (letter, words) = letter(answer)?;
    match letter {
        b'a' => Some(ProgressAnswer::Applied),
        b'o' => Some(ProgressAnswer::LeaseNotHeld),
        b'r' => Some(ProgressAnswer::ChallengeUsedOrReplaced),
        b's' => text(words).map(ProgressAnswer::AlreadySent),
        _ => None,
    }
}

pub(super) fn panic_count(answer: &[u8]) -> Option<PanicCount> {
    let mut words = Unpacker::new(answer);
    let (panics, is_unsent, attempts) = (words.u16()?, words.u8()? == 1, words.u16()?);
    Some(PanicCount { panics, unsent_attempts: is_unsent.then_some(attempts) })
}

pub(super) fn claim_answer(answer: &[u8]) -> Option<ClaimAnswer> {
    let (letter, words) = letter(answer)?;
    match letter {
        b'c' => text(words).map(ClaimAnswer::Claimed),
        b'u' => Some(ClaimAnswer::SentUnnamed),
        b'a' => Some(ClaimAnswer::AllClaimed),
        b'n' => Some(ClaimAnswer::Ambiguous),
        b'o' => Some(ClaimAnswer::LeaseNotHeld),
        _ => None,
    }
}

pub(super) fn completion_answer(answer: &[u8]) -> Option<CompletionAnswer> {
    let (letter, words) = letter(answer)?;
    match letter {
        b'r' => Some(CompletionAnswer::Recorded),
        b'o' => Some(CompletionAnswer::MayHaveBeenSent),
        b'm' => Some(CompletionAnswer::MessageClaimed),
        b'a' => read_completion(words.rest()).map(CompletionAnswer::AlreadyCompleted),
        _ => None,
    }
}

pub(super) fn check_answer(
    answer: &[u8],
    purpose: &str,
    unreadable: impl FnOnce(Damaged) -> StoreError,
) -> Option<CheckAnswer> {
    let (b'v', mut words) = letter(answer)? else {
        return verdict(answer).map(CheckAnswer::NotVerified);
    };
    let (challenge, kind) = (words.digest()?, words.short_text()?);
    let mut damaged = (!kind.is_empty()).then(|| keys::damaged(kind));
    let mut requests = Vec::new();
    while !words.is_empty() {
        let (at, request, text) = (words.time()?, words.bytes(17)?, words.short_text()?);
        let length = usize::try_from(words.u32()?).ok()?;
        let record = words.bytes(length)?;
        let read = || Some((read_request_id(request, text)?, request_state(&Record::read(record)?)?));
        match read() {
            Some((request_id, (state, its_challenge))) => {
                let has_the_code = its_challenge == Some(challenge);
                requests.push((RequestSummary { at, request_id }, has_the_code.then_some(state)));
            }
            None => damaged = Some(Damaged::Request),
        }
    }
    let newest = newest_first(requests).into_iter();
    let have_the_code = newest.filter_map(|(recent, state)| Some((recent.request_id, state?)));
    let request = CodeRequest::choose(have_the_code, purpose);
    Some(CheckAnswer::Verified { request, unreadable: damaged.map(unreadable) })
}

/// Of a code that is not verified, or a check that the provider does not decide.
fn verdict(answer: &[u8]) -> Option<Verdict> {
    let (letter, mut words) = letter(answer)?;
    Some(match letter {
        b'w' => Verdict::Wrong { attempts_left: words.u8()?.into() },
        b'u' => Verdict::AlreadyUsed,
        b'n' => Verdict::NonePending,
        b'k' => Verdict::KeyUnavailable,
        b'?' => Verdict::Unanswered { counted: true },
        b'-' => Verdict::Unanswered { counted: false },
        b'x' => Verdict::Expired { at: words.time()? },
        b'l' => {
            let wait = millis(&mut words)?;
            Verdict::Locked { retry_after: (!wait.is_zero()).then_some(wait) }
        }
        _ => return None,
    })
}

pub(super) fn provider_check_start(answer: &[u8]) -> Option<ProviderCheckStart> {
    match letter(answer)? {
        (b'a', sid) => Some(ProviderCheckStart::Ask(text(sid).filter(|sid| !sid.is_empty()))),
        _ => verdict(answer).map(ProviderCheckStart::Decided),
    }
}

pub(super) fn reopened(answer: &[u8]) -> Option<()> {
    matches!(answer, b"r" | b"u").then_some(())
}

pub(super) fn linked(answer: &[u8]) -> Option<()> {
    matches!(answer, b"l" | b"r").then_some(())
}

pub(super) fn usage(answer: &[u8]) -> Option<Usage> {
    let mut words = Unpacker::new(answer);
    Some(Usage {
        used: words.u32()?,
        used_day: words.u32()?,
        wrong_attempts: words.u32()?,
        limited_for: millis(&mut words)?,
        limited_by: ReachedLimit::from_stored(words.u8()?),
        cooldown_left: millis(&mut words)?,
        has_record: words.u8()? == 1,
    })
}

/// `None` inside if the key is free.
pub(super) fn idempotency_key(answer: &[u8]) -> Option<Option<Digest16>> {
    if answer.is_empty() { Some(None) } else { Unpacker::new(answer).digest().map(Some) }
}

pub(super) fn receipt_answer(answer: &[u8]) -> Option<ReceiptAnswer> {
    let (letter, mut words) = letter(answer)?;
    let (purpose, history) = match letter {
        b'n' => return Some(ReceiptAnswer::NoRequest),
        b'k' => return Some(ReceiptAnswer::NothingToPublish),
        b'p' => (words.short_text()?.to_owned(), read_history(words.rest())?),
        b'e' => {
            let outcome = read_completion(words.rest())?;
            (outcome.purpose, outcome.history)
        }
        _ => return None,
    };
    let RequestHistory { correlation_id, trace, .. } = history;
    Some(ReceiptAnswer::Publish { purpose, correlation_id, trace })
}

pub(super) fn overdue_receipts(answer: &[u8]) -> Option<Vec<OverdueReceipt>> {
    let (mut words, mut overdue) = (Unpacker::new(answer), Vec::new());
    while !words.is_empty() {
        let (lapsed, recipient, request) = (words.u8()? == 1, words.digest()?, words.bytes(17)?);
        let request_id = read_request_id(request, words.short_text()?)?;
        let message_id = words.long_text()?.to_owned();
        overdue.push(OverdueReceipt {
            recipient,
            request_id,
            message_id,
            completed_at: words.time()?,
            lapsed,
        });
    }
    Some(overdue)
}

pub(super) fn receipt_wait_ended(answer: &[u8]) -> Option<()> {
    (answer == b"e").then_some(())
}

pub(super) fn shared_data_readable(answer: &[u8]) -> Option<()> {
    (answer == b"r").then_some(())
}

/// The answer to a heartbeat.
pub(super) struct Beat<'a> {
    pub(super) shared_state: SharedState,
    /// For how much longer the server may have lost writes.
    pub(super) lost_writes_left: Duration,
    pub(super) run_id: &'a str,
    /// `standalone` or `cluster`.
    pub(super) mode: &'a str,
}

pub(super) fn heartbeat(answer: &[u8]) -> Option<Beat<'_>> {
    let mut words = std::str::from_utf8(answer).ok()?.split(' ');
    let (kill_switch_on, active_workers) = (words.next()? == "1", words.next()?.parse().ok()?);
    let lost_writes_left = Duration::from_millis(words.next()?.parse().ok()?);
    let (run_id, mode) = (words.next()?, words.next()?);
    // A filter that cannot be read stops no sending.
    let shared_state =
        SharedState { kill_switch_on, active_workers, log_filter: words_of_log_filter(&mut words) };
    Some(Beat { shared_state, lost_writes_left, run_id, mode })
}

pub(super) fn kill_switch(answer: &[u8]) -> Option<Option<KillSwitch>> {
    if answer.is_empty() {
        return Some(None);
    }
    let (since, reason) = std::str::from_utf8(answer).ok()?.split_once(' ')?;
    Some(Some(KillSwitch { since: UnixMillis(since.parse().ok()?), reason: reason.to_owned() }))
}

pub(super) fn log_filter(answer: &[u8]) -> Option<Option<TemporaryLogFilter>> {
    if answer.is_empty() {
        return Some(None);
    }
    words_of_log_filter(&mut std::str::from_utf8(answer).ok()?.split(' ')).map(Some)
}

fn words_of_log_filter<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<TemporaryLogFilter> {
    let left = Duration::from_millis(words.next()?.parse().ok()?);
    let set_at = UnixMillis(words.next()?.parse().ok()?);
    let set_by = words.next()?.to_owned();
    Some(TemporaryLogFilter { filter: LogFilter::parse(words.next()?).ok()?, set_by, set_at, left })
}

pub(super) fn request_record(answer: &[u8]) -> Option<Option<RequestRecord>> {
    if answer.is_empty() {
        return Some(None);
    }
    let mut words = Unpacker::new(answer);
    let now = words.time()?;
    let length = usize::try_from(words.u32()?).ok()?;
    let (record, recipient) = (Record::read(words.bytes(length)?)?, words.rest());
    let (state, challenge) = request_state(&record)?;
    let purpose = match &state {
        RequestState::InProgress { purpose, .. } => purpose,
        RequestState::Completed(outcome) => &outcome.purpose,
    };
    let code = match challenge {
        Some(challenge) if !recipient.is_empty() => code_state(recipient, purpose, challenge, now)?,
        _ => None,
    };
    Some(Some(RequestRecord { state, receipt: record.receipt, code }))
}

/// The state of a request, and its challenge.
fn request_state(record: &Record<'_>) -> Option<(RequestState, Option<Digest16>)> {
    let Some(stage) = record.stage else {
        let outcome = read_completion(record.rest)?;
        let challenge = outcome.history.challenge.as_deref().and_then(Digest16::parse);
        return Some((RequestState::Completed(outcome), challenge));
    };
    let InProgress { attempts_started, deadline, purpose, facts, history, .. } =
        InProgress::read(record.rest)?;
    let (leased, purpose, history) = (record.has_lease(), purpose.to_owned(), read_history(history)?);
    Some((
        RequestState::InProgress { stage, leased, attempt: attempts_started, purpose, deadline, history },
        Some(facts.id),
    ))
}

/// The state of a challenge, if it is the recipient's current one. `None` outside: the value cannot be read.
fn code_state(
    recipient: &[u8],
    purpose: &str,
    challenge: Digest16,
    now: UnixMillis,
) -> Option<Option<CodeState>> {
    let challenges = Recipient::read(recipient)?.challenges;
    let current = challenges
        .iter()
        .find(|current| current.purpose == purpose)
        .filter(|current| current.facts.id == challenge && current.expires.plus(CHALLENGE_KEPT_AFTER) > now);
    Some(current.map(|current| CodeState {
        expires: current.expires,
        checks: current.checks,
        used: !current.used_by.is_empty(),
    }))
}

/// `None` inside if there is none.
pub(super) fn suppression(answer: &[u8]) -> Option<Option<SuppressionEntry>> {
    if answer.is_empty() { Some(None) } else { suppression_entry(answer).map(Some) }
}

pub(super) fn opt_status(answer: &[u8]) -> Option<OptAnswer> {
    match answer {
        b"r" => Some(OptAnswer::Recorded),
        b"o" => Some(OptAnswer::Outdated),
        _ => None,
    }
}

pub(super) fn suppressions(answer: &[u8]) -> Option<Vec<SuppressionEntry>> {
    let (mut words, mut entries) = (Unpacker::new(answer), Vec::new());
    while !words.is_empty() {
        entries.push(suppression_entry(words.long()?)?);
    }
    Some(entries)
}

fn suppression_entry(entry: &[u8]) -> Option<SuppressionEntry> {
    let mut words = Unpacker::new(entry);
    let (provider_code, until) = (words.u32()?, words.u48()?);
    let since = if words.is_empty() { None } else { Some(words.time()?) };
    let note = std::str::from_utf8(words.rest()).ok()?;
    let (masked, reason) = note.split_once(' ').unwrap_or((note, ""));
    Some(SuppressionEntry {
        to: (!masked.is_empty()).then(|| masked.to_owned()),
        provider_code: (provider_code != NO_PROVIDER_CODE).then_some(provider_code),
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        since,
        until: (until != NO_END).then_some(UnixMillis(until)),
    })
}

/// Merges the lists of sent and unsent requests, newest first, each request once.
pub(super) fn recent_requests(answer: &[u8]) -> Option<Vec<RequestSummary>> {
    let (mut words, mut recent) = (Unpacker::new(answer), Vec::new());
    while !words.is_empty() {
        let (at, request) = (words.time()?, words.bytes(17)?);
        recent.push((RequestSummary { at, request_id: read_request_id(request, words.short_text()?)? }, ()));
    }
    let count_max = usize::try_from(RECENT_MAX).expect("a small number");
    Some(newest_first(recent).into_iter().map(|(recent, ())| recent).take(count_max).collect())
}

/// Each request once, with what is known of it.
fn newest_first<T>(mut recent: Vec<(RequestSummary, T)>) -> Vec<(RequestSummary, T)> {
    recent.sort_by(|(a, _), (b, _)| (b.at, &b.request_id).cmp(&(a.at, &a.request_id)));
    let mut seen = HashSet::new();
    recent.retain(|(recent, _)| seen.insert(recent.request_id.clone()));
    recent
}
