//! Why did a request end as it did? Its record as a timeline, in fields and in words.
//!
//! All of it comes from what the handlings noted and the store keeps: no code, no full number and no address is there
//! to be told. A provider's numbers are repeated, its sentences are not.

use serde::Serialize;

use super::send_gate::SENDERS_COOLING_DOWN;
use crate::domain::history::{Attempt, ENTRIES_MAX, HistoryEntry, HistoryEvent, RequestHistory};
use crate::domain::keyed_digest::Digest16;
use crate::domain::outcome::{ErrorCode, Outcome, OutcomeError, ResultError, Status, optional_rfc3339};
use crate::domain::recipient_rules::UNREADABLE;
use crate::domain::request_id::RequestId;
use crate::domain::time::{UnixMillis, serialize_rfc3339};
use crate::store::{
    CodeState, RecordedReceipt, RequestRecord, RequestState, RequestSummary, Store, StoreError,
};

/// What is known of a request, to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Which.
    pub request_id: String,
    /// The recipient, masked.
    pub to: String,
    /// What the code is good for.
    pub purpose: String,
    /// How far it is: `sending`, `waiting`, `doubt` or `ended`.
    pub state: &'static str,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Why it did not end as sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<ErrorCode>,
    /// All that in a sentence.
    pub text: String,
    /// How often the provider was asked to send it.
    pub attempts: u32,
    /// Who was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The provider's name for the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_message_id: Option<String>,
    /// When a message would be too late, of a request under way.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_rfc3339")]
    pub deadline: Option<UnixMillis>,
    /// What became of the code, while that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<CodeVerdict>,
    /// What happened, in order.
    pub timeline: Vec<Line>,
    /// There were so many steps that some in the middle were not kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shortened: bool,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub at: UnixMillis,
    /// `admitted`, `tried`, `held`, `given_back`, `taken_up`, `looked_up`, `resent`, `ended` or `receipt`.
    pub what: &'static str,
    /// In words.
    pub text: String,
    /// The number of the try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Which sender carried it, counted from 1 in the order of the settings; nothing where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<u32>,
    /// The machine word of the answer, of what holds it, of why, or of the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The provider's own error number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_code: Option<u32>,
    /// How long the answer took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
    /// Seconds until a new request could succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

/// What became of a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CodeVerdict {
    /// `open`, `used`, `locked` or `expired`.
    pub state: &'static str,
    /// In words.
    pub text: String,
    /// How often it was checked, right ones included.
    pub tries: u32,
    /// When its life ends.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub expires_at: UnixMillis,
}

/// One of the last requests of a recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Glimpse {
    /// When it was admitted, or ended without a send.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub at: UnixMillis,
    /// Which.
    pub request_id: String,
    /// How far it is: `sending`, `waiting`, `doubt`, `ended`, or `forgotten` when its record is no longer kept.
    pub state: &'static str,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Why it did not end as sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<ErrorCode>,
    /// The provider's last word on what became of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<&'static str>,
    /// What one under way waits for, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Tells a story. A code is locked after `tries_max` tries.
pub fn explain(request: &RequestId, story: &RequestRecord, tries_max: u32, now: UnixMillis) -> Explanation {
    let notes = notes(&story.state);
    let mut timeline: Vec<Line> = notes.entries.iter().map(step).collect();
    if let RequestState::Ended(outcome) = &story.state {
        timeline.push(end(outcome));
    }
    if let Some(receipt) = &story.receipt {
        // What the provider says it says at any time; the others stand as they were noted, whatever their clocks say.
        let before = timeline.iter().rposition(|line| line.at <= receipt.at);
        timeline.insert(before.map_or(0, |before| before + 1), reported(receipt, &story.state));
    }
    let reported_id = story.receipt.as_ref().map(|receipt| receipt.message_id.clone());
    let told = Explanation {
        request_id: request.to_string(),
        to: if notes.to.is_empty() { UNREADABLE.to_owned() } else { notes.to.clone() },
        purpose: String::new(),
        state: state(&story.state),
        status: None,
        reason: None,
        text: String::new(),
        attempts: 0,
        provider: None,
        provider_message_id: reported_id,
        deadline: None,
        code: story.code.map(|code| verdict(&code, tries_max, now)),
        timeline,
        shortened: notes.entries.len() >= ENTRIES_MAX,
    };
    match &story.state {
        RequestState::Live { state, leased, attempt, purpose, deadline, .. } => Explanation {
            purpose: purpose.clone(),
            text: under_way(state, *leased),
            attempts: *attempt,
            deadline: Some(*deadline),
            ..told
        },
        RequestState::Ended(outcome) => Explanation {
            purpose: outcome.purpose.clone(),
            status: Some(outcome.status),
            reason: outcome.error.as_ref().map(|error| error.code),
            text: outcome_in_words(outcome, story.receipt.as_ref()),
            attempts: outcome.attempts,
            provider: outcome.provider.clone(),
            provider_message_id: outcome.provider_message_id.clone().or(told.provider_message_id),
            ..told
        },
    }
}

