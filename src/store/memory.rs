//! The store in memory: what the scripts on Redis do, written to be read. The embedded gateway and the tests run on it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Admission, Admit, Check, Grant, Handling, KEPT_AFTER, Limits, Mark, Marked, OUTCOME_KEPT, Proposal,
    REFUNDS_PER_DAY, REFUSAL_KEPT, Refund, Settle, Settled, Store, StoreError, Subject, Usage,
};
use crate::clock::Clock;
use crate::domain::challenge::{CONTINUE_LIFE_LEFT_DIVISOR, ChallengeId, TIME_LEFT_MIN};
use crate::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use crate::domain::quota::{self, Quota};
use crate::domain::recipient::Digest16;
use crate::domain::request::RequestId;
use crate::domain::time::UnixMillis;
use crate::domain::verdict::Verdict;

/// Limits, challenges and records of one process.
pub struct MemoryStore {
    clock: Clock,
    state: Mutex<State>,
    time: std::sync::atomic::AtomicU64,
}

#[derive(Default)]
struct State {
    records: HashMap<(Digest16, RequestId), Record>,
    challenges: HashMap<(Digest16, String), Challenge>,
    cooldowns: HashMap<Digest16, UnixMillis>,
    logs: HashMap<LogKey, Vec<Entry>>,
    steps_until_sweep: u32,
}

#[derive(PartialEq, Eq, Hash)]
enum LogKey {
    Sends(Digest16),
    Refunds(Digest16),
    Wrong(Digest16),
    User(Digest16),
    Ip(Digest16),
    All,
}

/// One event of a sliding log. The same member counts once.
struct Entry {
    member: Member,
    at: UnixMillis,
}

#[derive(PartialEq, Eq)]
enum Member {
    Request(Digest16, RequestId),
    Check(u64),
}

enum Record {
    Live(Live),
    Ended { owner: u64, outcome: Outcome, until: UnixMillis },
}

struct Live {
    phase: Phase,
    owner: Option<u64>,
    lease: UnixMillis,
    attempt: u32,
    until: UnixMillis,
    challenge: Challenge,
    admitted: UnixMillis,
    deadline: UnixMillis,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Sending,
    Waiting,
    Doubt,
}

#[derive(Clone)]
struct Challenge {
    id: ChallengeId,
    kid: String,
    digest: Digest16,
    callers_code: bool,
    expires: UnixMillis,
    used: Option<u64>,
    wrong: u32,
}

const SWEEP_EVERY_STEPS: u32 = 1_000;

impl MemoryStore {
    /// An empty store that reads this clock.
    pub fn new(clock: Clock) -> MemoryStore {
        MemoryStore { clock, state: Mutex::default(), time: Default::default() }
    }

    /// Makes every later step happen at this time instead of the clock's. For tests of windows and lives.
    #[doc(hidden)]
    pub fn set_time(&self, now: UnixMillis) {
        self.time.store(now.0, std::sync::atomic::Ordering::Relaxed);
    }

    fn now(&self) -> UnixMillis {
        match self.time.load(std::sync::atomic::Ordering::Relaxed) {
            0 => self.clock.now(),
            fixed => UnixMillis(fixed),
        }
    }

