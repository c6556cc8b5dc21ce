//! May a new request be sent, and what is charged for it?

use std::collections::BTreeMap;
use std::time::Duration;

use super::records::Live;
use super::shared::BlockKey;
use super::{Challenge, Cooldown, DAY, Entry, LogKey, Member, Record, State};
use crate::domain::challenge::{CONTINUE_LIFE_LEFT_DIVISOR, TIME_LEFT_MIN};
use crate::domain::keyed_digest::Digest16;
use crate::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use crate::domain::quota::{self, Quota};
use crate::domain::request_id::RequestId;
use crate::domain::time::{UnixMillis, seconds_rounded_up};
use crate::store::bounds::{OUTCOME_KEPT, REFUNDS_PER_DAY, REFUSAL_KEPT};
use crate::store::{Admission, Admit, Limits, ProposedChallenge, Subject, Usage};

impl State {
    pub(super) fn admit(&mut self, ask: &Admit<'_>, now: UnixMillis) -> Admission {
        let handling = &ask.lease;
        let recipient = handling.subject.recipient;
        let key = (recipient, handling.request.clone());
        let sends = self.sends_in_a_day(recipient, now);
        if let Some(record) = self.record_mut(&key, now) {
            return record.admit_again(ask, sends, now);
        }
        if ask.paused {
            return Admission::Paused;
        }
        self.index.insert(handling.request.clone(), recipient);
        let challenge =
            self.pending(ask, now).unwrap_or_else(|| started(&ask.proposal, now.plus(ask.code_life)));
        let deadline = deadline(ask, challenge.expires, now);
        if let Err(error) = self.allowed(ask, deadline, now) {
            let refused = Outcome::refused(Status::Rejected, now, handling.subject.purpose, error);
            let outcome = Outcome { history: ask.history.clone(), ..refused };
            self.remember_unsent(recipient, handling.request, now);
            let until = now.plus(REFUSAL_KEPT);
            self.records.insert(key, Record::ended(handling.token, until, outcome.clone()));
            return Admission::Completed { outcome, ours: true };
        }
        self.charge(ask, now);
        self.challenges.insert((recipient, handling.subject.purpose.to_owned()), challenge.clone());
        let live = Live::new(ask, challenge, deadline, now);
        let mut record = Record::live(handling.token, now.plus(OUTCOME_KEPT), live);
        let admission = record.admit_again(ask, self.sends_in_a_day(recipient, now), now);
        self.records.insert(key, record);
        admission
    }

    /// The pending challenge, if this send may continue it.
    fn pending(&self, ask: &Admit<'_>, now: UnixMillis) -> Option<Challenge> {
        let subject = &ask.lease.subject;
        let pending = self.challenge(subject.recipient, subject.purpose)?;
        let proposal = &ask.proposal;
        let continues = pending.used.is_none()
            && pending.tries < ask.limits.wrong_per_challenge
            && pending.expires.since(now) >= (ask.code_life / CONTINUE_LIFE_LEFT_DIVISOR).max(TIME_LEFT_MIN)
            && ask.kids.contains(&format!(",{},", pending.kid))
            && pending.callers_code == proposal.callers_code
            && (!proposal.callers_code || pending.digest == proposal.digest);
        continues.then(|| pending.clone())
    }

    fn allowed(&self, ask: &Admit<'_>, deadline: UnixMillis, now: UnixMillis) -> Result<(), OutcomeError> {
        let recipient = ask.lease.subject.recipient;
        if ask.channel_disabled {
            return Err(OutcomeError::of(ErrorCode::ChannelDisabled));
        }
        if deadline.since(now) < TIME_LEFT_MIN {
            return Err(OutcomeError::of(ErrorCode::Expired));
        }
        self.unblocked(ErrorCode::Suppressed, &BlockKey::Recipient(recipient), now)?;
        if let Some(country) = ask.country {
            self.unblocked(ErrorCode::Blocked, &BlockKey::Country(country.to_owned()), now)?;
        }
        let limited = self.limited_for(&ask.lease.subject, ask.limits, now);
        if !limited.is_zero() {
            return Err(OutcomeError::after(ErrorCode::RateLimited, limited));
        }
        let cooldown = self.cooldown(recipient, now);
        if !cooldown.is_zero() {
            return Err(OutcomeError::after(ErrorCode::Cooldown, cooldown));
        }
        Ok(())
    }

