//! Counters, gauges and histograms, registered once and rendered in the OpenMetrics text format.

mod labels;

use std::sync::LazyLock;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

pub(super) use self::labels::{
    ActionLabel, BlockedLabel, ChannelReason, ChannelResult, HttpLabels, OperationLabel, ProviderLabel, ProviderResult,
    ReasonLabel, ReportLabels, RequestLabels, ResultLabel, RoleLabel, VerdictLabel,
};

/// The content type of [`render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From half a millisecond to a minute.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

#[derive(Clone)]
pub(super) struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(SECONDS)
    }
}

pub(super) struct Metrics {
    registry: Registry,
    pub(super) requests: Family<RequestLabels, Counter>,
    pub(super) store_operation_duration: Histogram,
    pub(super) provider_request_duration: Family<ProviderResult, Histogram, Seconds>,
    pub(super) request_duration: Histogram,
    pub(super) requests_in_flight: Gauge,
    pub(super) send_retries: Family<ReasonLabel, Counter>,
    pub(super) sends_waiting: Family<ReasonLabel, Counter>,
    pub(super) sender_suspensions: Family<ProviderLabel, Counter>,
    pub(super) in_doubt_repeated: Counter,
    pub(super) in_doubt_resolutions: Family<ResultLabel, Counter>,
    pub(super) sending_paused: Family<ChannelReason, Gauge>,
    pub(super) circuit_breaker_probes: Family<ChannelResult, Counter>,
    pub(super) delivery_reports: Family<ReportLabels, Counter>,
    pub(super) callbacks_refused: Family<ReasonLabel, Counter>,
    pub(super) verifications: Family<VerdictLabel, Counter>,
    pub(super) store_operation_errors: Family<OperationLabel, Counter>,
    pub(super) store_unavailable: Family<ReasonLabel, Counter>,
    pub(super) store_warnings: Family<ReasonLabel, Gauge>,
    pub(super) publish_errors: Counter,
    pub(super) results_unroutable: Counter,
    pub(super) replies_ignored: Counter,
    pub(super) replies_failed: Counter,
    pub(super) dead_lettered: Family<ReasonLabel, Counter>,
    pub(super) deliveries_requeued: Counter,
    pub(super) handler_panics: Counter,
    pub(super) broker_connected: Family<RoleLabel, Gauge>,
    pub(super) broker_connections_lost: Family<RoleLabel, Counter>,
    pub(super) broker_blocked: Family<BlockedLabel, Gauge>,
    pub(super) http_requests: Family<HttpLabels, Counter>,
    pub(super) http_request_duration: Histogram,
    pub(super) http_forwarded_unreadable: Counter,
    pub(super) http_connections_closed: Family<ReasonLabel, Counter>,
    pub(super) http_accept_errors: Counter,
    pub(super) operator_requests: Family<ActionLabel, Counter>,
    pub(super) jwks_fetches: Family<ResultLabel, Counter>,
    pub(super) jwks_keys_ignored: Family<ReasonLabel, Counter>,
    pub(super) jwks_keys: Gauge,
}

pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

