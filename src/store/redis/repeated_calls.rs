//! Calls, or parts of them, that several steps share.

use std::time::Duration;

use super::keys::{Key, request_text};
use super::library::Step;
use super::opening::OldData;
use super::pack::{NO_END, Packer};
use super::records::{pack_error, pack_history, pack_outcome};
use super::settings::{CallSettings, pack_suppression, refund_kind};
use super::spend::pack_spent;
use super::step_call::{About, Call};
use super::{RedisStore, replies};
use crate::domain::audit::AuditRecord;
use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::{Limit, Limits};
use crate::domain::opt_status::{OptAnswer, OptMessage, OptStatus};
use crate::domain::outcome::{OutcomeError, Status};
use crate::domain::receipt::FINAL_RANK_MIN;
use crate::domain::request_id::RequestId;
use crate::domain::suppression::{ManualSuppression, NewSuppression, SuppressionEntry};
use crate::domain::time::millis;
use crate::store::code_check::{CheckAnswer, CodeCheck};
use crate::store::retention::{OUTCOME_KEPT, RECEIPT_POLL_INTERVAL_MIN, REJECTION_KEPT, SUPPRESSION_MIN};
use crate::store::{
    AdmissionInput, CompletionInput, Damaged, KillSwitch, OverdueReceipt, RequestRecord, StoreError,
};

/// The gate is closed: 1. A suppression comes before the error that rejects a new request: 2.
fn admission_marks(input: &AdmissionInput<'_>) -> u8 {
    let yields = input.reject_if_new.is_some_and(OutcomeError::yields_to_suppression);
    u8::from(input.gate_closed) | u8::from(yields) << 1
}

