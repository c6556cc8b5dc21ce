//! Prints dead letters: no body, only a masked excerpt.

use serde::Serialize;

use super::entry::Entry;
use crate::cli::output::{Exit, print_json, say};
use crate::clock::Clock;
use crate::domain::dead_letter::masked_excerpt;
use crate::domain::request_id::RequestId;
use crate::domain::time::UnixMillis;
use crate::domain::time::optional_rfc3339;

#[derive(Serialize)]
struct DeadLetterRow<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_rfc3339")]
    at: Option<UnixMillis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<u64>,
    /// `broker` or `otpost`.
    by: &'static str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_count: Option<u64>,
    bytes: usize,
    /// Its properties are no valid AMQP.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unreadable: bool,
}

/// Shown in place of the error of a dead letter that has none.
const UNREADABLE: &str = "its properties are no valid AMQP";

pub(super) fn list(entries: &[Entry], json: bool) -> Exit {
    let now = Clock::System.now();
    let rows: Vec<DeadLetterRow<'_>> = entries.iter().map(|entry| row(entry, now)).collect();
    if json {
        print_json(&rows);
        return Exit::Done;
    }
    if rows.is_empty() {
        say("no dead letters");
        return Exit::Done;
    }
    let head = ["ID", "TIME", "AGE", "REASON", "RETURNS", "BYTES", "REQUEST", "ERROR"];
    print_table(
        head,
        rows.iter().map(|row| {
            [
                row.id.to_owned(),
                row.at.map_or_else(nothing, |at| at.to_string()),
                row.age_seconds.map_or_else(nothing, age),
                row.reason.to_owned(),
                row.delivery_count.map_or_else(nothing, |count| count.to_string()),
                row.bytes.to_string(),
                row.request_id.map_or_else(nothing, str::to_owned),
                row.error.map_or_else(nothing, str::to_owned),
            ]
        }),
    );
    Exit::Done
}

fn row(entry: &Entry, now: UnixMillis) -> DeadLetterRow<'_> {
    let dead_letter = &entry.dead_letter;
    DeadLetterRow {
        id: &entry.id,
        at: dead_letter.at,
        age_seconds: dead_letter.at.map(|at| now.since(at).as_secs()),
        by: if dead_letter.by_broker { "broker" } else { "otpost" },
        reason: &dead_letter.reason,
        error: dead_letter.error.as_deref().or(dead_letter.unreadable.then_some(UNREADABLE)),
        queue: dead_letter.queue.as_deref(),
        request_id: entry.request.as_ref().map(RequestId::as_str),
        status: dead_letter.status.as_deref(),
        delivery_count: dead_letter.delivery_count,
        bytes: entry.body.as_ref().map_or(dead_letter.body.len(), |body| body.bytes),
        unreadable: dead_letter.unreadable,
    }
}

fn nothing() -> String {
    "-".to_owned()
}

fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn print_table<const COLUMNS: usize>(head: [&str; COLUMNS], rows: impl Iterator<Item = [String; COLUMNS]>) {
    let rows: Vec<[String; COLUMNS]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        say(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

#[derive(Serialize)]
struct DeadLetterDetails<'a> {
    #[serde(flatten)]
    row: DeadLetterRow<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_rfc3339")]
    requested_at: Option<UnixMillis>,
    /// Times that it was read and returned to the queue.
    looks: u64,
    sealed: bool,
    code_removed: bool,
    excerpt: String,
}

pub(super) fn show(entries: &[Entry], json: bool) -> Exit {
    let now = Clock::System.now();
    let all: Vec<DeadLetterDetails<'_>> = entries.iter().map(|entry| details(entry, now)).collect();
    if json {
        print_json(&all);
    } else {
        all.iter().for_each(print_details);
    }
    if all.is_empty() {
        eprintln!("otpost: no such dead letter was found; a higher --limit reads more of them");
        return Exit::No;
    }
    Exit::Done
}

fn details(entry: &Entry, now: UnixMillis) -> DeadLetterDetails<'_> {
    let (dead_letter, body) = (&entry.dead_letter, entry.body.as_ref());
    // An excerpt is masked again, because any publisher may have written it. Masking twice changes nothing.
    let excerpt = body.map_or(dead_letter.body.as_slice(), |body| body.excerpt.as_bytes());
    DeadLetterDetails {
        row: row(entry, now),
        message_id: dead_letter.message_id.as_deref(),
        correlation_id: dead_letter.properties.correlation_id.as_deref(),
        traceparent: dead_letter.properties.traceparent.as_deref(),
        requested_at: dead_letter.requested_at,
        looks: dead_letter.reads,
        sealed: body.is_some_and(|body| body.sealed.is_some()),
        code_removed: body.is_some_and(|body| body.code_removed),
        excerpt: masked_excerpt(excerpt),
    }
}

fn print_details(details: &DeadLetterDetails<'_>) {
    let row = &details.row;
    let time = |at: Option<UnixMillis>| at.map(|at| at.to_string());
    let body = match (row.by, details.sealed, details.code_removed) {
        ("broker", ..) => "in clear: dead-lettered by the broker",
        (_, true, true) => "encrypted, without the caller's own code",
        (_, true, false) => "encrypted",
        (_, false, _) => "not kept",
    };
    let lines = [
        ("dead-lettered by", Some(row.by.to_owned())),
        ("at", time(row.at)),
        ("reason", Some(row.reason.to_owned())),
        ("error", row.error.map(str::to_owned)),
        ("queue", row.queue.map(str::to_owned)),
        ("request", row.request_id.map(str::to_owned)),
        ("ended as", row.status.map(str::to_owned)),
        ("requested at", time(details.requested_at)),
        ("returns", row.delivery_count.map(|count| count.to_string())),
        ("reads", Some(details.looks.to_string())),
        ("properties", row.unreadable.then(|| "no valid AMQP: ? stands for what cannot be read".to_owned())),
        ("message id", details.message_id.map(str::to_owned)),
        ("correlation id", details.correlation_id.map(str::to_owned)),
        ("traceparent", details.traceparent.map(str::to_owned)),
        ("body", Some(format!("{} bytes, {body}", row.bytes))),
        ("excerpt", Some(details.excerpt.clone())),
    ];
    say(row.id);
    for (name, value) in lines {
        if let Some(value) = value {
            say(&format!("  {name:<16}  {value}"));
        }
    }
}
