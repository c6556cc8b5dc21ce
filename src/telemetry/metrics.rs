//! Counters and histograms, registered once and rendered in the OpenMetrics text format.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::token_refusal::TokenRefusal;

/// The content type of [`render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Word = &'static str;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    pub(super) channel: Word,
    pub(super) status: Word,
    pub(super) reason: Word,
    pub(super) replayed: Word,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ReasonLabel {
    pub(super) reason: Word,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ProviderLabels {
    pub(super) provider: Word,
    pub(super) answer: Word,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ReceiptLabels {
    pub(super) status: Word,
    pub(super) taken: Word,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct HttpLabels {
    pub(super) route: String,
    pub(super) status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct RoleLabel {
    pub(super) role: Word,
    /// Empty for a connection that serves all channels.
    pub(super) channel: Word,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct BlockedLabel {
    pub(super) role: Word,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ClosedLabels {
    pub(super) channel: Word,
    pub(super) reason: Word,
}

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
    pub(super) outcomes: Family<OutcomeLabels, Counter>,
    pub(super) admission: Histogram,
    pub(super) provider: Family<ProviderLabels, Histogram, Seconds>,
    pub(super) request: Histogram,
    pub(super) in_flight: Gauge,
    pub(super) retries: Family<ReasonLabel, Counter>,
    pub(super) held: Family<ReasonLabel, Counter>,
    pub(super) sender_rests: Counter,
    pub(super) resent: Counter,
    pub(super) doubts: Family<ReasonLabel, Counter>,
    pub(super) gate_shut: Family<ClosedLabels, Gauge>,
    pub(super) probes: Family<ReasonLabel, Counter>,
    pub(super) receipts: Family<ReceiptLabels, Counter>,
    pub(super) callbacks_refused: Family<ReasonLabel, Counter>,
    pub(super) checks: Family<ReasonLabel, Counter>,
    pub(super) store_failures: Family<ReasonLabel, Counter>,
    pub(super) store_faults: Family<ReasonLabel, Counter>,
    pub(super) store_warnings: Family<ReasonLabel, Gauge>,
    pub(super) publish_failures: Counter,
    pub(super) unroutable: Counter,
    pub(super) replies_ignored: Counter,
    pub(super) replies_failed: Counter,
    pub(super) dead_letters: Family<ReasonLabel, Counter>,
    pub(super) given_back: Counter,
    pub(super) panics: Counter,
    pub(super) connected: Family<RoleLabel, Gauge>,
    pub(super) connections_lost: Family<RoleLabel, Counter>,
    pub(super) blocked: Family<BlockedLabel, Gauge>,
    pub(super) http: Family<HttpLabels, Counter>,
    pub(super) http_seconds: Histogram,
    pub(super) forwarded_unreadable: Counter,
    pub(super) http_connections_closed: Family<ReasonLabel, Counter>,
    pub(super) accept_failures: Counter,
    pub(super) admin: Family<ReasonLabel, Counter>,
    pub(super) jwks_fetches: Family<ReasonLabel, Counter>,
    pub(super) jwks_ignored: Family<ReasonLabel, Counter>,
    pub(super) jwks_keys: Gauge,
    pub(super) tokens_refused: Family<ReasonLabel, Counter>,
}

pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

impl Metrics {
    fn new() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("otpost"),
            outcomes: Family::default(),
            admission: Seconds.new_metric(),
            provider: Family::new_with_constructor(Seconds),
            request: Seconds.new_metric(),
            in_flight: Gauge::default(),
            retries: Family::default(),
            held: Family::default(),
            sender_rests: Counter::default(),
            resent: Counter::default(),
            doubts: Family::default(),
            gate_shut: Family::default(),
            probes: Family::default(),
            receipts: Family::default(),
            callbacks_refused: Family::default(),
            checks: Family::default(),
            store_failures: Family::default(),
            store_faults: Family::default(),
            store_warnings: Family::default(),
            publish_failures: Counter::default(),
            unroutable: Counter::default(),
            replies_ignored: Counter::default(),
            replies_failed: Counter::default(),
            dead_letters: Family::default(),
            given_back: Counter::default(),
            panics: Counter::default(),
            connected: Family::default(),
            connections_lost: Family::default(),
            blocked: Family::default(),
            http: Family::default(),
            http_seconds: Seconds.new_metric(),
            forwarded_unreadable: Counter::default(),
            http_connections_closed: Family::default(),
            accept_failures: Counter::default(),
            admin: Family::default(),
            jwks_fetches: Family::default(),
            jwks_ignored: Family::default(),
            jwks_keys: Gauge::default(),
            tokens_refused: Family::default(),
        };
        metrics.register();
        metrics.register_tokens();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("outcomes", "Requests ended, by status and reason", self.outcomes.clone());
        r.register_with_unit("admission", "Time to admit a request", Unit::Seconds, self.admission.clone());
        r.register_with_unit("provider", "Time of a provider's answer", Unit::Seconds, self.provider.clone());
        r.register_with_unit("request", "Delivery to confirmed result", Unit::Seconds, self.request.clone());
        r.register("in_flight", "Deliveries in a handler", self.in_flight.clone());
        r.register("retries", "Sends to be retried, by failure", self.retries.clone());
        r.register("held", "Sends waiting, by what closed the gate", self.held.clone());
        r.register(
            "sender_rests",
            "Senders that began to cool down after a refusal",
            self.sender_rests.clone(),
        );
        r.register("resent", "In-doubt sends to be repeated", self.resent.clone());
        r.register("doubts", "In-doubt sends resolved, by answer", self.doubts.clone());
        r.register("gate_shut", "1 while this closes the send gate", self.gate_shut.clone());
        r.register("probes", "Probes while the circuit breaker is open", self.probes.clone());
        r.register("receipts", "Receipts, by status and novelty", self.receipts.clone());
        r.register("callbacks_refused", "Calls to the webhook refused", self.callbacks_refused.clone());
        r.register("checks", "Code checks, by verdict", self.checks.clone());
        r.register("store_failures", "Store calls that failed, by step", self.store_failures.clone());
        r.register("store_faults", "Store calls without an answer, by cause", self.store_faults.clone());
        r.register("store_warnings", "Faults beside which the store works", self.store_warnings.clone());
        r.register(
            "publish_failures",
            "Messages that the broker did not confirm",
            self.publish_failures.clone(),
        );
        r.register("results_unroutable", "Results that no queue took", self.unroutable.clone());
        r.register("replies_failed", "Replies that were not confirmed", self.replies_failed.clone());
        r.register("replies_ignored", "Reply queues that are not allowed", self.replies_ignored.clone());
        r.register("dead_letters", "Messages dead-lettered, by reason", self.dead_letters.clone());
        r.register("given_back", "Deliveries requeued", self.given_back.clone());
        r.register("panics", "Handlers that panicked", self.panics.clone());
        r.register("broker_connected", "1 while the broker is connected", self.connected.clone());
        r.register("broker_connections_lost", "Broker connections lost", self.connections_lost.clone());
        r.register("broker_blocked", "1 while the broker blocks a publisher", self.blocked.clone());
        r.register("http_requests", "HTTP requests, by route and status", self.http.clone());
        r.register_with_unit(
            "http_request",
            "Time of an HTTP answer",
            Unit::Seconds,
            self.http_seconds.clone(),
        );
        r.register(
            "forwarded_unreadable",
            "Requests whose client address could not be read behind a trusted proxy",
            self.forwarded_unreadable.clone(),
        );
        r.register(
            "http_connections_closed",
            "HTTP connections that the server closed, by reason",
            self.http_connections_closed.clone(),
        );
        r.register(
            "accept_failures",
            "HTTP connections that were not accepted",
            self.accept_failures.clone(),
        );
        r.register("admin_requests", "Operator queries over HTTP, by kind", self.admin.clone());
        r.register("jwks_fetches", "Fetches of published token keys", self.jwks_fetches.clone());
        r.register("jwks_ignored", "Published token keys left out, by reason", self.jwks_ignored.clone());
        r.register("jwks_keys", "Published token keys in use", self.jwks_keys.clone());
    }

    fn register_tokens(&mut self) {
        let r = &mut self.registry;
        for reason in TokenRefusal::ALL.map(TokenRefusal::as_str) {
            drop(self.tokens_refused.get_or_create(&ReasonLabel { reason }));
        }
        r.register(
            "tokens_refused",
            "Callers' tokens refused, by the check that failed",
            self.tokens_refused.clone(),
        );
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
