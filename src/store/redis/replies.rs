//! Reads the answers of the scripts: words, and JSON that we wrote.

use std::time::Duration;

use crate::domain::challenge::ChallengeId;
use crate::domain::history::RequestHistory;
use crate::domain::keyed_digest::Digest16;
use crate::domain::outcome::Outcome;
use crate::domain::receipt::DeliveryStatus;
use crate::domain::request_id::RequestId;
use crate::domain::suppression::SuppressionEntry;
use crate::domain::time::UnixMillis;
use crate::domain::verdict::Verdict;
use crate::store::code_check::ProviderCheckStart;
use crate::store::retention::NO_PROVIDER_CODE;
use crate::store::{
    Admission, ClaimAnswer, CodeState, CompletionAnswer, Grant, KillSwitch, OverdueReceipt, ProgressAnswer,
    ReceiptAnswer, RecordedReceipt, RequestRecord, RequestState, RequestSummary, SharedState, Usage,
};

pub(super) fn admission(answer: &str) -> Option<Admission> {
    let (word, rest) = answer.split_once(' ').unwrap_or((answer, ""));
    match word {
        "paused" => Some(Admission::Paused),
        "granted" => grant(rest).map(Admission::Granted),
        "in_doubt" => grant(rest).map(Admission::InDoubt),
        "crash_suspect" => {
            let (unfinished, time_left) = rest.split_once(' ')?;
            let (unfinished_leases, time_left) = (number(unfinished)?, duration(time_left)?);
            Some(Admission::CrashSuspect { unfinished_leases, time_left })
        }
        "busy" => duration(rest).map(Admission::Busy),
        "completed" => {
            let (ours, outcome) = rest.split_once(' ')?;
            Some(Admission::Completed { outcome: json(outcome)?, ours: ours == "1" })
        }
        _ => None,
    }
}

fn grant(words: &str) -> Option<Grant> {
    let mut words = words.splitn(14, ' ');
    let mut next = || words.next();
    Some(Grant {
        attempt: number(next()?)?,
        now: time(next()?)?,
        attempt_started_at: time(next()?)?,
        attempts_in_doubt: number(next()?)?,
        unfinished_leases: number(next()?)?,
        sends: number(next()?)?,
        challenge: ChallengeId::parse(next()?)?,
        kid: next()?.to_owned(),
        digest: Digest16::parse(next()?)?,
        callers_code: next()? == "1",
        admitted_at: time(next()?)?,
        expires_at: time(next()?)?,
        deadline: time(next()?)?,
        history: match optional(next()?) {
            Some(history) => Some(json(history)?),
            None => None,
        },
    })
}

pub(super) fn progress_answer(answer: &str) -> Option<ProgressAnswer> {
    Some(match answer {
        "applied" => ProgressAnswer::Applied,
        "not_owner" => ProgressAnswer::NotOwner,
        "challenge_replaced" => ProgressAnswer::ChallengeUsedOrReplaced,
        other => ProgressAnswer::AlreadySent(other.strip_prefix("already_sent ")?.to_owned()),
    })
}

pub(super) fn claim_answer(answer: &str) -> Option<ClaimAnswer> {
    Some(match answer {
        "sent_unnamed" => ClaimAnswer::SentUnnamed,
        "all_claimed" => ClaimAnswer::AllClaimed,
        "ambiguous" => ClaimAnswer::Ambiguous,
        "not_owner" => ClaimAnswer::NotOwner,
        other => ClaimAnswer::Claimed(other.strip_prefix("claimed ")?.to_owned()),
    })
}

pub(super) fn completion_answer(answer: &str) -> Option<CompletionAnswer> {
    Some(match answer {
        "recorded" => CompletionAnswer::Recorded,
        "not_owner" => CompletionAnswer::NotOwner,
        "message_claimed" => CompletionAnswer::MessageClaimed,
        other => CompletionAnswer::AlreadyCompleted(json(other.strip_prefix("already_completed ")?)?),
    })
}

