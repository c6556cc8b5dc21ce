//! The last readings of the queues. A reading that is not repeated is left out of the metrics: no value is better than an old one.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::words::QUEUES;

/// Longer than three readings take.
const KEPT_FOR: Duration = Duration::from_secs(45);

#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    messages: u32,
    consumers: u32,
}

static READINGS: Mutex<[Option<Reading>; QUEUES.len()]> = Mutex::new([None; QUEUES.len()]);

pub(in crate::telemetry) fn queue_read(queue: &'static str, messages: u32, consumers: u32) {
    let mut readings = READINGS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(place) = QUEUES.iter().position(|known| *known == queue) {
        readings[place] = Some(Reading { at: Instant::now(), messages, consumers });
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < KEPT_FOR
}

#[derive(Debug)]
pub(super) struct QueueCollector;

type Count = fn(Reading) -> u32;

impl Collector for QueueCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (readings, now) = (*READINGS.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        let recent = || {
            let read = QUEUES.into_iter().zip(readings);
            read.filter_map(|(queue, reading)| {
                Some((queue, reading.filter(|reading| is_recent(reading.at, now))?))
            })
        };
        if recent().next().is_none() {
            return Ok(());
        }
        let gauges: [(&str, &str, Count); 2] = [
            ("queue_messages", "Messages ready in a queue.", |reading| reading.messages),
            ("queue_consumers", "Consumers of a queue.", |reading| reading.consumers),
        ];
        for (name, help, value) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (queue, reading) in recent() {
                let gauge = ConstGauge::new(i64::from(value(reading)));
                gauge.encode(family.encode_family(&[("queue", queue)])?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_that_is_not_repeated_is_dropped() {
        let at = Instant::now();
        assert!(is_recent(at, at) && is_recent(at, at + KEPT_FOR - Duration::from_millis(1)));
        assert!(!is_recent(at, at + KEPT_FOR));
    }
}
