//! The metrics of audit records.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Default)]
pub(in crate::telemetry) struct AuditMetrics {
    pub(in crate::telemetry) pending: Gauge,
    pub(in crate::telemetry) published: Counter,
    pub(in crate::telemetry) dropped: Gauge,
    pub(in crate::telemetry) unreadable: Counter,
}

impl AuditMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("audit_pending", "Audit records that wait for the broker", self.pending.clone());
        registry.register("audit_published", "Audit records published", self.published.clone());
        registry.register("audit_dropped", "Stopping acts that left no audit record", self.dropped.clone());
        registry.register(
            "audit_unreadable",
            "Entries among the audit records that were none, and were removed",
            self.unreadable.clone(),
        );
    }
}
