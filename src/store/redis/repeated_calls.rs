//! Calls, or parts of them, that several steps share.

use std::time::Duration;

use super::library::Step;
use super::opening::OldData;
use super::pack::{NO_END, Packer};
use super::settings::CallSettings;
use super::step_call::{About, Call};
use super::{RedisStore, replies};
use crate::domain::keyed_digest::Digest16;
use crate::domain::suppression::SuppressionEntry;
use crate::domain::time::millis;
use crate::store::code_check::{CheckAnswer, CodeCheck};
use crate::store::retention::SUPPRESSION_MIN;
use crate::store::{KillSwitch, StoreError};

impl RedisStore {
    pub(super) async fn open(&self) -> Result<OldData, StoreError> {
        let step = |cursor: u64| {
            self.call(Step::OpenStore, &[self.keys.format()])
                .arg(self.settings().pack())
                .arg(cursor)
                .arg(self.shards.count())
        };
        self.opening.open(&self.link, step).await
    }

    pub(super) async fn change_suppression(
        &self,
        add: bool,
        recipient: &Digest16,
        duration: Option<Duration>,
        note: &str,
    ) -> Result<Option<SuppressionEntry>, StoreError> {
        let duration = duration.map_or(NO_END, |duration| millis(duration.max(SUPPRESSION_MIN)));
        let call = self
            .call(Step::Suppress, &[self.keys.recipient(recipient)])
            .arg(self.settings().pack())
            .arg(Packer::new().flag(add).u48(duration).done())
            .arg(note);
        self.run("suppress", &call, replies::suppression).await
    }

    pub(super) async fn change_kill_switch(
        &self,
        change: &str,
        reason: &str,
    ) -> Result<Option<KillSwitch>, StoreError> {
        let call = self
            .call(Step::KillSwitch, &[self.keys.kill_switch()])
            .arg(self.settings().pack())
            .arg(change)
            .arg(reason);
        self.run("kill_switch", &call, replies::kill_switch).await
    }

    /// A call about the code check of a recipient, up to the check and its purpose.
    pub(super) fn check_call<'a>(&'a self, step: Step, check: &'a CodeCheck<'_>) -> Call<'a> {
        let mut keys = vec![self.keys.recipient(&check.recipient)];
        if matches!(step, Step::BeginProviderCheck | Step::FinishProviderCheck) {
            keys.push(self.keys.possible_checks(&check.recipient));
        }
        let settings = CallSettings { limits: Some((None, check.limits)), ..self.settings() };
        self.call(step, &keys)
            .about(About::purpose(check.purpose))
            .arg(settings.pack())
            .arg(Packer::new().bytes(&check.check_id.to_be_bytes()).bytes(check.purpose.as_bytes()).done())
    }

    pub(super) async fn run_check(
        &self,
        step: &'static str,
        call: &Call<'_>,
        purpose: &str,
    ) -> Result<CheckAnswer, StoreError> {
        let unreadable = |damaged| StoreError::Unreadable { damaged, step };
        self.run(step, call, |answer| replies::check_answer(answer, purpose, unreadable)).await
    }
}