    fn step<T>(&self, act: impl FnOnce(&mut State, UnixMillis) -> T) -> T {
        let now = self.now();
        let mut state = self.state.lock().expect("no step panics while it holds the lock");
        state.steps_until_sweep = state.steps_until_sweep.checked_sub(1).unwrap_or_else(|| {
            state.sweep(now);
            SWEEP_EVERY_STEPS
        });
        act(&mut state, now)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn admit(&self, ask: &Admit<'_>) -> Result<Admission, StoreError> {
        Ok(self.step(|state, now| state.admit(ask, now)))
    }

    async fn mark(&self, handling: &Handling<'_>, mark: Mark) -> Result<Marked, StoreError> {
        Ok(self.step(|state, now| state.mark(handling, mark, now)))
    }

    async fn settle(&self, settle: &Settle<'_>) -> Result<Settled, StoreError> {
        Ok(self.step(|state, now| state.settle(settle, now)))
    }

    async fn verify(&self, check: &Check<'_>) -> Result<Verdict, StoreError> {
        Ok(self.step(|state, now| state.verify(check, now)))
    }

    async fn usage(
        &self,
        subject: &Subject<'_>,
        request: Option<&RequestId>,
        limits: &Limits,
    ) -> Result<Usage, StoreError> {
        Ok(self.step(|state, now| state.usage(subject, request, limits, now)))
    }
}

impl State {
    fn admit(&mut self, ask: &Admit<'_>, now: UnixMillis) -> Admission {
        let key = record_key(&ask.handling);
        if let Some(record) = self.records.get_mut(&key).filter(|record| record.until() > now) {
            return record.admit_again(ask, now);
        }
        let challenge =
            self.pending(ask, now).unwrap_or_else(|| started(&ask.proposal, now.plus(ask.code_life)));
        let deadline = deadline(ask, challenge.expires, now);
        if let Err(error) = self.allowed(ask, deadline, now) {
            let outcome = Outcome::refused(Status::Rejected, now, ask.handling.subject.purpose, error);
            let until = now.plus(REFUSAL_KEPT);
            self.records
                .insert(key, Record::Ended { owner: ask.handling.owner, outcome: outcome.clone(), until });
            return Admission::Ended { outcome, ours: true };
        }
        self.charge(ask, now);
        let named = (ask.handling.subject.recipient, ask.handling.subject.purpose.to_owned());
        self.challenges.insert(named, challenge.clone());
        let live = Live {
            phase: Phase::Sending,
            owner: Some(ask.handling.owner),
            lease: now.plus(ask.lease),
            attempt: 1,
            until: now.plus(OUTCOME_KEPT),
            challenge,
            admitted: now,
            deadline,
        };
        let grant = live.grant(now);
        self.records.insert(key, Record::Live(live));
        Admission::Granted(grant)
    }

    /// The pending challenge, if this send may continue it.
    fn pending(&self, ask: &Admit<'_>, now: UnixMillis) -> Option<Challenge> {
        let subject = &ask.handling.subject;
        let pending = self.challenges.get(&(subject.recipient, subject.purpose.to_owned()))?;
        let proposal = &ask.proposal;
        let continues = pending.used.is_none()
            && pending.wrong < ask.limits.wrong_per_challenge
            && pending.expires.since(now) >= (ask.code_life / CONTINUE_LIFE_LEFT_DIVISOR).max(TIME_LEFT_MIN)
            && ask.kids.contains(&format!(",{},", pending.kid))
            && pending.callers_code == proposal.callers_code
            && (!proposal.callers_code || pending.digest == proposal.digest);
        continues.then(|| pending.clone())
    }

    fn allowed(&self, ask: &Admit<'_>, deadline: UnixMillis, now: UnixMillis) -> Result<(), OutcomeError> {
        if ask.closed {
            return Err(OutcomeError::of(ErrorCode::ChannelDisabled));
        }
        if deadline.since(now) < TIME_LEFT_MIN {
            return Err(OutcomeError::of(ErrorCode::Expired));
        }
        let limited = self.limited_for(&ask.handling.subject, ask.limits, now);
        if !limited.is_zero() {
            return Err(OutcomeError::after(ErrorCode::RateLimited, limited));
        }
        let cooldown = self.cooldown(ask.handling.subject.recipient, now);
        if !cooldown.is_zero() {
            return Err(OutcomeError::after(ErrorCode::Cooldown, cooldown));
        }
        Ok(())
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
        ]
        .into_iter()
        .max()
        .unwrap_or_default()
    }

    fn cooldown(&self, recipient: Digest16, now: UnixMillis) -> Duration {
        self.cooldowns.get(&recipient).map_or(Duration::ZERO, |until| until.since(now))
    }

    fn times(&self, key: &LogKey) -> Vec<UnixMillis> {
        let mut times: Vec<_> = self.logs.get(key).into_iter().flatten().map(|entry| entry.at).collect();
        times.sort_unstable();
        times
    }

    fn charge(&mut self, ask: &Admit<'_>, now: UnixMillis) {
        let (limits, subject) = (ask.limits, &ask.handling.subject);
        let recipient = subject.recipient;
        let number = Quota {
            count: limits.number.count + limits.number_day.count,
            window: limits.number.window.max(limits.number_day.window),
        };
        let mut log = |key: LogKey, quota: Quota| {
            if quota.count > 0 {
                let member = Member::Request(recipient, ask.handling.request.clone());
                self.append(key, Entry { member, at: now }, quota.window);
            }
        };
        log(LogKey::Sends(recipient), number);
        log(LogKey::All, limits.all);
        if let Some(user) = subject.user {
            log(LogKey::User(user), limits.user);
        }
        if let Some(ip) = subject.ip {
            log(LogKey::Ip(ip), limits.ip);
        }
        if !limits.cooldown.is_zero() {
            self.cooldowns.insert(recipient, now.plus(limits.cooldown));
        }
    }

