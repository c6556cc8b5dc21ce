//! The operator of a command, and the audit records of its acts.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::output::say;
use super::system_user::system_user;
use crate::clock::Clock;
use crate::domain::audit::{AuditActor, AuditHead, AuditRecord};
use crate::domain::time::UnixMillis;
use crate::domain::worker_state::ProcessRole;
use crate::flow::operate::acting::Acting;
use crate::store::{Store, StoreError};

/// A worker publishes records each second.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(2);
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Records that may follow the one of the command meanwhile.
const NEWEST: u16 = 50;

pub(super) fn acting() -> Acting {
    Acting { actor: AuditActor::Command { user: system_user() }, clock: Clock::System }
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
pub(super) async fn say_done(store: &impl Store, json: bool) {
    let is_published = wait_until_published(store).await.unwrap_or(false);
    match (is_published, json) {
        (true, true) => {}
        (true, false) => say("done"),
        (false, true) => eprintln!("otpost: done, audit pending"),
        (false, false) => say("done, audit pending"),
    }
}

async fn wait_until_published(store: &impl Store) -> Result<bool, StoreError> {
    let (since, until) = (Clock::System.now(), Instant::now() + PUBLISHED_WITHIN);
    let processes = store.reported_workers().await?;
    if processes.iter().all(|process| process.state.role == ProcessRole::Http) {
        return Ok(false);
    }
    for outbox in 0..store.outboxes() {
        while holds_older(store, outbox, since).await? {
            if Instant::now() >= until {
                return Ok(false);
            }
            sleep(ASK_EVERY).await;
        }
    }
    Ok(true)
}

async fn holds_older(store: &impl Store, outbox: usize, since: UnixMillis) -> Result<bool, StoreError> {
    let newest = store.read_outbox(outbox, true, NEWEST).await?.records;
    let is_older = |record: &String| {
        AuditHead::read(record.as_bytes()).and_then(|head| head.time()).is_none_or(|at| at <= since)
    };
    Ok(newest.iter().any(is_older))
}
