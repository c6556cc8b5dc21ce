//! A look at whether the broker answers, over a connection of its own. Nothing is declared.

use async_trait::async_trait;

use super::{RabbitSettings, close, connect};
use crate::broker::Probe;

/// Connects anew for each look.
pub struct RabbitProbe(RabbitSettings);

impl RabbitProbe {
    /// A look at the broker that settings name.
    pub fn new(settings: RabbitSettings) -> RabbitProbe {
        RabbitProbe(settings)
    }
}

#[async_trait]
impl Probe for RabbitProbe {
    async fn probe(&self) -> Result<(), String> {
        let connection = connect(&self.0, "status").await.map_err(|error| error.in_words())?;
        close(&connection).await;
        Ok(())
    }
}
