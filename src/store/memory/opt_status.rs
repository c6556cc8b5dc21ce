//! Opt-in and opt-out by a recipient's own messages.

use super::state::{State, SuppressionKey};
use crate::domain::keyed_digest::Digest16;
use crate::domain::opt_status::{
    LastOpt, OPT_STATUS_COUNTS_FOR, OptAnswer, OptMessage, OptStatus, whole_seconds,
};
use crate::domain::suppression::{NewSuppression, SuppressionTarget};
use crate::domain::time::UnixMillis;

impl State {
    pub(super) fn record_opt_status(
        &mut self,
        recipient: Digest16,
        message: &OptMessage<'_>,
        now: UnixMillis,
    ) -> OptAnswer {
        let OptMessage { status, sent_at, provider_code, masked } = *message;
        let key = SuppressionKey::Recipient(recipient);
        let in_force = self.suppressions.get(&key).filter(|suppression| suppression.is_in_force(now));
        let opted_out_since = in_force.filter(|old| old.is_opt_out()).map(|old| old.since);
        let is_before = |since| status == OptStatus::OptedIn && sent_at < whole_seconds(since);
        if sent_at.plus(OPT_STATUS_COUNTS_FOR) < now
            || self.last_opts.get(&recipient).is_some_and(|last| last.is_later_than(message))
            || opted_out_since.is_some_and(is_before)
        {
            return OptAnswer::Outdated;
        }
        self.last_opts.insert(recipient, LastOpt { status, at: sent_at });
        match status {
            OptStatus::OptedIn if opted_out_since.is_some() => {
                let opt_out = self.suppressions.remove(&key);
                let kept = opt_out.and_then(|opt_out| opt_out.kept);
                let kept = kept.filter(|kept| kept.is_in_force(now) && !kept.is_removed);
                if let Some(kept) = kept {
                    self.suppressions.insert(key, *kept);
                }
            }
            OptStatus::OptedIn => {}
            OptStatus::OptedOut => {
                let target = SuppressionTarget::Recipient;
                let suppression = NewSuppression { target, provider_code, duration: None, masked };
                self.suppress(recipient, suppression, sent_at.min(now));
            }
        }
        OptAnswer::Recorded
    }

    /// Does an opt-out that the provider shows for a time still hold? Not if the recipient has opted in since.
    pub(super) fn still_holds(
        &self,
        recipient: Digest16,
        suppression: &NewSuppression<'_>,
        time: Option<UnixMillis>,
    ) -> bool {
        let last = self.last_opts.get(&recipient).filter(|_| suppression.is_opt_out());
        last.zip(time).is_none_or(|(last, time)| !last.is_opt_in_after(time))
    }
}
