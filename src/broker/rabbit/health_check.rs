//! Checks whether the broker answers and takes messages, over connections of its own. Nothing is declared.

use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Connection, Event};

use super::RabbitSettings;
use super::confirming::open_confirming;
use super::connect::{OpenConnection, close, connect};
use super::error::RabbitError;
use super::hosts::Hosts;
use super::publish::BLOCKS;
use crate::broker::HealthCheck;

const ROLE: &str = "status";
/// A blocking broker says so at the first message. A slow confirm is no fault of the check.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);

/// Connects anew for each check.
pub struct RabbitHealthCheck(RabbitSettings);

impl RabbitHealthCheck {
    pub fn new(settings: RabbitSettings) -> RabbitHealthCheck {
        RabbitHealthCheck(settings)
    }

    /// Tries all hosts at once: the caller waits for less than a frozen one may take.
    async fn first_connection(&self) -> Result<OpenConnection, RabbitError> {
        let attempt = |mut host: Hosts| async move {
            let connected = connect(&self.0, &mut host, ROLE).await;
            connected.map_err(|error| (host.number(), error))
        };
        let mut attempts: FuturesUnordered<_> = Hosts::each(&self.0.hosts).map(attempt).collect();
        let mut failures = Vec::new();
        while let Some(connected) = attempts.next().await {
            match connected {
                Ok(connection) => return Ok(connection),
                Err(failure) => failures.push(failure),
            }
        }
        Err(RabbitError::of_round(failures))
    }

    /// RabbitMQ blocks a connection at its first message. This one goes to the default exchange, which drops it: no queue
    /// has the name.
    async fn is_blocked(&self, connection: &Connection) -> bool {
        let mut events = pin!(connection.events_listener());
        let published = async {
            let channel = open_confirming(connection).await.ok()?;
            let (key, options) =
                (format!("{}.status", self.0.names.requests()), BasicPublishOptions::default());
            let confirm =
                channel.basic_publish("".into(), key.into(), options, b"", BasicProperties::default());
            confirm.await.ok()?.await.ok()
        };
        let blocked = async {
            while let Some(event) = events.next().await {
                if let Event::ConnectionBlocked(_) = event {
                    return true;
                }
            }
            false
        };
        tokio::select! {
            blocked = blocked => blocked,
            // A user without the right to publish there may still publish to our exchanges.
            _ = published => connection.status().blocked(),
            () = tokio::time::sleep(CONFIRM_TIMEOUT) => connection.status().blocked(),
        }
    }
}

#[async_trait]
impl HealthCheck for RabbitHealthCheck {
    async fn check(&self) -> Result<(), String> {
        let connection = self.first_connection().await.map_err(|error| error.in_words())?;
        let is_blocked = self.is_blocked(&connection).await;
        match is_blocked {
            // It would not read our farewell.
            true => drop(connection),
            false => close(&connection).await,
        }
        if is_blocked { Err(BLOCKS.to_owned()) } else { Ok(()) }
    }
}
