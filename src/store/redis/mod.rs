//! The store on Redis 7 or later: one Lua script a step, each run whole or not at all.
//!
//! `replies.rs` reads the answers of all scripts. `docs/architecture.md` lists the keys and the words of a record.

mod address;
mod connection;
mod keys;
mod repeated_calls;
mod replies;
mod script_call;
mod scripts;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;

use self::connection::{Answer, Link};
use self::keys::{Keys, shared_member};
use self::script_call::Call;
use self::scripts::Scripts;
use super::code_check::{CodeCheck, ProviderAnswer, ProviderCheckStart};
use super::retention::{
    ACTIVE_WORKER_FOR, CHALLENGE_KEPT_AFTER, CLAIM_CLOCK_DIFFERENCE_MAX, CLAIM_KEPT, CLAIM_REQUESTS_MAX,
    LOST_WRITES_FOR, OUTCOME_KEPT, RECEIPT_POLL_INTERVAL_MIN, RECENT_MAX, REJECTION_KEPT, SUPPRESSIONS_MAX,
    is_word,
};
use super::{
    Admission, AdmissionInput, ClaimAnswer, ClaimInput, CompletionAnswer, CompletionInput, Damaged,
    KillSwitch, Lease, LimitSubject, NewReceipt, OverdueReceipt, Progress, ProgressAnswer, ReceiptAnswer,
    Refund, RequestRecord, RequestSummary, SharedState, Store, StoreError, Usage,
};
use crate::domain::challenge::{CONTINUE_LIFE_LEFT_DIVISOR, ChallengeId, PROVIDER_MADE, TIME_LEFT_MIN};
use crate::domain::history::RequestHistory;
use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::{EventLog, Limit, Limits};
use crate::domain::outcome::Status;
use crate::domain::receipt::FINAL_RANK_MIN;
use crate::domain::request_id::RequestId;
use crate::domain::server_url::InvalidUrl;
use crate::domain::suppression::{ManualSuppression, SuppressionEntry};
use crate::domain::time::{UnixMillis, millis};
use crate::domain::verdict::Verdict;

/// The list of expected receipts is kept longer than any receipt is waited for.
const EXPECTED_RECEIPTS_KEPT: Duration = Duration::from_secs(2 * 86_400);

pub struct RedisStore {
    link: Link,
    keys: Keys,
    scripts: Scripts,
    /// The last suppression of a country that a step could not read. Heartbeats read it, until it can be read.
    damaged_country: Mutex<Option<String>>,
    /// Replaces the server's clock; 0 leaves it. Tests only.
    time: AtomicU64,
}

impl RedisStore {
    /// Connects at the first step, so that a gateway can start while Redis is down.
    pub fn connect(url: &str, prefix: &str) -> Result<RedisStore, InvalidUrl> {
        Ok(RedisStore {
            link: Link::open(url)?,
            keys: Keys::new(prefix),
            scripts: Scripts::new(),
            damaged_country: Mutex::default(),
            time: AtomicU64::new(0),
        })
    }

    /// Sets the time of every later step. For tests of windows and expiry.
    #[doc(hidden)]
    pub fn set_time(&self, now: UnixMillis) {
        self.time.store(now.0, Ordering::Relaxed);
    }

    fn time(&self) -> u64 {
        self.time.load(Ordering::Relaxed)
    }

    async fn run<T>(
        &self,
        step: &'static str,
        call: &Call<'_>,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StoreError> {
        let damaged = match self.link.run(call).await? {
            Answer::Bytes(answer) => match str::from_utf8(&answer).ok().and_then(read) {
                Some(answer) => return Ok(answer),
                // The scripts check what other steps read.
                None => Damaged::Request,
            },
            Answer::KeyUnreadable(key) => self.keys.damaged(&key),
        };
        if let Damaged::Shared(name) = &damaged
            && keys::is_country(name)
        {
            *self.damaged_country() = Some(name.clone());
        }
        Err(StoreError::Unreadable { damaged, step })
    }

    fn damaged_country(&self) -> MutexGuard<'_, Option<String>> {
        self.damaged_country.lock().expect("nothing panics while it holds the lock")
    }
}

fn id_word(id: u64) -> String {
    format!("{id:016x}")
}

