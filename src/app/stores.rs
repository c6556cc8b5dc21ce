//! Builds the store of the settings.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use secrecy::ExposeSecret as _;

use crate::clock::Clock;
use crate::config::Settings;
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::store::redis::RedisStore;

/// Redis, or a store in memory without `REDIS_URL`.
pub(super) fn store(settings: &Settings) -> anyhow::Result<Arc<dyn Store>> {
    Ok(match settings.redis_url {
        Some(_) => Arc::new(redis_store(settings)?),
        None => Arc::new(MemoryStore::new(Clock::System)),
    })
}

pub(crate) fn redis_store(settings: &Settings) -> anyhow::Result<RedisStore> {
    let url = settings.redis_url.as_ref().context("REDIS_URL must be set")?;
    RedisStore::connect(url.expose_secret(), &settings.redis_prefix)
        .map_err(|_| anyhow!("REDIS_URL is no valid address"))
}
