//! Suppressions, by the provider's answers and by operators.

use std::cmp::Reverse;
use std::time::Duration;

use super::state::{State, StoredSuppression, SuppressionKey};
use crate::domain::keyed_digest::Digest16;
use crate::domain::opt_status::{LastOpt, OptStatus, whole_seconds};
use crate::domain::suppression::{ManualSuppression, NewSuppression, SuppressionEntry, SuppressionTarget};
use crate::domain::time::UnixMillis;
use crate::store::retention::{NO_PROVIDER_CODE, SUPPRESSION_MIN, SUPPRESSIONS_MAX};

const REMOVAL_REPEATED_WITHIN: Duration = Duration::from_secs(10);

impl State {
    /// Adds a suppression that the provider's answer caused. One that ends later stays.
    pub(super) fn suppress(&mut self, recipient: Digest16, suppression: NewSuppression<'_>, now: UnixMillis) {
        let key = match suppression.target {
            SuppressionTarget::Recipient => SuppressionKey::Recipient(recipient),
            SuppressionTarget::Country(country) => SuppressionKey::Country(country.to_owned()),
        };
        self.store_longer(key, suppression, None, now);
    }

    fn store_longer(
        &mut self,
        key: SuppressionKey,
        suppression: NewSuppression<'_>,
        reason: Option<&str>,
        now: UnixMillis,
    ) {
        let in_force = self.suppressions.get(&key).filter(|old| old.is_in_force(now));
        let new = StoredSuppression {
            provider_code: (suppression.provider_code != NO_PROVIDER_CODE)
                .then_some(suppression.provider_code),
            until: suppression.duration.map(|duration| now.plus(duration)),
            since: in_force.map_or(now, |old| old.since),
            masked: suppression.masked.to_owned(),
            reason: reason.filter(|reason| !reason.is_empty()).map(str::to_owned),
            kept: None,
            is_removed: false,
        };
        // Only an opt-out of a recipient keeps another suppression.
        let is_opt_out =
            |one: &StoredSuppression| matches!(key, SuppressionKey::Recipient(_)) && one.is_opt_out();
        let replaces =
            |old: &StoredSuppression| new.ends_after(old) || (is_opt_out(&new) && !is_opt_out(old));
        match self.suppressions.get_mut(&key) {
            Some(old) if is_opt_out(old) && !is_opt_out(&new) => old.keep(new, now),
            Some(old) if !replaces(old) => {}
            old => {
                let old = old.filter(|old| is_opt_out(&new) && old.is_in_force(now));
                let kept = old.map(|old| Box::new(old.clone()));
                self.suppressions.insert(key, StoredSuppression { kept, ..new });
            }
        }
    }

    pub(super) fn add_suppression(
        &mut self,
        recipient: Digest16,
        suppression: &ManualSuppression<'_>,
        now: UnixMillis,
    ) -> SuppressionEntry {
        let key = SuppressionKey::Recipient(recipient);
        let manual =
            self.suppressions.get(&key).filter(|old| old.provider_code.is_none() && old.is_in_force(now));
        let is_manual = manual.is_some();
        // Without a new reason, that of an earlier manual suppression (stored without a provider code) stays.
        let given = Some(suppression.reason).filter(|reason| !reason.is_empty()).map(str::to_owned);
        let reason = given.or_else(|| manual.and_then(|manual| manual.reason.clone()));
        let new = NewSuppression {
            target: SuppressionTarget::Recipient,
            provider_code: NO_PROVIDER_CODE,
            duration: suppression.duration.map(|duration| duration.max(SUPPRESSION_MIN)),
            masked: suppression.masked,
        };
        self.store_longer(key, new, reason.as_deref(), now);
        let key = SuppressionKey::Recipient(recipient);
        let in_force = self.suppressions.get_mut(&key).expect("one of the two was stored");
        if is_manual {
            in_force.reason = reason;
        }
        in_force.entry()
    }

    pub(super) fn remove_suppression(
        &mut self,
        recipient: Digest16,
        now: UnixMillis,
    ) -> Option<SuppressionEntry> {
        let key = SuppressionKey::Recipient(recipient);
        let opt_out = self.suppressions.get_mut(&key).filter(|suppression| suppression.is_opt_out());
        let kept = opt_out.and_then(|opt_out| opt_out.kept.as_deref_mut());
        if let Some(kept) = kept.filter(|kept| kept.provider_code.is_none() && kept.is_in_force(now)) {
            // The operator's own one. A repeat of the call, whose answer was lost, must not take the opt-out.
            let removed = kept.entry();
            let soon = now.plus(REMOVAL_REPEATED_WITHIN);
            kept.until = Some(kept.until.map_or(soon, |until| until.min(soon)));
            kept.is_removed = true;
            return Some(removed);
        }
        let removed = self.suppressions.remove(&key)?;
        if removed.is_opt_out() {
            // A late message from before must not opt the recipient out again.
            let at = whole_seconds(now);
            self.last_opts.insert(recipient, LastOpt { status: OptStatus::OptedIn, at });
        }
        removed.is_in_force(now).then(|| removed.entry())
    }

    pub(super) fn list_suppressions(&self, count_max: u32, now: UnixMillis) -> Vec<SuppressionEntry> {
        let mut in_force: Vec<_> = self
            .suppressions
            .iter()
            .filter_map(|(key, suppression)| match key {
                SuppressionKey::Recipient(recipient) if suppression.is_in_force(now) => {
                    Some((recipient, suppression))
                }
                SuppressionKey::Recipient(_) | SuppressionKey::Country(_) => None,
            })
            .collect();
        let end = |suppression: &StoredSuppression| suppression.until.map_or(u64::MAX, |until| until.0);
        in_force.sort_by_key(|(recipient, suppression)| Reverse((end(suppression), recipient.as_str())));
        let count = usize::try_from(count_max.min(SUPPRESSIONS_MAX)).expect("a small number");
        in_force.into_iter().take(count).map(|(_, suppression)| suppression.entry()).collect()
    }
}
