//! The store on Redis 7 or later: one Lua script a step, each run whole or not at all.
//!
//! The scripts answer with words, read in one place. A step whose answer was lost may have been made;
//! asking again gives the same answer.

mod answers;
mod call;
mod keys;
mod link;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use self::call::{Call, Script};
use self::keys::Keys;
use self::link::Link;
use super::bounds::{
    BUSY_FOR, CLAIM_KEPT, FORGETFUL_FOR, KEPT_AFTER, OUTCOME_KEPT, RECEIPT_ASKED_AFTER_MIN, RECENT_MAX,
    REFUNDS_PER_DAY, REFUSAL_KEPT, SUPPRESSED_MIN, SUPPRESSIONS_MAX, is_word,
};
use super::code_check::{CodeCheck, ProviderCheckResult, ProviderCheckStart};
use super::{
    Admission, Admit, CompleteRequest, CompleteResult, KillSwitch, Lease, Limits, OverdueReceipt, Progress,
    ProgressResult, ReceiptResult, RecordReceipt, Refund, RequestRecord, RequestSummary, SharedState, Store,
    StoreError, Subject, Usage,
};
use crate::domain::challenge::{CONTINUE_LIFE_LEFT_DIVISOR, ChallengeId, PROVIDER_MADE, TIME_LEFT_MIN};
use crate::domain::history::RequestHistory;
use crate::domain::keyed_digest::Digest16;
use crate::domain::outcome::Status;
use crate::domain::request_id::RequestId;
use crate::domain::suppression::{ManualSuppression, NewSuppression, SuppressionEntry};
use crate::domain::time::{UnixMillis, millis};
use crate::domain::verdict::Verdict;

/// How long it is kept which reports are expected: longer than any is waited for.
const RECEIPTS_KEPT: Duration = Duration::from_secs(2 * 86_400);

/// Limits, challenges and records that all workers share.
pub struct RedisStore {
    link: Link,
    keys: Keys,
    scripts: Scripts,
    /// Replaces the server's clock; 0 leaves it. Tests only.
    time: AtomicU64,
}

struct Scripts {
    admit: Script,
    mark: Script,
    settle: Script,
    verify: Script,
    begin_check: Script,
    end_check: Script,
    name_challenge: Script,
    usage: Script,
    track: Script,
    overdue: Script,
    pulse: Script,
    kill: Script,
    story: Script,
    recent: Script,
    suppress: Script,
    suppressions: Script,
}

impl RedisStore {
    /// Connects when the first step is asked: a gateway starts while Redis is down.
    pub fn connect(url: &str, prefix: &str) -> Result<RedisStore, StoreError> {
        Ok(RedisStore {
            link: Link::open(url)?,
            keys: Keys::new(prefix),
            scripts: Scripts {
                admit: script(include_str!("admit.lua")),
                mark: script(include_str!("update_progress.lua")),
                settle: script(include_str!("complete.lua")),
                verify: script(include_str!("verify.lua")),
                begin_check: script(include_str!("begin_provider_check.lua")),
                end_check: script(include_str!("finish_provider_check.lua")),
                name_challenge: script(include_str!("link_verification.lua")),
                usage: script(include_str!("usage.lua")),
                track: script(include_str!("record_receipt.lua")),
                overdue: script(include_str!("overdue_receipts.lua")),
                pulse: script(include_str!("heartbeat.lua")),
                kill: script(include_str!("kill_switch.lua")),
                story: script(include_str!("request_record.lua")),
                recent: script(include_str!("recent_requests.lua")),
                suppress: script(include_str!("suppress.lua")),
                suppressions: script(include_str!("suppressions.lua")),
            },
            time: AtomicU64::new(0),
        })
    }

    /// Makes every later step happen at this time instead of the server's. For tests of windows and lives.
    #[doc(hidden)]
    pub fn set_time(&self, now: UnixMillis) {
        self.time.store(now.0, Ordering::Relaxed);
    }

    fn time(&self) -> u64 {
        self.time.load(Ordering::Relaxed)
    }

