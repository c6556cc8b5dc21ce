//! Chooses what a worker sends with: the provider of the settings, the simulator, or nothing.
//!
//! Production never simulates: credentials that the provider refuses prevent the start.

use std::sync::Arc;

use anyhow::bail;

use super::provider_adapters;
use super::sms_providers::{ConfiguredProvider, SmsProviders};
use crate::clock::Clock;
use crate::config::{DevProvider, Role, Settings};
use crate::domain::channel::Channel;
use crate::flow::receipts::ReceiptProcessor;
use crate::http::page::Handset;
use crate::provider::simulated::SimulatedProvider;
use crate::provider::unconfigured::UnconfiguredProvider;
use crate::provider::{DeliveryReceipt, Provider};
use crate::telemetry::events;

/// Receipts of simulated messages in flight.
const SIMULATED_RECEIPTS_MAX: usize = 1_000;
/// The name of the simulator in delivery events.
const SIMULATED: &str = "simulated";

pub(super) async fn sms_provider(
    settings: &Settings,
    dev_provider: DevProvider,
    receipts: &Arc<ReceiptProcessor>,
    handset: Option<&Arc<Handset>>,
) -> anyhow::Result<SmsProviders> {
    let simulated = |handset| {
        let provider = simulated(Channel::Sms, settings, receipts, handset);
        SmsProviders::only(provider_adapters::configured(provider, Channel::Sms, settings))
    };
    match (&settings.sms_provider, dev_provider) {
        (Some(provider), DevProvider::Configured) => {
            let configured = provider_adapters::sms_providers(provider, settings)?;
            let sending = configured.providers.iter().filter(|one| !one.receipts_only);
            for ConfiguredProvider { provider, to_check, .. } in sending {
                if !is_accepted(provider.as_ref(), Channel::Sms, to_check, settings).await? {
                    return Ok(simulated(None));
                }
            }
            Ok(configured)
        }
        (None, DevProvider::Configured) if !settings.is_development() => {
            bail!("TWILIO_ACCOUNT_SID or PROVIDERS_FILE must be set")
        }
        (None, DevProvider::Configured) => {
            events::notice("no provider of text messages is set: text messages are simulated");
            Ok(simulated(handset))
        }
        (configured, DevProvider::Simulated) => {
            if configured.is_some() {
                events::notice(&not_used("the provider of text messages", Channel::Sms));
            }
            Ok(simulated(handset))
        }
    }
}

pub(super) async fn email_provider(
    settings: &Settings,
    dev_provider: DevProvider,
    receipts: &Arc<ReceiptProcessor>,
    handset: Option<&Arc<Handset>>,
) -> anyhow::Result<Arc<dyn Provider>> {
    if !settings.email_enabled {
        return Ok(Arc::new(UnconfiguredProvider));
    }
    match (provider_adapters::email_account(settings)?, dev_provider) {
        (Some(provider), DevProvider::Configured) => {
            let to_check = provider_adapters::credential_settings(settings, Channel::Email);
            match is_accepted(provider.as_ref(), Channel::Email, to_check, settings).await? {
                true => Ok(provider),
                false => Ok(simulated(Channel::Email, settings, receipts, None)),
            }
        }
        (configured, _) => {
            if configured.is_some() {
                let setting = provider_adapters::credential_settings(settings, Channel::Email);
                events::notice(&not_used(setting, Channel::Email));
            }
            Ok(simulated(Channel::Email, settings, receipts, handset))
        }
    }
}

/// Checks the credentials. If the provider refuses them, production does not start, and development simulates: `false`.
async fn is_accepted(
    provider: &dyn Provider,
    channel: Channel,
    to_check: &str,
    settings: &Settings,
) -> anyhow::Result<bool> {
    match provider.check_credentials().await {
        Ok(()) => Ok(true),
        Err(error) if error.is_refusal() => {
            if settings.is_development() {
                events::notice(&format!("{}: {error}: {} are simulated", provider.name(), messages(channel)));
                return Ok(false);
            }
            bail!("{}: {error}: check {to_check}", provider.name())
        }
        // An outage of the provider does not prevent the start: requests wait until it is over.
        Err(error) => {
            events::notice(&format!("{}: {error}", provider.name()));
            Ok(true)
        }
    }
}

fn not_used(configured: &str, channel: Channel) -> String {
    let messages = messages(channel);
    format!(
        "{configured} is set and not used: {messages} are simulated; otpost dev --provider twilio sends them"
    )
}

fn messages(channel: Channel) -> &'static str {
    match channel {
        Channel::Sms => "text messages",
        Channel::Email => "e-mails",
    }
}

/// The display of the page. It exists, and so does the page, only in `otpost dev` with simulated messages.
pub(super) fn handset(role: Role, dev_provider: DevProvider, settings: &Settings) -> Option<Arc<Handset>> {
    let simulates = matches!((role, dev_provider), (Role::Dev, DevProvider::Simulated));
    simulates.then(|| Arc::new(Handset::new(&settings.brand, Clock::System.now())))
}

/// The simulator. It sends receipts as a real provider does, and where the chosen provider writes the texts, it refuses
/// the same requests.
pub(super) fn simulated(
    channel: Channel,
    settings: &Settings,
    receipts: &Arc<ReceiptProcessor>,
    handset: Option<&Arc<Handset>>,
) -> Arc<dyn Provider> {
    let (sender, mut simulated_receipts) =
        tokio::sync::mpsc::channel::<DeliveryReceipt>(SIMULATED_RECEIPTS_MAX);
    let receipts = receipts.clone();
    tokio::spawn(async move {
        while let Some(receipt) = simulated_receipts.recv().await {
            if let Err(error) = receipts.process(SIMULATED, &receipt).await {
                events::receipt_failed(receipt.request_id.as_str(), &error);
            }
        }
    });
    let writes_texts = settings.sms_provider_makes_codes && channel == Channel::Sms;
    let provider = SimulatedProvider::on_stdout(channel).writing_texts(writes_texts);
    provider.on_receipts(sender);
    if let Some(handset) = handset {
        provider.on_messages(handset.clone());
    }
    Arc::new(provider)
}
