//! The metrics of deliveries that end without a result.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

#[derive(Default)]
pub(in crate::telemetry) struct DeliveryMetrics {
    pub(in crate::telemetry) requeued: Counter,
    pub(in crate::telemetry) delayed: Counter,
    pub(in crate::telemetry) panicked: Counter,
}

impl DeliveryMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("deliveries_requeued", "Deliveries requeued", self.requeued.clone());
        registry.register("deliveries_delayed", "Requests put on the delay queue", self.delayed.clone());
        registry.register("handler_panics", "Handlers that panicked", self.panicked.clone());
    }
}