    /// Runs a script and reads its answer.
    async fn ask<T>(
        &self,
        step: &'static str,
        call: &Call<'_>,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StoreError> {
        read(&self.link.ask(call).await?).ok_or(StoreError::Garbled { step })
    }

    async fn turn_suppression(
        &self,
        turn: &str,
        recipient: &Digest16,
        lasts: Option<Duration>,
        shown: &str,
    ) -> Result<Option<SuppressionEntry>, StoreError> {
        let mut call = self.scripts.suppress.call(3);
        call.arg(self.keys.suppressed(recipient))
            .arg(self.keys.suppression(recipient))
            .arg(self.keys.suppressions())
            .arg(self.time())
            .arg(turn)
            .arg(recipient.as_str())
            .optional(lasts.map(|lasts| millis(lasts.max(SUPPRESSED_MIN))))
            .arg(shown);
        self.ask("suppress", &call, answers::suppression).await
    }

    async fn turn_kill_switch(&self, turn: &str, reason: &str) -> Result<Option<KillSwitch>, StoreError> {
        let mut call = self.scripts.kill.call(1);
        call.arg(self.keys.kill()).arg(self.time()).arg(turn).arg(reason);
        self.ask("kill", &call, answers::kill_switch).await
    }
}

fn script(body: &str) -> Script {
    Script::new(&format!("{}\n{body}", include_str!("prelude.lua")))
}

/// Adds the limits on sends and on wrong tries, in the order in which the scripts read them. One of a user or an address
/// that is not told is off.
fn add_limits(call: &mut Call<'_>, subject: &Subject<'_>, limits: &Limits) {
    call.arg(limits.number.count)
        .arg(millis(limits.number.window))
        .arg(limits.number_day.count)
        .arg(subject.user.map_or(0, |_| limits.user.count))
        .arg(subject.ip.map_or(0, |_| limits.ip.count))
        .arg(limits.all.count)
        .arg(limits.wrong.count);
}

/// Adds the provider's error number of a block, how long it lasts, and what is shown of whom. One that lasts no time is none.
fn add_block(call: &mut Call<'_>, block: Option<&NewSuppression<'_>>) {
    let block = block.filter(|block| block.duration.is_none_or(|lasts| millis(lasts) > 0));
    call.optional(block.map(|block| block.code));
    call.optional(block.and_then(|block| block.duration).map(millis));
    call.optional(block.map(|block| block.masked));
}

fn id_word(id: u64) -> String {
    format!("{id:016x}")
}

/// Names a request of a recipient in the logs that recipients share. Short: Redis keeps longer members at six times
/// the memory. The recipient's own name is a keyed digest already, so nobody can tell it from this.
fn member(handling: &Lease<'_>) -> String {
    let named = Sha256::new()
        .chain_update(handling.subject.recipient.as_str())
        .chain_update(handling.request.as_str())
        .finalize();
    hex::encode(&named[..12])
}

