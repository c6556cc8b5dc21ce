//! How much of its limits has a recipient used?

use serde::Serialize;

use crate::domain::address::Address;
use crate::domain::limit::{Limit, Limits};
use crate::domain::purpose::Purpose;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::domain::time::{UnixMillis, seconds_rounded_up};
use crate::store::{Store, StoreError, Subject};

/// A recipient's limits. Times are in seconds, but for `resets_at`. A limit of 0 is off, and then nothing remains or is
/// used up.
#[derive(Serialize)]
pub struct LimitsRow {
    /// The recipient, masked.
    pub to: String,
    /// Sends that are allowed in the window.
    pub limit: u32,
    /// Sends in the window so far.
    pub used: u32,
    /// Sends that are left in the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u32>,
    /// How long the window is.
    pub window: u64,
    /// Sends that are allowed in a day.
    pub limit_day: u32,
    /// Sends in a day so far.
    pub used_day: u32,
    /// Sends that are left in the day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_day: Option<u32>,
    /// Wrong tries that are allowed in an hour.
    pub limit_wrong: u32,
    /// Wrong tries in the last hour.
    pub used_wrong: u32,
    /// When a limit that is reached lets the next one pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<String>,
    /// How long until the next send is not too soon after the last.
    pub cooldown: u64,
}

/// Asks the store. Charges nothing.
pub async fn limits(
    store: &dyn Store,
    recipients: &RecipientKeyring,
    limits: &Limits,
    to: &Address,
    now: UnixMillis,
) -> Result<LimitsRow, StoreError> {
    let (recipient, purpose) = (recipients.address(to.channel(), to.as_str()), Purpose::default());
    let subject = Subject { recipient, purpose: purpose.as_str(), user: None, ip: None };
    let usage = store.usage(&subject, None, &limits.on(to.channel())).await?;
    let remaining = |limit: u32, used: u32| (limit > 0).then(|| limit.saturating_sub(used));
    let (limit, limit_day) = (limits[Limit::Number].count, limits[Limit::NumberDay].count);
    Ok(LimitsRow {
        to: to.to_string(),
        limit,
        used: usage.used,
        remaining: remaining(limit, usage.used),
        window: limits[Limit::Number].window.as_secs(),
        limit_day,
        used_day: usage.used_day,
        remaining_day: remaining(limit_day, usage.used_day),
        limit_wrong: limits[Limit::Wrong].count,
        used_wrong: usage.wrong,
        resets_at: (!usage.limited_for.is_zero()).then(|| now.plus(usage.limited_for).to_string()),
        cooldown: seconds_rounded_up(usage.cooldown),
    })
}
