//! Checks whether the broker answers, over a connection of its own. Nothing is declared.

use async_trait::async_trait;

use super::{RabbitSettings, close, connect};
use crate::broker::HealthCheck;

/// Connects anew for each check.
pub struct RabbitHealthCheck(RabbitSettings);

impl RabbitHealthCheck {
    pub fn new(settings: RabbitSettings) -> RabbitHealthCheck {
        RabbitHealthCheck(settings)
    }
}

#[async_trait]
impl HealthCheck for RabbitHealthCheck {
    async fn check(&self) -> Result<(), String> {
        let connection = connect(&self.0, "status").await.map_err(|error| error.in_words())?;
        close(&connection).await;
        Ok(())
    }
}