#[async_trait]
impl Store for RedisStore {
    async fn admit(&self, ask: &Admit<'_>) -> Result<Admission, StoreError> {
        let (handling, limits, subject) = (&ask.lease, ask.limits, &ask.lease.subject);
        let recipient = &subject.recipient;
        let shared = limits.all.count > 0 || subject.user.is_some() || subject.ip.is_some();
        let mut call = self.scripts.admit.call(13);
        call.arg(self.keys.record(recipient, handling.request))
            .arg(self.keys.challenge(recipient, subject.purpose))
            .arg(self.keys.sends(recipient))
            .arg(self.keys.refunds(recipient))
            .arg(self.keys.cooldown(recipient))
            .arg(self.keys.all())
            .arg(self.keys.user(subject))
            .arg(self.keys.ip(subject))
            .arg(self.keys.suppressed(recipient))
            .arg(self.keys.country(ask.country))
            .arg(self.keys.recent(recipient))
            .arg(self.keys.index(handling.request))
            .arg(self.keys.wrong(recipient))
            .arg(self.time())
            .arg(id_word(handling.token))
            .arg(handling.request.as_str())
            .arg(if shared { member(handling) } else { String::new() })
            .optional(ask.requested_at.map(|at| at.0))
            .optional(ask.not_after.map(|at| at.0))
            .arg(millis(ask.code_life))
            .arg(millis(ask.lease_duration))
            .arg(ask.kids)
            .arg(ask.proposal.id.as_str())
            .arg(ask.proposal.kid)
            .arg(ask.proposal.digest.as_str())
            .arg(u8::from(ask.proposal.callers_code))
            .arg(subject.purpose)
            .arg(limits.wrong_per_challenge);
        add_limits(&mut call, subject, limits);
        call.arg(millis(limits.cooldown))
            .arg(REFUNDS_PER_DAY.count)
            .arg(millis(TIME_LEFT_MIN))
            .arg(CONTINUE_LIFE_LEFT_DIVISOR)
            .arg(millis(REFUSAL_KEPT))
            .arg(millis(KEPT_AFTER))
            .arg(millis(OUTCOME_KEPT))
            .arg(u8::from(ask.channel_disabled))
            .json(ask.history)
            .arg(recipient.as_str())
            .arg(RECENT_MAX)
            .arg(u8::from(ask.paused))
            .arg(ask.unfinished_leases_below);
        self.ask("admit", &call, answers::admission).await
    }

    async fn update_progress(
        &self,
        handling: &Lease<'_>,
        made: Option<u32>,
        mark: Progress,
        notes: Option<&RequestHistory>,
    ) -> Result<ProgressResult, StoreError> {
        let (word, span) = match mark {
            Progress::Waiting(span) => ("waiting", span),
            Progress::Sending(lease) => ("sending", lease),
            Progress::InDoubt(lease) => ("doubt", lease),
            Progress::Requeued { due, in_doubt: false } => ("back", due),
            Progress::Requeued { due, in_doubt: true } => ("doubtback", due),
        };
        let subject = &handling.subject;
        let mut call = self.scripts.mark.call(2);
        call.arg(self.keys.record(&subject.recipient, handling.request))
            .arg(self.keys.challenge(&subject.recipient, subject.purpose))
            .arg(self.time())
            .arg(id_word(handling.token))
            .optional(made)
            .arg(word)
            .arg(millis(span));
        match notes {
            Some(notes) => call.json(notes),
            None => call.arg("-"),
        };
        self.ask("mark", &call, answers::marked).await
    }

    async fn complete(&self, settle: &CompleteRequest<'_>) -> Result<CompleteResult, StoreError> {
        let (handling, subject) = (&settle.lease, &settle.lease.subject);
        let (recipient, message_id) = (&subject.recipient, settle.message_id());
        let kept = if settle.outcome.status == Status::Rejected { REFUSAL_KEPT } else { OUTCOME_KEPT };
        let nothing_sent = matches!(settle.outcome.status, Status::Failed | Status::Rejected);
        let mut call = self.scripts.settle.call(10);
        call.arg(self.keys.record(recipient, handling.request))
            .arg(self.keys.sends(recipient))
            .arg(self.keys.refunds(recipient))
            .arg(self.keys.all())
            .arg(self.keys.user(subject))
            .arg(self.keys.ip(subject))
            .arg(self.keys.recent(recipient))
            .arg(self.keys.claim(recipient, message_id))
            .arg(self.keys.block(recipient, settle.suppression.as_ref()))
            .arg(self.keys.receipts())
            .arg(self.time())
            .arg(id_word(handling.token))
            .json(settle.outcome)
            .arg(millis(kept))
            .optional(nothing_sent.then_some(settle.outcome.attempts))
            .arg(match settle.refund {
                Refund::None => "none",
                Refund::Free => "free",
                Refund::Counted => "counted",
            })
            .arg(handling.request.as_str())
            .arg(if settle.refund == Refund::None { String::new() } else { member(handling) })
            .arg(RECENT_MAX)
            .arg(recipient.as_str())
            .optional(message_id)
            .arg(u8::from(settle.found))
            .arg(millis(CLAIM_KEPT))
            .optional(settle.receipt_due.map(millis))
            .arg(millis(RECEIPTS_KEPT));
        add_block(&mut call, settle.suppression.as_ref());
        self.ask("settle", &call, answers::settled).await
    }

