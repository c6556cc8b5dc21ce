//! Reads the request queues by passive declarations, which need no management plugin.

use async_trait::async_trait;
use lapin::Connection;
use lapin::protocol::AMQPSoftError;
use tokio::sync::Mutex;

use super::RabbitSettings;
use super::connect::{OpenConnection, connect};
use super::error::RabbitError;
use super::topology::{close_channel, open, read_queue};
use crate::broker::RequestQueues;
use crate::domain::channel::Channel;
use crate::domain::scaling::{QueueDepth, QueueDepths};

/// It connects at the first reading.
pub struct RabbitRequestQueues {
    settings: RabbitSettings,
    /// Empty while it is read from, so that a reading that fails or is dropped also drops the connection.
    connection: Mutex<Option<OpenConnection>>,
}

impl RabbitRequestQueues {
    pub fn new(settings: RabbitSettings) -> RabbitRequestQueues {
        RabbitRequestQueues { settings, connection: Mutex::default() }
    }

    async fn read(&self, kept: &mut Option<OpenConnection>) -> Result<QueueDepths, RabbitError> {
        let connection = match kept.take().filter(|connection| connection.status().connected()) {
            Some(connection) => connection,
            None => connect(&self.settings, &mut self.settings.hosts(), "scaler").await?,
        };
        let mut depths = QueueDepths::default();
        for channel in Channel::ALL {
            depths[channel as usize] = self.depth(&connection, channel).await?;
        }
        *kept = Some(connection);
        Ok(depths)
    }

    async fn depth(&self, connection: &Connection, of: Channel) -> Result<QueueDepth, RabbitError> {
        let channel = open(connection).await?;
        match read_queue(&channel, &self.settings.names.requests_of(of)).await {
            Ok(depth) => {
                close_channel(&channel).await;
                Ok(depth)
            }
            // No worker has declared it yet. The refusal has closed the AMQP channel.
            Err(error) if error.soft() == Some(AMQPSoftError::NOTFOUND) => Ok(QueueDepth::default()),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl RequestQueues for RabbitRequestQueues {
    async fn depths(&self) -> Result<QueueDepths, String> {
        let mut kept = self.connection.lock().await;
        self.read(&mut kept).await.map_err(|error| error.in_words())
    }
}
