//! Letters as people and machines see them: no body, only its shape.

use serde::Serialize;

use super::Found;
use crate::cli::{Exit, print_json, say};
use crate::clock::Clock;
use crate::domain::dead_letter::masked_excerpt;
use crate::domain::outcome::optional_rfc3339;
use crate::domain::request_id::RequestId;
use crate::domain::time::UnixMillis;

/// A letter as the list shows it.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_rfc3339")]
    at: Option<UnixMillis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<u64>,
    /// Who set it aside.
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
}

pub(super) fn list(found: &[Found], json: bool) -> Exit {
    let now = Clock::System.now();
    let rows: Vec<Row<'_>> = found.iter().map(|found| row(found, now)).collect();
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
                plain(row.reason),
                row.delivery_count.map_or_else(nothing, |count| count.to_string()),
                row.bytes.to_string(),
                row.request_id.map_or_else(nothing, str::to_owned),
                row.error.map_or_else(nothing, plain),
            ]
        }),
    );
    Exit::Done
}

/// What may be said of a letter in a line.
fn row(found: &Found, now: UnixMillis) -> Row<'_> {
    let (letter, contents) = (&found.letter, found.contents.as_ref());
    Row {
        id: &found.id,
        at: letter.at,
        age_seconds: letter.at.map(|at| now.since(at).as_secs()),
        by: if letter.by_broker { "broker" } else { "otpost" },
        reason: &letter.reason,
        error: letter.error.as_deref(),
        queue: letter.queue.as_deref(),
        request_id: found.request.as_ref().map(RequestId::as_str),
        status: letter.status.as_deref(),
        delivery_count: letter.delivery_count,
        bytes: contents.map_or(letter.body.len(), |contents| contents.bytes),
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

/// Text that somebody else wrote, without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// A letter with everything that may be shown.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    row: Row<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_rfc3339")]
    requested_at: Option<UnixMillis>,
    /// How often it was put back after a look.
    looks: u64,
    sealed: bool,
    code_removed: bool,
    excerpt: String,
}

pub(super) fn show(found: &[Found], json: bool) -> Exit {
    let now = Clock::System.now();
    let whole: Vec<Whole<'_>> = found.iter().map(|found| whole(found, now)).collect();
    if json {
        print_json(&whole);
    } else {
        whole.iter().for_each(print_whole);
    }
    if whole.is_empty() {
        eprintln!("otpost: no such letter was found; --limit looks at more of them");
        return Exit::No;
    }
    Exit::Done
}

fn whole(found: &Found, now: UnixMillis) -> Whole<'_> {
    let (letter, contents) = (&found.letter, found.contents.as_ref());
    // Whoever wrote it, it is covered once more: that changes nothing in an excerpt.
    let shown = contents.map_or(letter.body.as_slice(), |contents| contents.excerpt.as_bytes());
    Whole {
        row: row(found, now),
        message_id: letter.message_id.as_deref(),
        correlation_id: letter.properties.correlation_id.as_deref(),
        traceparent: letter.properties.traceparent.as_deref(),
        requested_at: letter.requested_at,
        looks: letter.properties.delivery_count,
        sealed: contents.is_some_and(|contents| contents.sealed.is_some()),
        code_removed: contents.is_some_and(|contents| contents.code_removed),
        excerpt: masked_excerpt(shown),
    }
}

fn print_whole(whole: &Whole<'_>) {
    let row = &whole.row;
    let time = |at: Option<UnixMillis>| at.map(|at| at.to_string());
    let body = match (row.by, whole.sealed, whole.code_removed) {
        ("broker", ..) => "in clear: the broker set the message aside as it was",
        (_, true, true) => "sealed, without the caller's own code",
        (_, true, false) => "sealed",
        (_, false, _) => "not kept",
    };
    let lines = [
        ("set aside by", Some(row.by.to_owned())),
        ("at", time(row.at)),
        ("reason", Some(row.reason.to_owned())),
        ("error", row.error.map(str::to_owned)),
        ("queue", row.queue.map(str::to_owned)),
        ("request", row.request_id.map(str::to_owned)),
        ("ended as", row.status.map(str::to_owned)),
        ("requested at", time(whole.requested_at)),
        ("returns", row.delivery_count.map(|count| count.to_string())),
        ("looks", Some(whole.looks.to_string())),
        ("message id", whole.message_id.map(str::to_owned)),
        ("correlation id", whole.correlation_id.map(str::to_owned)),
        ("traceparent", whole.traceparent.map(str::to_owned)),
        ("body", Some(format!("{} bytes, {body}", row.bytes))),
        ("shape", Some(whole.excerpt.clone())),
    ];
    say(row.id);
    for (name, value) in lines {
        if let Some(value) = value {
            say(&format!("  {name:<14}  {}", plain(&value)));
        }
    }
}
