//! Prints dead letters: no body, only a masked excerpt.

use crate::cli::output::{Exit, print_json, say};
use crate::clock::Clock;
use crate::domain::time::UnixMillis;
use crate::flow::operate::dead_letters::entry::Entry;
use crate::flow::operate::dead_letters::operation::OperationRow;
use crate::flow::operate::dead_letters::row::{DeadLetterDetails, DeadLetterRow, details, row};

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

pub(super) fn operation(row: &OperationRow) {
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