#[async_trait]
impl Store for RedisStore {
    async fn admit(&self, input: &AdmissionInput<'_>) -> Result<Admission, StoreError> {
        let (lease, limits, subject) = (&input.lease, input.limits, &input.lease.subject);
        let recipient = &subject.recipient;
        let is_client = subject.ip.is_some() || subject.network.is_some();
        let is_shared = limits[Limit::All].count > 0 || subject.user.is_some() || is_client;
        let mut call = self.scripts.admit.call(11 + EventLog::CHARGED.len());
        call.arg(self.keys.record(recipient, lease.request_id))
            .arg(self.keys.challenge(recipient, subject.purpose))
            .arg(self.keys.cooldown(recipient))
            .arg(self.keys.suppression(recipient))
            .arg(self.keys.country_suppression(input.country))
            .arg(self.keys.recent(recipient))
            .arg(self.keys.index(lease.request_id))
            .arg(self.keys.wrong(recipient))
            .arg(self.keys.refunds(recipient));
        self.add_charged_logs(&mut call, subject);
        call.arg(self.keys.expected_receipts())
            .arg(self.keys.suppressions())
            .arg(self.time())
            .arg(id_word(lease.token))
            .arg(lease.request_id.as_str())
            .arg(if is_shared { shared_member(lease) } else { String::new() })
            .optional(input.requested_at.map(|at| at.0))
            .optional(input.not_after.map(|at| at.0))
            .arg(millis(input.code_life))
            .arg(millis(input.lease_duration))
            .arg(input.known_kids)
            .arg(input.proposal.id.as_str())
            .arg(input.proposal.kid)
            .arg(input.proposal.digest.as_str())
            .arg(u8::from(input.proposal.callers_code))
            .arg(subject.purpose)
            .arg(limits.wrong_per_challenge);
        call.limits(subject, limits);
        call.arg(millis(limits.cooldown))
            .arg(millis(TIME_LEFT_MIN))
            .arg(CONTINUE_LIFE_LEFT_DIVISOR)
            .arg(millis(REJECTION_KEPT))
            .arg(millis(CHALLENGE_KEPT_AFTER))
            .arg(millis(OUTCOME_KEPT))
            .json(&input.refused)
            .json(input.history)
            .arg(recipient.as_str())
            .arg(RECENT_MAX)
            .arg(u8::from(input.gate_closed))
            .arg(input.suspect_from);
        self.run("admit", &call, replies::admission).await
    }

    async fn update_progress(
        &self,
        lease: &Lease<'_>,
        attempts_made: Option<u32>,
        progress: Progress,
        history: Option<&RequestHistory>,
    ) -> Result<ProgressAnswer, StoreError> {
        let (state, duration) = match progress {
            Progress::Waiting(duration) => ("waiting", duration),
            Progress::Sending(duration) => ("sending", duration),
            Progress::InDoubt(duration) => ("doubt", duration),
            Progress::Requeued { retry_in, in_doubt: false } => ("requeued", retry_in),
            Progress::Requeued { retry_in, in_doubt: true } => ("requeued_in_doubt", retry_in),
        };
        let subject = &lease.subject;
        let mut call = self.scripts.update_progress.call(2);
        call.arg(self.keys.record(&subject.recipient, lease.request_id))
            .arg(self.keys.challenge(&subject.recipient, subject.purpose))
            .arg(self.time())
            .arg(id_word(lease.token))
            .optional(attempts_made)
            .arg(state)
            .arg(millis(duration));
        match history {
            Some(history) => call.json(history),
            None => call.arg("-"),
        };
        self.run("update_progress", &call, replies::progress_answer).await
    }

    async fn claim_message(&self, claim: &ClaimInput<'_>) -> Result<ClaimAnswer, StoreError> {
        let (lease, recipient) = (&claim.lease, &claim.lease.subject.recipient);
        let mut call = self.scripts.claim_message.call(3);
        call.arg(self.keys.record(recipient, lease.request_id))
            .arg(self.keys.claim(recipient, None))
            .arg(self.keys.sends(recipient))
            .arg(self.time())
            .arg(id_word(lease.token))
            .arg(lease.request_id.as_str())
            .arg(u8::from(claim.a_text_is_missing))
            .arg(millis(CLAIM_CLOCK_DIFFERENCE_MAX))
            .arg(millis(CLAIM_KEPT))
            .arg(CLAIM_REQUESTS_MAX);
        for message_id in claim.listed.iter().filter(|id| is_word(id)) {
            call.arg(*message_id);
        }
        self.run("claim_message", &call, replies::claim_answer).await
    }

