//! The store for commands that only read.

use super::opening::{self, Opening};
use super::{RedisStore, show};
use crate::store::{KeyName, ShownKey, StoreError};

impl RedisStore {
    /// For a command that only reads: a mistyped prefix stays without keys. A request of an earlier version is still moved.
    pub fn only_reading(self) -> RedisStore {
        RedisStore { opening: Opening::new(true), ..self }
    }

    /// For a command that only reads: no process has written with this prefix.
    pub fn found_nothing(&self) -> bool {
        self.opening.found_nothing()
    }

    /// For people: `otpost store show`.
    pub async fn show(&self, name: &KeyName) -> Result<Vec<ShownKey>, StoreError> {
        // The number of shards decides where a recipient or a request is.
        if !matches!(name, KeyName::Bytes(_)) {
            let format = self.link.ask(redis::cmd("GET").arg(self.keys.format())).await;
            opening::expect_own_shards(format.ok().flatten(), self.shards)?;
        }
        show::show(&self.link, &self.keys, name).await
    }
}
