//! The history of a request, stored with its record and shown by `otpost why`.
//!
//! It holds no code and no full recipient. The number of entries is bounded: the first and the last ones are kept.

use serde::{Deserialize, Serialize};

use super::defence::CountedScopes;
use super::failover_reason::FailoverReason;
use super::keyed_digest::Digest16;
use super::send_failure::{Scope, SendFailure};
use super::time::UnixMillis;
use super::trace_context::TraceContext;

pub const ENTRIES_MAX: usize = 32;
/// Providers that may have the message of a request: as many as settings have.
pub const HANDED_TO_MAX: usize = 8;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestHistory {
    /// The recipient, masked.
    #[serde(default)]
    pub to: String,
    /// Copied to results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The trace of delivery events and verified events.
    #[serde(skip)]
    pub trace: Option<TraceContext>,
    /// The caller's user: operators search by it.
    #[serde(skip)]
    pub user: Option<Digest16>,
    /// The network of the client, where the pumping defence counts.
    #[serde(skip)]
    pub network: Option<Digest16>,
    /// Where the pumping defence counts the send, as the worker that admitted the request decided.
    #[serde(skip)]
    pub counted: Option<CountedScopes>,
    /// The caller chose the code, so the caller knows it without a message.
    #[serde(skip)]
    pub callers_code: bool,
    /// The providers that may have the message, in the order of the hand-overs; the last one got it last, or gets it next. Empty with a
    /// single provider.
    #[serde(skip)]
    pub handed_to: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "trail")]
    pub entries: Vec<HistoryEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    pub at: UnixMillis,
    #[serde(flatten)]
    pub event: HistoryEvent,
}

/// Stored in the words of its serde names, which never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryEvent {
    /// The number of sends to the recipient within a day, this one included; 0 if not counted.
    Admitted(u32),
    #[serde(rename = "tried")]
    Attempted(Attempt),
    /// This handler took over from another one; `true` if an attempt is in doubt.
    #[serde(rename = "taken_up")]
    TookOver(bool),
    /// The answer of a message lookup: `found`, `absent`, `ambiguous`, `unanswered` or `refused`.
    LookedUp(String),
    /// The message is to be sent once more: the number of the attempt that repeats the one in doubt.
    #[serde(rename = "resent")]
    ToBeResent(u32),
    /// The reason of a wait at the gate: `kill_switch`, `store_silent`, `store_damaged`, `breaker` or `senders_rest`.
    #[serde(rename = "held")]
    WaitsAtGate(String),
    #[serde(rename = "given_back")]
    Requeued(String),
    /// Completed because its message is poison; the message is dead-lettered.
    #[serde(rename = "set_aside")]
    DeadLettered(PoisonCause),
    /// The recipient is a test number: nothing is sent. The first entry, so that it is never dropped.
    TestNumber,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoisonCause {
    Crash,
    Panic,
}

impl PoisonCause {
    /// The reason of the dead letter.
    pub const fn as_str(self) -> &'static str {
        match self {
            PoisonCause::Crash => "crash",
            PoisonCause::Panic => "panic",
        }
    }

    pub const fn message(self) -> &'static str {
        match self {
            PoisonCause::Crash => "the message crashed its worker",
            PoisonCause::Panic => "the message panicked its handler",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Counted from 1.
    pub attempt: u32,
    /// Counted from 1 in the order of the settings; `None` with a single sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<u32>,
    /// `None` with a single provider.
    #[serde(skip)]
    pub provider: Option<String>,
    /// Why this provider got the message, and not that of the attempt before or, of a first attempt, the recipient's own.
    #[serde(skip)]
    pub failover: Option<FailoverReason>,
    /// `accepted`, `rejected`, `sender_refused`, `throttled`, `deferred`, `unreachable` or `in_doubt`.
    pub answer: String,
    #[serde(default, rename = "code", skip_serializing_if = "Option::is_none")]
    pub provider_code: Option<u32>,
    /// The time until the answer.
    pub ms: u64,
}

impl RequestHistory {
    /// Drops an entry from the middle if there are [`ENTRIES_MAX`].
    pub fn add(&mut self, at: UnixMillis, event: HistoryEvent) {
        if self.entries.len() == ENTRIES_MAX {
            self.entries.remove(ENTRIES_MAX / 2);
        }
        self.entries.push(HistoryEntry { at, event });
    }

    pub fn dead_lettered(&self) -> Option<PoisonCause> {
        self.entries.iter().rev().find_map(|entry| match entry.event {
            HistoryEvent::DeadLettered(cause) => Some(cause),
            _ => None,
        })
    }