    async fn complete(&self, input: &CompletionInput<'_>) -> Result<CompletionAnswer, StoreError> {
        let (lease, subject, outcome) = (&input.lease, &input.lease.subject, input.outcome);
        let (recipient, message_id) = (&subject.recipient, input.message_id());
        let kept = if outcome.status == Status::Rejected { REJECTION_KEPT } else { OUTCOME_KEPT };
        let nothing_sent = matches!(outcome.status, Status::Failed | Status::Rejected);
        let mut call = self.scripts.complete.call(6 + EventLog::CHARGED.len());
        call.arg(self.keys.record(recipient, lease.request_id))
            .arg(self.keys.refunds(recipient))
            .arg(self.keys.recent(recipient))
            .arg(self.keys.claim(recipient, message_id))
            .arg(self.keys.suppression_of(recipient, input.suppression.as_ref()))
            .arg(self.keys.expected_receipts());
        self.add_charged_logs(&mut call, subject);
        call.arg(self.time())
            .arg(id_word(lease.token))
            .json(outcome)
            .arg(millis(kept))
            .optional(nothing_sent.then_some(outcome.attempts))
            .arg(match input.refund {
                Refund::None => "none",
                Refund::Uncounted => "uncounted",
                Refund::CountedRefusal => "counted_refusal",
            })
            .arg(lease.request_id.as_str())
            .arg(if input.refund == Refund::None { String::new() } else { shared_member(lease) })
            .arg(RECENT_MAX)
            .arg(recipient.as_str())
            .optional(message_id)
            .arg(u8::from(input.found_by_lookup))
            .arg(millis(CLAIM_KEPT))
            .optional(input.poll_receipt_after.map(millis))
            .arg(millis(EXPECTED_RECEIPTS_KEPT))
            .arg(u8::from(input.id_is_known()));
        call.suppression(input.suppression.as_ref());
        self.run("complete", &call, replies::completion_answer).await
    }

    async fn verify(&self, check: &CodeCheck<'_>) -> Result<Verdict, StoreError> {
        let mut call = self.scripts.verify.call(2);
        call.arg(self.keys.challenge(&check.recipient, check.purpose))
            .arg(self.keys.wrong(&check.recipient))
            .arg(self.time())
            .arg(id_word(check.check_id))
            .arg(check.limits.wrong_per_challenge)
            .arg(check.limits[Limit::Wrong].count)
            .arg(millis(CHALLENGE_KEPT_AFTER));
        for (kid, digest) in check.digests {
            call.arg(*kid).arg(digest.as_str());
        }
        self.run("verify", &call, replies::verdict).await
    }

    async fn begin_provider_check(&self, check: &CodeCheck<'_>) -> Result<ProviderCheckStart, StoreError> {
        let mut call = self.scripts.begin_provider_check.call(3);
        call.arg(self.keys.challenge(&check.recipient, check.purpose))
            .arg(self.keys.wrong(&check.recipient))
            .arg(self.keys.possible_checks(&check.recipient))
            .arg(self.time())
            .arg(id_word(check.check_id))
            .arg(check.limits.wrong_per_challenge)
            .arg(check.limits[Limit::Wrong].count)
            .arg(millis(CHALLENGE_KEPT_AFTER))
            .arg(PROVIDER_MADE);
        self.run("begin_provider_check", &call, replies::provider_check_start).await
    }

    async fn finish_provider_check(
        &self,
        check: &CodeCheck<'_>,
        answer: ProviderAnswer,
    ) -> Result<Verdict, StoreError> {
        let mut call = self.scripts.finish_provider_check.call(3);
        call.arg(self.keys.challenge(&check.recipient, check.purpose))
            .arg(self.keys.wrong(&check.recipient))
            .arg(self.keys.possible_checks(&check.recipient))
            .arg(id_word(check.check_id))
            .arg(check.limits.wrong_per_challenge)
            .arg(match answer {
                ProviderAnswer::Right => "right",
                ProviderAnswer::Found => "found",
                ProviderAnswer::Wrong => "wrong",
                ProviderAnswer::NotCompared => "not_compared",
            });
        self.run("finish_provider_check", &call, replies::verdict).await
    }

