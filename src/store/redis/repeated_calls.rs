//! Calls, or parts of them, that several steps share.

use std::time::Duration;

use super::script_call::Call;
use super::{RedisStore, replies};
use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::EventLog;
use crate::domain::suppression::SuppressionEntry;
use crate::domain::time::millis;
use crate::store::retention::SUPPRESSION_MIN;
use crate::store::{KillSwitch, LimitSubject, StoreError};

impl RedisStore {
    pub(super) async fn change_suppression(
        &self,
        change: &str,
        recipient: &Digest16,
        duration: Option<Duration>,
        note: &str,
    ) -> Result<Option<SuppressionEntry>, StoreError> {
        let mut call = self.scripts.suppress.call(3);
        call.arg(self.keys.suppression(recipient))
            .arg(self.keys.suppression_note(recipient))
            .arg(self.keys.suppressions())
            .arg(self.time())
            .arg(change)
            .arg(recipient.as_str())
            .optional(duration.map(|duration| millis(duration.max(SUPPRESSION_MIN))))
            .arg(note);
        self.run("suppress", &call, replies::suppression).await
    }

    pub(super) fn add_charged_logs(&self, call: &mut Call<'_>, subject: &LimitSubject<'_>) {
        for log in EventLog::CHARGED {
            call.arg(self.keys.log(log, subject));
        }
    }

    pub(super) async fn change_kill_switch(
        &self,
        change: &str,
        reason: &str,
    ) -> Result<Option<KillSwitch>, StoreError> {
        let mut call = self.scripts.kill_switch.call(1);
        call.arg(self.keys.kill_switch()).arg(self.time()).arg(change).arg(reason);
        self.run("kill_switch", &call, replies::kill_switch).await
    }
}
