//! Creates the series that alerts read, at 0: an increase from nothing is none.

use super::labels::{
    ActionLabel, BuildLabels, ChannelLabel, ChannelLimit, ChannelReason, ChannelResult, CodeLabel, OperationLabel,
    ProviderCode, ProviderLabel, ReasonLabel, ReportLabels, RequestLabels, ResultLabel, VerdictLabel,
};
use super::{Metrics, provider_codes, words};
use crate::domain::channel::Channel;
use crate::domain::reached_limit::ReachedLimit;
use crate::domain::receipt::DeliveryStatus;
use crate::domain::verdict::Verdict;

/// Of the build environment.
const COMMIT: Option<&str> = option_env!("OTPOST_COMMIT");

impl Metrics {
    pub(super) fn create_series(&self) {
        let version = env!("CARGO_PKG_VERSION");
        self.build_info.get_or_create(&BuildLabels { version, commit: COMMIT.unwrap_or("unknown") }).set(1);
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
                family.get_or_create(&ReasonLabel { reason });
            }
        }
        for reason in words::STORE_WARNINGS {
            self.store_warnings.get_or_create(&ReasonLabel { reason });
        }
        for result in words::RESOLUTIONS {
            self.in_doubt_resolutions.get_or_create(&ResultLabel { result });
        }
        for result in words::JWKS_FETCHES {
            self.jwks_fetches.get_or_create(&ResultLabel { result });
        }
        for operation in words::OPERATIONS {
            self.store_operation_errors.get_or_create(&OperationLabel { operation });
        }
        for verdict in Verdict::WORDS {
            self.verifications.get_or_create(&VerdictLabel { verdict });
        }
        for action in words::OPERATOR_ACTIONS {
            self.operator_requests.get_or_create(&ActionLabel { action });
        }
        for code in provider_codes::codes_of_receipts() {
            self.delivery_report_codes.get_or_create(&CodeLabel { code });
        }
        for (status, result) in reports() {
            self.delivery_reports.get_or_create(&ReportLabels { status, result });
        }
    }

    fn create_series_of(&self, channel: Channel) {
        let channel = channel.as_str();
        for (status, reasons) in words::REASONS {
            for &reason in reasons {
                let labels = RequestLabels { channel, status: status.as_str(), reason, replayed: "false" };
                self.requests.get_or_create(&labels);
            }
        }
        for reason in words::PAUSES {
            self.sending_paused.get_or_create(&ChannelReason { channel, reason });
        }
        for result in words::PROBES {
            self.circuit_breaker_probes.get_or_create(&ChannelResult { channel, result });
        }
        for limit in ReachedLimit::ALL {
            self.limit_refusals.get_or_create(&ChannelLimit { channel, limit: limit.as_str() });
        }
        self.circuit_breaker_open.get_or_create(&ChannelLabel { channel });
        self.senders_suspended.get_or_create(&ChannelLabel { channel });
    }

    /// Of a provider that this process sends with.
    pub(in crate::telemetry) fn create_series_of_provider(&self, provider: &'static str) {
        self.sender_suspensions.get_or_create(&ProviderLabel { provider });
        self.message_segments.get_or_create(&ProviderLabel { provider });
        for code in provider_codes::codes_of(provider) {
            self.provider_refusals.get_or_create(&ProviderCode { provider, code });
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
