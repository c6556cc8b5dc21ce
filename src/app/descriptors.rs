//! File descriptors, shared out: HTTP connections get what Redis, RabbitMQ, the providers and the ops port leave.

use std::time::Duration;

use crate::config::{Role, Settings};
use crate::http::ConnectionLimits;
use crate::telemetry::events;

/// The bounds of `OPS_ADDR`: probes answer while `HTTP_ADDR` is at its own. A probe sends its request at once.
pub(super) const OPS_LIMITS: ConnectionLimits = ConnectionLimits {
    connections_max: 32,
    bytes_max: 1024 * 1024,
    gives_way_after: Duration::from_millis(10),
};
/// Ten times a slow turn of all connections.
const GIVES_WAY_AFTER: Duration = Duration::from_millis(100);
/// Standard streams, listening sockets, the runtime's own, connections to RabbitMQ and Redis, name lookups.
const KEPT_BACK: usize = 64;

/// Raises the soft limit of open files to the hard one. A failure leaves fewer connections.
pub(super) fn raise_descriptor_limit() {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
}

/// The limits in the settings, or fewer connections where descriptors are few. A notice says so.
pub(super) fn connection_limits(role: Role, settings: &Settings) -> ConnectionLimits {
    let soft_limit = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    let descriptors = usize::try_from(soft_limit).unwrap_or(usize::MAX);
    let connections_max = settings.connections_max.min(connections_within(descriptors, role, settings));
    if connections_max < settings.connections_max {
        let wanted = settings.connections_max;
        events::notice(&format!(
            "HTTP_MAX_CONNECTIONS is {wanted}, but {descriptors} open files leave room for {connections_max}: raise \
             the limit of open files (ulimit -n)"
        ));
    }
    let bytes_max = settings.bytes_in_flight_max;
    ConnectionLimits { connections_max, bytes_max, gives_way_after: GIVES_WAY_AFTER }
}

/// At least a quarter: a worker seldom has a connection to its provider for each request in flight.
fn connections_within(descriptors: usize, role: Role, settings: &Settings) -> usize {
    let to_providers = match role {
        Role::Serve | Role::Dev => 2 * usize::from(settings.concurrency),
        _ => usize::from(settings.concurrency),
    };
    let others = KEPT_BACK + OPS_LIMITS.connections_max + to_providers;
    descriptors.saturating_sub(others).max(descriptors / 4)
}