    /// The request is to a test number, and its code is a fixed one.
    pub fn is_test(&self) -> bool {
        self.entries.iter().any(|entry| entry.event == HistoryEvent::TestNumber)
    }

    /// The steps that decide on a repeat: whether the message is a dead letter, and whether the number was a test number. The person, the
    /// caller and all other steps are left out.
    pub fn forgotten(&self) -> RequestHistory {
        let decides = |entry: &&HistoryEntry| {
            matches!(entry.event, HistoryEvent::DeadLettered(_) | HistoryEvent::TestNumber)
        };
        let entries = self.entries.iter().filter(decides).cloned().collect();
        RequestHistory { entries, ..RequestHistory::default() }
    }

    pub fn is_empty(&self) -> bool {
        *self == RequestHistory::default()
    }
}

impl Attempt {
    /// The answer of a provider that accepted the message.
    pub fn accepted(attempt: u32, sender: Option<u32>, ms: u64) -> Attempt {
        let answer = "accepted".to_owned();
        Attempt { attempt, sender, provider: None, failover: None, answer, provider_code: None, ms }
    }

    pub fn failed(attempt: u32, sender: Option<u32>, failure: &SendFailure, ms: u64) -> Attempt {
        let provider_code = match failure {
            SendFailure::Refused { provider_code, .. }
            | SendFailure::Throttled { provider_code, .. }
            | SendFailure::Deferred { provider_code } => *provider_code,
            SendFailure::NotConnected { .. } | SendFailure::InDoubt { .. } => None,
        };
        let answer = match failure {
            SendFailure::Refused { scope: Scope::Sender, .. } => "sender_refused",
            failure => failure.as_str(),
        };
        Attempt { answer: answer.to_owned(), provider_code, ..Attempt::accepted(attempt, sender, ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_end_are_kept() {
        let mut history = RequestHistory::default();
        (0..100).for_each(|n| history.add(UnixMillis(n), HistoryEvent::ToBeResent(0)));
        let times: Vec<u64> = history.entries.iter().map(|entry| entry.at.0).collect();
        assert_eq!((times.len(), times[0], times[ENTRIES_MAX - 1]), (ENTRIES_MAX, 0, 99));
    }

    #[test]
    fn a_history_reads_back() {
        let mut history = RequestHistory { to: "+57******4567".to_owned(), ..RequestHistory::default() };
        history.add(UnixMillis(7), HistoryEvent::Admitted(1));
        history.add(UnixMillis(8), HistoryEvent::Attempted(Attempt::accepted(1, Some(2), 9)));
        let json = serde_json::to_string(&history).expect("plain data");
        assert_eq!(serde_json::from_str::<RequestHistory>(&json).expect("reads back"), history, "{json}");
    }

    /// Records outlive a release: stored words never change.
    #[test]
    fn every_event_is_stored_in_its_own_words() {
        let answer = "rejected".to_owned();
        let sent = Attempt { answer, provider_code: Some(5), ..Attempt::accepted(1, Some(2), 9) };
        let events = [
            HistoryEvent::Admitted(1),
            HistoryEvent::Attempted(sent),
            HistoryEvent::TookOver(true),
            HistoryEvent::LookedUp("found".to_owned()),
            HistoryEvent::ToBeResent(2),
            HistoryEvent::WaitsAtGate("breaker".to_owned()),
            HistoryEvent::Requeued("stopping".to_owned()),
            HistoryEvent::DeadLettered(PoisonCause::Crash),
            HistoryEvent::DeadLettered(PoisonCause::Panic),
            HistoryEvent::TestNumber,
        ];
        let mut history = RequestHistory {
            to: "+57******4567".to_owned(),
            correlation_id: Some("c".to_owned()),
            challenge: Some("d".to_owned()),
            ..RequestHistory::default()
        };
        (1..).zip(events).for_each(|(at, event)| history.add(UnixMillis(at), event));
        let stored = concat!(
            r#"{"to":"+57******4567","correlation_id":"c","challenge":"d","trail":[{"at":1,"admitted":1},"#,
            r#"{"at":2,"tried":{"attempt":1,"sender":2,"answer":"rejected","code":5,"ms":9}},"#,
            r#"{"at":3,"taken_up":true},{"at":4,"looked_up":"found"},{"at":5,"resent":2},{"at":6,"held":"breaker"},"#,
            r#"{"at":7,"given_back":"stopping"},{"at":8,"set_aside":"crash"},{"at":9,"set_aside":"panic"},"#,
            r#"{"at":10,"test_number":null}]}"#,
        );
        assert_eq!(serde_json::to_string(&history).expect("plain data"), stored);
        assert_eq!(serde_json::from_str::<RequestHistory>(stored).expect("reads back"), history);
    }
}