impl Metrics {
    fn new() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("otpost"),
            requests: Family::default(),
            store_operation_duration: Seconds.new_metric(),
            provider_request_duration: Family::new_with_constructor(Seconds),
            request_duration: Seconds.new_metric(),
            requests_in_flight: Gauge::default(),
            send_retries: Family::default(),
            sends_waiting: Family::default(),
            sender_suspensions: Family::default(),
            in_doubt_repeated: Counter::default(),
            in_doubt_resolutions: Family::default(),
            sending_paused: Family::default(),
            circuit_breaker_probes: Family::default(),
            delivery_reports: Family::default(),
            callbacks_refused: Family::default(),
            verifications: Family::default(),
            store_operation_errors: Family::default(),
            store_unavailable: Family::default(),
            store_warnings: Family::default(),
            publish_errors: Counter::default(),
            results_unroutable: Counter::default(),
            replies_ignored: Counter::default(),
            replies_failed: Counter::default(),
            dead_lettered: Family::default(),
            deliveries_requeued: Counter::default(),
            handler_panics: Counter::default(),
            broker_connected: Family::default(),
            broker_connections_lost: Family::default(),
            broker_blocked: Family::default(),
            http_requests: Family::default(),
            http_request_duration: Seconds.new_metric(),
            http_forwarded_unreadable: Counter::default(),
            http_connections_closed: Family::default(),
            http_accept_errors: Counter::default(),
            operator_requests: Family::default(),
            jwks_fetches: Family::default(),
            jwks_keys_ignored: Family::default(),
            jwks_keys: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("requests", "Requests ended, by status and reason", self.requests.clone());
        r.register_with_unit("store_operation_duration", "Time to admit a request", Unit::Seconds, self.store_operation_duration.clone());
        r.register_with_unit("provider_request_duration", "Time of a provider's answer", Unit::Seconds, self.provider_request_duration.clone());
        r.register_with_unit("request_duration", "Delivery to confirmed result", Unit::Seconds, self.request_duration.clone());
        r.register("requests_in_flight", "Deliveries in a handler", self.requests_in_flight.clone());
        r.register("send_retries", "Sends to be retried, by failure", self.send_retries.clone());
        r.register("sends_waiting", "Sends waiting, by what closed the gate", self.sends_waiting.clone());
        r.register(
            "sender_suspensions",
            "Senders that began to cool down after a refusal",
            self.sender_suspensions.clone(),
        );
        r.register("in_doubt_repeated", "In-doubt sends to be repeated", self.in_doubt_repeated.clone());
        r.register("in_doubt_resolutions", "In-doubt sends resolved, by answer", self.in_doubt_resolutions.clone());
        r.register("sending_paused", "1 while this closes the send gate", self.sending_paused.clone());
        r.register("circuit_breaker_probes", "Probes while the circuit breaker is open", self.circuit_breaker_probes.clone());
        r.register("delivery_reports", "Receipts, by status and novelty", self.delivery_reports.clone());
        r.register("callbacks_refused", "Calls to the webhook refused", self.callbacks_refused.clone());
        r.register("verifications", "Code checks, by verdict", self.verifications.clone());
        r.register("store_operation_errors", "Store calls that failed, by step", self.store_operation_errors.clone());
        r.register("store_unavailable", "Store calls without an answer, by cause", self.store_unavailable.clone());
        r.register("store_warnings", "Faults beside which the store works", self.store_warnings.clone());
        r.register(
            "publish_errors",
            "Messages that the broker did not confirm",
            self.publish_errors.clone(),
        );
        r.register("results_unroutable", "Results that no queue took", self.results_unroutable.clone());
        r.register("replies_failed", "Replies that were not confirmed", self.replies_failed.clone());
        r.register("replies_ignored", "Reply queues that are not allowed", self.replies_ignored.clone());
        r.register("dead_lettered", "Messages dead-lettered, by reason", self.dead_lettered.clone());
        r.register("deliveries_requeued", "Deliveries requeued", self.deliveries_requeued.clone());
        r.register("handler_panics", "Handlers that panicked", self.handler_panics.clone());
        r.register("broker_connected", "1 while the broker is connected", self.broker_connected.clone());
        r.register("broker_connections_lost", "Broker connections lost", self.broker_connections_lost.clone());
        r.register("broker_blocked", "1 while the broker blocks a publisher", self.broker_blocked.clone());
        r.register("http_requests", "HTTP requests, by route and status", self.http_requests.clone());
        r.register_with_unit(
            "http_request_duration",
            "Time of an HTTP answer",
            Unit::Seconds,
            self.http_request_duration.clone(),
        );
        r.register(
            "http_forwarded_unreadable",
            "Requests whose client address could not be read behind a trusted proxy",
            self.http_forwarded_unreadable.clone(),
        );
        r.register(
            "http_connections_closed",
            "HTTP connections that the server closed, by reason",
            self.http_connections_closed.clone(),
        );
        r.register(
            "http_accept_errors",
            "HTTP connections that were not accepted",
            self.http_accept_errors.clone(),
        );
        r.register("operator_requests", "Operator queries over HTTP, by kind", self.operator_requests.clone());
        r.register("jwks_fetches", "Fetches of published token keys", self.jwks_fetches.clone());
        r.register("jwks_keys_ignored", "Published token keys left out, by reason", self.jwks_keys_ignored.clone());
        r.register("jwks_keys", "Published token keys in use", self.jwks_keys.clone());
    }
}

pub fn render() -> String {
    let mut rendered = String::with_capacity(16 * 1024);
    text::encode(&mut rendered, &METRICS.registry).expect("writing to a string cannot fail");
    rendered
}

pub(super) fn observe(histogram: &Histogram, elapsed: Duration) {
    histogram.observe(elapsed.as_secs_f64());
}
