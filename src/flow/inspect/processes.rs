//! The processes that run, as their reports show them, and the keys that they have.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::channel::Channel;
use crate::domain::circuit_breaker::BreakerState;
use crate::domain::key_check::{KeyCheck, KeyUse};
use crate::domain::scaling::RUNNING_FOR;
use crate::domain::time::millis;
use crate::domain::worker_state::{ProviderState, ReportedWorker, WorkerState};

/// One channel of a worker, or the HTTP API of a process.
#[derive(Serialize)]
pub struct ProcessRow {
    pub id: String,
    pub role: &'static str,
    pub version: String,
    /// In seconds.
    pub uptime: u64,
    /// Since the last report.
    pub silent_ms: u64,
    /// `None` for HTTP.
    #[serde(flatten)]
    pub worker: Option<WorkerRow>,
}

#[derive(Serialize)]
pub struct WorkerRow {
    pub channel: Channel,
    /// The reason for which the send gate is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<String>,
    pub draining: bool,
    pub breaker: BreakerRow,
    /// Handlers that hold a slot, and those of them that wait.
    pub in_flight: u32,
    pub waiting: u32,
    pub handlers_max: u32,
    /// Deliveries that end in a second.
    pub rate: f64,
    pub concurrency_limit: u32,
    pub concurrency_in_use: u32,
    pub senders: u32,
    pub senders_suspended: u32,
    /// Each of several; the fields above are those of all, and the best circuit breaker.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<ProviderRow>,
    /// The longest time that a request taken up in the last minute had waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_taken_ms: Option<u64>,
}

/// One of the several providers of a worker.
#[derive(Serialize)]
pub struct ProviderRow {
    pub provider: String,
    pub breaker: BreakerRow,
    pub concurrency_limit: u32,
    pub concurrency_in_use: u32,
    pub senders: u32,
    pub senders_suspended: u32,
}

#[derive(Serialize)]
pub struct BreakerRow {
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_code: Option<u32>,
}

/// One fingerprint of a key, and the places that have it.
#[derive(Serialize)]
pub struct KeyRow {
    #[serde(rename = "use")]
    pub key_use: &'static str,
    /// `None` for the recipient key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    pub fingerprint: String,
    /// Redis has it.
    pub recorded: bool,
    pub this_process: bool,
    pub workers: u32,
    pub http: u32,
    /// The same key has another fingerprint elsewhere.
    pub differs: bool,
    #[serde(skip)]
    pub setting: &'static str,
}

impl ProcessRow {
    pub fn of(report: &ReportedWorker) -> ProcessRow {
        let state = &report.state;
        ProcessRow {
            id: format!("{:016x}", report.worker_id),
            role: state.role.as_str(),
            version: state.version.clone(),
            uptime: state.uptime.as_secs(),
            silent_ms: millis(report.silent_for),
            worker: state.has_worker().then(|| WorkerRow::of(state)),
        }
    }

    pub fn is_silent(&self) -> bool {
        u128::from(self.silent_ms) >= RUNNING_FOR.as_millis()
    }
}

impl WorkerRow {
    fn of(state: &WorkerState) -> WorkerRow {
        WorkerRow {
            channel: state.channel,
            closed_by: state.closed_by.clone(),
            draining: state.draining,
            breaker: BreakerRow::of(state.breaker, state.breaker_code),
            in_flight: state.in_flight,
            waiting: state.waiting,
            handlers_max: state.handlers_max,
            rate: state.ended.as_f64(),
            concurrency_limit: state.concurrency_limit,
            concurrency_in_use: state.concurrency_in_use,
            senders: state.senders,
            senders_suspended: state.senders_suspended,
            providers: state.providers.iter().map(ProviderRow::of).collect(),
            oldest_taken_ms: state.oldest_taken.map(millis),
        }
    }
}