    async fn reopen_challenge(&self, check: &CodeCheck<'_>) -> Result<(), StoreError> {
        let Some((kid, digest)) = check.digests.first() else {
            return Ok(());
        };
        let mut call = self.scripts.reopen_challenge.call(1);
        call.arg(self.keys.challenge(&check.recipient, check.purpose))
            .arg(id_word(check.check_id))
            .arg(PROVIDER_MADE)
            .arg(*kid)
            .arg(digest.as_str());
        self.run("reopen_challenge", &call, replies::reopened).await
    }

    async fn link_verification(
        &self,
        subject: &LimitSubject<'_>,
        challenge: &ChallengeId,
        verification_sid: &str,
    ) -> Result<(), StoreError> {
        let mut call = self.scripts.link_verification.call(1);
        call.arg(self.keys.challenge(&subject.recipient, subject.purpose))
            .arg(challenge.as_str())
            .arg(verification_sid);
        self.run("link_verification", &call, replies::linked).await
    }

    async fn usage(
        &self,
        subject: &LimitSubject<'_>,
        request_id: Option<&RequestId>,
        limits: &Limits,
    ) -> Result<Usage, StoreError> {
        let recipient = &subject.recipient;
        let mut call =
            self.scripts.usage.call(3 + EventLog::CHARGED.len() + usize::from(request_id.is_some()));
        call.arg(self.keys.cooldown(recipient))
            .arg(self.keys.wrong(recipient))
            .arg(self.keys.refunds(recipient));
        self.add_charged_logs(&mut call, subject);
        if let Some(request_id) = request_id {
            call.arg(self.keys.record(recipient, request_id));
        }
        call.arg(self.time());
        call.limits(subject, limits);
        self.run("usage", &call, replies::usage).await
    }

    async fn idempotency_key(
        &self,
        key: Digest16,
        request: Option<Digest16>,
    ) -> Result<Option<Digest16>, StoreError> {
        let mut call = self.scripts.idempotency_key.call(1);
        call.arg(self.keys.idempotency_key(&key))
            .arg(self.time())
            .optional(request.as_ref().map(Digest16::as_str))
            .arg(millis(OUTCOME_KEPT));
        self.run("idempotency_key", &call, replies::idempotency_key).await
    }

    async fn record_receipt(&self, receipt: &NewReceipt<'_>) -> Result<ReceiptAnswer, StoreError> {
        let mut call = self.scripts.record_receipt.call(2);
        call.arg(self.keys.record(&receipt.recipient, receipt.request_id))
            .arg(self.keys.suppression_of(&receipt.recipient, receipt.suppression.as_ref()))
            .arg(self.time())
            .optional(Some(receipt.message_id).filter(|id| is_word(id)))
            .arg(receipt.status.rank())
            .arg(receipt.status.as_str())
            .arg(u8::from(receipt.status.is_final()))
            .arg(u8::from(receipt.published))
            .optional(receipt.provider_code);
        call.suppression(receipt.suppression.as_ref());
        self.run("record_receipt", &call, replies::receipt_answer).await
    }

    async fn overdue_receipts(
        &self,
        wait_max: Duration,
        count_max: u32,
    ) -> Result<Vec<OverdueReceipt>, StoreError> {
        let mut call = self.scripts.overdue_receipts.call(1);
        call.arg(self.keys.expected_receipts())
            .arg(self.time())
            .arg(millis(wait_max))
            .arg(count_max)
            .arg(millis(RECEIPT_POLL_INTERVAL_MIN))
            .arg(self.keys.prefix())
            .arg(FINAL_RANK_MIN);
        self.run("overdue_receipts", &call, replies::overdue_receipts).await
    }

    async fn end_receipt_wait(&self, lapsed: &OverdueReceipt) -> Result<(), StoreError> {
        let OverdueReceipt { recipient, request_id, message_id, sent_at, .. } = lapsed;
        let mut call = self.scripts.end_receipt_wait.call(1);
        call.arg(self.keys.expected_receipts())
            .arg(format!("{message_id} {recipient} {} {request_id}", sent_at.0));
        self.run("end_receipt_wait", &call, replies::receipt_wait_ended).await
    }

