//! The providers of text messages in the settings, and the routes over them.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Settings;
use crate::domain::channel::Channel;
use crate::domain::routes::{ProviderIndex, Routes};
use crate::flow::provider_gate::Pace;
use crate::flow::providers::{NewProvider, Providers};
use crate::provider::Provider;

pub(super) struct SmsProviders {
    pub(super) providers: Vec<ConfiguredProvider>,
    pub(super) routes: Routes,
}

pub(super) struct ConfiguredProvider {
    pub(super) provider: Arc<dyn Provider>,
    /// An attempt in doubt waits this long for its receipt, if the provider cannot list its messages.
    pub(super) receipt_wait: Duration,
    /// The time of the first poll for a receipt; `None` for a provider that reports no single message.
    pub(super) poll_receipt_after: Option<Duration>,
    /// No route names it: it still reports what it sent.
    pub(super) receipts_only: bool,
    /// The settings that an operator checks when the provider refuses the credentials.
    pub(super) to_check: &'static str,
}

impl SmsProviders {
    pub(super) fn only(provider: ConfiguredProvider) -> SmsProviders {
        SmsProviders { providers: vec![provider], routes: Routes::in_order([ProviderIndex::ONLY]) }
    }

    /// For the flow of this process.
    pub(super) fn sending(self, channel: Channel, settings: &Settings) -> Providers {
        let pace = Pace {
            concurrency_max: settings.concurrency.into(),
            sender_rate: settings.sender_rate.filter(|_| channel == Channel::Sms),
        };
        let polls = settings.receipt_wait.is_some();
        let new = |one: ConfiguredProvider| NewProvider {
            provider: one.provider,
            receipt_wait: one.receipt_wait,
            poll_receipt_after: one.poll_receipt_after.filter(|_| polls),
        };
        Providers::new(channel, self.providers.into_iter().map(new).collect(), self.routes, pace)
    }
}
