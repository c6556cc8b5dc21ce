//! Reads the queues, the reports of processes and their keys, and adds them to the status with everything that is wrong.

use tokio::time::timeout;

use super::problems::{Facts, Problem};
use super::processes::{ProcessRow, key_rows};
use super::status::{
    ANSWER_WITHIN, Health, HealthRow, HealthState, Inspector, PRODUCTION, QueueRow, StatusRow,
};
use super::traffic::traffic_rows;
use crate::domain::channel::Channel;
use crate::domain::key_check::KeyCheck;
use crate::domain::limit_hits::LimitHits;
use crate::domain::scaling::QueueDepths;
use crate::domain::worker_state::ReportedWorker;

/// The answers of the store and the broker; `None` if there was none in time.
pub(super) struct Reports {
    processes: Option<Vec<ReportedWorker>>,
    recorded_keys: Option<Vec<KeyCheck>>,
    queues: Option<QueueDepths>,
    delayed: Option<u32>,
    dead_letters: Option<u32>,
}

impl Inspector {
    pub(super) async fn read_reports(&self) -> Reports {
        let (processes, recorded_keys, (queues, delayed, dead_letters)) = tokio::join!(
            timeout(ANSWER_WITHIN, self.store.reported_workers()),
            timeout(ANSWER_WITHIN, self.store.recorded_keys()),
            self.read_queues()
        );
        Reports {
            processes: processes.ok().and_then(Result::ok),
            recorded_keys: recorded_keys.ok().and_then(Result::ok),
            queues,
            delayed,
            dead_letters,
        }
    }

    /// Requests that wait, delayed requests and dead letters.
    async fn read_queues(&self) -> (Option<QueueDepths>, Option<u32>, Option<u32>) {
        let Some(queues) = &self.queues else { return (None, None, None) };
        let read = async {
            (queues.depths().await.ok(), queues.delayed().await.ok(), queues.dead_letters().await.ok())
        };
        timeout(ANSWER_WITHIN, read).await.unwrap_or_default()
    }

    pub(super) fn with_reports(&self, row: StatusRow, reports: Reports) -> StatusRow {
        let Reports { processes: reported, recorded_keys, queues, delayed, dead_letters } = reports;
        let mut limits_hit = LimitHits::default();
        reported.iter().flatten().for_each(|report| limits_hit.add(&report.state.limit_hits));
        let processes: Vec<ProcessRow> = reported.iter().flatten().map(ProcessRow::of).collect();
        let keys = match (&reported, &recorded_keys) {
            (Some(reported), Some(recorded)) => Some(key_rows(&self.keys, recorded, reported)),
            _ => None,
        };
        let facts = Facts {
            production: self.process.production,
            enabled: [self.process.sms_enabled, self.process.email_enabled],
            names: &self.names,
            queues,
            dead_letters,
            kill_switch_on: row.kill_switch.as_ref().is_some_and(|switch| switch.on),
            processes: reported.is_some().then_some(&processes),
            keys: keys.as_deref(),
            limits_hit: &limits_hit,
        };
        let mut problems = health_problems(&row);
        problems.extend(facts.problems());
        let of_store =
            [("the reports of processes", reported.is_some()), ("key check values", recorded_keys.is_some())];
        problems.extend(unread(&row.health.redis, "Redis", &of_store));
        if self.queues.is_some() {
            let of_broker = [
                ("requests waiting", queues.is_some()),
                ("delayed requests", delayed.is_some()),
                ("dead letters", dead_letters.is_some()),
            ];
            problems.extend(unread(&row.health.rabbitmq, "RabbitMQ", &of_broker));
        }
        problems.sort_by_key(|problem| problem.severity);
        let queue_row = |channel: Channel| {
            let depth = queues?[channel as usize];
            let queue = self.names.requests_of(channel);
            Some(QueueRow { channel, queue, ready: depth.ready, consumers: depth.consumers })
        };
        StatusRow {
            problems,
            queues: Channel::ALL.into_iter().map(queue_row).collect(),
            delayed,
            dead_letters,
            limits_hit: reported
                .is_some()
                .then(|| limits_hit.iter().map(|(limit, count)| (limit.as_str(), count)).collect()),
            traffic: reported.as_deref().map(traffic_rows),
            processes: reported.is_some().then_some(processes),
            keys,
            ..row
        }
    }
}

/// An answer that a working server did not give: no problem can be seen there.
fn unread(health: &Health, server: &str, what: &[(&str, bool)]) -> Option<Problem> {
    let missing: Vec<&str> = what.iter().filter(|(_, is_read)| !is_read).map(|(what, _)| *what).collect();
    let answers = !matches!(health.state, HealthState::Down | HealthState::Refused);
    let detail = || format!("{server} answers, but not to these questions: {}", missing.join(", "));
    (answers && !missing.is_empty()).then(|| Problem::error("unread", detail()))
}

/// Servers and providers that do not answer, or refuse access.
fn health_problems(row: &StatusRow) -> Vec<Problem> {
    let HealthRow { redis, rabbitmq, sms_provider } = &row.health;
    let email = row.email.health.as_ref().filter(|_| row.email.mode == Some(PRODUCTION));
    let needed = [
        ("redis", "Redis", Some(redis)),
        ("rabbitmq", "RabbitMQ", Some(rabbitmq)),
        ("sms_provider", "the SMS provider", Some(sms_provider).filter(|_| row.mode == PRODUCTION)),
        ("email_provider", "the e-mail provider", email),
    ];
    let problem = |(what, name, health): (&'static str, &str, Option<&Health>)| {
        let health = health?;
        let state = match health.state {
            HealthState::Down => "is down",
            HealthState::Refused => "refuses access",
            _ => return None,
        };
        let detail = health.detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
        Some(Problem::error(what, format!("{name} {state}{detail}")))
    };
    needed.into_iter().filter_map(problem).collect()
}
