//! Builds the inspector behind `otpost status` and its HTTP endpoint.

use std::sync::Arc;

use tokio::time::Instant;

use super::brokers::required_rabbit;
use super::provider_adapters::{SMS_PROVIDER_DEFAULT, email_account, sms_account};
use super::stores::read_only_store;
use crate::broker::rabbit::health_check::RabbitHealthCheck;
use crate::clock::Clock;
use crate::config::Settings;
use crate::flow::inspect::status::{Inspector, ProcessInfo, ProviderHealthCache};

pub(crate) fn inspector(settings: &Settings) -> anyhow::Result<Inspector> {
    let rabbit = required_rabbit(settings)?;
    Ok(Inspector {
        process: process_info(settings, "command", None),
        store: Arc::new(read_only_store(settings)?),
        store_in_memory: false,
        broker: Some(Arc::new(RabbitHealthCheck::new(rabbit))),
        provider: sms_account(settings)?,
        email_provider: email_account(settings)?,
        clock: Clock::System,
        provider_health: ProviderHealthCache::default(),
        email_provider_health: ProviderHealthCache::default(),
    })
}

/// The part of the status that needs no outside system. `started` is `None` for a command.
pub(super) fn process_info(settings: &Settings, role: &'static str, started: Option<Instant>) -> ProcessInfo {
    let given = settings.shown.iter().filter(|shown| shown.given);
    let mut configured: Vec<&'static str> = given.map(|shown| shown.name).collect();
    configured.sort_unstable();
    ProcessInfo {
        version: env!("CARGO_PKG_VERSION"),
        role,
        production: !settings.is_development(),
        sms_provider_default: SMS_PROVIDER_DEFAULT,
        sms_enabled: settings.sms_enabled,
        email_enabled: settings.email_enabled,
        configured,
        limits: settings.limits,
        started,
    }
}
