//! The limit usage of a recipient.

use std::time::Duration;

use serde::Serialize;

use crate::domain::address::Address;
use crate::domain::limit::{Limit, Limits};
use crate::domain::purpose::Purpose;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::domain::time::{UnixMillis, seconds_rounded_up};
use crate::store::{LimitSubject, Store, StoreError};

/// Times are in seconds, except `resets_at`. A limit of 0 is off: it has no `remaining`.
#[derive(Serialize)]
pub struct LimitUsageRow {
    /// Masked.
    pub to: String,
    pub limit: u32,
    pub used: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u32>,
    pub window: u64,
    pub limit_day: u32,
    pub used_day: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_day: Option<u32>,
    /// In an hour.
    pub limit_wrong: u32,
    pub used_wrong: u32,
    /// When a reached limit allows the next send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<String>,
    /// When the cap over all sends allows the next one, if it is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_resets_at: Option<String>,
    pub cooldown: u64,
}

pub async fn limit_usage(
    store: &dyn Store,
    recipients: &RecipientKeyring,
    limits: &Limits,
    to: &Address,
    now: UnixMillis,
) -> Result<LimitUsageRow, StoreError> {
    let (recipient, purpose) = (recipients.address(to.channel(), to.as_str()), Purpose::default());
    let subject = LimitSubject { recipient, purpose: purpose.as_str(), user: None, ip: None, network: None };
    let limits = &limits.on(to.channel());
    let usage = store.usage(&subject, None, limits).await?;
    let of_all = match limits[Limit::All].count {
        0 => Duration::ZERO,
        _ => store.usage(&subject, None, &only_all(limits)).await?.limited_for,
    };
    let reset = |wait: Duration| (!wait.is_zero()).then(|| now.plus(wait).to_string());
    let remaining = |limit: u32, used: u32| (limit > 0).then(|| limit.saturating_sub(used));
    let (limit, limit_day) = (limits[Limit::Recipient].count, limits[Limit::RecipientDay].count);
    Ok(LimitUsageRow {
        to: to.masked(),
        limit,
        used: usage.used,
        remaining: remaining(limit, usage.used),
        window: limits[Limit::Recipient].window.as_secs(),
        limit_day,
        used_day: usage.used_day,
        remaining_day: remaining(limit_day, usage.used_day),
        limit_wrong: limits[Limit::Wrong].count,
        used_wrong: usage.wrong_attempts,
        resets_at: reset(usage.limited_for),
        all_resets_at: reset(of_all),
        cooldown: seconds_rounded_up(usage.cooldown_left),
    })
}

/// The cap over all sends, with every other limit off.
fn only_all(limits: &Limits) -> Limits {
    let others = Limit::ALL.into_iter().filter(|limit| *limit != Limit::All);
    others.fold(*limits, |limits, limit| limits.with(limit, 0))
}