/// The last requests of a recipient, the newest first.
pub async fn last_requests(store: &dyn Store, recipient: Digest16) -> Result<Vec<Glimpse>, StoreError> {
    let mut glimpses = Vec::new();
    for recent in store.recent_requests(recipient).await? {
        let story = store.request_record(&recent.request, Some(recipient)).await?;
        glimpses.push(glimpse(&recent, story.as_ref()));
    }
    Ok(glimpses)
}

fn glimpse(recent: &RequestSummary, story: Option<&RequestRecord>) -> Glimpse {
    let outcome = story.and_then(|story| match &story.state {
        RequestState::Ended(outcome) => Some(outcome),
        RequestState::Live { .. } => None,
    });
    Glimpse {
        at: recent.at,
        request_id: recent.request.to_string(),
        state: story.map_or("forgotten", |story| state(&story.state)),
        status: outcome.map(|outcome| outcome.status),
        reason: outcome.and_then(|outcome| outcome.error.as_ref()).map(|error| error.code),
        receipt: story.and_then(|story| story.receipt.as_ref()).map(|receipt| receipt.status.as_str()),
        text: story.and_then(|story| match &story.state {
            RequestState::Live { state, leased, .. } => Some(under_way(state, *leased)),
            RequestState::Ended(_) => None,
        }),
    }
}

fn notes(chapter: &RequestState) -> &RequestHistory {
    match chapter {
        RequestState::Live { history: notes, .. } => notes,
        RequestState::Ended(outcome) => &outcome.history,
    }
}

fn state(chapter: &RequestState) -> &'static str {
    match chapter {
        RequestState::Live { state, .. } => state,
        RequestState::Ended(_) => "ended",
    }
}

fn under_way(state: &str, held: bool) -> String {
    let how = match (state, held) {
        ("sending", _) => "it is being sent",
        ("waiting", _) => "it waits to be sent",
        (_, true) => "whether it was sent is being found out",
        (_, false) => "the worker that takes it will find out whether it was sent",
    };
    let place = if held { "a worker has it" } else { "it is back in the queue" };
    format!("{how}; {place}")
}

fn outcome_in_words(outcome: &Outcome, receipt: Option<&RecordedReceipt>) -> String {
    let status = outcome.status.as_str();
    let end = match &outcome.error {
        None => status.to_owned(),
        Some(error) => format!("{status}, {}", error.code.as_str()),
    };
    match receipt {
        None => end,
        Some(receipt) => format!("{end}; the provider reports: {}", receipt.status.as_str()),
    }
}

fn line(at: UnixMillis, what: &'static str, text: impl Into<String>) -> Line {
    Line {
        at,
        what,
        text: text.into(),
        attempt: None,
        sender: None,
        answer: None,
        provider_code: None,
        ms: None,
        retry_after: None,
    }
}

fn step(step: &HistoryEntry) -> Line {
    let at = step.at;
    let answered =
        |what, text, answer: &str| Line { answer: Some(answer.to_owned()), ..line(at, what, text) };
    match &step.event {
        HistoryEvent::Admitted(0) => line(at, "admitted", "admitted"),
        HistoryEvent::Admitted(sends) => line(
            at,
            "admitted",
            format!("admitted as the {} send to this recipient within a day", nth(*sends)),
        ),
        HistoryEvent::Attempted(tried) => Line {
            attempt: Some(tried.attempt),
            sender: tried.sender,
            provider_code: tried.code,
            ms: Some(tried.ms),
            ..answered("tried", try_in_words(tried), &tried.answer)
        },
        HistoryEvent::TakenOver(false) => {
            line(at, "taken_up", "taken up by another handling, nothing in doubt")
        }
        HistoryEvent::TakenOver(true) => {
            let text = "taken up by another handling: whether the last try was sent is in doubt";
            Line { answer: Some("in_doubt".to_owned()), ..line(at, "taken_up", text) }
        }
        HistoryEvent::LookedUp(found) => answered("looked_up", lookup_in_words(found), found),
        HistoryEvent::Resent(attempt) => {
            let text = format!("to be sent once more, as try {attempt}, with the same code");
            Line { attempt: Some(*attempt), ..line(at, "resent", text) }
        }
        HistoryEvent::Paused(by) => answered("held", format!("held: {}", holder_in_words(by)), by),
        HistoryEvent::Requeued(why) => {
            answered("given_back", format!("back to the queue: {}", give_back_in_words(why)), why)
        }
        HistoryEvent::DeadLettered(poison) => {
            answered("set_aside", format!("to be set aside: {}", poison.message()), poison.as_str())
        }
    }
}

