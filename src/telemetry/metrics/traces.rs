//! The metrics of the export of traces.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ExportLabel {
    result: &'static str,
}

#[derive(Default)]
pub(in crate::telemetry) struct TraceMetrics {
    spans_dropped: Counter,
    exports: Family<ExportLabel, Counter>,
}

impl TraceMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "trace_spans_dropped",
            "Spans that were recorded and not exported",
            self.spans_dropped.clone(),
        );
        registry.register("trace_exports", "Batches of spans, by result", self.exports.clone());
        for result in ExportResult::ALL {
            drop(self.exports.get_or_create(&ExportLabel { result: result.as_str() }));
        }
    }

    pub(in crate::telemetry) fn dropped(&self, spans: u64) {
        self.spans_dropped.inc_by(spans);
    }

    pub(in crate::telemetry) fn exported(&self, result: ExportResult) {
        self.exports.get_or_create(&ExportLabel { result: result.as_str() }).inc();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::telemetry) enum ExportResult {
    Exported,
    /// Some of the spans.
    Partial,
    /// The collector answered with an error.
    Refused,
    Unanswered,
}

impl ExportResult {
    const ALL: [ExportResult; 4] =
        [ExportResult::Exported, ExportResult::Partial, ExportResult::Refused, ExportResult::Unanswered];

    pub(in crate::telemetry) fn as_str(self) -> &'static str {
        match self {
            ExportResult::Exported => "exported",
            ExportResult::Partial => "partial",
            ExportResult::Refused => "refused",
            ExportResult::Unanswered => "unanswered",
        }
    }
}
