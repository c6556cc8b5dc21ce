//! Builds the rules, limits and policies of the settings.

use crate::config::{Settings, SpendSettings};
use crate::domain::channel::Channel;
use crate::domain::recipient_rules::RecipientRules;
use crate::domain::retry::RetryPolicy;
use crate::flow::gateway::Policy;
use crate::flow::inspect::spend::SpendView;
use crate::flow::spend_policy::SpendPolicy;

/// The recipients that messages may go to.
pub(crate) fn rules(settings: &Settings) -> RecipientRules {
    RecipientRules {
        sms_enabled: settings.sms_enabled,
        email_enabled: settings.email_enabled,
        default_region: settings.default_region,
        allowed_countries: settings.allowed_countries.clone(),
        allowed_shared_codes: settings.allowed_shared_codes.clone(),
        allow_landline: settings.allow_landline,
    }
}

pub(super) fn policy(settings: &Settings, channel: Channel) -> Policy {
    Policy {
        limits: settings.limits.on(channel),
        code_life: settings.code_life,
        code_length: settings.code_length,
        caller_codes_allowed: settings.caller_codes_allowed,
        retry: RetryPolicy::default(),
        provider_timeout: settings.provider_timeout,
        in_doubt_policy: settings.in_doubt.policy,
        doubt_failover_after: settings.in_doubt.after,
        reply_to_allowed: settings.reply_to_allowed.clone(),
        spend: SpendPolicy {
            prices: settings.spend.prices.clone(),
            currency: settings.spend.currency,
            budgets: settings.spend.budgets,
            zone: settings.default_zone.clone(),
        },
    }
}

/// Of a report.
pub(crate) fn spend_view(settings: &Settings) -> SpendView {
    let SpendSettings { is_estimate, currency, budgets, .. } = settings.spend;
    SpendView { currency, is_estimate, budgets, zone: settings.default_zone.clone() }
}
