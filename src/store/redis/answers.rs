//! What the scripts answer, read: words, and the JSON that was given to them.

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
use crate::store::bounds::BY_HAND;
use crate::store::code_check::ProviderCheckStart;
use crate::store::{
    Admission, CodeState, CompleteResult, Grant, KillSwitch, OverdueReceipt, ProgressResult, ReceiptResult,
    RecordedReceipt, RequestRecord, RequestState, RequestSummary, SharedState, Usage,
};

pub(super) fn admission(answer: &str) -> Option<Admission> {
    let (word, rest) = answer.split_once(' ').unwrap_or((answer, ""));
    match word {
        "held" => Some(Admission::Paused),
        "granted" => grant(rest).map(Admission::Granted),
        "doubt" => grant(rest).map(Admission::InDoubt),
        "suspect" => {
            let (starts, time_left) = rest.split_once(' ')?;
            Some(Admission::CrashSuspect { starts: number(starts)?, time_left: span(time_left)? })
        }
        "busy" => rest.parse().ok().map(|ms| Admission::Busy(Duration::from_millis(ms))),
        "ended" => {
            let (ours, outcome) = rest.split_once(' ')?;
            Some(Admission::Completed { outcome: json(outcome)?, ours: ours == "1" })
        }
        _ => None,
    }
}

fn grant(words: &str) -> Option<Grant> {
    let mut words = words.splitn(14, ' ');
    let mut next = || words.next();
    let (attempt, now, started) = (number(next()?)?, time(next()?)?, time(next()?)?);
    let (doubts, starts, sends) = (number(next()?)?, number(next()?)?, number(next()?)?);
    Some(Grant {
        attempt,
        now,
        started,
        attempts_in_doubt: doubts,
        unfinished_leases: starts,
        sends,
        challenge: ChallengeId::parse(next()?)?,
        kid: next()?.to_owned(),
        digest: Digest16::parse(next()?)?,
        callers_code: next()? == "1",
        admitted_at: time(next()?)?,
        expires_at: time(next()?)?,
        deadline: time(next()?)?,
        history: match optional(next()?) {
            Some(notes) => Some(json(notes)?),
            None => None,
        },
    })
}

pub(super) fn marked(answer: &str) -> Option<ProgressResult> {
    Some(match answer {
        "held" => ProgressResult::Applied,
        "lost" => ProgressResult::NotOwner,
        "stale" => ProgressResult::ChallengeReplaced,
        proven => ProgressResult::AlreadySent(proven.strip_prefix("proven ")?.to_owned()),
    })
}

pub(super) fn settled(answer: &str) -> Option<CompleteResult> {
    Some(match answer {
        "said" => CompleteResult::Recorded,
        "held" => CompleteResult::NotOwner,
        "taken" => CompleteResult::MessageClaimed,
        before => CompleteResult::AlreadyCompleted(json(before.strip_prefix("before ")?)?),
    })
}

pub(super) fn verdict(answer: &str) -> Option<Verdict> {
    let (word, rest) = answer.split_once(' ').unwrap_or((answer, ""));
    Some(match word {
        "verified" => Verdict::Verified,
        "wrong" => Verdict::Wrong { attempts_left: number(rest)? },
        "used" => Verdict::AlreadyUsed,
        "none" => Verdict::NonePending,
        "key" => Verdict::KeyUnavailable,
        "unsure" => Verdict::Unanswered { counted: true },
        "back" => Verdict::Unanswered { counted: false },
        "expired" => Verdict::Expired { at: time(rest)? },
        "locked" => {
            let wait: u64 = rest.parse().ok()?;
            Verdict::Locked { retry_after: (wait > 0).then(|| Duration::from_millis(wait)) }
        }
        _ => return None,
    })
}

pub(super) fn begun(answer: &str) -> Option<ProviderCheckStart> {
    match answer.strip_prefix("ask ") {
        Some(name) => Some(ProviderCheckStart::Ask(optional(name).map(str::to_owned))),
        None => verdict(answer).map(ProviderCheckStart::Decided),
    }
}

pub(super) fn named(answer: &str) -> Option<()> {
    matches!(answer, "named" | "replaced").then_some(())
}

pub(super) fn usage(answer: &str) -> Option<Usage> {
    let mut words = answer.split(' ');
    let mut next = || words.next();
    Some(Usage {
        used: number(next()?)?,
        used_day: number(next()?)?,
        wrong: number(next()?)?,
        limited_for: span(next()?)?,
        cooldown: span(next()?)?,
        known: next()? == "1",
    })
}

pub(super) fn tracked(answer: &str) -> Option<ReceiptResult> {
    let (word, rest) = answer.split_once(' ').unwrap_or((answer, ""));
    let (purpose, notes) = match word {
        "none" => return Some(ReceiptResult::NoRequest),
        "known" => return Some(ReceiptResult::Unchanged),
        "live" => {
            let (purpose, notes) = rest.split_once(' ')?;
            (purpose.to_owned(), json::<RequestHistory>(notes)?)
        }
        "ended" => {
            let outcome: Outcome = json(rest)?;
            (outcome.purpose, outcome.history)
        }
        _ => return None,
    };
    Some(ReceiptResult::Publish { purpose, correlation_id: notes.correlation_id })
}

