//! Explains a request: its record as a timeline, in fields and in words. `docs/http.md` describes the fields.
//!
//! Record and history hold no code and no full recipient. A provider's error numbers are shown, its sentences are not.

use serde::Serialize;

use self::words::{failover_in_words, gate_wait_in_words, lookup_in_words, requeue_reason_in_words};
use crate::domain::failover_reason::FailoverReason;
use crate::domain::history::{Attempt, ENTRIES_MAX, HistoryEntry, HistoryEvent, RequestHistory};
use crate::domain::keyed_digest::Digest16;
use crate::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use crate::domain::provider_code;
use crate::domain::reached_limit::ReachedLimit;
use crate::domain::recipient_rules::UNREADABLE_RECIPIENT;
use crate::domain::request_id::RequestId;
use crate::domain::send_result::ResultError;
use crate::domain::time::optional_rfc3339;
use crate::domain::time::{UnixMillis, serialize_rfc3339};
use crate::store::{
    CodeState, RecordedReceipt, RequestOfUser, RequestRecord, RequestState, RequestSummary, Store, StoreError,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestExplanation {
    pub request_id: String,
    /// Masked.
    pub to: String,
    pub purpose: String,
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<ErrorCode>,
    pub text: String,
    pub attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_message_id: Option<String>,
    /// Until the request has ended.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_rfc3339")]
    pub deadline: Option<UnixMillis>,
    /// Only while the store keeps the challenge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<CodeStateRow>,
    pub timeline: Vec<TimelineEntry>,
    /// Steps in the middle may be missing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shortened: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TimelineEntry {
    #[serde(serialize_with = "serialize_rfc3339")]
    pub at: UnixMillis,
    /// These words are part of the interface and older than the glossary.
    pub what: &'static str,
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// `None` if there is only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Why this provider got the message, and not the one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover: Option<&'static str>,
    /// From 1, in the order of the settings; `None` if there is only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_code: Option<u32>,
    /// The provider's response time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
    /// Seconds until a new request may succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The limit that refused the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CodeStateRow {
    pub state: &'static str,
    pub text: String,
    /// Checks of the code, the right one included.
    pub tries: u32,
    #[serde(serialize_with = "serialize_rfc3339")]
    pub expires_at: UnixMillis,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecentRequest {
    /// The time of admission, or of the end without a send.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub at: UnixMillis,
    pub request_id: String,
    /// Masked. Only of a user's requests, which may have several recipients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<ErrorCode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<&'static str>,
    /// Until the request has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The events of a request in order, and its present state. An unused code is locked after `checks_max` checks.
pub fn explain_request(
    request_id: &RequestId,
    record: &RequestRecord,
    checks_max: u32,
    now: UnixMillis,
) -> RequestExplanation {
    let history = history(&record.state);
    // The words of a number are those of its provider, which a request in progress does not name.
    let provider = match &record.state {
        RequestState::Completed(outcome) => outcome.provider.as_deref(),
        RequestState::InProgress { .. } => None,
    };
    let mut timeline: Vec<TimelineEntry> =
        history.entries.iter().map(|entry| history_entry(entry, provider)).collect();
    if let RequestState::Completed(outcome) = &record.state {
        timeline.push(end_entry(outcome));
    }
    if let Some(receipt) = &record.receipt {
        // A receipt is placed by its time. History entries keep their order, because workers' clocks differ.
        let before = timeline.iter().rposition(|entry| entry.at <= receipt.at);
        timeline.insert(before.map_or(0, |before| before + 1), receipt_entry(receipt, &record.state));
    }
    let receipt_message_id = record.receipt.as_ref().map(|receipt| receipt.message_id.clone());
    let explanation = RequestExplanation {
        request_id: request_id.to_string(),
        to: if history.to.is_empty() { UNREADABLE_RECIPIENT.to_owned() } else { history.to.clone() },
        purpose: String::new(),
        state: state_word(&record.state),
        status: None,
        reason: None,
        text: String::new(),
        attempts: 0,
        provider: None,
        provider_message_id: receipt_message_id,
        deadline: None,
        code: record.code.map(|code| code_state(&code, checks_max, now)),
        timeline,
        shortened: history.entries.len() >= ENTRIES_MAX,
    };
    match &record.state {
        RequestState::InProgress { stage, leased, attempt, purpose, deadline, .. } => RequestExplanation {
            purpose: purpose.clone(),
            text: stage_in_words(stage, *leased),
            attempts: *attempt,
            deadline: Some(*deadline),
            ..explanation
        },
        RequestState::Completed(outcome) => RequestExplanation {
            purpose: outcome.purpose.clone(),
            status: Some(outcome.status),
            reason: outcome.error.as_ref().map(|error| error.code),
            text: outcome_in_words(outcome, record.receipt.as_ref()),
            attempts: outcome.attempts,
            provider: outcome.provider.clone(),
            provider_message_id: outcome.provider_message_id.clone().or(explanation.provider_message_id),
            ..explanation
        },
    }
}

pub async fn recent_requests(
    store: &dyn Store,
    recipient: Digest16,
) -> Result<Vec<RecentRequest>, StoreError> {
    let mut requests = Vec::new();
    for summary in store.recent_requests(recipient).await? {
        let record = store.request_record(&summary.request_id, Some(recipient)).await?;
        requests.push(recent_request(&summary, record.as_ref()));
    }
    Ok(requests)
}

/// Newest first. A record that ends meanwhile is left out.
pub async fn requests_of_user(
    store: &dyn Store,
    user: Digest16,
    count_max: usize,
) -> Result<Vec<RecentRequest>, StoreError> {
    let mut requests = Vec::new();
    for RequestOfUser { recipient, request_id } in store.requests_of_user(user, count_max).await? {
        let record = match store.request_record(&request_id, Some(recipient)).await {
            Ok(Some(record)) => record,
            // `otpost why ID` tells what cannot be read.
            Ok(None) | Err(StoreError::Unreadable { .. }) => continue,
            Err(error) => return Err(error),
        };
        let history = history(&record.state);
        let admitted = history.entries.first().map(|entry| entry.at);
        let at = match &record.state {
            RequestState::Completed(outcome) => admitted.unwrap_or(outcome.at),
            RequestState::InProgress { deadline, .. } => admitted.unwrap_or(*deadline),
        };
        let to = Some(history.to.clone());
        let request = recent_request(&RequestSummary { at, request_id }, Some(&record));
        requests.push(RecentRequest { to, ..request });
    }
    requests.sort_by(|a, b| (b.at, &b.request_id).cmp(&(a.at, &a.request_id)));
    Ok(requests)
}

fn recent_request(summary: &RequestSummary, record: Option<&RequestRecord>) -> RecentRequest {
    let outcome = record.and_then(|record| match &record.state {
        RequestState::Completed(outcome) => Some(outcome),
        RequestState::InProgress { .. } => None,
    });
    RecentRequest {
        at: summary.at,
        request_id: summary.request_id.to_string(),
        to: None,
        state: record.map_or("forgotten", |record| state_word(&record.state)),
        status: outcome.map(|outcome| outcome.status),
        reason: outcome.and_then(|outcome| outcome.error.as_ref()).map(|error| error.code),
        receipt: record.and_then(|record| record.receipt.as_ref()).map(|receipt| receipt.status.as_str()),
        text: record.and_then(|record| match &record.state {
            RequestState::InProgress { stage, leased, .. } => Some(stage_in_words(stage, *leased)),
            RequestState::Completed(_) => None,
        }),
    }
}

fn history(state: &RequestState) -> &RequestHistory {
    match state {
        RequestState::InProgress { history, .. } => history,
        RequestState::Completed(outcome) => &outcome.history,
    }
}

fn state_word(state: &RequestState) -> &'static str {
    match state {
        RequestState::InProgress { stage, .. } => stage,
        RequestState::Completed(_) => "ended",
    }
}

fn stage_in_words(stage: &str, leased: bool) -> String {
    let words = match (stage, leased) {
        ("sending", _) => "it is being sent",
        ("waiting", _) => "it waits to be sent",
        (_, true) => "it is in doubt and being reconciled",
        (_, false) => {
            return "it is in doubt and back in the queue; the next worker reconciles it".to_owned();
        }
    };
    // A crashed worker does not requeue, so its lease looks the same.
    let place = if leased { "a worker has it, or crashed with it" } else { "it is back in the queue" };
    format!("{words}; {place}")
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

fn entry(at: UnixMillis, what: &'static str, text: impl Into<String>) -> TimelineEntry {
    TimelineEntry {
        at,
        what,
        text: text.into(),
        attempt: None,
        provider: None,
        failover: None,
        sender: None,
        answer: None,
        provider_code: None,
        ms: None,
        retry_after: None,
        limit: None,
    }
}

fn history_entry(HistoryEntry { at, event }: &HistoryEntry, provider: Option<&str>) -> TimelineEntry {
    let at = *at;
    let answered =
        |what, text, answer: &str| TimelineEntry { answer: Some(answer.to_owned()), ..entry(at, what, text) };
    match event {
        HistoryEvent::Admitted(0) => entry(at, "admitted", "admitted"),
        HistoryEvent::Admitted(sends) => entry(
            at,
            "admitted",
            format!("admitted as the {} send to this recipient within a day", nth(*sends)),
        ),
        HistoryEvent::Attempted(attempt) => TimelineEntry {
            attempt: Some(attempt.attempt),
            provider: attempt.provider.clone(),
            failover: attempt.failover.map(FailoverReason::as_str),
            sender: attempt.sender,
            provider_code: attempt.provider_code,
            ms: Some(attempt.ms),
            ..answered("tried", attempt_in_words(attempt, provider), &attempt.answer)
        },
        HistoryEvent::TookOver(false) => {
            entry(at, "taken_up", "taken over by another handler; nothing is in doubt")
        }
        HistoryEvent::TookOver(true) => {
            let text = "taken over by another handler; the last attempt is in doubt".to_owned();
            answered("taken_up", text, "in_doubt")
        }
        HistoryEvent::LookedUp(found) => answered("looked_up", lookup_in_words(found), found),
        HistoryEvent::ToBeResent(attempt) => {
            let text = format!("to be sent once more, as attempt {attempt}, with the same code");
            TimelineEntry { attempt: Some(*attempt), ..entry(at, "resent", text) }
        }
        HistoryEvent::WaitsAtGate(reason) => {
            answered("held", format!("waits at the gate: {}", gate_wait_in_words(reason)), reason)
        }
        HistoryEvent::Requeued(reason) => {
            answered("given_back", format!("requeued: {}", requeue_reason_in_words(reason)), reason)
        }
        HistoryEvent::TestNumber => entry(at, "test_number", "a test number: nothing is sent to it"),
        HistoryEvent::DeadLettered(cause) => {
            answered("set_aside", format!("dead-lettered: {}", cause.message()), cause.as_str())
        }
    }
}

fn attempt_in_words(attempt: &Attempt, provider: Option<&str>) -> String {
    let answer = match attempt.answer.as_str() {
        "accepted" => "the provider took the message",
        "rejected" => "the provider refused it",
        "sender_refused" => "the provider refused the sender",
        "throttled" => "the provider asked to wait",
        "deferred" => "the provider will take it later",
        "unreachable" => "the provider could not be reached",
        "in_doubt" => "in doubt, as the answer was lost",
        unknown => unknown,
    };
    let provider_code = number_in_words(attempt.provider.as_deref().or(provider), attempt.provider_code);
    let sender = attempt.sender.map(|sender| format!(" by sender {sender}")).unwrap_or_default();
    let provider = attempt.provider.as_ref().map(|name| format!(" at {name}")).unwrap_or_default();
    let failover = attempt.failover.map(|reason| format!(" ({})", failover_in_words(reason)));
    let failover = failover.unwrap_or_default();
    let Attempt { attempt, ms, .. } = attempt;
    format!("attempt {attempt}{provider}{sender}{failover}: {answer}{provider_code}, after {ms} ms")
}

fn end_entry(outcome: &Outcome) -> TimelineEntry {
    let status = outcome.status.as_str();
    let ended = |text| TimelineEntry { answer: Some(status.to_owned()), ..entry(outcome.at, "ended", text) };
    let Some(error) = &outcome.error else {
        return ended(format!("ended as {status}"));
    };
    let OutcomeError { provider_code, retry_after, limit, .. } = *error;
    TimelineEntry {
        provider_code,
        retry_after,
        limit: limit.map(ReachedLimit::as_str),
        ..ended(format!("ended as {status}, {}", error_in_words(error, outcome.provider.as_deref())))
    }
}

fn error_in_words(error: &OutcomeError, provider: Option<&str>) -> String {
    let mut words = format!("{}: {}", error.code.as_str(), ResultError::from(error).message);
    words += &number_in_words(provider, error.provider_code);
    if let Some(limit) = error.limit.filter(|_| error.code == ErrorCode::RateLimited) {
        words += &format!(" (limit: {})", limit.as_str());
    }
    if let Some(rule) = error.rule {
        words += &format!(" (rule: {})", rule.as_str());
    }
    if let Some(seconds) = error.retry_after {
        words += &format!("; a new request may succeed after {seconds} s");
    }
    words
}

fn receipt_entry(receipt: &RecordedReceipt, state: &RequestState) -> TimelineEntry {
    let status = receipt.status.as_str();
    let (provider, known) = match state {
        RequestState::Completed(outcome) => {
            (outcome.provider.as_deref(), outcome.provider_message_id.as_ref())
        }
        RequestState::InProgress { .. } => (None, None),
    };
    let provider_code = number_in_words(provider, receipt.provider_code);
    // The provider sent two messages for the request, if the ids differ.
    let other = match known {
        Some(known) if *known != receipt.message_id => format!(" of another message, {}", receipt.message_id),
        _ => String::new(),
    };
    let publication = match (receipt.status.is_final(), receipt.published) {
        (false, _) => "not final",
        (true, true) => "published",
        (true, false) => "not published yet",
    };
    TimelineEntry {
        answer: Some(status.to_owned()),
        provider_code: receipt.provider_code,
        ..entry(
            receipt.at,
            "receipt",
            format!("the provider reports{other}: {status}{provider_code}; {publication}"),
        )
    }
}

fn code_state(code: &CodeState, checks_max: u32, now: UnixMillis) -> CodeStateRow {
    let CodeState { expires, checks, used } = *code;
    let (state, words) = match () {
        () if used => ("used", "the code was used".to_owned()),
        () if expires <= now => ("expired", format!("the code expired unused at {expires}")),
        () if checks >= checks_max => ("locked", "the code is locked: too many wrong attempts".to_owned()),
        () => ("open", format!("the code is unused and valid until {expires}")),
    };
    let counted = match checks {
        0 => "never checked".to_owned(),
        1 => "checked once".to_owned(),
        checks => format!("checked {checks} times"),
    };
    CodeStateRow { state, text: format!("{words}; {counted}"), tries: checks, expires_at: expires }
}

/// With a space before it, or nothing.
fn number_in_words(provider: Option<&str>, provider_code: Option<u32>) -> String {
    let words = provider_code.map(|number| provider_code::in_words(provider, number));
    words.map_or_else(String::new, |words| format!(" ({words})"))
}

/// 1st, 2nd, 11th.
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
mod words;
