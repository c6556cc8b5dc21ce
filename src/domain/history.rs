//! What happened to a request, step by step: kept with its record, shown to who asks why.
//!
//! It holds no code and no address. The number of steps is bounded: the first and the last ones are kept.

use serde::{Deserialize, Serialize};

use super::send_failure::{Scope, SendFailure};
use super::time::UnixMillis;

/// So many steps are kept.
pub const ENTRIES_MAX: usize = 32;

/// What the handlings of a request leave for each other and for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestHistory {
    /// The recipient, masked.
    #[serde(default)]
    pub to: String,
    /// What comes back on results, if the request brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The challenge whose code was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<String>,
    /// What happened, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "trail")]
    pub entries: Vec<HistoryEntry>,
}

/// One thing that happened, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When.
    pub at: UnixMillis,
    /// What.
    #[serde(flatten)]
    pub event: HistoryEvent,
}

/// What can happen to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryEvent {
    /// It may be sent: the so-and-so-many-th send to its recipient within a day.
    Admitted(u32),
    /// A try, and what the provider said.
    #[serde(rename = "tried")]
    Attempted(Attempt),
    /// A handling took it up where another one stopped; `true` if that left a try in doubt.
    #[serde(rename = "taken_up")]
    TakenOver(bool),
    /// The provider was asked which messages it has: `found`, `absent`, `unanswered`, `refused`.
    LookedUp(String),
    /// It is sent once more, as nothing was found.
    Resent(u32),
    /// It waits for more than its own next try: the machine word of what holds it.
    #[serde(rename = "held")]
    Paused(String),
    /// It went back to the queue: the machine word of why.
    #[serde(rename = "given_back")]
    Requeued(String),
    /// It was ended so that its message could be set aside.
    #[serde(rename = "set_aside")]
    DeadLettered(PoisonCause),
}

/// What a message does to those who handle it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoisonCause {
    /// It ends the process.
    Crash,
    /// It makes its handling panic.
    Panic,
}

impl PoisonCause {
    /// The machine word: the reason of a dead letter.
    pub const fn as_str(self) -> &'static str {
        match self {
            PoisonCause::Crash => "crash",
            PoisonCause::Panic => "panic",
        }
    }

    /// The sentence for people.
    pub const fn message(self) -> &'static str {
        match self {
            PoisonCause::Crash => "handling the message ended the worker",
            PoisonCause::Panic => "handling the message panicked",
        }
    }
}

/// A try, and what the provider said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number.
    pub attempt: u32,
    /// Which sender carried it, counted from 1 in the order of the settings; nothing where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<u32>,
    /// `accepted`, `rejected`, `sender_refused`, `throttled`, `unreachable`, `in_doubt`.
    pub answer: String,
    /// The provider's own error number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u32>,
    /// How long the answer took.
    pub ms: u64,
}

impl RequestHistory {
    /// Adds a step. Where there is no more room the last one before it makes some: how it began and how it ends is told.
    pub fn add(&mut self, at: UnixMillis, what: HistoryEvent) {
        if self.entries.len() == ENTRIES_MAX {
            self.entries.remove(ENTRIES_MAX / 2);
        }
        self.entries.push(HistoryEntry { at, event: what });
    }

    /// Why the message of the request is to be set aside, if it is.
    pub fn dead_lettered(&self) -> Option<PoisonCause> {
        self.entries.iter().rev().find_map(|step| match step.event {
            HistoryEvent::DeadLettered(poison) => Some(poison),
            _ => None,
        })
    }

    /// True if nothing is noted.
    pub fn is_empty(&self) -> bool {
        *self == RequestHistory::default()
    }
}

impl Attempt {
    /// What a failure says.
    pub fn failed(attempt: u32, sender: Option<u32>, failure: &SendFailure, ms: u64) -> Attempt {
        let code = match failure {
            SendFailure::Rejected { code, .. }
            | SendFailure::Throttled { code, .. }
            | SendFailure::Deferred { code } => *code,
            SendFailure::Unreachable { .. } | SendFailure::InDoubt { .. } => None,
        };
        let answer = match failure {
            SendFailure::Rejected { scope: Scope::Sender, .. } => "sender_refused",
            failure => failure.as_str(),
        };
        Attempt { attempt, sender, answer: answer.to_owned(), code, ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_end_are_kept() {
        let mut notes = RequestHistory::default();
        (0..100).for_each(|n| notes.add(UnixMillis(n), HistoryEvent::Resent(0)));
        let times: Vec<u64> = notes.entries.iter().map(|step| step.at.0).collect();
        assert_eq!((times.len(), times[0], times[ENTRIES_MAX - 1]), (ENTRIES_MAX, 0, 99));
    }

    #[test]
    fn notes_read_back() {
        let mut notes = RequestHistory { to: "+57******4567".to_owned(), ..RequestHistory::default() };
        notes.add(UnixMillis(7), HistoryEvent::Admitted(1));
        notes.add(
            UnixMillis(8),
            HistoryEvent::Attempted(Attempt {
                attempt: 1,
                sender: Some(2),
                answer: "accepted".to_owned(),
                code: None,
                ms: 9,
            }),
        );
        let json = serde_json::to_string(&notes).expect("plain data");
        assert_eq!(serde_json::from_str::<RequestHistory>(&json).expect("reads back"), notes, "{json}");
    }

    /// Records outlive a release: stored words never change.
    #[test]
    fn every_event_is_stored_in_its_own_words() {
        let sent =
            Attempt { attempt: 1, sender: Some(2), answer: "rejected".to_owned(), code: Some(5), ms: 9 };
        let events = [
            HistoryEvent::Admitted(1),
            HistoryEvent::Attempted(sent),
            HistoryEvent::TakenOver(true),
            HistoryEvent::LookedUp("found".to_owned()),
            HistoryEvent::Resent(2),
            HistoryEvent::Paused("breaker".to_owned()),
            HistoryEvent::Requeued("stopping".to_owned()),
            HistoryEvent::DeadLettered(PoisonCause::Crash),
            HistoryEvent::DeadLettered(PoisonCause::Panic),
        ];
        let mut notes = RequestHistory {
            to: "+57******4567".to_owned(),
            correlation_id: Some("c".to_owned()),
            challenge: Some("d".to_owned()),
            ..RequestHistory::default()
        };
        (1..).zip(events).for_each(|(at, event)| notes.add(UnixMillis(at), event));
        let stored = concat!(
            r#"{"to":"+57******4567","correlation_id":"c","challenge":"d","trail":[{"at":1,"admitted":1},"#,
            r#"{"at":2,"tried":{"attempt":1,"sender":2,"answer":"rejected","code":5,"ms":9}},"#,
            r#"{"at":3,"taken_up":true},{"at":4,"looked_up":"found"},{"at":5,"resent":2},{"at":6,"held":"breaker"},"#,
            r#"{"at":7,"given_back":"stopping"},{"at":8,"set_aside":"crash"},{"at":9,"set_aside":"panic"}]}"#,
        );
        assert_eq!(serde_json::to_string(&notes).expect("plain data"), stored);
        assert_eq!(serde_json::from_str::<RequestHistory>(stored).expect("reads back"), notes);
    }
}
