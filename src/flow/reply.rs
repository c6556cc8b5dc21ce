//! The copy of a result for a caller's own reply queue: one try, by the way.
//!
//! A reply queue is the caller's: it may be full, gone or badly named. So replies have a connection of their own, a
//! bounded number of them is under way, and none is waited for. The result on the results exchange is the one that is
//! promised.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::broker::{Outgoing, Publisher, Target};
use crate::telemetry::events;

/// Replies under way at once; more are left out.
const UNDER_WAY_MAX: u32 = 256;
/// The longest time for one reply.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// Sends replies.
pub struct Replies {
    publisher: Arc<dyn Publisher>,
    room: Arc<Semaphore>,
}

impl Replies {
    /// Over a publisher that nothing else depends on.
    pub fn new(publisher: Arc<dyn Publisher>) -> Replies {
        Replies { publisher, room: Arc::new(Semaphore::new(UNDER_WAY_MAX as usize)) }
    }

    /// Sends a copy of a message to a caller's queue, in its own time.
    pub(super) fn send(&self, queue: &str, message: &Outgoing<'_>) {
        let Ok(room) = self.room.clone().try_acquire_owned() else { return events::reply_failed("too many") };
        let publisher = self.publisher.clone();
        let (queue, body, message_id) =
            (queue.to_owned(), message.body.to_vec(), message.message_id.to_owned());
        let correlation_id = message.correlation_id.map(str::to_owned);
        let traceparent = message.traceparent.map(str::to_owned);
        let at = message.at;
        tokio::spawn(async move {
            let message = Outgoing {
                target: Target::Reply { queue: &queue },
                body: &body,
                message_id: &message_id,
                correlation_id: correlation_id.as_deref(),
                at,
                traceparent: traceparent.as_deref(),
            };
            match tokio::time::timeout(TOLD_WITHIN, publisher.publish(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => events::reply_failed("not confirmed"),
                Err(_) => events::reply_failed("not confirmed in time"),
            }
            drop(room);
        });
    }

    /// Waits until no reply is under way. Each ends by itself soon.
    pub(super) async fn finish(&self) {
        let all = self.room.acquire_many(UNDER_WAY_MAX).await;
        drop(all.expect("the semaphore is never closed"));
    }
}