    fn unblocked(&self, code: ErrorCode, key: &BlockKey, now: UnixMillis) -> Result<(), OutcomeError> {
        let Some(block) = self.blocks.get(key).filter(|block| block.stands(now)) else {
            return Ok(());
        };
        let retry_after = block.until.map(|until| seconds_rounded_up(until.since(now)));
        Err(OutcomeError { provider_code: block.code, retry_after, ..OutcomeError::of(code) })
    }

    fn limited_for(&self, subject: &Subject<'_>, limits: &Limits, now: UnixMillis) -> Duration {
        let recipient = subject.recipient;
        let wait = |key, quota| quota::wait(quota, &self.times(&key), now);
        [
            wait(LogKey::Sends(recipient), limits.number),
            wait(LogKey::Sends(recipient), limits.number_day),
            wait(LogKey::Refunds(recipient), REFUNDS_PER_DAY),
            wait(LogKey::All, limits.all),
            subject.user.map_or(Duration::ZERO, |user| wait(LogKey::User(user), limits.user)),
            subject.ip.map_or(Duration::ZERO, |ip| wait(LogKey::Ip(ip), limits.ip)),
            // A code that nobody could have checked is not worth a message.
            wait(LogKey::Wrong(recipient), limits.wrong),
        ]
        .into_iter()
        .max()
        .unwrap_or_default()
    }

    /// How long a recipient cools down: until its cooldown ends, and then as long as the request that began it may still
    /// be sent. So no two messages to one recipient are ever in doubt together: the provider could not tell them apart.
    fn cooldown(&self, recipient: Digest16, now: UnixMillis) -> Duration {
        let Some(cooldown) = self.cooldowns.get(&recipient) else { return Duration::ZERO };
        if cooldown.until > now {
            return cooldown.until.since(now);
        }
        let record = self.record(recipient, &cooldown.request, now);
        record.and_then(|record| record.may_be_sent_for(now)).unwrap_or_default()
    }

    fn sends_in_a_day(&self, recipient: Digest16, now: UnixMillis) -> u32 {
        quota::used(Quota { count: 0, window: DAY }, &self.times(&LogKey::Sends(recipient)), now)
    }

    fn charge(&mut self, ask: &Admit<'_>, now: UnixMillis) {
        let (limits, subject) = (ask.limits, &ask.lease.subject);
        let recipient = subject.recipient;
        let mut log = |key: LogKey, window: Duration| {
            let member = Member::Request(recipient, ask.lease.request.clone());
            self.append(key, Entry { member, at: now }, window);
        };
        // The sends to a recipient are told to who asks, limited or not.
        log(LogKey::Sends(recipient), limits.number.window.max(DAY));
        let others = [
            (Some(LogKey::All), limits.all),
            (subject.user.map(LogKey::User), limits.user),
            (subject.ip.map(LogKey::Ip), limits.ip),
        ];
        for (key, quota) in others {
            if let Some(key) = key.filter(|_| quota.count > 0) {
                log(key, quota.window);
            }
        }
        if !limits.cooldown.is_zero() {
            let (until, request) = (now.plus(limits.cooldown), ask.lease.request.clone());
            self.cooldowns.insert(recipient, Cooldown { until, request });
        }
    }

    pub(super) fn usage(
        &self,
        subject: &Subject<'_>,
        request: Option<&RequestId>,
        limits: &Limits,
        now: UnixMillis,
    ) -> Usage {
        let sends = self.times(&LogKey::Sends(subject.recipient));
        Usage {
            used: quota::used(limits.number, &sends, now),
            used_day: quota::used(limits.number_day, &sends, now),
            wrong: quota::used(limits.wrong, &self.times(&LogKey::Wrong(subject.recipient)), now),
            limited_for: self.limited_for(subject, limits, now),
            cooldown: self.cooldown(subject.recipient, now),
            known: request.is_some_and(|request| self.record(subject.recipient, request, now).is_some()),
        }
    }
}

fn started(proposal: &ProposedChallenge<'_>, expires: UnixMillis) -> Challenge {
    Challenge {
        id: proposal.id,
        kid: proposal.kid.to_owned(),
        digest: proposal.digest,
        callers_code: proposal.callers_code,
        expires,
        used: None,
        tries: 0,
        name: None,
        open: BTreeMap::new(),
    }
}

/// The earliest of: the code's life from when the request was made, the challenge's end, the caller's own limit.
fn deadline(ask: &Admit<'_>, challenge_expires: UnixMillis, now: UnixMillis) -> UnixMillis {
    let asked = ask.requested_at.map_or(now, |at| at.min(now));
    let deadline = asked.plus(ask.code_life).min(challenge_expires);
    ask.not_after.map_or(deadline, |not_after| deadline.min(not_after))
}
