//! The store on Redis 7 or later: one Lua script a step, each run whole or not at all.
//!
//! The scripts answer with words, read in one place. A step whose answer was lost may have been made;
//! asking again gives the same answer.

mod answers;
mod keys;
mod link;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use redis::{Script, ScriptInvocation};
use sha2::{Digest as _, Sha256};

use self::keys::Keys;
use self::link::Link;
use super::bounds::{
    BUSY_FOR, CLAIM_KEPT, FORGETFUL_FOR, KEPT_AFTER, OUTCOME_KEPT, RECEIPT_ASKED_AFTER_MIN, RECENT_MAX,
    REFUNDS_PER_DAY, REFUSAL_KEPT, is_word,
};
use super::{
    Admission, Admit, Awaited, Block, Check, Handling, KillSwitch, Limits, Mark, Marked, Pulse, Recent,
    Refund, Settle, Settled, Store, StoreError, Story, Subject, Track, Tracked, Usage,
};
use crate::domain::challenge::{CONTINUE_LIFE_LEFT_DIVISOR, TIME_LEFT_MIN};
use crate::domain::outcome::Status;
use crate::domain::recipient::Digest16;
use crate::domain::request::RequestId;
use crate::domain::time::{UnixMillis, millis};
use crate::domain::trail::Notes;
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
    usage: Script,
    track: Script,
    overdue: Script,
    pulse: Script,
    kill: Script,
    story: Script,
    recent: Script,
}

