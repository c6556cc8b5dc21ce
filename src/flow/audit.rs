//! Publishes the records of operators' acts, which the store keeps until the broker has confirmed them.
//!
//! Several workers may read the same record and publish it: readers drop duplicates by its id. A record is removed only once it was
//! confirmed, so none is lost.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

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

impl AuditPublisher {
    /// Reads the first outbox, and one of the others, each second. Until it is dropped.
    pub async fn run(&self) {
        let outboxes = self.store.outboxes();
        let (mut pending, mut other) = (vec![0; outboxes], fastrand::usize(..outboxes));
        let (mut wait, mut is_failing) = (READ_EVERY, false);
        loop {
            // ±25 % keep workers apart.
            sleep(wait.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            other = (other + 1) % outboxes;
            let mut drained = self.drain(0, &mut pending[0]).await;
            if drained.is_ok() && other != 0 {
                drained = self.drain(other, &mut pending[other]).await;
            }
            events::audit_pending(pending.iter().sum());
            wait = if drained.is_ok() { READ_EVERY } else { (wait * 2).min(READ_WAIT_MAX) };
            match &drained {
                Ok(()) if mem::take(&mut is_failing) => events::audit_published_again(),
                Err(AuditFault::Publish(error)) if !mem::replace(&mut is_failing, true) => {
                    events::audit_not_published(error);
                }
                _ => {}
            }
        }
    }

    /// Publishes all records of an outbox. `pending` becomes the number of those that are left.
    pub async fn drain(&self, outbox: usize, pending: &mut u64) -> Result<(), AuditFault> {
        loop {
            let AuditOutbox { records, length, dropped } =
                answered(self.store.read_outbox(outbox, false, BATCH)).await?;
            *pending = length;
            events::audit_dropped(outbox, dropped);
            if records.is_empty() {
                return Ok(());
            }
            let (published, failure) = self.publish(&records).await;
            if published > 0 {
                answered(self.store.remove_from_outbox(outbox, &records[..published])).await?;
                *pending -= published as u64;
            }
            match failure {
                Some(error) => return Err(error.into()),
                None if records.len() < usize::from(BATCH) => return Ok(()),
                None => {}
            }
        }
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

async fn answered<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(STORE_TIMEOUT, call).await.unwrap_or(Err(StoreError::Unavailable(StoreFault::NoAnswer)))
}
