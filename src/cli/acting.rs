//! The operator of a command, and the audit records of its acts.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::output::say;
use super::system_user::system_user;
use crate::clock::Clock;
use crate::domain::audit::{AuditActor, AuditRecord};
use crate::domain::worker_state::ProcessRole;
use crate::flow::operate::acting::Acting;
use crate::store::{Store, StoreError};

/// A worker publishes records each second.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(2);
const ASK_EVERY: Duration = Duration::from_millis(100);

pub(super) fn acting() -> Acting {
    Acting::new(AuditActor::Command { user: system_user() }, Clock::System)
}

/// Before a command looks at requests of people. While Redis refuses writes it answers all the same: an operator looks for the reason.
pub(super) async fn record_look(store: &impl Store, record: AuditRecord) -> Result<(), StoreError> {
    match store.record_act(&record).await {
        Err(StoreError::Unavailable(fault)) if fault.refuses_writes() => {
            eprintln!("otpost: no audit record of this: {fault}");
            Ok(())
        }
        recorded => recorded,
    }
}

/// Says that an act was done, once its record is published, or that this is still to come. A stopping act does not wait for it.
pub(super) async fn say_done(store: &impl Store, by: &Acting, json: bool) {
    let is_published = wait_until_published(store, by).await.unwrap_or(false);
    match (is_published, json) {
        (true, true) => {}
        (true, false) => say("done"),
        (false, true) => eprintln!("otpost: done, audit pending"),
        (false, false) => say("done, audit pending"),
    }
}

async fn wait_until_published(store: &impl Store, by: &Acting) -> Result<bool, StoreError> {
    let until = Instant::now() + PUBLISHED_WITHIN;
    let processes = store.reported_workers().await?;
    if processes.iter().all(|process| process.state.role == ProcessRole::Http) {
        return Ok(false);
    }
    for id in by.recorded() {
        // A record leaves the outbox of its shard for the first one, so that is the last one asked.
        for outbox in (0..store.outboxes()).rev() {
            while store.holds_record(outbox, &id).await? {
                if Instant::now() >= until {
                    return Ok(false);
                }
                sleep(ASK_EVERY).await;
            }
        }
    }
    Ok(true)
}
