//! Events of the export of traces.

use tracing::warn;

use crate::telemetry::metrics::METRICS;
use crate::telemetry::metrics::traces::ExportResult;

/// The queue of spans is full.
pub(in crate::telemetry) fn span_dropped() {
    METRICS.traces.dropped(1);
}

pub(in crate::telemetry) fn spans_exported() {
    METRICS.traces.exported(ExportResult::Exported);
}

/// The spans are dropped. `warns` is true once a minute.
pub(in crate::telemetry) fn spans_not_exported(
    result: ExportResult,
    spans: usize,
    problem: &str,
    warns: bool,
) {
    METRICS.traces.exported(result);
    METRICS.traces.dropped(u64::try_from(spans).unwrap_or(u64::MAX));
    if warns {
        warn!(reason = result.as_str(), problem, spans, "trace spans not exported");
    }
}