    async fn verify(&self, check: &CodeCheck<'_>) -> Result<Verdict, StoreError> {
        let mut call = self.scripts.verify.call(2);
        call.arg(self.keys.challenge(&check.recipient, check.purpose))
            .arg(self.keys.wrong(&check.recipient))
            .arg(self.time())
            .arg(id_word(check.check_id))
            .arg(check.limits.wrong_per_challenge)
            .arg(check.limits.wrong.count)
            .arg(millis(KEPT_AFTER));
        for (kid, digest) in check.digests {
            call.arg(*kid).arg(digest.as_str());
        }
        self.ask("verify", &call, answers::verdict).await
    }

    async fn begin_provider_check(&self, check: &CodeCheck<'_>) -> Result<ProviderCheckStart, StoreError> {
        let mut call = self.scripts.begin_check.call(3);
        call.arg(self.keys.challenge(&check.recipient, check.purpose))
            .arg(self.keys.wrong(&check.recipient))
            .arg(self.keys.asked(&check.recipient))
            .arg(self.time())
            .arg(id_word(check.check_id))
            .arg(check.limits.wrong_per_challenge)
            .arg(check.limits.wrong.count)
            .arg(millis(KEPT_AFTER))
            .arg(PROVIDER_MADE);
        self.ask("begin_check", &call, answers::begun).await
    }

    async fn finish_provider_check(
        &self,
        check: &CodeCheck<'_>,
        end: ProviderCheckResult,
    ) -> Result<Verdict, StoreError> {
        let mut call = self.scripts.end_check.call(3);
        call.arg(self.keys.challenge(&check.recipient, check.purpose))
            .arg(self.keys.wrong(&check.recipient))
            .arg(self.keys.asked(&check.recipient))
            .arg(id_word(check.check_id))
            .arg(check.limits.wrong_per_challenge)
            .arg(match end {
                ProviderCheckResult::Right => "right",
                ProviderCheckResult::Found => "found",
                ProviderCheckResult::Wrong => "wrong",
                ProviderCheckResult::NotCompared => "back",
            });
        self.ask("end_check", &call, answers::verdict).await
    }

    async fn link_verification(
        &self,
        subject: &Subject<'_>,
        challenge: &ChallengeId,
        name: &str,
    ) -> Result<(), StoreError> {
        let mut call = self.scripts.name_challenge.call(1);
        call.arg(self.keys.challenge(&subject.recipient, subject.purpose)).arg(challenge.as_str()).arg(name);
        self.ask("name_challenge", &call, answers::named).await
    }

    async fn usage(
        &self,
        subject: &Subject<'_>,
        request: Option<&RequestId>,
        limits: &Limits,
    ) -> Result<Usage, StoreError> {
        let recipient = &subject.recipient;
        let mut call = self.scripts.usage.call(7 + usize::from(request.is_some()));
        call.arg(self.keys.sends(recipient))
            .arg(self.keys.refunds(recipient))
            .arg(self.keys.cooldown(recipient))
            .arg(self.keys.all())
            .arg(self.keys.user(subject))
            .arg(self.keys.ip(subject))
            .arg(self.keys.wrong(recipient));
        if let Some(request) = request {
            call.arg(self.keys.record(recipient, request));
        }
        call.arg(self.time());
        add_limits(&mut call, subject, limits);
        call.arg(REFUNDS_PER_DAY.count);
        self.ask("usage", &call, answers::usage).await
    }

    async fn record_receipt(&self, track: &RecordReceipt<'_>) -> Result<ReceiptResult, StoreError> {
        let mut call = self.scripts.track.call(2);
        call.arg(self.keys.record(&track.recipient, track.request))
            .arg(self.keys.block(&track.recipient, track.suppression.as_ref()))
            .arg(self.time())
            .optional(Some(track.message_id).filter(|id| is_word(id)))
            .arg(track.status.rank())
            .arg(track.status.as_str())
            .arg(u8::from(track.status.is_final()))
            .arg(u8::from(track.published))
            .optional(track.code);
        add_block(&mut call, track.suppression.as_ref());
        self.ask("track", &call, answers::tracked).await
    }

