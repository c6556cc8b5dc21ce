//! Replaying and dropping dead letters.

use serde::Serialize;

use super::entry::Entry;
use super::replayer::Replayer;
use crate::broker::{DeadLetters, Outgoing, Target};
use crate::domain::time::seconds_rounded_up;

/// Reasons for dead-lettering: those of otpost, then those of the broker, and `unknown` if no reason is recorded.
pub const REASONS: [&str; 9] = [
    "unattributable",
    "panic",
    "crash",
    "record",
    "delivery_limit",
    "expired",
    "maxlen",
    "rejected",
    "unknown",
];

#[derive(Clone, Copy)]
pub enum Operation<'a> {
    /// `force` also replays requests that have expired, were sent or may have been sent.
    Replay {
        replayer: &'a Replayer,
        force: bool,
    },
    Drop,
}

/// The dead letters of an operation.
pub struct Selection<'a> {
    pub ids: &'a [String],
    /// All that were read, in place of `ids`: of this reason only, if there is one.
    pub all: Option<Option<&'a str>>,
    /// Shows what would happen, and changes nothing.
    pub dry_run: bool,
}

impl Selection<'_> {
    pub fn includes(&self, entry: &Entry) -> bool {
        match self.all {
            Some(reason) => reason.is_none_or(|reason| reason == entry.dead_letter.reason),
            None => self.ids.iter().any(|id| entry.has_id(id)),
        }
    }
}

/// The result of an operation on one dead letter.
#[derive(Serialize)]
pub struct OperationRow {
    pub id: String,
    pub result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// True if `force` overcomes the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_be_forced: Option<bool>,
}

impl OperationRow {
    fn new(id: &str, result: &'static str) -> OperationRow {
        OperationRow {
            id: id.to_owned(),
            result,
            request_id: None,
            new_request_id: None,
            why: None,
            can_be_forced: None,
        }
    }
}

pub const FAILED: &str = "failed";
pub const REFUSED: &str = "refused";
pub const NOT_FOUND: &str = "not_found";

/// Applies an operation to every selected entry, up to the first that the broker fails for.
pub async fn apply(
    operation: Operation<'_>,
    selection: &Selection<'_>,
    entries: &[Entry],
    queue: &mut dyn DeadLetters,
) -> Vec<OperationRow> {
    let mut rows = Vec::new();
    for id in selection.ids.iter().filter(|id| !entries.iter().any(|entry| entry.has_id(id))) {
        let why = Some("no such dead letter was found; a higher --limit reads more of them".to_owned());
        rows.push(OperationRow { why, ..OperationRow::new(id, NOT_FOUND) });
    }
    for entry in entries.iter().filter(|entry| selection.includes(entry)) {
        let row = match operation {
            Operation::Replay { replayer, force } => {
                replay(entry, replayer, force, selection.dry_run, queue).await
            }
            Operation::Drop => remove(entry, selection.dry_run, queue).await,
        };
        let failed = row.result == FAILED;
        rows.push(row);
        // The broker would fail for the next dead letter too.
        if failed {
            break;
        }
    }
    rows
}

async fn replay(
    entry: &Entry,
    replayer: &Replayer,
    force: bool,
    dry_run: bool,
    queue: &mut dyn DeadLetters,
) -> OperationRow {
    let replay = match entry.replay(replayer, replayer.clock.now(), force) {
        Ok(replay) => replay,
        Err(refusal) => {
            return OperationRow {
                request_id: entry.request.as_ref().map(ToString::to_string),
                why: Some(refusal.to_string()),
                can_be_forced: Some(refusal.can_be_forced()),
                ..OperationRow::new(&entry.id, REFUSED)
            };
        }
    };
    let row = |result, why| OperationRow {
        request_id: Some(replay.from.to_string()),
        new_request_id: Some(replay.to.to_string()),
        why,
        ..OperationRow::new(&entry.id, result)
    };
    // Without a known queue, the request goes to text messages: it is one, or it ends with an error there.
    let source_queue = entry.dead_letter.queue.as_deref();
    let channel = source_queue.and_then(|queue| replayer.names.channel_of(queue)).unwrap_or_default();
    let cooldown = replayer.cooldown_left(channel, &replay.body).await;
    if !cooldown.is_zero() {
        let why = format!(
            "its recipient is cooling down, so it would be rejected: replay it in {} s",
            seconds_rounded_up(cooldown)
        );
        return OperationRow { can_be_forced: Some(false), ..row(REFUSED, Some(why)) };
    }
    if dry_run {
        return row("would_replay", None);
    }
    let properties = &entry.dead_letter.properties;
    // A correlation id that could not be read is not the caller's.
    let correlation_id = properties.correlation_id.as_deref().filter(|_| !entry.dead_letter.unreadable);
    let message = Outgoing {
        target: Target::Requests(channel),
        body: &replay.body,
        message_id: &format!("replay:{}", replay.to),
        correlation_id,
        at: replay.at,
        traceparent: properties.traceparent.as_deref(),
        tracestate: properties.tracestate.as_deref(),
    };
    if let Err(error) = queue.publish(message).await {
        let why = format!("it may have been published, and is still in the queue: {error}");
        return row(FAILED, Some(why));
    }
    match queue.remove(&entry.dead_letter).await {
        Ok(()) => row("replayed", None),
        Err(error) => row(FAILED, Some(format!("it was published, and is still in the queue: {error}"))),
    }
}

async fn remove(entry: &Entry, dry_run: bool, queue: &mut dyn DeadLetters) -> OperationRow {
    let request_id = entry.request.as_ref().map(ToString::to_string);
    let row = |result, why| OperationRow { request_id, why, ..OperationRow::new(&entry.id, result) };
    if dry_run {
        return row("would_drop", None);
    }
    match queue.remove(&entry.dead_letter).await {
        Ok(()) => row("dropped", None),
        Err(error) => row(FAILED, Some(error.to_string())),
    }
}
