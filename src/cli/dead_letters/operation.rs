//! Replaying and dropping dead letters.

use clap::Args;
use serde::Serialize;

use super::entry::Entry;
use crate::broker::{DeadLetters, Names, Outgoing, Target};
use crate::cli::output::{Exit, print_json, say};
use crate::clock::Clock;
use crate::config::Settings;

/// Reasons for dead-lettering: those of otpost, then those of the broker, and `unknown` if no reason is recorded.
pub(super) const REASONS: [&str; 9] = [
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

#[derive(Args, Clone)]
pub(in crate::cli) struct Selection {
    /// Ids from the list.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All dead letters within --limit.
    #[arg(long)]
    pub(super) all: bool,
    /// With --all: only those with this reason.
    #[arg(long, conflicts_with = "ids", value_parser = REASONS)]
    reason: Option<String>,
    /// Print what would happen, and change nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
}

impl Selection {
    fn includes(&self, entry: &Entry) -> bool {
        let has_reason = self.reason.as_ref().is_none_or(|reason| *reason == entry.dead_letter.reason);
        if self.all { has_reason } else { self.ids.iter().any(|id| entry.has_id(id)) }
    }
}

pub(super) enum Operation<'a> {
    Replay { settings: &'a Settings, force: bool },
    Drop,
}

/// The result of an operation on one dead letter.
#[derive(Serialize)]
struct OperationRow {
    id: String,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// True if `--force` overcomes the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    can_be_forced: Option<bool>,
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

const FAILED: &str = "failed";
const REFUSED: &str = "refused";
const NOT_FOUND: &str = "not_found";

/// Applies an operation to every selected entry, and prints the results.
pub(super) async fn apply(
    operation: &Operation<'_>,
    selection: &Selection,
    entries: &[Entry],
    queue: &mut dyn DeadLetters,
    json: bool,
) -> Exit {
    let mut rows = Vec::new();
    for id in selection.ids.iter().filter(|id| !entries.iter().any(|entry| entry.has_id(id))) {
        let why = Some("no such dead letter was found; a higher --limit reads more of them".to_owned());
        rows.push(OperationRow { why, ..OperationRow::new(id, NOT_FOUND) });
    }
    for entry in entries.iter().filter(|entry| selection.includes(entry)) {
        let row = match operation {
            Operation::Replay { settings, force } => {
                replay(entry, settings, *force, selection.dry_run, queue).await
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
    if json {
        print_json(&rows);
    } else {
        rows.iter().for_each(print_row);
    }
    if rows.is_empty() {
        eprintln!("otpost: no dead letter was found");
    }
    let any = |result| rows.iter().any(|row| row.result == result);
    match () {
        () if any(FAILED) => Exit::Failed,
        () if rows.is_empty() || any(REFUSED) || any(NOT_FOUND) => Exit::No,
        () => Exit::Done,
    }
}

async fn replay(
    entry: &Entry,
    settings: &Settings,
    force: bool,
    dry_run: bool,
    queue: &mut dyn DeadLetters,
) -> OperationRow {
    let replay = match entry.replay(settings, Clock::System.now(), force) {
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
    if dry_run {
        return row("would_replay", None);
    }
    // Without a known queue, the request goes to text messages: it is one, or it ends with an error there.
    let names = Names::new(&settings.amqp_prefix);
    let source_queue = entry.dead_letter.queue.as_deref();
    let channel = source_queue.and_then(|queue| names.channel_of(queue)).unwrap_or_default();
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

fn print_row(row: &OperationRow) {
    let mut line = format!("{}  {}", row.id, row.result.replace('_', " "));
    if let Some(from) = &row.request_id {
        line.push_str(&format!("  {from}"));
    }
    if let Some(to) = &row.new_request_id {
        line.push_str(&format!(" -> {to}"));
    }
    if let Some(why) = &row.why {
        line.push_str(&format!(": {why}"));
    }
    if row.can_be_forced == Some(true) {
        line.push_str(" (--force replays it anyway)");
    }
    say(&line);
}
