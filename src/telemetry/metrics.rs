//! Counters, gauges and histograms, registered once and rendered in two text formats. `docs/metrics.md` lists them.

mod at_start;
pub(super) mod audit;
mod countries;
pub(super) mod defence;
mod deliveries;
mod labels;
mod process;
pub(in crate::telemetry) mod provider_codes;
pub(super) mod queues;
mod senders;
mod spend;
mod text_format;
pub(super) mod traces;
pub mod words;

#[cfg(test)]
mod tests;

use std::hash::Hash;
use std::sync::LazyLock;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

pub(super) use self::countries::country_label;
pub(super) use self::labels::{
    ActionLabel, BlockedLabel, BreakerLabels, BuildLabels, ChannelCountry, ChannelLabel, ChannelLimit,
    ChannelProvider, ChannelReason, ChannelStatus, CodeLabel, CountryLabels, FailoverLabels, HttpLabels,
    KeyLabels, KeyUseLabel, OperationLabel, PeriodLabel, ProbeLabels, ProviderCode, ProviderLabel,
    ProviderResult, ReasonLabel, ReportLabels, RequestLabels, ResultLabel, RoleLabel, RouteLabel, RuleResult,
    ScopeLabel, StatusLabel, VerdictLabel,
};
pub use self::text_format::Format;

const REQUEST_BUCKETS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Up to the default life of a code.
const QUEUE_BUCKETS: [f64; 9] = [0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// Up to the longest time-out of a provider.
const PROVIDER_BUCKETS: [f64; 8] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];
/// Slower answers are outages, which `store_unavailable` counts.
const STORE_BUCKETS: [f64; 5] = [0.001, 0.0025, 0.01, 0.1, 0.25];
const HTTP_BUCKETS: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 2.5, 10.0];

#[derive(Clone)]
pub(super) struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// Registers each field under its own name.
macro_rules! register {
    ($metrics:ident: $($field:ident $help:literal $(in $unit:ident)?;)+) => {
        $(register!(@one $metrics, $field, $help $(, $unit)?);)+
    };
    (@one $metrics:ident, $field:ident, $help:literal) => {
        $metrics.registry.register(stringify!($field), $help, $metrics.$field.clone())
    };
    (@one $metrics:ident, $field:ident, $help:literal, $unit:ident) => {
        $metrics.registry.register_with_unit(stringify!($field), $help, Unit::$unit, $metrics.$field.clone())
    };
}

pub(super) struct Metrics {
    registry: Registry,
    /// Those that every program has, without our prefix.
    of_process: Registry,
    pub(super) requests: Family<RequestLabels, Counter>,
    pub(super) requests_by_country: Family<CountryLabels, Counter>,
    pub(super) conversion_sent: Family<ChannelCountry, Counter>,
    pub(super) conversion_verified: Family<ChannelCountry, Counter>,
    pub(super) request_queue_time: Family<ChannelLabel, Histogram, Buckets>,
    pub(super) request_duration: Family<ChannelStatus, Histogram, Buckets>,
    pub(super) requests_in_flight: Gauge,
    pub(super) provider_request_duration: Family<ProviderResult, Histogram, Buckets>,
    pub(super) provider_refusals: Family<ProviderCode, Counter>,
    pub(super) message_segments: Family<ProviderLabel, Counter>,
    pub(super) send_retries: Family<ReasonLabel, Counter>,
    pub(super) sends_waiting: Family<ReasonLabel, Counter>,
    pub(super) senders: senders::SenderMetrics,
    pub(super) sending_paused: Family<ChannelReason, Gauge>,
    pub(super) circuit_breaker_open: Family<BreakerLabels, Gauge>,
    pub(super) circuit_breaker_probes: Family<ProbeLabels, Counter>,
    pub(super) concurrency_limit: Family<ChannelProvider, Gauge>,
    pub(super) concurrency_in_use: Family<ChannelProvider, Gauge>,
    pub(super) prefetch: Family<ChannelLabel, Gauge>,
    pub(super) in_doubt_repeated: Counter,
    pub(super) in_doubt_resolutions: Family<ResultLabel, Counter>,
    pub(super) delivery_reports: Family<ReportLabels, Counter>,
    pub(super) delivery_report_codes: Family<CodeLabel, Counter>,
    pub(super) callbacks_refused: Family<ReasonLabel, Counter>,
    pub(super) opt_messages: Family<ReportLabels, Counter>,
    pub(super) test_requests: Family<StatusLabel, Counter>,
    pub(super) limit_refusals: Family<ChannelLimit, Counter>,
    pub(super) sends_per_hour_max: Family<ChannelLabel, Gauge>,
    pub(super) verifications: Family<VerdictLabel, Counter>,
    pub(super) store_operation_duration: Family<OperationLabel, Histogram, Buckets>,
    pub(super) store_operation_errors: Family<OperationLabel, Counter>,
    pub(super) store_unavailable: Family<ReasonLabel, Counter>,
    pub(super) store_warnings: Family<ReasonLabel, Gauge>,
    pub(super) publish_errors: Counter,
    pub(super) results_unroutable: Counter,
    pub(super) replies_failed: Counter,
    pub(super) replies_ignored: Counter,
    pub(super) dead_lettered: Family<ReasonLabel, Counter>,
    pub(super) broker_connected: Family<RoleLabel, Gauge>,
    pub(super) broker_connections_lost: Family<RoleLabel, Counter>,
    pub(super) broker_reconnects: Family<RoleLabel, Counter>,
    pub(super) broker_blocked: Family<BlockedLabel, Gauge>,
    pub(super) http_requests: Family<HttpLabels, Counter>,
    pub(super) http_request_duration: Family<RouteLabel, Histogram, Buckets>,
    pub(super) http_forwarded_unreadable: Counter,
    pub(super) http_connections_closed: Family<ReasonLabel, Counter>,
    pub(super) http_accept_errors: Counter,
    pub(super) operator_requests: Family<ActionLabel, Counter>,
    pub(super) jwks_fetches: Family<ResultLabel, Counter>,
    pub(super) jwks_keys_ignored: Family<ReasonLabel, Counter>,
    pub(super) jwks_keys: Gauge,
    pub(super) tokens_refused: Family<ReasonLabel, Counter>,
    pub(super) build_info: Family<BuildLabels, Gauge>,
    pub(super) key_info: Family<KeyLabels, Gauge>,
    pub(super) key_mismatch: Family<KeyUseLabel, Gauge>,
    pub(super) audit: audit::AuditMetrics,
    pub(super) defence: defence::DefenceMetrics,
    pub(super) deliveries: deliveries::DeliveryMetrics,
    pub(super) spend: spend::SpendMetrics,
    pub(super) traces: traces::TraceMetrics,
}

pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

impl Metrics {
    fn new() -> Metrics {
        let metrics = Metrics {
            registry: Registry::with_prefix("otpost"),
            of_process: Registry::default(),
            requests: Family::default(),
            requests_by_country: Family::default(),
            conversion_sent: Family::default(),
            conversion_verified: Family::default(),
            request_queue_time: Family::new_with_constructor(Buckets(&QUEUE_BUCKETS)),
            request_duration: Family::new_with_constructor(Buckets(&REQUEST_BUCKETS)),
            requests_in_flight: Gauge::default(),
            provider_request_duration: Family::new_with_constructor(Buckets(&PROVIDER_BUCKETS)),
            provider_refusals: Family::default(),
            message_segments: Family::default(),
            send_retries: Family::default(),
            sends_waiting: Family::default(),
            senders: senders::SenderMetrics::default(),
            sending_paused: Family::default(),
            circuit_breaker_open: Family::default(),
            circuit_breaker_probes: Family::default(),
            concurrency_limit: Family::default(),
            concurrency_in_use: Family::default(),
            prefetch: Family::default(),
            in_doubt_repeated: Counter::default(),
            in_doubt_resolutions: Family::default(),
            delivery_reports: Family::default(),
            delivery_report_codes: Family::default(),
            callbacks_refused: Family::default(),
            opt_messages: Family::default(),
            test_requests: Family::default(),
            limit_refusals: Family::default(),
            sends_per_hour_max: Family::default(),
            verifications: Family::default(),
            store_operation_duration: Family::new_with_constructor(Buckets(&STORE_BUCKETS)),
            store_operation_errors: Family::default(),
            store_unavailable: Family::default(),
            store_warnings: Family::default(),
            publish_errors: Counter::default(),
            results_unroutable: Counter::default(),
            replies_failed: Counter::default(),
            replies_ignored: Counter::default(),
            dead_lettered: Family::default(),
            broker_connected: Family::default(),
            broker_connections_lost: Family::default(),
            broker_reconnects: Family::default(),
            broker_blocked: Family::default(),
            http_requests: Family::default(),
            http_request_duration: Family::new_with_constructor(Buckets(&HTTP_BUCKETS)),
            http_forwarded_unreadable: Counter::default(),
            http_connections_closed: Family::default(),
            http_accept_errors: Counter::default(),
            operator_requests: Family::default(),
            jwks_fetches: Family::default(),
            jwks_keys_ignored: Family::default(),
            jwks_keys: Gauge::default(),
            tokens_refused: Family::default(),
            build_info: Family::default(),
            key_info: Family::default(),
            key_mismatch: Family::default(),
            audit: audit::AuditMetrics::default(),
            defence: defence::DefenceMetrics::default(),
            deliveries: deliveries::DeliveryMetrics::default(),
            spend: spend::SpendMetrics::default(),
            traces: traces::TraceMetrics::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Metrics {
        self.register();
        self.create_series();
        self
    }

    fn register(&mut self) {
        self.of_process.register_collector(Box::new(process::ProcessCollector));
        self.registry.register_collector(Box::new(queues::QueueCollector));
        register!(self:
            requests "Requests ended, by channel, status and reason";
            requests_by_country "Requests for text messages ended, by country and status";
            conversion_sent "Codes sent for the first time, by channel and country";
            conversion_verified "Of these, codes verified";
            request_queue_time "Time from a request to its first handler" in Seconds;
            request_duration "Time from a delivery to its confirmed result" in Seconds;
            requests_in_flight "Deliveries in a handler";
            provider_request_duration "Time of a provider's answer to a message" in Seconds;
            provider_refusals "Messages that a provider refused, by the provider's number";
            message_segments "Segments of accepted text messages";
            send_retries "Sends to be retried, by failure";
            sends_waiting "Sends that had to wait, by what closed the gate";
            sending_paused "1 while this closes the send gate, and while the kill switch is on";
            circuit_breaker_open "1 while the circuit breaker is open or half-open, by what opened it";
            circuit_breaker_probes "Probes while the circuit breaker is open";
            concurrency_limit "Messages that may be in flight to the provider";
            concurrency_in_use "Messages in flight to the provider";
            prefetch "Deliveries that the broker sends ahead of their acknowledgement";
            in_doubt_repeated "In-doubt sends to be repeated";
            in_doubt_resolutions "In-doubt sends resolved, by result";
            delivery_reports "Delivery receipts, by status and result";
            delivery_report_codes "Delivery receipts with an error, by the provider's number";
            callbacks_refused "Calls to the webhooks refused";
            test_requests "Requests to test numbers ended";
            opt_messages "Messages by which people opt in or out, by status and result";
            limit_refusals "Requests refused by a limit";
            sends_per_hour_max "The cap over all sends of an hour; 0: none";
            verifications "Code checks, by verdict";
            store_operation_duration "Time of an answer of the store, by operation" in Seconds;
            store_operation_errors "Operations of the store that failed";
            store_unavailable "Calls of the store without a usable answer, by cause";
            store_warnings "Faults beside which the store works";
            publish_errors "Messages that the broker did not confirm";
            results_unroutable "Results that no queue took";
            replies_failed "Replies that were not confirmed";
            replies_ignored "Reply queues that are not allowed";
            dead_lettered "Messages dead-lettered, by reason";
            broker_connected "1 while the broker is connected";
            broker_connections_lost "Broker connections lost, and attempts that failed";
            broker_reconnects "Broker connections opened after the first";
            broker_blocked "1 while the broker blocks a publisher";
            http_requests "HTTP requests, by route and status";
            http_request_duration "Time of an HTTP answer" in Seconds;
            http_forwarded_unreadable "Requests whose client address could not be read behind a trusted proxy";
            http_connections_closed "HTTP connections that the server closed, by reason";
            http_accept_errors "HTTP connections that were not accepted";
            operator_requests "Operator queries and acts over HTTP, by kind";
            jwks_fetches "Fetches of published token keys";
            jwks_keys_ignored "Published token keys left out, by reason";
            jwks_keys "Published token keys in use";
            tokens_refused "Callers' tokens refused, by the check that failed";
            key_info "1, for each key of this process, by its use, id and fingerprint";
            key_mismatch "1 while a recorded key check value differs from our key";
            build_info "1, for the version and the commit of the binary";
        );
        self.audit.register(&mut self.registry);
        self.defence.register(&mut self.registry);
        self.deliveries.register(&mut self.registry);
        self.senders.register(&mut self.registry);
        self.spend.register(&mut self.registry);
        self.traces.register(&mut self.registry);
    }

    fn render(&self) -> String {
        let mut rendered = String::with_capacity(64 * 1024);
        text::encode_registry(&mut rendered, &self.registry)
            .and_then(|()| text::encode(&mut rendered, &self.of_process))
            .expect("writing to a string cannot fail");
        rendered
    }
}

/// In the OpenMetrics format.
pub fn render() -> String {
    METRICS.render()
}

/// Makes a series exist, at 0 if it is new.
pub(super) fn create<Labels, Metric, New>(family: &Family<Labels, Metric, New>, labels: &Labels)
where
    Labels: Clone + Hash + Eq,
    New: MetricConstructor<Metric>,
{
    drop(family.get_or_create(labels));
}

pub(super) fn observe(histogram: &Histogram, elapsed: Duration) {
    histogram.observe(elapsed.as_secs_f64());
}