pub(super) fn awaited(answer: &str) -> Option<Vec<OverdueReceipt>> {
    answer.lines().map(awaited_one).collect()
}

fn awaited_one(line: &str) -> Option<OverdueReceipt> {
    let mut words = line.split(' ');
    let lapsed = words.next()? == "lapsed";
    let (message_id, recipient) = (words.next()?.to_owned(), Digest16::parse(words.next()?)?);
    let _sent = words.next()?;
    Some(OverdueReceipt { lapsed, message_id, recipient, request: RequestId::parse(words.next()?)? })
}

/// Besides what concerns all: how much longer the server may lack something, and its name.
pub(super) fn pulse(answer: &str) -> Option<(SharedState, Duration, &str)> {
    let mut words = answer.split(' ');
    let pulse = SharedState { kill_switch_on: words.next()? == "1", active_workers: number(words.next()?)? };
    Some((pulse, span(words.next()?)?, words.next()?))
}

pub(super) fn kill_switch(answer: &str) -> Option<Option<KillSwitch>> {
    if answer.is_empty() {
        return Some(None);
    }
    let (since, reason) = answer.split_once(' ')?;
    Some(Some(KillSwitch { since: time(since)?, reason: reason.to_owned() }))
}

pub(super) fn story(answer: &str) -> Option<Option<RequestRecord>> {
    if answer.is_empty() {
        return Some(None);
    }
    let mut words = answer.splitn(8, ' ');
    let mut next = || words.next();
    let code = match (next()?, next()?, next()?) {
        ("-", _, _) => None,
        (expires, tries, used) => {
            Some(CodeState { expires: time(expires)?, tries: number(tries)?, used: used == "1" })
        }
    };
    let (state, owner, _until) = (next()?, next()?, next()?);
    let receipt = match optional(next()?) {
        Some(receipt) => Some(report(receipt)?),
        None => None,
    };
    let rest = next()?;
    let chapter = match state {
        "ended" => RequestState::Ended(json(rest)?),
        state => live(state, owner != "-", rest)?,
    };
    Some(Some(RequestRecord { state: chapter, receipt, code }))
}

fn live(state: &str, held: bool, rest: &str) -> Option<RequestState> {
    let words: Vec<&str> = rest.splitn(14, ' ').collect();
    let [_lease, attempt, _started, _doubts, _starts, facts @ .., purpose, notes] = words.as_slice() else {
        return None;
    };
    Some(RequestState::Live {
        state: ["sending", "waiting", "doubt"].into_iter().find(|known| *known == state)?,
        held,
        attempt: number(attempt)?,
        purpose: (*purpose).to_owned(),
        deadline: time(facts.last()?)?,
        history: json(notes)?,
    })
}

fn report(receipt: &str) -> Option<RecordedReceipt> {
    let words: Vec<&str> = receipt.split(',').collect();
    let &[message_id, _rank, status, told, code, at, ref _blocked @ ..] = words.as_slice() else {
        return None;
    };
    Some(RecordedReceipt {
        message_id: message_id.to_owned(),
        status: DeliveryStatus::parse(status)?,
        code: match optional(code) {
            Some(code) => Some(number(code)?),
            None => None,
        },
        published: told == "1",
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
    let code = number(next()?)?;
    let mut maybe = || {
        Some(match optional(next()?) {
            Some(word) => Some(time(word)?),
            None => None,
        })
    };
    let (until, since) = (maybe()?, maybe()?);
    Some(SuppressionEntry {
        to: optional(next()?).map(str::to_owned),
        code: (code != BY_HAND).then_some(code),
        reason: next().filter(|reason| !reason.is_empty()).map(str::to_owned),
        since,
        until,
    })
}

/// The two lists as one: the newest first, each request once.
pub(super) fn recent(answer: &str, count: u32) -> Option<Vec<RequestSummary>> {
    let words: Vec<&str> = answer.split_whitespace().collect();
    let read =
        |pair: &[&str]| Some(RequestSummary { request: RequestId::parse(pair[0])?, at: time(pair[1])? });
    let mut recent = words.chunks_exact(2).map(read).collect::<Option<Vec<_>>>()?;
    recent.sort_by(|a, b| (b.at, &b.request).cmp(&(a.at, &a.request)));
    let mut seen = std::collections::HashSet::new();
    recent.retain(|recent| seen.insert(recent.request.clone()));
    recent.truncate(usize::try_from(count).expect("a small number"));
    Some(recent)
}

fn json<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

fn time(word: &str) -> Option<UnixMillis> {
    word.parse().ok().map(UnixMillis)
}

fn span(word: &str) -> Option<Duration> {
    word.parse().ok().map(Duration::from_millis)
}

fn number(word: &str) -> Option<u32> {
    word.parse().ok()
}

fn optional(word: &str) -> Option<&str> {
    (word != "-").then_some(word)
}
