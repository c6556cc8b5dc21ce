//! Decides what is wrong, from everything that the status shows.

use std::collections::BTreeMap;

use serde::Serialize;

use super::processes::{KeyRow, ProcessRow};
use crate::broker::Names;
use crate::domain::budget::Period;
use crate::domain::channel::Channel;
use crate::domain::limit_hits::LimitHits;
use crate::domain::reached_limit::ReachedLimit;
use crate::domain::scaling::{QueueDepth, QueueDepths};

/// A request that waited longer is worth a warning.
const WAITED_LONG_MS: u64 = 60_000;
/// A pause of its own: the kill switch is one problem, whatever the number of workers.
const KILL_SWITCH: &str = "kill_switch";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something needed does not work: the command exits with 3.
    Error,
    Warning,
}

#[derive(Debug, Serialize)]
pub struct Problem {
    pub severity: Severity,
    /// For machines.
    pub what: &'static str,
    pub detail: String,
}

pub(super) struct Facts<'a> {
    pub(super) production: bool,
    /// By channel.
    pub(super) enabled: [bool; Channel::ALL.len()],
    pub(super) names: &'a Names,
    /// `None` if the broker gave no answer.
    pub(super) queues: Option<QueueDepths>,
    pub(super) dead_letters: Option<u32>,
    pub(super) kill_switch_on: bool,
    /// `None` if the store gave no answer, as in the next one.
    pub(super) processes: Option<&'a [ProcessRow]>,
    pub(super) keys: Option<&'a [KeyRow]>,
    pub(super) limits_hit: &'a LimitHits,
}

impl Problem {
    pub(super) fn error(what: &'static str, detail: String) -> Problem {
        Problem { severity: Severity::Error, what, detail }
    }

    pub(super) fn warning(what: &'static str, detail: String) -> Problem {
        Problem { severity: Severity::Warning, what, detail }
    }
}

