//! Reads the queues of a broker that no consumer reads for the metrics: the one in memory.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::RequestQueues;
use crate::domain::channel::Channel;
use crate::telemetry::events;
use crate::telemetry::metrics::words::{DEAD_LETTERS, DELAYED};

const READ_EVERY: Duration = Duration::from_secs(10);

/// The first reading is at once. A queue that cannot be read is left out of the metrics.
pub async fn watch_queues(queues: Arc<dyn RequestQueues>) {
    let mut ticks = tokio::time::interval(READ_EVERY);
    loop {
        ticks.tick().await;
        if let Ok(depths) = queues.depths().await {
            for (channel, depth) in Channel::ALL.into_iter().zip(depths) {
                events::queue_read(channel.as_str(), depth.ready, depth.consumers);
            }
        }
        if let Ok(messages) = queues.delayed().await {
            events::queue_read(DELAYED, messages, 0);
        }
        if let Ok(messages) = queues.dead_letters().await {
            events::queue_read(DEAD_LETTERS, messages, 0);
        }
    }
}
