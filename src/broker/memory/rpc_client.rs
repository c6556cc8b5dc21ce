//! Publishes requests to the broker in memory and receives their results.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use super::{MemoryBroker, Reader};
use crate::broker::pending_replies::PendingReplies;
use crate::broker::{Outgoing, PublishError, RpcClient};

impl MemoryBroker {
    pub fn rpc_client(&self) -> MemoryRpcClient {
        let mut state = self.lock();
        let reply_to = format!("amq.rabbitmq.reply-to.{}", state.next_id());
        let replies = Arc::new(PendingReplies::default());
        state.replies.insert(reply_to.clone(), Reader::Pending(replies.clone()));
        drop(state);
        MemoryRpcClient { broker: self.clone(), reply_to, replies }
    }
}

pub struct MemoryRpcClient {
    broker: MemoryBroker,
    reply_to: String,
    replies: Arc<PendingReplies>,
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
        let caller = correlation_id.and_then(|id| self.replies.enter(id));
        self.broker.lock().publish(message, caller.is_some().then_some(&self.reply_to))?;
        match caller {
            Some(mut caller) => Ok(timeout_at(until, caller.reply()).await.ok().flatten()),
            None => Ok(None),
        }
    }
}

impl Drop for MemoryRpcClient {
    fn drop(&mut self) {
        self.broker.lock().replies.remove(&self.reply_to);
    }
}
