//! AMQP channels with publisher confirms.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection};
use tokio::sync::Semaphore;

use super::RPC_TIMEOUT;
use super::error::{RabbitError, within};
use super::properties::Envelope;

/// To write a message and receive its confirm.
pub(super) const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages on checked channels at once.
const CHECKED_MAX: usize = 16;
const PUBLISH: &str = "publish";

pub(super) async fn open_confirming(connection: &Connection) -> Result<Channel, RabbitError> {
    within("open a channel", RPC_TIMEOUT, confirming_channel(connection)).await
}

async fn confirming_channel(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Waits at most [`CONFIRM_TIMEOUT`].
pub(super) async fn send(
    channel: &Channel,
    envelope: Envelope,
    body: &[u8],
) -> Result<Confirmation, RabbitError> {
    match tokio::time::timeout(CONFIRM_TIMEOUT, publish(channel, envelope, body)).await {
        Ok(confirmed) => confirmed,
        Err(_) => Err(not_confirmed_in_time()),
    }
}

/// Without a time limit.
pub(super) async fn publish(
    channel: &Channel,
    envelope: Envelope,
    body: &[u8],
) -> Result<Confirmation, RabbitError> {
    let Envelope { exchange, routing_key, properties, mandatory } = envelope;
    let options = BasicPublishOptions { mandatory, immediate: false };
    let sent = channel.basic_publish(exchange, routing_key, options, body, properties).await;
    sent.map_err(publish_failed)?.await.map_err(publish_failed)
}

pub(super) fn not_confirmed_in_time() -> RabbitError {
    RabbitError::TimedOut(PUBLISH)
}

fn publish_failed(source: lapin::Error) -> RabbitError {
    RabbitError::Failed { step: PUBLISH, source }
}

/// The channels of a connection for messages that must reach a queue. Each carries one message at a time, so a return belongs
/// to the message that was just published. More are opened while messages overlap.
pub(super) struct CheckedChannels {
    turns: Semaphore,
    /// Those without a message. A channel whose message was refused or not confirmed in time is dropped.
    idle: Mutex<Vec<Channel>>,
}

impl CheckedChannels {
    pub(super) fn new() -> CheckedChannels {
        CheckedChannels { turns: Semaphore::new(CHECKED_MAX), idle: Mutex::default() }
    }

    /// Without a time limit.
    pub(super) async fn publish(
        &self,
        connection: &Connection,
        envelope: Envelope,
        body: &[u8],
    ) -> Result<Confirmation, RabbitError> {
        let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
        let channel = match self.take_idle() {
            Some(channel) => channel,
            None => confirming_channel(connection).await.map_err(publish_failed)?,
        };
        let confirmation = publish(&channel, envelope, body).await?;
        // A channel that was refused once may be refused for ever.
        if confirmation.is_ack() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
        }
        Ok(confirmation)
    }

    fn take_idle(&self) -> Option<Channel> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|channel| channel.status().connected());
        idle.pop()
    }
}