impl ProviderRow {
    fn of(state: &ProviderState) -> ProviderRow {
        ProviderRow {
            provider: state.name.clone(),
            breaker: BreakerRow::of(state.breaker, state.breaker_code),
            concurrency_limit: state.concurrency_limit,
            concurrency_in_use: state.concurrency_in_use,
            senders: state.senders,
            senders_suspended: state.senders_suspended,
        }
    }
}

impl BreakerRow {
    fn of(breaker: BreakerState, provider_code: Option<u32>) -> BreakerRow {
        let (state, cause) = match breaker {
            BreakerState::Closed => ("closed", None),
            BreakerState::Open(cause) => ("open", Some(cause.as_str())),
            BreakerState::HalfOpen(cause) => ("half_open", Some(cause.as_str())),
        };
        BreakerRow { state, cause, provider_code }
    }
}

/// Where a fingerprint was seen.
#[derive(Default)]
struct Seen {
    recorded: bool,
    this_process: bool,
    workers: u32,
    http: u32,
}

/// Processes that have fallen silent do not count.
pub fn key_rows(ours: &[KeyCheck], recorded: &[KeyCheck], reports: &[ReportedWorker]) -> Vec<KeyRow> {
    let mut seen: BTreeMap<&KeyCheck, Seen> = BTreeMap::new();
    ours.iter().for_each(|key| seen.entry(key).or_default().this_process = true);
    recorded.iter().for_each(|key| seen.entry(key).or_default().recorded = true);
    for ReportedWorker { state, .. } in reports.iter().filter(|report| report.silent_for < RUNNING_FOR) {
        for key in &state.keys {
            let places = seen.entry(key).or_default();
            // Each worker reports for each channel.
            match (state.has_worker(), state.channel) {
                (true, Channel::Sms) => places.workers += 1,
                (true, Channel::Email) => {}
                (false, _) => places.http += 1,
            }
        }
    }
    let names: Vec<(KeyUse, &str)> = seen.keys().map(|key| (key.key_use, key.kid.as_str())).collect();
    let row = |(key, places): (&&KeyCheck, &Seen)| KeyRow {
        key_use: key.key_use.as_str(),
        kid: (!key.kid.is_empty()).then(|| key.kid.clone()),
        fingerprint: key.fingerprint.to_string(),
        recorded: places.recorded,
        this_process: places.this_process,
        workers: places.workers,
        http: places.http,
        differs: names.iter().filter(|name| **name == (key.key_use, key.kid.as_str())).count() > 1,
        setting: key.key_use.setting(),
    };
    seen.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::key_check::KeyFingerprint;
    use crate::domain::worker_state::ProcessRole;

    fn key(kid: &str, fingerprint: u8) -> KeyCheck {
        KeyCheck { key_use: KeyUse::Code, kid: kid.to_owned(), fingerprint: KeyFingerprint([fingerprint; 8]) }
    }

    fn report(role: ProcessRole, silent_for: u64, keys: &[KeyCheck]) -> ReportedWorker {
        let state = WorkerState { role, keys: keys.to_vec(), ..WorkerState::default() };
        ReportedWorker { worker_id: 1, silent_for: Duration::from_secs(silent_for), state }
    }

    #[test]
    fn a_key_differs_where_two_places_have_other_fingerprints_of_it() {
        let reports = [
            report(ProcessRole::Worker, 1, &[key("k1", 1), key("k2", 2)]),
            report(ProcessRole::Http, 1, &[key("k1", 9)]),
            report(ProcessRole::Http, 11, &[key("k2", 9)]),
        ];
        let rows = key_rows(&[], &[key("k1", 1)], &reports);
        let facts = rows.iter().map(|row| {
            (row.kid.as_deref(), row.fingerprint.as_str(), row.recorded, row.workers, row.http, row.differs)
        });
        assert_eq!(
            facts.collect::<Vec<_>>(),
            [
                (Some("k1"), "0101010101010101", true, 1, 0, true),
                (Some("k1"), "0909090909090909", false, 0, 1, true),
                (Some("k2"), "0202020202020202", false, 1, 0, false),
            ],
            "a silent process has no say"
        );
    }
}
