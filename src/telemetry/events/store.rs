//! Events of the store.

use std::fmt::Display;
use std::time::Duration;

use tracing::{debug, error, warn};

use crate::domain::channel::Channel;
use crate::domain::time::millis;
use crate::telemetry::metrics::{METRICS, ReasonLabel};
use crate::telemetry::repeats::{About, repeating};

/// An outage of the whole store has a line of its own, [`store_unavailable`].
pub fn store_failed(step: &'static str, error: &impl Display, is_outage: bool, retry_in: Option<Duration>) {
    let retry_in_ms = retry_in.map(millis);
    if is_outage {
        debug!(operation = step, %error, retry_in_ms, "store call failed");
    } else {
        repeating!(warn, "store call failed", About::reason(step); operation = step, %error, retry_in_ms,);
    }
}

/// Counts a call without a usable answer.
pub fn store_call_unanswered(reason: &'static str) {
    METRICS.store_unavailable.get_or_create(&ReasonLabel { reason }).inc();
}

/// `fault` says what to do. `failures` counts the calls that failed for this reason since its last line, `seconds` is the age of the
/// outage.
pub fn store_unavailable(
    reason: &'static str,
    fault: &impl Display,
    failures: u64,
    seconds: u64,
    may_pass: bool,
) {
    if may_pass {
        warn!(reason, %fault, failures, seconds, "store is unavailable");
    } else {
        error!(reason, %fault, failures, seconds, "store is unavailable");
    }
}

/// `failures` and `seconds` are those of the whole outage.
pub fn store_available(failures: u64, seconds: u64) {
    warn!(failures, seconds, "store is available again");
}

/// The old connection stays in use.
pub fn store_not_replaced(fault: &impl Display, retry_in: Duration) {
    let retry_in_ms = millis(retry_in);
    warn!(%fault, retry_in_ms, "store takes no new certificates");
}

/// A fault beside which the store works. `warning` says what to do.
pub fn store_warning(reason: &'static str, warning: &impl Display, value: i64, seconds: u64) {
    store_warning_value(reason, value);
    warn!(reason, %warning, seconds, "store works with a fault");
}

pub fn store_warning_value(reason: &'static str, value: i64) {
    METRICS.store_warnings.get_or_create(&ReasonLabel { reason }).set(value);
}

pub fn store_warning_over(reason: &'static str, seconds: u64) {
    store_warning_value(reason, 0);
    warn!(reason, seconds, "store fault is over");
}

/// `key` is the key's name without its prefix. It holds no number.
pub fn shared_key_damaged(channel: Channel, key: &str) {
    let channel = channel.as_str();
    error!(channel, key, "shared key is damaged: sending pauses until it is mended or deleted (runbook)");
}

/// `is_lost`: they are given up. Else they are added later, once.
pub fn conversion_not_counted(error: &impl Display, is_lost: bool) {
    repeating!(warn, "conversion not counted", About::NOTHING; %error, is_lost,);
}

/// Sending goes on, but the scaler does not know of this worker.
pub fn worker_not_reported(channel: Channel, error: &impl Display) {
    let channel = channel.as_str();
    warn!(channel, %error, "worker state not reported");
}
