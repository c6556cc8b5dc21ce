//! The label sets. Each value is from a closed set of words.

use prometheus_client::encoding::EncodeLabelSet;

use super::countries::Country;

pub(in crate::telemetry) type Word = &'static str;

/// Label sets whose values are all words.
macro_rules! label_sets {
    ($($name:ident { $($label:ident),+ })+) => {$(
        #[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
        pub(in crate::telemetry) struct $name {
            $(pub(in crate::telemetry) $label: Word),+
        }
    )+};
}

label_sets! {
    ReasonLabel { reason }
    ResultLabel { result }
    VerdictLabel { verdict }
    OperationLabel { operation }
    ActionLabel { action }
    ProviderLabel { provider }
    ChannelLabel { channel }
    CodeLabel { code }
    BuildLabels { version, commit }
    ChannelStatus { channel, status }
    ChannelLimit { channel, limit }
    ProviderCode { provider, code }
    RequestLabels { channel, status, reason, replayed }
    StatusLabel { status }
    PeriodLabel { period }
    ProviderResult { provider, result }
    ReportLabels { status, result }
    ChannelReason { channel, reason }
    ChannelProvider { channel, provider }
    BreakerLabels { channel, provider, reason }
    ProbeLabels { channel, provider, result }
    FailoverLabels { from, to, reason }
    RuleResult { rule, result }
    ScopeLabel { scope }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(in crate::telemetry) struct HttpLabels {
    pub(in crate::telemetry) route: String,
    pub(in crate::telemetry) status: Word,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(in crate::telemetry) struct RoleLabel {
    pub(in crate::telemetry) role: Word,
    /// Empty for a connection that serves all channels.
    pub(in crate::telemetry) channel: Word,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(in crate::telemetry) struct BlockedLabel {
    pub(in crate::telemetry) role: Word,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(in crate::telemetry) struct RouteLabel {
    pub(in crate::telemetry) route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(in crate::telemetry) struct CountryLabels {
    pub(in crate::telemetry) country: Country,
    pub(in crate::telemetry) status: Word,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(in crate::telemetry) struct ChannelCountry {
    pub(in crate::telemetry) channel: Word,
    pub(in crate::telemetry) country: Country,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(in crate::telemetry) struct KeyLabels {
    pub(in crate::telemetry) r#use: Word,
    pub(in crate::telemetry) kid: String,
    pub(in crate::telemetry) fingerprint: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(in crate::telemetry) struct KeyUseLabel {
    pub(in crate::telemetry) r#use: Word,
}
