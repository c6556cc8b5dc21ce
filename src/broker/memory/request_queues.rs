//! Counts the requests that wait in the broker in memory.

use async_trait::async_trait;

use super::MemoryBroker;
use crate::broker::RequestQueues;
use crate::domain::channel::Channel;
use crate::domain::scaling::{QueueDepth, QueueDepths};

impl MemoryBroker {
    pub fn request_queues(&self) -> MemoryRequestQueues {
        MemoryRequestQueues(self.clone())
    }
}

pub struct MemoryRequestQueues(MemoryBroker);

#[async_trait]
impl RequestQueues for MemoryRequestQueues {
    async fn depths(&self) -> Result<QueueDepths, String> {
        let state = self.0.lock();
        Ok(Channel::ALL.map(|channel| {
            let consumes =
                state.consumers.iter().filter(|one| one.channel == channel && !one.cancelled && !one.paused);
            QueueDepth {
                ready: count(state.queues[channel as usize].len()),
                consumers: count(consumes.count()),
            }
        }))
    }

    async fn delayed(&self) -> Result<u32, String> {
        Ok(count(self.0.delayed()))
    }

    async fn dead_letters(&self) -> Result<u32, String> {
        Ok(count(self.0.dead_letters().len()))
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