fn try_in_words(tried: &Attempt) -> String {
    let answer = match tried.answer.as_str() {
        "accepted" => "the provider took it",
        "rejected" => "the provider refused it",
        "sender_refused" => "the provider refused the sender",
        "throttled" => "the provider asked to wait",
        "deferred" => "the provider takes it later",
        "unreachable" => "the provider could not be reached",
        "in_doubt" => "no answer tells whether it was sent",
        unknown => unknown,
    };
    let code = tried.code.map(|code| format!(" ({code})")).unwrap_or_default();
    let sender = tried.sender.map(|sender| format!(" by sender {sender}")).unwrap_or_default();
    format!("try {}{sender}: {answer}{code}, after {} ms", tried.attempt, tried.ms)
}

fn lookup_in_words(answer: &str) -> String {
    let words = match answer {
        "found" => "it is there, so it was sent",
        "absent" => "it is not there",
        "unanswered" => "no answer",
        "refused" => "it does not show its messages",
        unknown => unknown,
    };
    format!("looked up at the provider: {words}")
}

fn holder_in_words(by: &str) -> &str {
    match by {
        "kill_switch" => "the kill switch is on",
        "store_silent" => "the store was silent, so nobody knew of the kill switch",
        "breaker" => "the provider failed everybody",
        SENDERS_COOLING_DOWN => "every sender of ours rests after a refusal, or has refused it",
        unknown => unknown,
    }
}

fn give_back_in_words(why: &str) -> &str {
    match why {
        "stopping" => "the worker stopped",
        "delivery_lost" => "the broker had taken it back",
        "taken_over" => "another handling had it",
        "held_too_long" => "it was held for as long as the broker lets one",
        unknown => unknown,
    }
}

fn end(outcome: &Outcome) -> Line {
    let status = outcome.status.as_str();
    let ended = |text| Line { answer: Some(status.to_owned()), ..line(outcome.at, "ended", text) };
    let Some(error) = &outcome.error else {
        return ended(format!("ended as {status}"));
    };
    let OutcomeError { provider_code, retry_after, .. } = *error;
    Line { provider_code, retry_after, ..ended(format!("ended as {status}, {}", error_in_words(error))) }
}

fn error_in_words(error: &OutcomeError) -> String {
    let mut words = format!("{}: {}", error.code.as_str(), ResultError::from(error).message);
    if let Some(code) = error.provider_code {
        words += &format!(" ({code})");
    }
    if let Some(seconds) = error.retry_after {
        words += &format!("; a new request could succeed after {seconds} s");
    }
    words
}

fn reported(receipt: &RecordedReceipt, chapter: &RequestState) -> Line {
    let status = receipt.status.as_str();
    let code = receipt.code.map(|code| format!(" ({code})")).unwrap_or_default();
    let known = match chapter {
        RequestState::Ended(outcome) => outcome.provider_message_id.as_ref(),
        RequestState::Live { .. } => None,
    };
    // Two of them were made, then.
    let of_which = match known {
        Some(known) if *known != receipt.message_id => format!(" of another message, {}", receipt.message_id),
        _ => String::new(),
    };
    let told = match (receipt.status.is_final(), receipt.published) {
        (false, _) => "there is more to come",
        (true, true) => "told to the caller",
        (true, false) => "not told to the caller yet",
    };
    Line {
        answer: Some(status.to_owned()),
        provider_code: receipt.code,
        ..line(receipt.at, "receipt", format!("the provider reports{of_which}: {status}{code}; {told}"))
    }
}

fn verdict(code: &CodeState, tries_max: u32, now: UnixMillis) -> CodeVerdict {
    let CodeState { expires, checks, used } = *code;
    let (state, words) = match () {
        () if used => ("used", "the code was used".to_owned()),
        () if expires <= now => ("expired", format!("the code expired unused at {expires}")),
        () if checks >= tries_max => ("locked", "the code is locked: too many wrong tries".to_owned()),
        () => ("open", format!("the code was not used yet and is good until {expires}")),
    };
    let counted = match checks {
        0 => "never tried".to_owned(),
        1 => "tried once".to_owned(),
        checks => format!("tried {checks} times"),
    };
    CodeVerdict { state, text: format!("{words}; {counted}"), tries: checks, expires_at: expires }
}

/// An ordinal number: 1st, 2nd, 11th.
fn nth(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (1, tens) if tens != 11 => "st",
        (2, tens) if tens != 12 => "nd",
        (3, tens) if tens != 13 => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests;