pub(super) fn verdict(answer: &str) -> Option<Verdict> {
    let (word, rest) = answer.split_once(' ').unwrap_or((answer, ""));
    Some(match word {
        "verified" => Verdict::Verified,
        "wrong" => Verdict::Wrong { attempts_left: number(rest)? },
        "already_used" => Verdict::AlreadyUsed,
        "none_pending" => Verdict::NonePending,
        "key_unavailable" => Verdict::KeyUnavailable,
        "unanswered" => Verdict::Unanswered { counted: true },
        "not_counted" => Verdict::Unanswered { counted: false },
        "expired" => Verdict::Expired { at: time(rest)? },
        "locked" => {
            let wait: u64 = rest.parse().ok()?;
            Verdict::Locked { retry_after: (wait > 0).then(|| Duration::from_millis(wait)) }
        }
        _ => return None,
    })
}

pub(super) fn provider_check_start(answer: &str) -> Option<ProviderCheckStart> {
    match answer.strip_prefix("ask ") {
        Some(sid) => Some(ProviderCheckStart::Ask(optional(sid).map(str::to_owned))),
        None => verdict(answer).map(ProviderCheckStart::Decided),
    }
}

pub(super) fn reopened(answer: &str) -> Option<()> {
    matches!(answer, "reopened" | "unchanged").then_some(())
}

pub(super) fn linked(answer: &str) -> Option<()> {
    matches!(answer, "linked" | "replaced").then_some(())
}

pub(super) fn usage(answer: &str) -> Option<Usage> {
    let mut words = answer.split(' ');
    let mut next = || words.next();
    Some(Usage {
        used: number(next()?)?,
        used_day: number(next()?)?,
        wrong_attempts: number(next()?)?,
        limited_for: duration(next()?)?,
        cooldown_left: duration(next()?)?,
        has_record: next()? == "1",
    })
}

/// `None` inside if the key is free.
pub(super) fn idempotency_key(answer: &str) -> Option<Option<Digest16>> {
    match optional(answer) {
        Some(digest) => Digest16::parse(digest).map(Some),
        None => Some(None),
    }
}

pub(super) fn receipt_answer(answer: &str) -> Option<ReceiptAnswer> {
    let (word, rest) = answer.split_once(' ').unwrap_or((answer, ""));
    let (purpose, history) = match word {
        "no_request" => return Some(ReceiptAnswer::NoRequest),
        "nothing_to_publish" => return Some(ReceiptAnswer::NothingToPublish),
        "in_progress" => {
            let (purpose, history) = rest.split_once(' ')?;
            (purpose.to_owned(), json::<RequestHistory>(history)?)
        }
        "completed" => {
            let outcome: Outcome = json(rest)?;
            (outcome.purpose, outcome.history)
        }
        _ => return None,
    };
    Some(ReceiptAnswer::Publish { purpose, correlation_id: history.correlation_id })
}

pub(super) fn overdue_receipts(answer: &str) -> Option<Vec<OverdueReceipt>> {
    answer.lines().map(overdue_receipt).collect()
}

fn overdue_receipt(line: &str) -> Option<OverdueReceipt> {
    let mut words = line.split(' ');
    let lapsed = words.next()? == "lapsed";
    let (message_id, recipient) = (words.next()?.to_owned(), Digest16::parse(words.next()?)?);
    let (sent_at, request_id) = (time(words.next()?)?, RequestId::parse(words.next()?)?);
    Some(OverdueReceipt { recipient, request_id, message_id, sent_at, lapsed })
}

pub(super) fn receipt_wait_ended(answer: &str) -> Option<()> {
    (answer == "ended").then_some(())
}

pub(super) fn shared_keys_readable(answer: &str) -> Option<()> {
    (answer == "readable").then_some(())
}

/// The shared state, for how much longer the server may lack writes, and its run id.
pub(super) fn heartbeat(answer: &str) -> Option<(SharedState, Duration, &str)> {
    let mut words = answer.split(' ');
    let shared_state =
        SharedState { kill_switch_on: words.next()? == "1", active_workers: number(words.next()?)? };
    Some((shared_state, duration(words.next()?)?, words.next()?))
}

pub(super) fn kill_switch(answer: &str) -> Option<Option<KillSwitch>> {
    if answer.is_empty() {
        return Some(None);
    }
    let (since, reason) = answer.split_once(' ')?;
    Some(Some(KillSwitch { since: time(since)?, reason: reason.to_owned() }))
}

