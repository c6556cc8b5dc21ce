//! Lists, adds and removes suppressed recipients.
//!
//! The store identifies recipients by a keyed digest, so the list shows the masked form that was stored with it.

use std::time::Duration;

use serde::Serialize;

use super::acting::Acting;
use crate::domain::address::Address;
use crate::domain::audit::AuditAct;
use crate::domain::keyed_digest::Digest16;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::domain::suppression::{ManualSuppression, SuppressionEntry};
use crate::store::{Store, StoreError};

/// Ten years.
pub const HOURS_MAX: u32 = 87_600;
const HOUR_SECONDS: u64 = 3_600;

#[derive(Serialize)]
pub struct SuppressionRow {
    /// Masked.
    pub to: String,
    #[serde(skip)]
    pub is_opt_out: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Absent if the suppression lasts until it is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// A recipient as the store knows it.
pub struct SuppressedRecipient {
    pub masked: String,
    digest: Digest16,
}

impl SuppressedRecipient {
    pub fn new(recipients: &RecipientKeyring, to: &Address) -> SuppressedRecipient {
        SuppressedRecipient { masked: to.masked(), digest: recipients.address(to.channel(), to.as_str()) }
    }
}

pub async fn list(store: &dyn Store, count_max: u32) -> Result<Vec<SuppressionRow>, StoreError> {
    Ok(store.suppressions(count_max).await?.into_iter().map(SuppressionRow::of).collect())
}

/// Without hours, the suppression lasts until it is removed. Returns the one in force.
pub async fn add(
    store: &dyn Store,
    recipient: &SuppressedRecipient,
    reason: Option<&str>,
    hours: Option<u32>,
    by: &Acting,
) -> Result<SuppressionRow, StoreError> {
    let suppression = ManualSuppression {
        masked: &recipient.masked,
        reason: reason.unwrap_or_default(),
        duration: hours.map(|hours| Duration::from_secs(u64::from(hours) * HOUR_SECONDS)),
    };
    let record = by.record(AuditAct::Suppress).about(&recipient.masked).because(reason);
    let added = store.add_suppression_recorded(recipient.digest, &suppression, &record).await?;
    Ok(SuppressionRow::of_recipient(added, recipient))
}

/// `None` if the recipient is not suppressed.
pub async fn remove(
    store: &dyn Store,
    recipient: &SuppressedRecipient,
    by: &Acting,
) -> Result<Option<SuppressionRow>, StoreError> {
    let record = by.record(AuditAct::EndSuppression).about(&recipient.masked);
    let removed = store.remove_suppression_recorded(recipient.digest, &record).await?;
    Ok(removed.map(|removed| SuppressionRow::of_recipient(removed, recipient)))
}

impl SuppressionRow {
    fn of(suppression: SuppressionEntry) -> SuppressionRow {
        let is_opt_out = suppression.is_opt_out();
        let SuppressionEntry { to, provider_code, reason, since, until } = suppression;
        SuppressionRow {
            is_opt_out,
            to: to.unwrap_or_else(|| "***".to_owned()),
            provider_code,
            reason,
            since: since.map(|since| since.to_string()),
            until: until.map(|until| until.to_string()),
        }
    }

    fn of_recipient(suppression: SuppressionEntry, recipient: &SuppressedRecipient) -> SuppressionRow {
        SuppressionRow { to: recipient.masked.clone(), ..SuppressionRow::of(suppression) }
    }

    pub fn reason_in_words(&self) -> String {
        match (self.provider_code, &self.reason) {
            (Some(code), _) if self.is_opt_out => format!("opted out ({code})"),
            (Some(code), _) => format!("refused by the provider ({code})"),
            (None, Some(reason)) => format!("added by an operator: {reason}"),
            (None, None) => "added by an operator, or reported without an error number".to_owned(),
        }
    }
}
