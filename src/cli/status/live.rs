//! The tables of queues, processes and keys.

use std::collections::BTreeMap;

use crate::cli::table::table;
use crate::domain::channel::Channel;
use crate::flow::inspect::problems::{key_name, places};
use crate::flow::inspect::processes::{BreakerRow, KeyRow, ProcessRow, WorkerRow};
use crate::flow::inspect::status::{QueueRow, StatusRow};

/// Those with a closed gate come first.
const PROCESSES_MAX: usize = 40;

/// Without the ones that are not known.
pub(super) fn tables(row: &StatusRow) -> Vec<Vec<String>> {
    let queues = row.queues.as_deref().map(|queues| queue_lines(queues, row.dead_letters));
    let processes = row.processes.as_deref().map(process_lines);
    let keys = row.keys.as_deref().filter(|keys| !keys.is_empty()).map(key_lines);
    [queues, processes, keys].into_iter().flatten().collect()
}

/// Of the last hour.
pub(super) fn limits_in_words(hits: &BTreeMap<&'static str, u32>) -> String {
    let hit = hits.iter().filter(|(_, count)| **count > 0).map(|(limit, count)| format!("{limit} {count}"));
    let hit: Vec<String> = hit.collect();
    if hit.is_empty() {
        "none in the last hour".to_owned()
    } else {
        format!("{} in the last hour", hit.join(", "))
    }
}

fn queue_lines(queues: &[QueueRow], dead_letters: Option<u32>) -> Vec<String> {
    let mut rows = vec![words(&["queue", "waiting", "consumers"])];
    for QueueRow { queue, ready, consumers, .. } in queues {
        rows.push(vec![queue.clone(), ready.to_string(), consumers.to_string()]);
    }
    let dead_letters = dead_letters.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
    rows.push(vec!["dead letters".to_owned(), dead_letters]);
    table(&rows)
}

fn process_lines(processes: &[ProcessRow]) -> Vec<String> {
    if processes.is_empty() {
        return vec!["no process reports".to_owned()];
    }
    let mut order: Vec<&ProcessRow> = processes.iter().collect();
    order.sort_by_key(|process| {
        let is_open = process.worker.as_ref().is_none_or(|worker| worker.closed_by.is_none());
        (
            is_open && !process.is_silent(),
            process.role,
            process.worker.as_ref().map(|worker| worker.channel as u8),
        )
    });
    let mut rows = vec![words(&[
        "process",
        "version",
        "up",
        "gate",
        "breaker",
        "handlers",
        "sends",
        "suspended",
        "oldest taken",
    ])];
    rows.extend(order.iter().take(PROCESSES_MAX).map(|process| process_row(process)));
    let mut lines = table(&rows);
    if let Some(more) = processes.len().checked_sub(PROCESSES_MAX).filter(|more| *more > 0) {
        lines.push(format!("… and {more} more"));
    }
    lines
}

fn process_row(process: &ProcessRow) -> Vec<String> {
    let up = match process.is_silent() {
        true => format!("silent {} s", process.silent_ms / 1_000),
        false => duration(process.uptime),
    };
    let Some(worker) = &process.worker else {
        return vec!["http".to_owned(), process.version.clone(), up];
    };
    let channel = match worker.channel {
        Channel::Sms => "SMS",
        Channel::Email => "e-mail",
    };
    let WorkerRow { in_flight, handlers_max, concurrency_in_use, concurrency_limit, .. } = worker;
    let gate = match &worker.closed_by {
        Some(cause) => format!("closed: {cause}"),
        None if worker.draining => "draining".to_owned(),
        None => "open".to_owned(),
    };
    let breaker = |row: &BreakerRow| {
        let code = row.provider_code.map_or_else(String::new, |code| format!(" {code}"));
        format!("{}{code}", row.state)
    };
    let breakers: Vec<String> = worker
        .providers
        .iter()
        .filter(|row| row.breaker.state != "closed")
        .map(|row| format!("{} {}", row.provider, breaker(&row.breaker)))
        .collect();
    vec![
        format!("{} {channel}", process.role),
        process.version.clone(),
        up,
        gate,
        if breakers.is_empty() { breaker(&worker.breaker) } else { breakers.join(", ") },
        format!("{in_flight}/{handlers_max}"),
        format!("{concurrency_in_use}/{concurrency_limit}"),
        format!("{}/{}", worker.senders_suspended, worker.senders),
        worker.oldest_taken_ms.map_or_else(|| "none".to_owned(), waited),
    ]
}

fn key_lines(keys: &[KeyRow]) -> Vec<String> {
    let mut rows = vec![words(&["key", "fingerprint", "seen at"])];
    rows.extend(keys.iter().map(|key| {
        let seen = if key.differs { format!("{}  DIFFERS", places(key)) } else { places(key) };
        vec![key_name(key), key.fingerprint.clone(), seen]
    }));
    table(&rows)
}

fn words(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

fn waited(ms: u64) -> String {
    if ms < 10_000 { format!("{}.{} s", ms / 1_000, ms % 1_000 / 100) } else { duration(ms / 1_000) }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        assert_eq!(
            [119, 120, 7_199, 7_200, 172_800].map(duration),
            ["119 s", "2 min", "119 min", "2 h", "2 days"]
        );
        assert_eq!([0, 1_250, 9_999, 75_000].map(waited), ["0.0 s", "1.2 s", "9.9 s", "75 s"]);
    }
}
