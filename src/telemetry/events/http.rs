//! Events of HTTP connections and answers.

use std::time::Duration;

use tracing::{debug, warn};

use crate::telemetry::metrics::{HttpLabels, METRICS, ReasonLabel, RouteLabel, observe, words};
use crate::telemetry::repeats::{About, repeating};

/// `route` is the pattern, never the path or the query.
pub fn http_answered(method: &str, route: &str, status: u16, elapsed: Duration) {
    let labels = HttpLabels { route: route.to_owned(), status: words::http_status(status) };
    METRICS.http_requests.get_or_create(&labels).inc();
    if !words::CONSTANT_ROUTES.contains(&route) {
        observe(
            &METRICS.http_request_duration.get_or_create(&RouteLabel { route: route.to_owned() }),
            elapsed,
        );
    }
    let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    debug!(method, route, status, elapsed_us, "http request answered");
}

/// The request counts for the proxy that stated the hop.
pub fn forwarded_hop_unreadable() {
    METRICS.http_forwarded_unreadable.inc();
    let about = About::NOTHING;
    repeating!(warn, "unreadable hop in X-Forwarded-For; requests behind it count for a trusted proxy", about;);
}

/// `reason` is `head` (not complete in time), `idle`, `unread` (an answer), or the bound that it gave way to: `connections`,
/// `bytes`.
pub fn http_connection_closed(reason: &'static str) {
    METRICS.http_connections_closed.get_or_create(&ReasonLabel { reason }).inc();
    debug!(reason, "http connection closed");
}

/// `bound` is `connections` or `bytes`.
pub fn http_bound_reached(bound: &'static str, max: usize) {
    warn!(bound, max, "http bound reached: clients that only wait give way");
}