    fn append(&mut self, key: LogKey, entry: Entry, window: Duration) {
        let log = self.logs.entry(key).or_default();
        log.retain(|old| old.at.plus(window) > entry.at && old.member != entry.member);
        log.push(entry);
    }

    fn mark(&mut self, handling: &Handling<'_>, mark: Mark, now: UnixMillis) -> Marked {
        let live = match self.records.get_mut(&record_key(handling)) {
            Some(Record::Live(live)) if live.owner == Some(handling.owner) && live.until > now => live,
            _ => return Marked::Lost,
        };
        let named = (handling.subject.recipient, handling.subject.purpose.to_owned());
        let pending = self.challenges.get(&named).filter(|pending| pending.used.is_none());
        match mark {
            Mark::Waiting(span) => (live.phase, live.lease) = (Phase::Waiting, now.plus(span)),
            // The code of a challenge that was used or replaced meanwhile is of no use to anybody.
            Mark::Sending { .. } if pending.map(|pending| pending.id) != Some(live.challenge.id) => {
                return Marked::Stale;
            }
            Mark::Sending { attempt, lease } => {
                (live.phase, live.attempt, live.lease) = (Phase::Sending, attempt, now.plus(lease));
            }
            Mark::GivenBack { tried, due } => {
                if live.phase == Phase::Sending {
                    (live.phase, live.attempt) = (Phase::Waiting, live.attempt - u32::from(!tried));
                }
                (live.owner, live.lease) = (None, now.plus(due));
            }
        }
        Marked::Held
    }

    fn settle(&mut self, settle: &Settle<'_>, now: UnixMillis) -> Settled {
        let handling = &settle.handling;
        let key = record_key(handling);
        let nothing_sent = matches!(settle.outcome.status, Status::Failed | Status::Rejected);
        match self.records.get(&key).filter(|record| record.until() > now) {
            Some(Record::Ended { owner, .. }) if *owner == handling.owner => return Settled::AsSaid,
            Some(Record::Ended { outcome, .. }) => return Settled::Before(outcome.clone()),
            // Only who holds a request knows that nothing of it was sent.
            Some(Record::Live(live)) if live.owner != Some(handling.owner) && nothing_sent => {
                return Settled::Held;
            }
            Some(Record::Live(_)) | None => {}
        }
        let kept = if settle.outcome.status == Status::Rejected { REFUSAL_KEPT } else { OUTCOME_KEPT };
        let ended =
            Record::Ended { owner: handling.owner, outcome: settle.outcome.clone(), until: now.plus(kept) };
        if settle.refund == Refund::Counted {
            let request = Member::Request(handling.subject.recipient, handling.request.clone());
            let refund = Entry { member: request, at: now };
            self.append(LogKey::Refunds(handling.subject.recipient), refund, REFUNDS_PER_DAY.window);
        }
        if settle.refund != Refund::None {
            self.refund(handling);
        }
        self.records.insert(key, ended);
        Settled::AsSaid
    }

    fn refund(&mut self, handling: &Handling<'_>) {
        let subject = &handling.subject;
        let charged = [
            Some(LogKey::Sends(subject.recipient)),
            Some(LogKey::All),
            subject.user.map(LogKey::User),
            subject.ip.map(LogKey::Ip),
        ];
        let member = Member::Request(subject.recipient, handling.request.clone());
        for key in charged.into_iter().flatten() {
            if let Some(log) = self.logs.get_mut(&key) {
                log.retain(|entry| entry.member != member);
            }
        }
    }

    fn verify(&mut self, check: &Check<'_>, now: UnixMillis) -> Verdict {
        let wrong_key = LogKey::Wrong(check.recipient);
        let wrong_wait = quota::wait(check.limits.wrong, &self.times(&wrong_key), now);
        let counted = self
            .logs
            .get(&wrong_key)
            .is_some_and(|log| log.iter().any(|entry| entry.member == Member::Check(check.check_id)));
        let named = (check.recipient, check.purpose.to_owned());
        let pending =
            self.challenges.get_mut(&named).filter(|pending| pending.expires.plus(KEPT_AFTER) > now);
        let Some(challenge) = pending else {
            return Verdict::NonePending;
        };
        if let Some(used) = challenge.used {
            return if used == check.check_id { Verdict::Verified } else { Verdict::AlreadyUsed };
        }
        if challenge.expires <= now {
            return Verdict::Expired { at: challenge.expires };
        }
        let tries_max = check.limits.wrong_per_challenge;
        if counted {
            return Verdict::Wrong { attempts_left: tries_max.saturating_sub(challenge.wrong) };
        }
        if challenge.wrong >= tries_max {
            return Verdict::Locked { retry_after: None };
        }
        if !wrong_wait.is_zero() {
            return Verdict::Locked { retry_after: Some(wrong_wait) };
        }
        let Some((_, typed)) = check.digests.iter().find(|(kid, _)| *kid == challenge.kid) else {
            return Verdict::KeyUnavailable;
        };
        challenge.wrong += 1;
        if *typed == challenge.digest {
            challenge.used = Some(check.check_id);
            return Verdict::Verified;
        }
        let attempts_left = tries_max - challenge.wrong;
        self.append(
            wrong_key,
            Entry { member: Member::Check(check.check_id), at: now },
            Duration::from_secs(3600),
        );
        Verdict::Wrong { attempts_left }
    }

