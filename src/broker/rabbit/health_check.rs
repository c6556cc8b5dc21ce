//! Checks whether the broker answers, over a connection of its own. Nothing is declared.

use async_trait::async_trait;

use super::{RabbitSettings, close, connect};
use crate::broker::HealthCheck;

/// Connects anew for each check.
pub struct RabbitProbe(RabbitSettings);

impl RabbitProbe {
    pub fn new(settings: RabbitSettings) -> RabbitProbe {
        RabbitProbe(settings)
    }
}

#[async_trait]
impl HealthCheck for RabbitProbe {
    async fn check(&self) -> Result<(), String> {
        let connection = connect(&self.0, "status").await.map_err(|error| error.in_words())?;
        close(&connection).await;
        Ok(())
    }
}
