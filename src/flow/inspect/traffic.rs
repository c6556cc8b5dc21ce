//! The recent traffic of each channel, over all workers that run.

use serde::Serialize;

use crate::domain::channel::Channel;
use crate::domain::outcome::{ErrorCode, Status};
use crate::domain::scaling::RUNNING_FOR;
use crate::domain::traffic::{DurationCounts, Traffic};
use crate::domain::worker_state::ReportedWorker;

#[derive(Serialize)]
pub struct TrafficRow {
    pub channel: Channel,
    /// Deliveries that end in a second.
    pub rate: f64,
    /// Of the last ten minutes, the most frequent first.
    pub ended: Vec<EndedRow>,
    /// From the start of a handler until the broker confirmed the result.
    pub handled: DurationsRow,
    /// Answers of the provider.
    pub provider: DurationsRow,
}

#[derive(Serialize)]
pub struct EndedRow {
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<ErrorCode>,
    pub count: u32,
}

/// Of the last minute. Quantiles are absent without durations.
#[derive(Serialize)]
pub struct DurationsRow {
    pub count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<u64>,
}

/// Workers that have fallen silent do not count.
pub fn traffic_rows(reports: &[ReportedWorker]) -> Vec<TrafficRow> {
    let row = |channel: Channel| {
        let (mut rate, mut traffic) = (0.0, Traffic::default());
        let running = reports.iter().filter(|report| report.silent_for < RUNNING_FOR);
        for state in running.map(|report| &report.state) {
            if state.has_worker() && state.channel == channel {
                rate += state.ended.as_f64();
                traffic.add(&state.traffic);
            }
        }
        let ended = traffic.ended.iter();
        TrafficRow {
            channel,
            rate,
            ended: ended.map(|(status, reason, count)| EndedRow { status, reason, count }).collect(),
            handled: DurationsRow::of(&traffic.handled),
            provider: DurationsRow::of(&traffic.provider),
        }
    };
    Channel::ALL.into_iter().map(row).collect()
}

impl DurationsRow {
    fn of(counts: &DurationCounts) -> DurationsRow {
        DurationsRow {
            count: counts.total(),
            p50_ms: counts.quantile_ms(0.5),
            p95_ms: counts.quantile_ms(0.95),
        }
    }
}