    fn usage(
        &self,
        subject: &Subject<'_>,
        request: Option<&RequestId>,
        limits: &Limits,
        now: UnixMillis,
    ) -> Usage {
        let record = request.and_then(|request| self.records.get(&(subject.recipient, request.clone())));
        let sends = self.times(&LogKey::Sends(subject.recipient));
        Usage {
            used: quota::used(limits.number, &sends, now),
            used_day: quota::used(limits.number_day, &sends, now),
            limited_for: self.limited_for(subject, limits, now),
            cooldown: self.cooldown(subject.recipient, now),
            known: record.is_some_and(|record| record.until() > now),
        }
    }

    fn sweep(&mut self, now: UnixMillis) {
        const LOG_KEPT: Duration = Duration::from_secs(7 * 86_400);
        self.records.retain(|_, record| record.until() > now);
        self.challenges.retain(|_, challenge| challenge.expires.plus(KEPT_AFTER) > now);
        self.cooldowns.retain(|_, until| *until > now);
        self.logs.retain(|_, log| log.last().is_some_and(|newest| newest.at.plus(LOG_KEPT) > now));
    }
}

fn record_key(handling: &Handling<'_>) -> (Digest16, RequestId) {
    (handling.subject.recipient, handling.request.clone())
}

fn started(proposal: &Proposal<'_>, expires: UnixMillis) -> Challenge {
    Challenge {
        id: proposal.id,
        kid: proposal.kid.to_owned(),
        digest: proposal.digest,
        callers_code: proposal.callers_code,
        expires,
        used: None,
        wrong: 0,
    }
}

/// The earliest of: the code's life from when the request was made, the challenge's end, the caller's own limit.
fn deadline(ask: &Admit<'_>, challenge_expires: UnixMillis, now: UnixMillis) -> UnixMillis {
    let asked = ask.requested_at.map_or(now, |at| at.min(now));
    let deadline = asked.plus(ask.code_life).min(challenge_expires);
    ask.not_after.map_or(deadline, |not_after| deadline.min(not_after))
}

impl Record {
    fn until(&self) -> UnixMillis {
        match self {
            Record::Live(live) => live.until,
            Record::Ended { until, .. } => *until,
        }
    }

    fn admit_again(&mut self, ask: &Admit<'_>, now: UnixMillis) -> Admission {
        let live = match self {
            Record::Ended { owner, outcome, .. } => {
                return Admission::Ended { outcome: outcome.clone(), ours: *owner == ask.handling.owner };
            }
            Record::Live(live) => live,
        };
        if live.owner != Some(ask.handling.owner) {
            let lease_left = live.lease.since(now);
            if !lease_left.is_zero() {
                return Admission::Busy(lease_left);
            }
            match live.phase {
                Phase::Waiting => (live.phase, live.attempt) = (Phase::Sending, live.attempt + 1),
                Phase::Sending | Phase::Doubt => live.phase = Phase::Doubt,
            }
        }
        (live.owner, live.lease) = (Some(ask.handling.owner), now.plus(ask.lease));
        match live.phase {
            Phase::Doubt => Admission::InDoubt(live.grant(now)),
            Phase::Sending | Phase::Waiting => Admission::Granted(live.grant(now)),
        }
    }
}

impl Live {
    fn grant(&self, now: UnixMillis) -> Grant {
        Grant {
            attempt: self.attempt,
            challenge: self.challenge.id,
            kid: self.challenge.kid.clone(),
            digest: self.challenge.digest,
            callers_code: self.challenge.callers_code,
            admitted_at: self.admitted,
            expires_at: self.challenge.expires,
            deadline: self.deadline,
            now,
        }
    }
}
