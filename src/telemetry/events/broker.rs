//! Events of the connections to RabbitMQ.

use std::fmt::Display;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::domain::channel::Channel;
use crate::domain::time::millis;
use crate::telemetry::metrics::{METRICS, RoleLabel};

fn role_label(role: &'static str, channel: Option<Channel>) -> RoleLabel {
    RoleLabel { role, channel: channel.map_or("", Channel::as_str) }
}

/// Without a channel the connection serves all channels.
pub fn broker_connected(role: &'static str, channel: Option<Channel>) {
    METRICS.connected.get_or_create(&role_label(role, channel)).set(1);
    info!(role, channel = channel.map(Channel::as_str), "broker connected");
}

pub fn broker_lost(role: &'static str, channel: Option<Channel>, error: &impl Display, retry_in: Duration) {
    METRICS.connected.get_or_create(&role_label(role, channel)).set(0);
    METRICS.connections_lost.get_or_create(&role_label(role, channel)).inc();
    let retry_in_ms = millis(retry_in);
    warn!(role, channel = channel.map(Channel::as_str), %error, retry_in_ms, "broker connection lost");
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
    METRICS.connected.get_or_create(&role_label(role, channel)).set(0);
    info!(role, channel = channel.map(Channel::as_str), "broker connection closed");
}

/// The broker is low on memory or disk (`connection.blocked`).
pub fn broker_blocked(role: &'static str, reason: &str) {
    METRICS.connected.get_or_create(&role_label(role, None)).set(0);
    warn!(role, reason, "broker takes no messages");
}

pub fn broker_unblocked(role: &'static str) {
    METRICS.connected.get_or_create(&role_label(role, None)).set(1);
    info!(role, "broker takes messages again");
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
        METRICS.connected.get_or_create(&role_label(role, channel)).set(0);
    }
    let retry_in_ms = retry_in.map(millis);
    error!(role, channel = channel.map(Channel::as_str), %error, retry_in_ms, "topology refused");
}

pub fn result_unroutable(message_id: &str) {
    METRICS.unroutable.inc();
    debug!(message_id, "no queue was bound for a result");
}
