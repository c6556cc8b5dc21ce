//! Reads the audit stream, over a connection of its own. The stream is not declared.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer};

use super::connect::{OpenConnection, close, connect};
use super::error::{RabbitError, within};
use super::topology::open;
use super::{RPC_TIMEOUT, RabbitSettings};
use crate::broker::audit::{AuditFrom, AuditStream, AuditStreamError, AuditStreamSource};

/// A stream needs a limit, and sends more as records are acknowledged.
const PREFETCH: u16 = 500;

pub struct RabbitAuditStream {
    connection: OpenConnection,
    channel: Channel,
    consumer: Consumer,
}

impl RabbitAuditStream {
    /// Connects, once. `None` if there is no such stream.
    pub async fn open(
        settings: &RabbitSettings,
        from: AuditFrom,
    ) -> Result<Option<RabbitAuditStream>, RabbitError> {
        let connection = connect(settings, &mut settings.hosts(), "audit").await?;
        let channel = open(&connection).await?;
        let limited = channel.basic_qos(PREFETCH, BasicQosOptions::default());
        within("limit the prefetch", RPC_TIMEOUT, limited).await?;
        let mut arguments = FieldTable::default();
        let offset = match from {
            AuditFrom::Since(at) => AMQPValue::Timestamp(at.as_seconds()),
            AuditFrom::Now => AMQPValue::LongString("next".into()),
        };
        arguments.insert("x-stream-offset".into(), offset);
        let (name, options) = (settings.names.audit().into(), BasicConsumeOptions::default());
        let consumer = channel.basic_consume(name, "".into(), options, arguments);
        match within("consume", RPC_TIMEOUT, consumer).await {
            Ok(consumer) => Ok(Some(RabbitAuditStream { connection, channel, consumer })),
            Err(error) if error.soft() == Some(AMQPSoftError::NOTFOUND) => {
                close(&connection).await;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

pub struct RabbitAuditStreamSource(pub RabbitSettings);

#[async_trait]
impl AuditStreamSource for RabbitAuditStreamSource {
    async fn open(&self, from: AuditFrom) -> Result<Option<Box<dyn AuditStream>>, AuditStreamError> {
        let stream = RabbitAuditStream::open(&self.0, from).await.map_err(|error| failed(&error))?;
        Ok(stream.map(|stream| Box::new(stream) as Box<dyn AuditStream>))
    }
}

#[async_trait]
impl AuditStream for RabbitAuditStream {
    async fn next(&mut self, limit: Duration) -> Result<Option<Vec<u8>>, AuditStreamError> {
        let delivery = match tokio::time::timeout(limit, self.consumer.next()).await {
            Err(_) => return Ok(None),
            Ok(Some(Ok(delivery))) => delivery,
            Ok(Some(Err(source))) => return Err(failed(&RabbitError::Failed { step: "consume", source })),
            Ok(None) => return Err(failed(&RabbitError::Ended("the connection ended"))),
        };
        let acknowledged = self.channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default());
        within("acknowledge", RPC_TIMEOUT, acknowledged).await.map_err(|error| failed(&error))?;
        Ok(Some(delivery.data))
    }

    async fn close(self: Box<Self>) {
        close(&self.connection).await;
    }
}

fn failed(error: &RabbitError) -> AuditStreamError {
    AuditStreamError(error.in_words())
}
