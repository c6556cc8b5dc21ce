//! Creates the series that alerts read, at 0: an increase from nothing is none.

use super::countries::Country;
use super::labels::{
    ActionLabel, BreakerLabels, BuildLabels, ChannelCountry, ChannelLabel, ChannelLimit, ChannelProvider,
    ChannelReason, CodeLabel, HttpLabels, OperationLabel, ProbeLabels, ProviderCode, ProviderLabel,
    ProviderResult, ReasonLabel, ReportLabels, RequestLabels, ResultLabel, RuleResult, ScopeLabel,
    StatusLabel, VerdictLabel,
};
use super::{Metrics, create, provider_codes, words};
use crate::domain::channel::Channel;
use crate::domain::defence::{DefenceRule, ScopeKind};
use crate::domain::opt_status::OptStatus;
use crate::domain::reached_limit::ReachedLimit;
use crate::domain::receipt::DeliveryStatus;
use crate::domain::verdict::Verdict;
use crate::telemetry::token_refusal::TokenRefusal;

/// Of the build environment.
const COMMIT: Option<&str> = option_env!("OTPOST_COMMIT");

impl Metrics {
    pub(super) fn create_series(&self) {
        let version = env!("CARGO_PKG_VERSION");
        let build = BuildLabels { version, commit: COMMIT.unwrap_or("unknown") };
        self.build_info.get_or_create(&build).set(1);
        for channel in Channel::ALL {
            self.create_series_of(channel);
        }
        let reasons = [
            (&self.send_retries, &words::RETRIED[..]),
            (&self.sends_waiting, &words::WAITS),
            (&self.callbacks_refused, &words::CALLBACKS_REFUSED),
            (&self.store_unavailable, &words::STORE_FAULTS),
            (&self.dead_lettered, &words::DEAD_LETTERED),
            (&self.http_connections_closed, &words::CONNECTIONS_CLOSED),
            (&self.jwks_keys_ignored, &words::JWKS_IGNORED),
        ];
        for (family, reasons) in reasons {
            for &reason in reasons {
                create(family, &ReasonLabel { reason });
            }
        }
        for reason in words::STORE_WARNINGS {
            create(&self.store_warnings, &ReasonLabel { reason });
        }
        for result in words::RESOLUTIONS {
            create(&self.in_doubt_resolutions, &ResultLabel { result });
        }
        self.spend.create_series();
        for result in words::JWKS_FETCHES {
            create(&self.jwks_fetches, &ResultLabel { result });
        }
        for operation in words::OPERATIONS {
            create(&self.store_operation_errors, &OperationLabel { operation });
        }
        for verdict in Verdict::WORDS {
            create(&self.verifications, &VerdictLabel { verdict });
        }
        for reason in TokenRefusal::ALL.map(TokenRefusal::as_str) {
            create(&self.tokens_refused, &ReasonLabel { reason });
        }
        for rule in DefenceRule::ALL.map(DefenceRule::as_str) {
            for result in words::DEFENCE_RESULTS {
                create(&self.defence.refusals, &RuleResult { rule, result });
            }
        }
        for scope in ScopeKind::ALL.map(ScopeKind::as_str) {
            create(&self.defence.holds, &ScopeLabel { scope });
        }
        for action in words::OPERATOR_ACTIONS {
            create(&self.operator_requests, &ActionLabel { action });
        }
        for code in provider_codes::codes_of_receipts() {
            create(&self.delivery_report_codes, &CodeLabel { code });
        }
        for status in OptStatus::ALL.map(OptStatus::as_str) {
            for result in words::OPT_RESULTS {
                create(&self.opt_messages, &ReportLabels { status, result });
            }
        }
        for (status, _) in words::REASONS {
            create(&self.test_requests, &StatusLabel { status: status.as_str() });
        }
        for (status, result) in reports() {
            create(&self.delivery_reports, &ReportLabels { status, result });
        }
    }

    fn create_series_of(&self, channel: Channel) {
        let channel = channel.as_str();
        for (status, reasons) in words::REASONS {
            for &reason in reasons {
                let status = status.as_str();
                let labels = RequestLabels { channel, status, reason, replayed: "false" };
                create(&self.requests, &labels);
            }
        }
        for reason in words::PAUSES {
            create(&self.sending_paused, &ChannelReason { channel, reason });
        }
        for limit in ReachedLimit::ALL {
            create(&self.limit_refusals, &ChannelLimit { channel, limit: limit.as_str() });
        }
        for family in [&self.conversion_sent, &self.conversion_verified] {
            create(family, &ChannelCountry { channel, country: Country::Unknown });
        }
        create(&self.spend.spent, &ChannelCountry { channel, country: Country::Unknown });
        create(&self.request_queue_time, &ChannelLabel { channel });
    }

    /// Of a provider that this process sends with.
    pub(in crate::telemetry) fn create_series_of_provider(&self, channel: Channel, provider: &'static str) {
        let channel = channel.as_str();
        for result in words::PROBES {
            create(&self.circuit_breaker_probes, &ProbeLabels { channel, provider, result });
        }
        for reason in words::BREAKER_CAUSES {
            create(&self.circuit_breaker_open, &BreakerLabels { channel, provider, reason });
        }
        create(&self.senders.suspended, &ChannelProvider { channel, provider });
        create(&self.senders.suspensions, &ProviderLabel { provider });
        create(&self.message_segments, &ProviderLabel { provider });
        for result in words::ANSWERS {
            create(&self.provider_request_duration, &ProviderResult { provider, result });
        }
        for code in provider_codes::codes_of(provider) {
            create(&self.provider_refusals, &ProviderCode { provider, code });
        }
    }

    /// Of a route that this process serves.
    pub(in crate::telemetry) fn create_series_of_route(&self, route: &str) {
        for status in [500, 503].map(words::http_status) {
            create(&self.http_requests, &HttpLabels { route: route.to_owned(), status });
        }
    }
}

/// Only a final status can be news.
pub(super) fn reports() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of_status = |status: DeliveryStatus| {
        let results = words::REPORTS.into_iter().filter(move |result| *result != "news" || status.is_final());
        results.map(move |result| (status.as_str(), result))
    };
    DeliveryStatus::ALL.into_iter().flat_map(of_status).chain([(words::UNCONFIRMED, words::LAPSED)])
}
