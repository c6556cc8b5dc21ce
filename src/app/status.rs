//! Builds the inspector behind `otpost status` and its HTTP endpoint.

use std::sync::Arc;

use tokio::time::Instant;

use super::brokers::required_rabbit;
use super::provider_adapters::{email_account, sms_account, sms_provider_name};
use super::stores::read_only_store;
use crate::broker::Names;
use crate::broker::rabbit::health_check::RabbitHealthCheck;
use crate::broker::rabbit::request_queues::RabbitRequestQueues;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::key_check::KeyCheck;
use crate::flow::inspect::status::{Inspector, ProcessInfo, ProviderHealthCache};
use crate::flow::key_watch::key_checks;

pub(crate) fn inspector(settings: &Settings) -> anyhow::Result<Inspector> {
    let rabbit = required_rabbit(settings)?;
    let queues = Arc::new(RabbitRequestQueues::new(rabbit.clone()));
    Ok(Inspector {
        process: process_info(settings, "command", None),
        store: Arc::new(read_only_store(settings)?),
        store_in_memory: false,
        broker: Some(Arc::new(RabbitHealthCheck::new(rabbit))),
        queues: Some(queues),
        names: Names::new(&settings.amqp_prefix),
        keys: process_keys(settings),
        provider: sms_account(settings)?,
        email_provider: email_account(settings)?,
        clock: Clock::System,
        provider_health: ProviderHealthCache::default(),
        email_provider_health: ProviderHealthCache::default(),
    })
}

/// The check values of the keys in the settings.
pub(crate) fn process_keys(settings: &Settings) -> Vec<KeyCheck> {
    key_checks(settings.code_keyring.as_deref(), settings.recipients.as_deref())
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
        sms_provider_default: sms_provider_name(settings),
        sms_enabled: settings.sms_enabled,
        email_enabled: settings.email_enabled,
        configured,
        limits: settings.limits,
        started,
    }
}
