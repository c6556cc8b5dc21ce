//! The number of workers that the load needs.
//!
//! It follows from the queues and the states that workers report, and from nothing else, so every process that asks at one time gets the
//! same number. Smoothing in time is left to the orchestrator.
//!
//! More workers help neither while the send gate is closed nor where the provider or a sender's rate is the limit. Where data are missing
//! the present number stays.

use std::time::Duration;

use serde::Serialize;

use super::channel::Channel;
use super::worker_state::{Rate, ReportedWorker, WorkerState};

/// A worker that has not reported for this long does not count as running.
pub const RUNNING_FOR: Duration = Duration::from_secs(10);
/// The share of its capacity at which a worker is to run.
const UTILISATION: f64 = 0.75;
/// Less than one delivery in twenty seconds, over all workers, counts as none.
const NO_RATE: f64 = 0.05;

#[derive(Clone, Copy, Debug)]
pub struct ScalePolicy {
    pub workers_max: u32,
    /// A backlog is to be gone after this long.
    pub backlog_within: Duration,
}

/// A request queue as the broker sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Requests that no consumer holds.
    pub ready: u32,
    pub consumers: u32,
}

/// By channel.
pub type QueueDepths = [QueueDepth; Channel::ALL.len()];

/// The cause of a channel's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleReason {
    /// As many as the rate and the backlog need.
    Load,
    /// Nothing waits and nothing is in progress.
    Idle,
    NoWorkers,
    /// The send gate of a worker is closed.
    GateClosed,
    /// Most handlers wait for the send gate or for their next attempt: the provider or the senders' rate is the limit.
    SendsWait,
    /// Workers run and none consumes.
    NotConsuming,
    /// No worker has ended a delivery yet.
    CapacityUnknown,
    /// The broker did not answer.
    QueueUnknown,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChannelScale {
    pub channel: Channel,
    pub wanted: u32,
    pub reason: ScaleReason,
    /// The reason for which a gate is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<String>,
    /// Requests that no worker holds; absent if the broker did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumers: Option<u32>,
    pub workers: u32,
    pub in_flight: u32,
    pub waiting: u32,
    /// Deliveries that all workers end in a second.
    pub rate: f64,
    /// Deliveries that one worker could end in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scale {
    pub wanted: u32,
    pub present: u32,
    pub channels: Vec<ChannelScale>,
}

/// The reason for which the present number of workers is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkersUnknown {
    /// More have fallen silent than report: the store may have been away.
    #[error("most workers have not reported for {} s", RUNNING_FOR.as_secs())]
    MostSilent,
    /// Workers that may not report, and whose gate is closed, look the same.
    #[error("no worker reports or consumes")]
    NoneSeen,
}

/// `queues` is `None` if the broker did not answer.
pub fn wanted_workers(
    policy: &ScalePolicy,
    workers: &[ReportedWorker],
    queues: Option<QueueDepths>,
) -> Result<Scale, WorkersUnknown> {
    let (silent, running): (Vec<_>, Vec<_>) = workers
        .iter()
        .filter(|worker| worker.state.has_worker() && !worker.state.draining)
        .partition(|worker| worker.silent_for >= RUNNING_FOR);
    if silent.len() > running.len() {
        return Err(WorkersUnknown::MostSilent);
    }
    let scale_of = |channel| {
        let states = running.iter().map(|worker| &worker.state).filter(|state| state.channel == channel);
        let draining =
            workers.iter().filter(|worker| worker.state.draining && worker.state.channel == channel);
        let queue = queues.map(|depths| without(depths[channel as usize], draining.count()));
        ChannelLoad::new(channel, states.collect(), queue).scale(policy)
    };
    let (present, channels): (Vec<u32>, Vec<ChannelScale>) = Channel::ALL.into_iter().map(scale_of).unzip();
    let present = present.into_iter().max().unwrap_or_default();
    if present == 0 {
        return Err(WorkersUnknown::NoneSeen);
    }
    let wanted = channels.iter().map(|channel| channel.wanted).max().unwrap_or_default();
    Ok(Scale { wanted: wanted.clamp(1, policy.workers_max.max(1)), present, channels })
}

