//! Events that are mostly counted or measured: a log line of each would be noise.

use std::time::Duration;

use tracing::{error, warn};

use crate::domain::channel::Channel;
use crate::domain::circuit_breaker::BreakerState;
use crate::domain::phone::Region;
use crate::domain::reached_limit::ReachedLimit;
use crate::telemetry::metrics::{
    BreakerLabels, ChannelCountry, ChannelLabel, ChannelLimit, ChannelProvider, ChannelReason, METRICS,
    OperationLabel, country_label, observe, queues, words,
};

/// `waited` is the time since the request was made, by its caller.
pub fn request_taken_up(channel: Channel, waited: Duration) {
    observe(&METRICS.request_queue_time.get_or_create(&ChannelLabel { channel: channel.as_str() }), waited);
}

/// The guard counts the handler until it is dropped.
pub fn handler_started() -> InFlightGuard {
    METRICS.requests_in_flight.inc();
    InFlightGuard(())
}

pub struct InFlightGuard(());

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        METRICS.requests_in_flight.dec();
    }
}

/// By a worker, or before a request is published.
pub fn limit_refused(channel: Channel, limit: ReachedLimit) {
    let labels = ChannelLimit { channel: channel.as_str(), limit: limit.as_str() };
    METRICS.limit_refusals.get_or_create(&labels).inc();
}

/// A code was sent for the first time, or may have been.
pub fn code_sent(channel: Channel, region: Option<Region>) {
    METRICS.conversion_sent.get_or_create(&conversion_labels(channel, region)).inc();
}

pub fn code_verified(channel: Channel, region: Option<Region>) {
    METRICS.conversion_verified.get_or_create(&conversion_labels(channel, region)).inc();
}

fn conversion_labels(channel: Channel, region: Option<Region>) -> ChannelCountry {
    ChannelCountry { channel: channel.as_str(), country: country_label(region) }
}

/// This process sends with the provider.
pub fn provider_configured(channel: Channel, provider: &'static str) {
    METRICS.create_series_of_provider(channel, provider);
}

/// The cap over all sends; 0: none.
pub fn hourly_cap_configured(channel: Channel, sends: u32) {
    METRICS.sends_per_hour_max.get_or_create(&ChannelLabel { channel: channel.as_str() }).set(sends.into());
}

/// The state of a provider's gate, once a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateUse {
    pub concurrency_limit: usize,
    pub in_use: usize,
    pub senders_suspended: usize,
}

pub fn gate_measured(channel: Channel, provider: &'static str, gate: GateUse) {
    let label = ChannelProvider { channel: channel.as_str(), provider };
    let gauges = [
        (&METRICS.concurrency_limit, gate.concurrency_limit),
        (&METRICS.concurrency_in_use, gate.in_use),
        (&METRICS.senders.suspended, gate.senders_suspended),
    ];
    for (gauge, value) in gauges {
        gauge.get_or_create(&label).set(i64::try_from(value).unwrap_or(i64::MAX));
    }
}

/// Of one of several providers: a pause of the channel has a line of its own.
pub fn provider_shut_or_opened(channel: Channel, provider: &'static str, state: BreakerState) {
    let channel = channel.as_str();
    match state {
        BreakerState::Closed => warn!(channel, provider, "circuit breaker closed"),
        BreakerState::HalfOpen(_) => {}
        BreakerState::Open(cause) => {
            error!(channel, provider, reason = cause.as_str(), "circuit breaker opened")
        }
    }
}

/// A half-open breaker counts as open.
pub fn circuit_breaker_changed(channel: Channel, provider: &'static str, state: BreakerState) {
    let channel = channel.as_str();
    let opened_by = match state {
        BreakerState::Closed => None,
        BreakerState::Open(cause) | BreakerState::HalfOpen(cause) => Some(cause.as_str()),
    };
    for reason in words::BREAKER_CAUSES {
        let labels = BreakerLabels { channel, provider, reason };
        METRICS.circuit_breaker_open.get_or_create(&labels).set(i64::from(opened_by == Some(reason)));
    }
}

/// The kill switch, as a heartbeat brought it: it may be on while something else closes the gate.
pub fn kill_switch_read(channel: Channel, is_on: bool) {
    let labels = ChannelReason { channel: channel.as_str(), reason: words::KILL_SWITCH };
    METRICS.sending_paused.get_or_create(&labels).set(i64::from(is_on));
}

/// Its alerts find the first failed answer only if the series was there before.
pub fn http_route_served(route: &str) {
    METRICS.create_series_of_route(route);
}

pub fn prefetch_set(channel: Channel, prefetch: u16) {
    METRICS.prefetch.get_or_create(&ChannelLabel { channel: channel.as_str() }).set(prefetch.into());
}

/// `queue` is the channel of its requests, `delayed` or `dead_letters`.
pub fn queue_read(queue: &'static str, messages: u32, consumers: u32) {
    queues::queue_read(queue, messages, consumers);
}

/// `operation` has no usable answer if it failed.
pub fn store_operation_ended(operation: &'static str, elapsed: Duration, has_failed: bool) {
    let label = OperationLabel { operation };
    observe(&METRICS.store_operation_duration.get_or_create(&label), elapsed);
    if has_failed {
        METRICS.store_operation_errors.get_or_create(&label).inc();
    }
}