impl RedisStore {
    /// An admission; with more than one shard without its last argument.
    pub(super) fn admission_call<'a>(
        &'a self,
        input: &AdmissionInput<'a>,
        keys: &[Key],
        settings: CallSettings<'_>,
    ) -> Call<'a> {
        let (lease, subject) = (&input.lease, &input.lease.subject);
        let settings = CallSettings {
            code_life: input.code_life,
            lease_duration: input.lease_duration,
            code_key_ids: input.code_key_ids,
            ..settings
        };
        let proposal = &input.proposal;
        let facts = Packer::new().flag(proposal.callers_code).bytes(&proposal.id.bytes());
        self.call(Step::Admit, keys)
            .about(About { purpose: subject.purpose, ..About::of(lease.request_id) })
            .arg(settings.pack())
            .arg(
                Packer::new()
                    .bytes(&lease.token.to_be_bytes())
                    .optional48(input.requested_at.map(|at| at.0))
                    .optional48(input.not_after.map(|at| at.0))
                    .u8(admission_marks(input))
                    .u32(input.crash_suspect_leases_min)
                    .short(subject.purpose.as_bytes())
                    .short(&facts.digest(&proposal.digest).short(proposal.kid.as_bytes()).done())
                    .long(&input.reject_if_new.map(pack_error).unwrap_or_default())
                    .short(request_text(lease.request_id).as_bytes())
                    .short(&self.pack_reservation(&subject.recipient, input.spend))
                    .bytes(&pack_history(input.history))
                    .done(),
            )
    }

    /// A completion; with more than one shard without its last argument.
    pub(super) fn completion_call<'a>(
        &'a self,
        input: &CompletionInput<'a>,
        keys: &[Key],
        settings: CallSettings<'_>,
        suppression: Option<&NewSuppression<'_>>,
    ) -> Call<'a> {
        let (lease, outcome) = (&input.lease, input.outcome);
        let kept = if outcome.status == Status::Rejected { REJECTION_KEPT } else { OUTCOME_KEPT };
        let nothing_sent = matches!(outcome.status, Status::Failed | Status::Rejected);
        self.call(Step::Complete, keys)
            .about(About {
                message_ids: input.message_id().into_iter().collect(),
                ..About::of(lease.request_id)
            })
            .arg(settings.pack())
            .arg(
                Packer::new()
                    .bytes(&lease.token.to_be_bytes())
                    .millis32(millis(kept))
                    .flag(nothing_sent)
                    .u16(outcome.attempts)
                    .u8(refund_kind(input.refund))
                    .optional48(input.poll_receipt_after.map(millis))
                    .flag(input.found_by_lookup)
                    .flag(input.id_is_known())
                    .long(input.message_id().unwrap_or_default().as_bytes())
                    .short(request_text(lease.request_id).as_bytes())
                    .long(&pack_suppression(suppression))
                    .short(&pack_spent(input.spent))
                    .bytes(&pack_outcome(outcome))
                    .done(),
            )
    }

    /// With more than one shard a placeholder stands for the country.
    pub(super) fn usage_call<'a>(
        &'a self,
        keys: &[Key],
        settings: CallSettings<'_>,
        request_id: Option<&'a RequestId>,
        limits: &Limits,
    ) -> Call<'a> {
        let window = millis(limits[Limit::Recipient].window);
        self.call(Step::Usage, keys)
            .about(About { request_id, ..About::default() })
            .arg(settings.pack())
            .arg(Packer::new().flag(request_id.is_some()).u48(window).done())
    }

    pub(super) async fn take_overdue(
        &self,
        due: Key,
        wait_max: Duration,
        count_max: u32,
    ) -> Result<Vec<OverdueReceipt>, StoreError> {
        let call = self.call(Step::OverdueReceipts, &[due]).arg(self.settings().pack()).arg(
            Packer::new()
                .u48(millis(wait_max))
                .u32(count_max)
                .millis32(millis(RECEIPT_POLL_INTERVAL_MIN))
                .u8(FINAL_RANK_MIN)
                .done(),
        );
        self.run("overdue_receipts", &call, replies::overdue_receipts).await
    }

    pub(super) async fn read_record(
        &self,
        keys: Vec<Key>,
        request_id: &RequestId,
        recipient: Option<Digest16>,
    ) -> Result<Option<RequestRecord>, StoreError> {
        let call = self
            .call(Step::RequestRecord, &keys)
            .about(About::of(request_id))
            .arg(self.settings().pack())
            .arg(recipient.map(|digest| digest.bytes().to_vec()).unwrap_or_default());
        self.run("request_record", &call, replies::request_record).await
    }

    pub(super) async fn list_suppressed(
        &self,
        suppressed: Key,
        count_max: u32,
    ) -> Result<Vec<SuppressionEntry>, StoreError> {
        let call = self.call(Step::Suppressions, &[suppressed]).arg(self.settings().pack()).arg(count_max);
        self.run("suppressions", &call, replies::suppressions).await
    }

    pub(super) async fn open(&self) -> Result<OldData, StoreError> {
        let step = |cursor: Option<u64>| {
            let step = if cursor.is_some() { Step::OpenStore } else { Step::ReadWhetherOpen };
            let call = self.call(step, &[self.keys.format()]).arg(self.settings().pack());
            cursor.into_iter().fold(call, |call, cursor| call.arg(cursor)).arg(self.shards.count())
        };
        self.opening.open(&self.link, step).await
    }

    pub(super) async fn change_suppression(
        &self,
        add: bool,
        recipient: &Digest16,
        duration: Option<Duration>,
        note: &str,
        record: Option<&AuditRecord>,
    ) -> Result<Option<SuppressionEntry>, StoreError> {
        let duration = duration.map_or(NO_END, |duration| millis(duration.max(SUPPRESSION_MIN)));
        let outbox = self.keys.outbox_of(recipient);
        let call = self
            .act_call(Step::Suppress, self.keys.recipient(recipient), outbox, record)
            .arg(self.settings().pack())
            .arg(Packer::new().flag(add).u48(duration).done())
            .arg(note);
        let changed = self.run_act("suppress", call, record, replies::suppression).await?;
        self.gather_record(outbox, record).await;
        Ok(changed)
    }

    /// Returns the suppression in force.
    pub(super) async fn write_manual_suppression(
        &self,
        recipient: &Digest16,
        suppression: &ManualSuppression<'_>,
        record: Option<&AuditRecord>,
    ) -> Result<SuppressionEntry, StoreError> {
        let ManualSuppression { masked, reason, duration } = suppression;
        let note = format!("{masked} {reason}");
        let in_force = self.change_suppression(true, recipient, *duration, &note, record).await?;
        in_force.ok_or(StoreError::Unreadable { damaged: Damaged::Request, step: "suppress" })
    }

    pub(super) async fn change_opt_status(
        &self,
        recipient: &Digest16,
        message: &OptMessage<'_>,
    ) -> Result<OptAnswer, StoreError> {
        let opted_in = message.status == OptStatus::OptedIn;
        let call = self
            .call(Step::RecordOptStatus, &[self.keys.recipient(recipient)])
            .arg(self.settings().pack())
            .arg(Packer::new().flag(opted_in).u48(message.sent_at.0).u32(message.provider_code).done())
            .arg(message.masked);
        self.run("suppress", &call, replies::opt_status).await
    }

    pub(super) async fn change_kill_switch(
        &self,
        reason: Option<&str>,
        record: Option<&AuditRecord>,
    ) -> Result<Option<KillSwitch>, StoreError> {
        let call = self
            .act_call(Step::KillSwitch, self.keys.kill_switch(), 0, record)
            .arg(self.settings().pack())
            .arg(if reason.is_some() { "on" } else { "off" })
            .arg(reason.unwrap_or_default());
        self.run_act("kill_switch", call, record, replies::kill_switch).await
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