    async fn check_shared_data(&self) -> Result<(), StoreError> {
        let mut call = self.scripts.check_shared_keys.call(5);
        call.arg(self.keys.kill_switch())
            .arg(self.keys.all_sends())
            .arg(self.keys.active_workers())
            .arg(self.keys.expected_receipts())
            .arg(self.keys.suppressions())
            .arg(self.keys.prefix());
        self.run("check_shared_data", &call, replies::shared_keys_readable).await
    }

    async fn heartbeat(&self, worker_id: u64, is_active: bool) -> Result<SharedState, StoreError> {
        let country = self.damaged_country().clone();
        let mut call = self.scripts.heartbeat.call(6 + usize::from(country.is_some()));
        call.arg(self.keys.active_workers())
            .arg(self.keys.kill_switch())
            .arg(self.keys.server())
            .arg(self.keys.all_sends())
            .arg(self.keys.expected_receipts())
            .arg(self.keys.suppressions());
        if let Some(country) = &country {
            call.arg(self.keys.by_name(country));
        }
        call.arg(self.time())
            .arg(id_word(worker_id))
            .arg(u8::from(is_active))
            .arg(millis(ACTIVE_WORKER_FOR))
            .arg(millis(LOST_WRITES_FOR))
            .arg(self.link.server());
        let read = |answer: &str| {
            let (shared_state, lost_writes_for, server) = replies::heartbeat(answer)?;
            self.link.heartbeat_answered(server, lost_writes_for);
            Some(shared_state)
        };
        let shared_state = self.run("heartbeat", &call, read).await?;
        // Another step may have met another country meanwhile.
        self.damaged_country().take_if(|name| Some(&*name) == country.as_ref());
        Ok(shared_state)
    }

    async fn kill_switch(&self) -> Result<Option<KillSwitch>, StoreError> {
        self.change_kill_switch("none", "").await
    }

    async fn set_kill_switch(&self, reason: Option<&str>) -> Result<Option<KillSwitch>, StoreError> {
        let change = if reason.is_some() { "on" } else { "off" };
        self.change_kill_switch(change, reason.unwrap_or_default()).await
    }

    async fn request_record(
        &self,
        request_id: &RequestId,
        recipient: Option<Digest16>,
    ) -> Result<Option<RequestRecord>, StoreError> {
        let mut call = self.scripts.request_record.call(1);
        call.arg(self.keys.index(request_id))
            .arg(self.time())
            .arg(self.keys.prefix())
            .optional(recipient.as_ref().map(Digest16::as_str))
            .arg(request_id.as_str())
            .arg(millis(CHALLENGE_KEPT_AFTER));
        self.run("request_record", &call, replies::request_record).await
    }

    async fn recent_requests(&self, recipient: Digest16) -> Result<Vec<RequestSummary>, StoreError> {
        let mut call = self.scripts.recent_requests.call(2);
        call.arg(self.keys.sends(&recipient))
            .arg(self.keys.recent(&recipient))
            .arg(self.time())
            .arg(RECENT_MAX);
        self.run("recent_requests", &call, |answer| replies::recent_requests(answer, RECENT_MAX)).await
    }

    async fn suppressions(&self, count_max: u32) -> Result<Vec<SuppressionEntry>, StoreError> {
        let mut call = self.scripts.suppressions.call(1);
        call.arg(self.keys.suppressions())
            .arg(self.time())
            .arg(count_max.min(SUPPRESSIONS_MAX))
            .arg(self.keys.prefix());
        self.run("suppressions", &call, replies::suppressions).await
    }

    async fn add_suppression(
        &self,
        recipient: Digest16,
        suppression: &ManualSuppression<'_>,
    ) -> Result<SuppressionEntry, StoreError> {
        let ManualSuppression { masked, reason, duration } = suppression;
        let note = format!("{masked} {reason}");
        let in_force = self.change_suppression("add", &recipient, *duration, &note).await?;
        in_force.ok_or(StoreError::Unreadable { damaged: Damaged::Request, step: "suppress" })
    }

    async fn remove_suppression(&self, recipient: Digest16) -> Result<Option<SuppressionEntry>, StoreError> {
        self.change_suppression("remove", &recipient, None, "").await
    }

    fn may_have_lost_writes(&self) -> bool {
        self.link.may_have_lost_writes()
    }
}
