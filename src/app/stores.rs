//! Builds the store of the settings.

use std::sync::Arc;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;

use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::server_url::InvalidUrl;
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
    redis_settings(settings).context("REDIS_URL must be set")?.context("REDIS_URL")
}

/// `None` without `REDIS_URL`. It does not connect yet.
pub(super) fn redis_settings(settings: &Settings) -> Option<Result<RedisStore, InvalidUrl>> {
    let url = settings.redis_url.as_ref()?;
    Some(RedisStore::connect(url.expose_secret(), &settings.redis_prefix, settings.redis_shards))
}
