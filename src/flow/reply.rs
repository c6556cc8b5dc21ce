//! The copy of a result for the caller's `reply_to` queue: one attempt, best effort.
//!
//! A caller's queue may be full, gone or misspelt. So replies have their own connection and a bound, and no handler
//! waits for them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::broker::{Outgoing, Publisher, Target};
use crate::telemetry::events;

/// Further replies are dropped.
const IN_FLIGHT_MAX: u32 = 256;
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(2);

pub struct Replies {
    publisher: Arc<dyn Publisher>,
    permits: Arc<Semaphore>,
}

impl Replies {
    /// The publisher must not be shared: a blocked reply would block other messages.
    pub fn new(publisher: Arc<dyn Publisher>) -> Replies {
        Replies { publisher, permits: Arc::new(Semaphore::new(IN_FLIGHT_MAX as usize)) }
    }

    pub(super) fn send(&self, queue: &str, message: &Outgoing<'_>) {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            return events::reply_failed("too many");
        };
        let publisher = self.publisher.clone();
        let (queue, body, message_id) =
            (queue.to_owned(), message.body.to_vec(), message.message_id.to_owned());
        let correlation_id = message.correlation_id.map(str::to_owned);
        let traceparent = message.traceparent.map(str::to_owned);
        let tracestate = message.tracestate.map(str::to_owned);
        let at = message.at;
        tokio::spawn(async move {
            let message = Outgoing {
                target: Target::Reply { queue: &queue },
                body: &body,
                message_id: &message_id,
                correlation_id: correlation_id.as_deref(),
                at,
                traceparent: traceparent.as_deref(),
                tracestate: tracestate.as_deref(),
            };
            match tokio::time::timeout(PUBLISH_TIMEOUT, publisher.publish(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.is_blocked() => events::reply_dropped(),
                Ok(Err(_)) => events::reply_failed("not confirmed"),
                Err(_) => events::reply_failed("not confirmed in time"),
            }
            drop(permit);
        });
    }

    /// Waits at most [`PUBLISH_TIMEOUT`].
    pub(super) async fn finish(&self) {
        let all = self.permits.acquire_many(IN_FLIGHT_MAX).await;
        drop(all.expect("the semaphore is never closed"));
    }
}
