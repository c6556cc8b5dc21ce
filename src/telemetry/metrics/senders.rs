//! The metrics of providers and their senders that take over from each other.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{ChannelProvider, FailoverLabels, ProviderLabel};

#[derive(Default)]
pub(in crate::telemetry) struct SenderMetrics {
    pub(in crate::telemetry) failovers: Family<FailoverLabels, Counter>,
    pub(in crate::telemetry) suspensions: Family<ProviderLabel, Counter>,
    pub(in crate::telemetry) suspended: Family<ChannelProvider, Gauge>,
}

impl SenderMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Messages that went to another provider, by the reason";
        registry.register("provider_failovers", help, self.failovers.clone());
        let help = "Senders that began to cool down after a refusal";
        registry.register("sender_suspensions", help, self.suspensions.clone());
        registry.register("senders_suspended", "Senders that are cooling down", self.suspended.clone());
    }
}