impl RedisStore {
    /// Connects when the first step is asked: a gateway starts while Redis is down.
    pub fn connect(url: &str, prefix: &str) -> Result<RedisStore, StoreError> {
        Ok(RedisStore {
            link: Link::open(url)?,
            keys: Keys::new(prefix),
            scripts: Scripts {
                admit: script(include_str!("admit.lua")),
                mark: script(include_str!("mark.lua")),
                settle: script(include_str!("settle.lua")),
                verify: script(include_str!("verify.lua")),
                usage: script(include_str!("usage.lua")),
                track: script(include_str!("track.lua")),
                overdue: script(include_str!("overdue.lua")),
                pulse: script(include_str!("pulse.lua")),
                kill: script(include_str!("kill.lua")),
                story: script(include_str!("story.lua")),
                recent: script(include_str!("recent.lua")),
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
        script: &ScriptInvocation<'_>,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StoreError> {
        read(&self.link.ask(script).await?).ok_or(StoreError::Garbled { step })
    }

    async fn turn_kill_switch(&self, turn: &str, reason: &str) -> Result<Option<KillSwitch>, StoreError> {
        let mut script = self.scripts.kill.key(self.keys.kill());
        script.arg(self.time()).arg(turn).arg(reason);
        self.ask("kill", &script, answers::kill_switch).await
    }
}

fn script(body: &str) -> Script {
    Script::new(&format!("{}\n{body}", include_str!("prelude.lua")))
}

/// The limits on sends, in the order in which the scripts read them. One of a user or an address that is not told is off.
fn add_limits<'i, 's>(
    script: &'i mut ScriptInvocation<'s>,
    subject: &Subject<'_>,
    limits: &Limits,
) -> &'i mut ScriptInvocation<'s> {
    script
        .arg(limits.number.count)
        .arg(millis(limits.number.window))
        .arg(limits.number_day.count)
        .arg(subject.user.map_or(0, |_| limits.user.count))
        .arg(subject.ip.map_or(0, |_| limits.ip.count))
        .arg(limits.all.count)
}

/// A value, or the word that stands for none: 0 is a value like any other.
fn optional(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// The provider's error number of a block and how long it lasts. One that lasts no time is none.
fn block_words(block: Option<&Block<'_>>) -> (String, String) {
    let block = block.filter(|block| block.lasts.is_none_or(|lasts| millis(lasts) > 0));
    (optional(block.map(|block| block.code)), optional(block.and_then(|block| block.lasts).map(millis)))
}

fn notes_line(notes: &Notes) -> String {
    serde_json::to_string(notes).expect("notes are plain data")
}

fn owner_word(owner: u64) -> String {
    format!("{owner:016x}")
}

/// Names a request of a recipient in the logs that recipients share. Short: Redis keeps longer members at six times
/// the memory. The recipient's own name is a keyed digest already, so nobody can tell it from this.
fn member(handling: &Handling<'_>) -> String {
    let named = Sha256::new()
        .chain_update(handling.subject.recipient.as_str())
        .chain_update(handling.request.as_str())
        .finalize();
    hex::encode(&named[..12])
}

#[async_trait]
impl Store for RedisStore {
    async fn admit(&self, ask: &Admit<'_>) -> Result<Admission, StoreError> {
        let (handling, limits, subject) = (&ask.handling, ask.limits, &ask.handling.subject);
        let recipient = subject.recipient;
        let shared = limits.all.count > 0 || subject.user.is_some() || subject.ip.is_some();
        let mut script = self.scripts.admit.prepare_invoke();
        script
            .key(self.keys.record(recipient, handling.request))
            .key(self.keys.challenge(recipient, subject.purpose))
            .key(self.keys.sends(recipient))
            .key(self.keys.refunds(recipient))
            .key(self.keys.cooldown(recipient))
            .key(self.keys.all())
            .key(self.keys.user(subject))
            .key(self.keys.ip(subject))
            .key(self.keys.suppressed(recipient))
            .key(self.keys.country(ask.country))
            .key(self.keys.recent(recipient))
            .key(self.keys.index(handling.request))
            .arg(self.time())
            .arg(owner_word(handling.owner))
            .arg(handling.request.as_str())
            .arg(if shared { member(handling) } else { String::new() })
            .arg(optional(ask.requested_at.map(|at| at.0)))
            .arg(optional(ask.not_after.map(|at| at.0)))
            .arg(millis(ask.code_life))
            .arg(millis(ask.lease))
            .arg(ask.kids)
            .arg(ask.proposal.id.as_str())
            .arg(ask.proposal.kid)
            .arg(ask.proposal.digest.as_str())
            .arg(u8::from(ask.proposal.callers_code))
            .arg(subject.purpose)
            .arg(limits.wrong_per_challenge);
        add_limits(&mut script, subject, limits)
            .arg(millis(limits.cooldown))
            .arg(REFUNDS_PER_DAY.count)
            .arg(millis(TIME_LEFT_MIN))
            .arg(CONTINUE_LIFE_LEFT_DIVISOR)
            .arg(millis(REFUSAL_KEPT))
            .arg(millis(KEPT_AFTER))
            .arg(millis(OUTCOME_KEPT))
            .arg(u8::from(ask.closed))
            .arg(notes_line(ask.notes))
            .arg(recipient.as_str())
            .arg(RECENT_MAX);
        self.ask("admit", &script, answers::admission).await
    }

    async fn mark(
        &self,
        handling: &Handling<'_>,
        made: Option<u32>,
        mark: Mark,
        notes: Option<&Notes>,
    ) -> Result<Marked, StoreError> {
        let (word, span) = match mark {
            Mark::Waiting(span) => ("waiting", span),
            Mark::Sending(lease) => ("sending", lease),
            Mark::Doubt(lease) => ("doubt", lease),
            Mark::GivenBack { due, in_doubt: false } => ("back", due),
            Mark::GivenBack { due, in_doubt: true } => ("doubtback", due),
        };
        let subject = &handling.subject;
        let mut script = self.scripts.mark.key(self.keys.record(subject.recipient, handling.request));
        script.key(self.keys.challenge(subject.recipient, subject.purpose));
        script.arg(self.time()).arg(owner_word(handling.owner)).arg(optional(made)).arg(word);
        script.arg(millis(span)).arg(optional(notes.map(notes_line)));
        self.ask("mark", &script, answers::marked).await
    }

    async fn settle(&self, settle: &Settle<'_>) -> Result<Settled, StoreError> {
        let (handling, subject) = (&settle.handling, &settle.handling.subject);
        let (recipient, message_id) = (subject.recipient, settle.message_id());
        let outcome = serde_json::to_string(settle.outcome).expect("an outcome is plain data");
        let kept = if settle.outcome.status == Status::Rejected { REFUSAL_KEPT } else { OUTCOME_KEPT };
        let nothing_sent = matches!(settle.outcome.status, Status::Failed | Status::Rejected);
        let (block_code, block_lasts) = block_words(settle.block.as_ref());
        let mut script = self.scripts.settle.prepare_invoke();
        script
            .key(self.keys.record(recipient, handling.request))
            .key(self.keys.sends(recipient))
            .key(self.keys.refunds(recipient))
            .key(self.keys.all())
            .key(self.keys.user(subject))
            .key(self.keys.ip(subject))
            .key(self.keys.recent(recipient))
            .key(self.keys.claim(recipient, message_id))
            .key(self.keys.block(recipient, settle.block.as_ref()))
            .key(self.keys.receipts())
            .arg(self.time())
            .arg(owner_word(handling.owner))
            .arg(outcome)
            .arg(millis(kept))
            .arg(optional(nothing_sent.then_some(settle.outcome.attempts)))
            .arg(match settle.refund {
                Refund::None => "none",
                Refund::Free => "free",
                Refund::Counted => "counted",
            })
            .arg(handling.request.as_str())
            .arg(if settle.refund == Refund::None { String::new() } else { member(handling) })
            .arg(RECENT_MAX)
            .arg(recipient.as_str())
            .arg(optional(message_id))
            .arg(u8::from(settle.found))
            .arg(millis(CLAIM_KEPT))
            .arg(optional(settle.receipt_due.map(millis)))
            .arg(millis(RECEIPTS_KEPT))
            .arg(block_code)
            .arg(block_lasts);
        self.ask("settle", &script, answers::settled).await
    }

    async fn verify(&self, check: &Check<'_>) -> Result<Verdict, StoreError> {
        let mut script = self.scripts.verify.prepare_invoke();
        script
            .key(self.keys.challenge(check.recipient, check.purpose))
            .key(self.keys.wrong(check.recipient))
            .arg(self.time())
            .arg(owner_word(check.check_id))
            .arg(check.limits.wrong_per_challenge)
            .arg(check.limits.wrong.count)
            .arg(millis(KEPT_AFTER));
        for (kid, digest) in check.digests {
            script.arg(*kid).arg(digest.as_str());
        }
        self.ask("verify", &script, answers::verdict).await
    }

    async fn usage(
        &self,
        subject: &Subject<'_>,
        request: Option<&RequestId>,
        limits: &Limits,
    ) -> Result<Usage, StoreError> {
        let mut script = self.scripts.usage.prepare_invoke();
        script
            .key(self.keys.sends(subject.recipient))
            .key(self.keys.refunds(subject.recipient))
            .key(self.keys.cooldown(subject.recipient))
            .key(self.keys.all())
            .key(self.keys.user(subject))
            .key(self.keys.ip(subject));
        if let Some(request) = request {
            script.key(self.keys.record(subject.recipient, request));
        }
        script.arg(self.time());
        add_limits(&mut script, subject, limits).arg(REFUNDS_PER_DAY.count);
        self.ask("usage", &script, answers::usage).await
    }

    async fn track(&self, track: &Track<'_>) -> Result<Tracked, StoreError> {
        let (block_code, block_lasts) = block_words(track.block.as_ref());
        let mut script = self.scripts.track.prepare_invoke();
        script
            .key(self.keys.record(track.recipient, track.request))
            .key(self.keys.block(track.recipient, track.block.as_ref()))
            .arg(self.time())
            .arg(optional(Some(track.message_id).filter(|id| is_word(id))))
            .arg(track.status.rank())
            .arg(track.status.as_str())
            .arg(u8::from(track.status.is_final()))
            .arg(u8::from(track.told))
            .arg(optional(track.code))
            .arg(block_code)
            .arg(block_lasts);
        self.ask("track", &script, answers::tracked).await
    }

    async fn overdue(&self, wait_max: Duration, count_max: u32) -> Result<Vec<Awaited>, StoreError> {
        let mut script = self.scripts.overdue.key(self.keys.receipts());
        script.arg(self.time()).arg(millis(wait_max)).arg(count_max);
        script.arg(millis(RECEIPT_ASKED_AFTER_MIN)).arg(self.keys.prefix());
        self.ask("overdue", &script, answers::awaited).await
    }

    async fn pulse(&self, worker: u64, busy: bool) -> Result<Pulse, StoreError> {
        let mut script = self.scripts.pulse.key(self.keys.busy());
        script
            .key(self.keys.kill())
            .key(self.keys.server())
            .arg(self.time())
            .arg(owner_word(worker))
            .arg(u8::from(busy))
            .arg(millis(BUSY_FOR))
            .arg(millis(FORGETFUL_FOR))
            .arg(self.link.server());
        let met = |answer: &str| {
            let (pulse, forgetful_for, server) = answers::pulse(answer)?;
            self.link.answered(server, forgetful_for);
            Some(pulse)
        };
        self.ask("pulse", &script, met).await
    }

    async fn kill_switch(&self) -> Result<Option<KillSwitch>, StoreError> {
        self.turn_kill_switch("as it is", "").await
    }

    async fn set_kill_switch(&self, reason: Option<&str>) -> Result<Option<KillSwitch>, StoreError> {
        let turn = if reason.is_some() { "on" } else { "off" };
        self.turn_kill_switch(turn, reason.unwrap_or_default()).await
    }

    async fn story(
        &self,
        request: &RequestId,
        recipient: Option<Digest16>,
    ) -> Result<Option<Story>, StoreError> {
        let mut script = self.scripts.story.key(self.keys.index(request));
        script.arg(self.time()).arg(self.keys.prefix()).arg(optional(recipient)).arg(request.as_str());
        script.arg(millis(KEPT_AFTER));
        self.ask("story", &script, answers::story).await
    }

    async fn recent(&self, recipient: Digest16) -> Result<Vec<Recent>, StoreError> {
        let mut script = self.scripts.recent.key(self.keys.sends(recipient));
        script.key(self.keys.recent(recipient)).arg(self.time()).arg(RECENT_MAX);
        self.ask("recent", &script, |answer| answers::recent(answer, RECENT_MAX)).await
    }

    fn may_have_forgotten(&self) -> bool {
        self.link.may_have_forgotten()
    }
}