impl Facts<'_> {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.pauses(&mut problems);
        self.consumers(&mut problems);
        self.key_mismatches(&mut problems);
        self.shut_providers(&mut problems);
        self.warnings(&mut problems);
        self.budgets(&mut problems);
        problems
    }

    fn pauses(&self, problems: &mut Vec<Problem>) {
        if self.kill_switch_on {
            problems.push(Problem::warning(KILL_SWITCH, "the kill switch is on: nothing is sent".to_owned()));
        }
        for channel in Channel::ALL {
            let mut causes: Vec<(String, u32)> = Vec::new();
            for worker in self.running().filter(|worker| worker.channel == channel) {
                let Some(closed_by) = worker.closed_by.as_deref().filter(|cause| *cause != KILL_SWITCH)
                else {
                    continue;
                };
                let number = worker.breaker.provider_code.filter(|_| closed_by == "breaker");
                let cause = match (number, worker.breaker.cause.filter(|_| closed_by == "breaker")) {
                    (Some(number), _) => format!("{closed_by} (provider's number {number})"),
                    (None, Some(cause)) => format!("{closed_by} ({cause})"),
                    (None, None) => closed_by.to_owned(),
                };
                match causes.iter_mut().find(|(known, _)| *known == cause) {
                    Some((_, count)) => *count += 1,
                    None => causes.push((cause, 1)),
                }
            }
            problems.extend(causes.into_iter().map(|(cause, count)| {
                let workers = counted(count, "worker");
                let detail = format!("{} is paused at {workers} by {cause}", channel.as_str());
                Problem::error("sending_paused", detail)
            }));
        }
    }

    fn consumers(&self, problems: &mut Vec<Problem>) {
        // Only their reports tell whether the workers are paused.
        let (Some(queues), Some(_)) = (self.queues, self.processes) else { return };
        for channel in Channel::ALL.into_iter().filter(|channel| self.enabled[*channel as usize]) {
            let QueueDepth { ready, consumers } = queues[channel as usize];
            // While the gate is closed a worker consumes nothing, which is a problem of its own.
            let is_paused =
                self.running().any(|worker| worker.channel == channel && worker.closed_by.is_some());
            if consumers == 0 && !is_paused {
                let (queue, waits) =
                    (self.names.requests_of(channel), if ready == 1 { "waits" } else { "wait" });
                let detail = format!("no worker consumes {queue}; {} {waits}", counted(ready, "request"));
                problems.push(match self.production {
                    true => Problem::error("no_consumers", detail),
                    false => Problem::warning("no_consumers", detail),
                });
            }
        }
    }

    fn key_mismatches(&self, problems: &mut Vec<Problem>) {
        let mut named = Vec::new();
        let keys = self.keys.unwrap_or_default();
        for key in keys.iter().filter(|key| key.differs) {
            let name = key_name(key);
            if named.contains(&name) {
                continue;
            }
            let places: Vec<String> = keys
                .iter()
                .filter(|other| key_name(other) == name)
                .map(|other| format!("{} has {}", places(other), other.fingerprint))
                .collect();
            let detail = format!("the {name} key differs ({}): {}", key.setting, places.join("; "));
            problems.push(Problem::error("key_mismatch", detail));
            named.push(name);
        }
    }

    /// Providers that are shut while another one sends.
    fn shut_providers(&self, problems: &mut Vec<Problem>) {
        let mut shut: BTreeMap<&str, (u32, String)> = BTreeMap::new();
        for worker in self.running().filter(|worker| worker.closed_by.as_deref() != Some("breaker")) {
            for row in worker.providers.iter().filter(|row| row.breaker.state != "closed") {
                let number = row.breaker.provider_code.map(|number| format!("provider's number {number}"));
                let cause = number.unwrap_or_else(|| row.breaker.cause.unwrap_or_default().to_owned());
                shut.entry(&row.provider).or_insert((0, cause)).0 += 1;
            }
        }
        problems.extend(shut.into_iter().map(|(provider, (count, cause))| {
            let workers = counted(count, "worker");
            let detail = format!("{provider} is shut at {workers} ({cause}); the next provider sends");
            Problem::warning("provider_shut", detail)
        }));
    }

    fn warnings(&self, problems: &mut Vec<Problem>) {
        let mut warn = |what, detail| problems.push(Problem::warning(what, detail));
        if let Some(count) = self.dead_letters.filter(|count| *count > 0) {
            let waits = if count == 1 { "waits" } else { "wait" };
            warn(
                "dead_letters",
                format!("{} {waits}: otpost dead-letters list", counted(count, "dead letter")),
            );
        }
        for channel in Channel::ALL {
            let workers = || self.running().filter(|worker| worker.channel == channel);
            let name = channel.as_str();
            if let Some(worker) = workers().max_by_key(|worker| worker.senders_suspended)
                && worker.senders_suspended > 0
            {
                let (suspended, senders) = (worker.senders_suspended, worker.senders);
                warn("senders_suspended", format!("{suspended} of {senders} {name} senders are suspended"));
            }
            if let Some(ms) = workers().filter_map(|worker| worker.oldest_taken_ms).max()
                && ms >= WAITED_LONG_MS
            {
                let detail =
                    format!("a request of {name} taken up in the last minute had waited {} s", ms / 1_000);
                warn("queue_time", detail);
            }
        }
        let processes = self.processes.unwrap_or_default();
        let silent = processes.iter().filter(|process| process.is_silent()).count();
        if silent > 0 {
            let count = counted(u32::try_from(silent).unwrap_or(u32::MAX), "report");
            warn(
                "process_silent",
                format!("{count} of the last minute came from a process that reports no more"),
            );
        }
        let all = self.limits_hit.iter().find(|(limit, _)| *limit == ReachedLimit::All);
        if let Some((_, count)) = all.filter(|(_, count)| *count > 0) {
            let count = counted(count, "request");
            warn(
                "limit_all",
                format!("the limit of all sends (SMS_MAX_PER_HOUR) refused {count} in the last hour"),
            );
        }
    }

    /// The budgets refuse new requests until their hour or day is over.
    fn budgets(&self, problems: &mut Vec<Problem>) {
        for period in Period::ALL {
            let (_, count) = self
                .limits_hit
                .iter()
                .find(|(limit, _)| *limit == period.limit())
                .unwrap_or((period.limit(), 0));
            if count > 0 {
                let (period, count) = (period.as_str(), counted(count, "request"));
                let detail = format!("the budget of the {period} refused {count} in the last hour");
                problems.push(Problem::warning("spend", detail));
            }
        }
    }

    fn running(&self) -> impl Iterator<Item = &super::processes::WorkerRow> {
        let processes = self.processes.unwrap_or_default();
        processes.iter().filter(|process| !process.is_silent()).filter_map(|process| process.worker.as_ref())
    }
}

pub fn key_name(key: &KeyRow) -> String {
    match &key.kid {
        Some(kid) => format!("{} {kid}", key.key_use),
        None => key.key_use.to_owned(),
    }
}

/// `2 workers, 1 http, Redis`.
pub fn places(key: &KeyRow) -> String {
    let places = [
        (key.workers > 0).then(|| counted(key.workers, "worker")),
        (key.http > 0).then(|| format!("{} http", key.http)),
        key.recorded.then(|| "Redis".to_owned()),
        key.this_process.then(|| "this process".to_owned()),
    ];
    places.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

pub fn counted(count: u32, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
