//! The metrics of the pumping defence.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{RuleResult, ScopeLabel};

#[derive(Default)]
pub(in crate::telemetry) struct DefenceMetrics {
    pub(in crate::telemetry) refusals: Family<RuleResult, Counter>,
    pub(in crate::telemetry) holds: Family<ScopeLabel, Gauge>,
    pub(in crate::telemetry) unreadable: Counter,
}

impl DefenceMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "defence_refusals",
            "Requests that the pumping defence refused, or would refuse, by rule",
            self.refusals.clone(),
        );
        registry.register(
            "defence_holds",
            "Scopes that the pumping defence holds, in all processes",
            self.holds.clone(),
        );
        registry.register(
            "defence_unreadable",
            "Values of the pumping defence that could not be read, and were skipped",
            self.unreadable.clone(),
        );
    }
}
