//! Events of the records of operators' acts.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use tracing::{info, warn};

use crate::telemetry::metrics::METRICS;
use crate::telemetry::repeats::{About, repeating};

/// Of all outboxes, as far as they were read.
pub fn audit_pending(records: u64) {
    METRICS.audit.pending.set(gauge(records));
}

pub fn audit_published() {
    METRICS.audit.published.inc();
}

/// By outbox, the records that found no room.
static DROPPED: Mutex<Vec<u64>> = Mutex::new(Vec::new());

pub fn audit_dropped(outbox: usize, records: u64) {
    let mut dropped = DROPPED.lock().unwrap_or_else(PoisonError::into_inner);
    if dropped.len() <= outbox {
        dropped.resize(outbox + 1, 0);
    }
    dropped[outbox] = records;
    METRICS.audit.dropped.set(gauge(dropped.iter().sum()));
}

/// Others than otpost wrote it: an entry of an outbox that is no record.
pub fn audit_unreadable(outbox: usize, entries: usize) {
    METRICS.audit.unreadable.inc_by(entries as u64);
    repeating!(warn, "audit entries that are no records were removed", About::NOTHING; outbox, entries,);
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// They stay in the store.
pub fn audit_not_published(error: &impl Display) {
    warn!(%error, "audit records are not published, and wait in Redis");
}

pub fn audit_published_again() {
    info!("audit records are published again");
}

/// RabbitMQ has no streams, or one with other arguments. That one is used as it is.
pub fn audit_stream_refused(error: &impl Display) {
    repeating!(warn, "audit stream refused", About::NOTHING; %error,);
}
