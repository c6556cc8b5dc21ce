//! Publishes the records of operators' acts, which the store keeps until the broker has confirmed them.
//!
//! One worker publishes at a time, as long as it has the lease. After a crash or beside a worker of an earlier version a record may be
//! published twice: readers drop duplicates by its id. A record is removed only once it was confirmed, so none is lost. An entry that
//! is no record is removed, and counted.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::random::random_id;
use crate::broker::{Outgoing, PublishError, Publisher, Target};
use crate::clock::Clock;
use crate::domain::audit::AuditHead;
use crate::store::{AuditOutbox, Store, StoreError, StoreFault};
use crate::telemetry::events;

const READ_EVERY: Duration = Duration::from_secs(1);
/// After failures the wait doubles up to this.
const READ_WAIT_MAX: Duration = Duration::from_secs(10);
/// A later answer of the store counts as none.
const STORE_TIMEOUT: Duration = Duration::from_millis(500);
const BATCH: u16 = 100;
/// Within the lease, which is asked for before each round.
const ROUND: Duration = Duration::from_secs(2);
/// Our ids are shorter. The property of a message takes 255 bytes.
const ID_BYTES_MAX: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum AuditFault {
    /// Which logs its outages.
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

pub struct AuditPublisher {
    pub store: Arc<dyn Store>,
    pub publisher: Arc<dyn Publisher>,
    pub clock: Clock,
}

impl AuditFault {
    /// An outage of the store has lines of its own.
    fn is_logged(&self) -> bool {
        !matches!(self, AuditFault::Store(StoreError::Unavailable(_)))
    }
}

impl AuditPublisher {
    /// Reads the first outbox, and one of the others, each second. Until it is dropped.
    pub async fn run(&self) {
        let (publisher, outboxes) = (random_id(), self.store.outboxes());
        let (mut pending, mut other) = (vec![0; outboxes], fastrand::usize(..outboxes));
        let (mut wait, mut is_failing) = (READ_EVERY, false);
        loop {
            // ±25 % keep workers apart.
            sleep(wait.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            other = (other + 1) % outboxes;
            let published = self.publish_round(publisher, other, &mut pending).await;
            events::audit_pending(pending.iter().sum());
            wait = if published.is_ok() { READ_EVERY } else { (wait * 2).min(READ_WAIT_MAX) };
            match &published {
                Ok(()) if mem::take(&mut is_failing) => events::audit_published_again(),
                Err(fault) if fault.is_logged() && !mem::replace(&mut is_failing, true) => {
                    events::audit_not_published(fault);
                }
                _ => {}
            }
        }
    }

    /// Without the lease nothing: the worker that has it shows what is pending.
    async fn publish_round(
        &self,
        publisher: u64,
        other: usize,
        pending: &mut [u64],
    ) -> Result<(), AuditFault> {
        if !answered(self.store.lease_publishing(publisher)).await? {
            pending.fill(0);
            return Ok(());
        }
        self.drain(0, &mut pending[0]).await?;
        if other != 0 {
            self.drain(other, &mut pending[other]).await?;
        }
        Ok(())
    }

    /// Publishes the records of an outbox, of a long one those of a round. `pending` becomes the number of those that are left.
    pub async fn drain(&self, outbox: usize, pending: &mut u64) -> Result<(), AuditFault> {
        let began = Instant::now();
        loop {
            let part = answered(self.store.read_outbox(outbox, false, BATCH)).await?;
            *pending = part.length;
            events::audit_dropped(outbox, part.dropped);
            let is_last = part.records.len() + part.unreadable.len() < usize::from(BATCH);
            let records = self.remove_foreign(outbox, part, pending).await?;
            let (published, failure) = self.publish(&records).await;
            if published > 0 {
                answered(self.store.remove_from_outbox(outbox, &records[..published])).await?;
                *pending = pending.saturating_sub(published as u64);
            }
            if let Some(error) = failure {
                return Err(error.into());
            }
            if is_last || began.elapsed() >= ROUND {
                return Ok(());
            }
        }
    }

    /// The records of a part of an outbox. What is no record is removed: it could not be published, or not be removed after that.
    async fn remove_foreign(
        &self,
        outbox: usize,
        part: AuditOutbox,
        pending: &mut u64,
    ) -> Result<Vec<String>, AuditFault> {
        let (records, others): (Vec<String>, Vec<String>) =
            part.records.into_iter().partition(|record| is_record(record));
        let mut foreign = part.unreadable;
        foreign.extend(others.into_iter().map(String::into_bytes));
        if !foreign.is_empty() {
            answered(self.store.remove_unreadable(outbox, &foreign)).await?;
            *pending = pending.saturating_sub(foreign.len() as u64);
            events::audit_unreadable(outbox, foreign.len());
        }
        Ok(records)
    }

    /// Publishes records in order, until one fails. Returns how many were confirmed.
    async fn publish(&self, records: &[String]) -> (usize, Option<PublishError>) {
        for (published, record) in records.iter().enumerate() {
            let head = AuditHead::read(record.as_bytes());
            let message = Outgoing {
                target: Target::Audit,
                body: record.as_bytes(),
                message_id: head.as_ref().map_or("", |head| &head.id),
                correlation_id: None,
                at: head.as_ref().and_then(AuditHead::time).unwrap_or_else(|| self.clock.now()),
                traceparent: None,
                tracestate: None,
            };
            if let Err(error) = self.publisher.publish(message).await {
                return (published, Some(error));
            }
            events::audit_published();
        }
        (records.len(), None)
    }
}

fn is_record(json: &str) -> bool {
    let head = AuditHead::read(json.as_bytes());
    head.is_some_and(|head| (1..=ID_BYTES_MAX).contains(&head.id.len()) && head.time().is_some())
}

async fn answered<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(STORE_TIMEOUT, call).await.unwrap_or(Err(StoreError::Unavailable(StoreFault::NoAnswer)))
}
