//! Events of the connections to RabbitMQ.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::domain::channel::Channel;
use crate::domain::time::millis;
use crate::telemetry::metrics::{BlockedLabel, METRICS, RoleLabel, create};

fn role_label(role: &'static str, channel: Option<Channel>) -> RoleLabel {
    RoleLabel { role, channel: channel.map_or("", Channel::as_str) }
}

/// A role begins: its series exist from now on.
pub fn broker_connecting(role: &'static str, channel: Option<Channel>) {
    let label = role_label(role, channel);
    create(&METRICS.broker_connected, &label);
    create(&METRICS.broker_connections_lost, &label);
    create(&METRICS.broker_reconnects, &label);
    if channel.is_none() {
        create(&METRICS.broker_blocked, &BlockedLabel { role });
    }
}

/// The roles that have been connected.
static CONNECTED: Mutex<BTreeSet<(&str, Option<Channel>)>> = Mutex::new(BTreeSet::new());

/// Without a channel the connection serves all channels. `host` is its place in `AMQP_URL`, if there are several.
pub fn broker_connected(role: &'static str, channel: Option<Channel>, host: Option<&str>) {
    forget_blocked(role);
    let label = role_label(role, channel);
    METRICS.broker_connected.get_or_create(&label).set(1);
    let reconnects = METRICS.broker_reconnects.get_or_create(&label);
    if !CONNECTED.lock().unwrap_or_else(PoisonError::into_inner).insert((role, channel)) {
        reconnects.inc();
    }
    info!(role, channel = channel.map(Channel::as_str), host, "broker connected");
}

/// The topology is as it should be again, over the same connection.
pub fn broker_restored(role: &'static str, channel: Option<Channel>, host: Option<&str>) {
    METRICS.broker_connected.get_or_create(&role_label(role, channel)).set(1);
    info!(role, channel = channel.map(Channel::as_str), host, "broker connected");
}

/// One host of several could not be connected, and another could.
pub fn broker_host_failed(role: &'static str, host: &str, error: &impl Display) {
    warn!(role, host, %error, "broker host failed");
}

pub fn broker_lost(
    role: &'static str,
    channel: Option<Channel>,
    host: Option<&str>,
    error: &impl Display,
    retry_in: Duration,
) {
    count_lost(role, channel);
    let retry_in_ms = millis(retry_in);
    warn!(role, channel = channel.map(Channel::as_str), host, %error, retry_in_ms, "broker connection lost");
}

fn count_lost(role: &'static str, channel: Option<Channel>) {
    METRICS.broker_connected.get_or_create(&role_label(role, channel)).set(0);
    METRICS.broker_connections_lost.get_or_create(&role_label(role, channel)).inc();
    forget_blocked(role);
}

/// The broker is still away, or others disturbed our declarations: a line at each retry would be noise.
pub fn broker_still_lost(
    role: &'static str,
    channel: Option<Channel>,
    error: &impl Display,
    retry_in: Duration,
) {
    count_lost(role, channel);
    let retry_in_ms = millis(retry_in);
    debug!(role, channel = channel.map(Channel::as_str), %error, retry_in_ms, "broker connection not restored");
}

/// A frozen node delays the others. Without `retry_in` it is retried when something is missing.
pub fn declaration_retried(
    role: &'static str,
    channel: Option<Channel>,
    error: &impl Display,
    retry_in: Option<Duration>,
) {
    let retry_in_ms = retry_in.map(millis);
    debug!(role, channel = channel.map(Channel::as_str), %error, retry_in_ms, "declaration is retried");
}

/// The old connection stays in use.
pub fn broker_not_replaced(
    role: &'static str,
    channel: Option<Channel>,
    error: &impl Display,
    retry_in: Duration,
) {
    let retry_in_ms = millis(retry_in);
    warn!(role, channel = channel.map(Channel::as_str), %error, retry_in_ms, "broker takes no new certificates");
}

pub fn broker_closed(role: &'static str, channel: Option<Channel>) {
    forget_blocked(role);
    METRICS.broker_connected.get_or_create(&role_label(role, channel)).set(0);
    info!(role, channel = channel.map(Channel::as_str), "broker connection closed");
}

/// The topology of a running consumer is declared from time to time, and there was no answer twice.
pub fn declaration_unanswered(
    role: &'static str,
    channel: Option<Channel>,
    error: &impl Display,
    retry_in: Duration,
) {
    let retry_in_ms = millis(retry_in);
    warn!(role, channel = channel.map(Channel::as_str), %error, retry_in_ms, "topology could not be checked");
}

/// The roles whose connections are blocked. All learn of one alarm, so only the first begins it in the log.
static BLOCKED: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());

/// The broker is low on memory or disk (`connection.blocked`).
pub fn broker_blocked(role: &'static str, reason: &str) {
    METRICS.broker_blocked.get_or_create(&BlockedLabel { role }).set(1);
    let mut blocked = BLOCKED.lock().unwrap_or_else(PoisonError::into_inner);
    let is_first = blocked.is_empty();
    match blocked.insert(role) && is_first {
        true => warn!(role, reason, "the broker blocks publishers (memory or disk alarm)"),
        false => debug!(role, reason, "the broker blocks another publisher"),
    }
}

pub fn broker_unblocked(role: &'static str) {
    if !forget_blocked(role) {
        return;
    }
    match BLOCKED.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
        true => info!(role, "the broker takes messages again"),
        false => debug!(role, "the broker takes messages of one publisher again"),
    }
}

/// True if the role was blocked.
fn forget_blocked(role: &'static str) -> bool {
    let was_blocked = BLOCKED.lock().unwrap_or_else(PoisonError::into_inner).remove(role);
    if was_blocked {
        METRICS.broker_blocked.get_or_create(&BlockedLabel { role }).set(0);
    }
    was_blocked
}

/// A queue or an exchange exists with other arguments, or we may not declare it: an operator has to act. With
/// `retry_in` the role is not connected, or not as it should be, until then; without, the declaration is repeated when a message is returned.
pub fn topology_refused(
    role: &'static str,
    channel: Option<Channel>,
    error: &impl Display,
    retry_in: Option<Duration>,
) {
    if retry_in.is_some() {
        METRICS.broker_connected.get_or_create(&role_label(role, channel)).set(0);
    }
    let retry_in_ms = retry_in.map(millis);
    error!(role, channel = channel.map(Channel::as_str), %error, retry_in_ms, "topology refused");
}

pub fn result_unroutable(message_id: &str) {
    METRICS.results_unroutable.inc();
    debug!(message_id, "no queue was bound for a result");
}
