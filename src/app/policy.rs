//! Builds the rules, limits and policies of the settings.

use std::time::Duration;

use super::providers;
use crate::config::Settings;
use crate::domain::channel::Channel;
use crate::domain::quota::Quota;
use crate::domain::retry::RetryPolicy;
use crate::flow::Policy;
use crate::flow::admit::Rules;
use crate::store::Limits;

/// The recipients that messages may go to.
pub(crate) fn rules(settings: &Settings) -> Rules {
    Rules {
        sms_enabled: settings.sms_enabled,
        email_enabled: settings.email_enabled,
        default_region: settings.default_region,
        allowed_countries: settings.allowed_countries.clone(),
        allow_landline: settings.allow_landline,
    }
}

pub(crate) fn limits(settings: &Settings) -> Limits {
    const HOUR: Duration = Duration::from_secs(3_600);
    let set = &settings.limits;
    let hourly = |count| Quota { count, window: HOUR };
    Limits {
        number: set.number,
        number_day: Quota { count: set.number_day, window: 24 * HOUR },
        user: hourly(set.user),
        ip: hourly(set.ip),
        all: hourly(set.all),
        cooldown: set.cooldown,
        wrong_per_challenge: set.wrong_per_challenge,
        wrong: hourly(set.wrong_hour),
    }
}

pub(super) fn policy(settings: &Settings, channel: Channel) -> Policy {
    Policy {
        limits: limits(settings).on(channel),
        code_life: settings.code_life,
        code_length: settings.code_length,
        retry: RetryPolicy::default(),
        provider_timeout: settings.provider_timeout,
        in_doubt: settings.in_doubt,
        doubt_report_wait: providers::in_doubt_receipt_wait(settings, channel),
        receipt_due_after: settings.receipt_wait.and_then(|_| providers::receipt_due_after(settings)),
        reply_to_allowed: settings.reply_to_allowed.clone(),
    }
}
