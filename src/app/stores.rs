//! Builds the store of the settings.

use std::sync::Arc;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;

use super::certificates;
use crate::clock::Clock;
use crate::config::{ConfigError, Settings};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::store::redis::RedisStore;

/// Redis, or a store in memory without `REDIS_URL`.
pub(super) fn store(settings: &Settings) -> anyhow::Result<Arc<dyn Store>> {
    Ok(match settings.redis_url {
        Some(_) => {
            let store = redis_store(settings)?;
            certificates::watch(store.tls(), certificates::REDIS);
            Arc::new(store)
        }
        None => Arc::new(MemoryStore::new(Clock::System)),
    })
}

pub(crate) fn redis_store(settings: &Settings) -> anyhow::Result<RedisStore> {
    let store = redis_settings(settings).context("REDIS_URL must be set")?;
    store.map_err(|errors| certificates::failed(&errors))
}

/// For a command that only reads.
pub(crate) fn read_only_store(settings: &Settings) -> anyhow::Result<RedisStore> {
    Ok(redis_store(settings)?.only_reading())
}

/// `None` without `REDIS_URL`. It does not connect yet.
pub(super) fn redis_settings(settings: &Settings) -> Option<Result<RedisStore, Vec<ConfigError>>> {
    let url = settings.redis_url.as_ref()?;
    Some(certificates::redis_tls(settings).and_then(|tls| {
        let store =
            RedisStore::connect_with(url.expose_secret(), &settings.redis_prefix, settings.redis_shards, tls);
        store.map_err(|rule| vec![ConfigError::new("REDIS_URL", rule.to_string())])
    }))
}
