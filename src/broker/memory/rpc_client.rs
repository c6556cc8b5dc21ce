//! Asks the broker in memory, and hears how its requests end.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use super::{MemoryBroker, Reader};
use crate::broker::pending_replies::PendingReplies;
use crate::broker::{Outgoing, PublishError, RpcClient};

impl MemoryBroker {
    /// A new requester, with a reply queue of its own.
    pub fn rpc_client(&self) -> MemoryRpcClient {
        let mut state = self.lock();
        let reply_to = format!("amq.rabbitmq.reply-to.{}", state.next_id());
        let waiters = Arc::new(PendingReplies::default());
        state.replies.insert(reply_to.clone(), Reader::Waiters(waiters.clone()));
        drop(state);
        MemoryRpcClient { broker: self.clone(), reply_to, waiters }
    }
}

/// Asks a [`MemoryBroker`], and waits for its worker's word.
pub struct MemoryRpcClient {
    broker: MemoryBroker,
    reply_to: String,
    waiters: Arc<PendingReplies>,
}

#[async_trait]
impl RpcClient for MemoryRpcClient {
    async fn request(
        &self,
        message: Outgoing<'_>,
        within: Duration,
    ) -> Result<Option<Vec<u8>>, PublishError> {
        let until = Instant::now() + within;
        let correlation_id = message.correlation_id.filter(|_| !within.is_zero());
        let waiter = correlation_id.and_then(|id| self.waiters.enter(id));
        self.broker.lock().publish(message, waiter.is_some().then_some(&self.reply_to))?;
        match waiter {
            Some(mut waiter) => Ok(timeout_at(until, waiter.reply()).await.ok().flatten()),
            None => Ok(None),
        }
    }
}

impl Drop for MemoryRpcClient {
    fn drop(&mut self) {
        self.broker.lock().replies.remove(&self.reply_to);
    }
}