/// RabbitMQ counts the consumer of a draining worker until its last delivery is settled.
fn without(queue: QueueDepth, draining: usize) -> QueueDepth {
    let draining = u32::try_from(draining).unwrap_or(u32::MAX);
    QueueDepth { consumers: queue.consumers.saturating_sub(draining), ..queue }
}

struct ChannelLoad<'a> {
    channel: Channel,
    states: Vec<&'a WorkerState>,
    queue: Option<QueueDepth>,
    in_flight: u32,
    waiting: u32,
    rate: f64,
}

impl<'a> ChannelLoad<'a> {
    fn new(channel: Channel, states: Vec<&'a WorkerState>, queue: Option<QueueDepth>) -> ChannelLoad<'a> {
        ChannelLoad {
            channel,
            queue,
            in_flight: states.iter().map(|state| state.in_flight).sum(),
            waiting: states.iter().map(|state| state.waiting).sum(),
            rate: states.iter().map(|state| state.ended.as_f64()).sum(),
            states,
        }
    }

    /// The present number, and the answer.
    fn scale(&self, policy: &ScalePolicy) -> (u32, ChannelScale) {
        let reported = u32::try_from(self.states.len()).unwrap_or(u32::MAX);
        let consumers = self.queue.map(|queue| queue.consumers);
        // Workers of a version without reports consume as well.
        let present = reported.max(consumers.unwrap_or_default());
        let closed_by = self.states.iter().find_map(|state| state.closed_by.clone());
        let (wanted, reason) = self.decide(policy, present, closed_by.is_some());
        let scale = ChannelScale {
            channel: self.channel,
            wanted,
            reason,
            closed_by,
            ready: self.queue.map(|queue| queue.ready),
            consumers,
            workers: reported,
            in_flight: self.in_flight,
            waiting: self.waiting,
            rate: Rate::per_second(self.rate).as_f64(),
            capacity: self.capacity().map(|capacity| Rate::per_second(capacity).as_f64()),
        };
        (present, scale)
    }

    fn decide(&self, policy: &ScalePolicy, present: u32, is_gate_closed: bool) -> (u32, ScaleReason) {
        let Some(queue) = self.queue else { return (present, ScaleReason::QueueUnknown) };
        if present == 0 {
            return (1, ScaleReason::NoWorkers);
        }
        if queue.consumers == 0 && !is_gate_closed {
            return (present, ScaleReason::NotConsuming);
        }
        if queue.ready == 0 && self.in_flight == 0 && self.rate < NO_RATE {
            return (1, ScaleReason::Idle);
        }
        if is_gate_closed {
            return (present, ScaleReason::GateClosed);
        }
        let Some(capacity) = self.capacity() else { return (present, ScaleReason::CapacityUnknown) };
        let backlog_rate = f64::from(queue.ready) / policy.backlog_within.as_secs_f64();
        let needed = workers_for(self.rate + backlog_rate, capacity * UTILISATION);
        match self.waiting * 2 > self.in_flight && needed > present {
            true => (present, ScaleReason::SendsWait),
            false => (needed, ScaleReason::Load),
        }
    }

    /// The mean of those that know theirs.
    fn capacity(&self) -> Option<f64> {
        let known: Vec<f64> =
            self.states.iter().filter_map(|state| state.capacity).map(Rate::as_f64).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn workers_for(rate: f64, rate_of_one: f64) -> u32 {
    // A whole number of workers that suffices to the last digit is enough.
    let needed = (rate / rate_of_one.max(0.001) - 1e-9).ceil();
    (needed as u32).max(1)
}

#[cfg(test)]
mod tests;