pub(super) fn request_record(answer: &str) -> Option<Option<RequestRecord>> {
    if answer.is_empty() {
        return Some(None);
    }
    let mut words = answer.splitn(8, ' ');
    let mut next = || words.next();
    let code = match (next()?, next()?, next()?) {
        ("-", _, _) => None,
        (expires, checks, used) => {
            Some(CodeState { expires: time(expires)?, checks: number(checks)?, used: used == "1" })
        }
    };
    let (state, owner, _kept_until) = (next()?, next()?, next()?);
    let receipt = match optional(next()?) {
        Some(receipt) => Some(recorded_receipt(receipt)?),
        None => None,
    };
    let rest = next()?;
    let state = match state {
        "ended" => RequestState::Completed(json(rest)?),
        stage => in_progress(stage, owner != "-", rest)?,
    };
    Some(Some(RequestRecord { state, receipt, code }))
}

fn in_progress(stage: &str, leased: bool, rest: &str) -> Option<RequestState> {
    let words: Vec<&str> = rest.splitn(14, ' ').collect();
    let [_lease, attempt, _started, _in_doubt, _unfinished, facts @ .., purpose, history] = words.as_slice()
    else {
        return None;
    };
    Some(RequestState::InProgress {
        stage: ["sending", "waiting", "doubt"].into_iter().find(|word| *word == stage)?,
        leased,
        attempt: number(attempt)?,
        purpose: (*purpose).to_owned(),
        deadline: time(facts.last()?)?,
        history: json(history)?,
    })
}

fn recorded_receipt(receipt: &str) -> Option<RecordedReceipt> {
    let words: Vec<&str> = receipt.split(',').collect();
    let &[message_id, _rank, status, published, provider_code, at, ref _strength @ ..] = words.as_slice()
    else {
        return None;
    };
    Some(RecordedReceipt {
        message_id: message_id.to_owned(),
        status: DeliveryStatus::parse(status)?,
        provider_code: match optional(provider_code) {
            Some(provider_code) => Some(number(provider_code)?),
            None => None,
        },
        published: published == "1",
        at: time(at)?,
    })
}

pub(super) fn suppression(answer: &str) -> Option<Option<SuppressionEntry>> {
    if answer.is_empty() { Some(None) } else { suppression_line(answer).map(Some) }
}

pub(super) fn suppressions(answer: &str) -> Option<Vec<SuppressionEntry>> {
    answer.lines().map(suppression_line).collect()
}

fn suppression_line(line: &str) -> Option<SuppressionEntry> {
    let mut words = line.splitn(5, ' ');
    let mut next = || words.next();
    let provider_code = number(next()?)?;
    let mut optional_time = || {
        Some(match optional(next()?) {
            Some(word) => Some(time(word)?),
            None => None,
        })
    };
    let (until, since) = (optional_time()?, optional_time()?);
    Some(SuppressionEntry {
        to: optional(next()?).map(str::to_owned),
        provider_code: (provider_code != NO_PROVIDER_CODE).then_some(provider_code),
        reason: next().filter(|reason| !reason.is_empty()).map(str::to_owned),
        since,
        until,
    })
}

/// Merges the lists of sent and unsent requests, newest first, each request once.
pub(super) fn recent_requests(answer: &str, count: u32) -> Option<Vec<RequestSummary>> {
    let words: Vec<&str> = answer.split_whitespace().collect();
    let read =
        |pair: &[&str]| Some(RequestSummary { request_id: RequestId::parse(pair[0])?, at: time(pair[1])? });
    let mut recent = words.chunks_exact(2).map(read).collect::<Option<Vec<_>>>()?;
    recent.sort_by(|a, b| (b.at, &b.request_id).cmp(&(a.at, &a.request_id)));
    let mut seen = std::collections::HashSet::new();
    recent.retain(|recent| seen.insert(recent.request_id.clone()));
    recent.truncate(usize::try_from(count).expect("a small number"));
    Some(recent)
}

fn json<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

fn time(word: &str) -> Option<UnixMillis> {
    word.parse().ok().map(UnixMillis)
}

fn duration(word: &str) -> Option<Duration> {
    word.parse().ok().map(Duration::from_millis)
}

fn number(word: &str) -> Option<u32> {
    word.parse().ok()
}

fn optional(word: &str) -> Option<&str> {
    (word != "-").then_some(word)
}
