//! Sets and removes overrides of the pumping defence.

use std::time::Duration;

use super::acting::Acting;
use crate::domain::address::Address;
use crate::domain::audit::AuditAct;
use crate::domain::defence_list::{NewOverride, OverrideAction, OverrideTarget};
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::flow::inspect::defence::OverrideRow;
use crate::store::defence::OverrideChange;
use crate::store::{Store, StoreError};

/// The numbers that an override is about.
pub struct OverriddenNumbers {
    target: OverrideTarget,
    /// A country, digits, or a masked number.
    pub shown: String,
}

impl OverriddenNumbers {
    /// A country or the first digits of numbers.
    pub fn of_target(target: OverrideTarget) -> OverriddenNumbers {
        let shown = match &target {
            OverrideTarget::Digits(digits) => format!("+{digits}"),
            OverrideTarget::Country(country) => country.clone(),
            OverrideTarget::Recipient(_) => "one number".to_owned(),
        };
        OverriddenNumbers { target, shown }
    }

    pub fn of_number(recipients: &RecipientKeyring, to: &Address) -> OverriddenNumbers {
        let digest = recipients.address(to.channel(), to.as_str());
        OverriddenNumbers { target: OverrideTarget::Recipient(digest), shown: to.masked() }
    }
}

/// `None`: there is no room for another override.
pub async fn set(
    store: &dyn Store,
    numbers: &OverriddenNumbers,
    action: OverrideAction,
    duration: Duration,
    reason: &str,
    by: &Acting,
) -> Result<Option<OverrideRow>, StoreError> {
    let act = match action {
        OverrideAction::Allow => AuditAct::DefenceAllow,
        OverrideAction::Deny => AuditAct::DefenceDeny,
    };
    let new = NewOverride { action, duration, shown: &numbers.shown, reason };
    let record = by.record(act).about(&numbers.shown).because(Some(reason));
    let change = store.set_defence_override_recorded(&numbers.target, Some(&new), &record).await?;
    let since = by.clock.now();
    Ok((change != OverrideChange::Full).then(|| OverrideRow {
        target: numbers.shown.clone(),
        action: action.as_str(),
        since,
        until: since.plus(duration),
        reason: reason.to_owned(),
    }))
}

/// `None`: there was no override of these numbers.
pub async fn remove(
    store: &dyn Store,
    numbers: &OverriddenNumbers,
    by: &Acting,
) -> Result<Option<OverrideRow>, StoreError> {
    let record = by.record(AuditAct::DefenceRemove).about(&numbers.shown);
    match store.set_defence_override_recorded(&numbers.target, None, &record).await? {
        OverrideChange::Done { before } => Ok(before.as_ref().map(OverrideRow::of)),
        OverrideChange::Full => Ok(None),
    }
}