    async fn overdue_receipts(
        &self,
        wait_max: Duration,
        count_max: u32,
    ) -> Result<Vec<OverdueReceipt>, StoreError> {
        let mut call = self.scripts.overdue.call(1);
        call.arg(self.keys.receipts())
            .arg(self.time())
            .arg(millis(wait_max))
            .arg(count_max)
            .arg(millis(RECEIPT_ASKED_AFTER_MIN))
            .arg(self.keys.prefix());
        self.ask("overdue", &call, answers::awaited).await
    }

    async fn heartbeat(&self, worker: u64, busy: bool) -> Result<SharedState, StoreError> {
        let mut call = self.scripts.pulse.call(3);
        call.arg(self.keys.busy())
            .arg(self.keys.kill())
            .arg(self.keys.server())
            .arg(self.time())
            .arg(id_word(worker))
            .arg(u8::from(busy))
            .arg(millis(BUSY_FOR))
            .arg(millis(FORGETFUL_FOR))
            .arg(self.link.server());
        let met = |answer: &str| {
            let (pulse, forgetful_for, server) = answers::pulse(answer)?;
            self.link.answered(server, forgetful_for);
            Some(pulse)
        };
        self.ask("pulse", &call, met).await
    }

    async fn kill_switch(&self) -> Result<Option<KillSwitch>, StoreError> {
        self.turn_kill_switch("as it is", "").await
    }

    async fn set_kill_switch(&self, reason: Option<&str>) -> Result<Option<KillSwitch>, StoreError> {
        let turn = if reason.is_some() { "on" } else { "off" };
        self.turn_kill_switch(turn, reason.unwrap_or_default()).await
    }

    async fn request_record(
        &self,
        request: &RequestId,
        recipient: Option<Digest16>,
    ) -> Result<Option<RequestRecord>, StoreError> {
        let mut call = self.scripts.story.call(1);
        call.arg(self.keys.index(request))
            .arg(self.time())
            .arg(self.keys.prefix())
            .optional(recipient.as_ref().map(Digest16::as_str))
            .arg(request.as_str())
            .arg(millis(KEPT_AFTER));
        self.ask("story", &call, answers::story).await
    }

    async fn recent_requests(&self, recipient: Digest16) -> Result<Vec<RequestSummary>, StoreError> {
        let mut call = self.scripts.recent.call(2);
        call.arg(self.keys.sends(&recipient))
            .arg(self.keys.recent(&recipient))
            .arg(self.time())
            .arg(RECENT_MAX);
        self.ask("recent", &call, |answer| answers::recent(answer, RECENT_MAX)).await
    }

    async fn suppressions(&self, count_max: u32) -> Result<Vec<SuppressionEntry>, StoreError> {
        let mut call = self.scripts.suppressions.call(1);
        call.arg(self.keys.suppressions())
            .arg(self.time())
            .arg(count_max.min(SUPPRESSIONS_MAX))
            .arg(self.keys.prefix());
        self.ask("suppressions", &call, answers::suppressions).await
    }

    async fn add_suppression(
        &self,
        recipient: Digest16,
        by_hand: &ManualSuppression<'_>,
    ) -> Result<SuppressionEntry, StoreError> {
        let ManualSuppression { masked, reason, duration } = by_hand;
        let shown = format!("{masked} {reason}");
        let stands = self.turn_suppression("on", &recipient, *duration, &shown).await?;
        stands.ok_or(StoreError::Garbled { step: "suppress" })
    }

    async fn remove_suppression(&self, recipient: Digest16) -> Result<Option<SuppressionEntry>, StoreError> {
        self.turn_suppression("off", &recipient, None, "").await
    }

    fn may_have_lost_writes(&self) -> bool {
        self.link.may_have_forgotten()
    }
}
