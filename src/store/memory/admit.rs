//! Admission: may a request be sent, with which challenge, and what does it cost?

use std::time::Duration;

use super::record::{Challenge, InProgress, Record, Stage};
use super::state::{Cooldown, DAY, State, SuppressionKey, event_source, record_key};
use crate::domain::challenge::{CONTINUE_LIFE_LEFT_DIVISOR, TIME_LEFT_MIN};
use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::{EventLog, Limit, Limits};
use crate::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use crate::domain::reached_limit::ReachedLimit;
use crate::domain::request_id::RequestId;
use crate::domain::time::{UnixMillis, seconds_rounded_up};
use crate::store::retention::{OUTCOME_KEPT, REJECTION_KEPT};
use crate::store::{Admission, AdmissionInput, LimitSubject, Usage};

impl State {
    pub(super) fn admit(&mut self, input: &AdmissionInput<'_>, now: UnixMillis) -> Admission {
        let (lease, subject) = (&input.lease, &input.lease.subject);
        let (recipient, key) = (subject.recipient, record_key(lease));
        let sends = self.sends_in_a_day(recipient, now);
        if let Some(record) = self.record_mut(&key, now) {
            return record.admit_again(input, sends, now);
        }
        if input.gate_closed {
            return Admission::GateClosed;
        }
        self.index_request(lease.request_id, recipient, now);
        let challenge = self
            .continued_challenge(input, now)
            .unwrap_or_else(|| Challenge::new(&input.proposal, now.plus(input.code_life)));
        let deadline = deadline(input, challenge.expires, now);
        if let Err(error) = self.check_allowed(input, deadline, now) {
            return self.reject(input, error, now);
        }
        self.charge(input, now);
        self.challenges.insert((recipient, subject.purpose.to_owned()), challenge.clone());
        let mut request = InProgress::new(input, challenge, deadline, now);
        request.reserved = self.book.reserve(input.spend, now);
        let mut record = Record::new(lease.token, now.plus(OUTCOME_KEPT), Stage::InProgress(request));
        let admission = record.admit_again(input, self.sends_in_a_day(recipient, now), now);
        self.records.insert(key, record);
        admission
    }

    /// Of two recipients with one request id, the first stays in the index while its record is kept.
    pub(super) fn index_request(&mut self, request_id: &RequestId, recipient: Digest16, now: UnixMillis) {
        let indexed = self.index.get(request_id);
        if indexed.is_none_or(|indexed| self.record(*indexed, request_id, now).is_none()) {
            self.index.insert(request_id.clone(), recipient);
        }
    }

    /// The pending challenge, if this send may continue it: enough life is left, and its code is one we can make.
    fn continued_challenge(&self, input: &AdmissionInput<'_>, now: UnixMillis) -> Option<Challenge> {
        let subject = &input.lease.subject;
        let pending = self.challenge(subject.recipient, subject.purpose, now)?;
        let proposal = &input.proposal;
        let life_left_min = (input.code_life / CONTINUE_LIFE_LEFT_DIVISOR).max(TIME_LEFT_MIN);
        let continues = pending.used.is_none()
            && pending.checks < input.limits.wrong_per_challenge
            && pending.expires.since(now) >= life_left_min
            && input.code_key_ids.contains(&format!(",{},", pending.kid))
            && pending.callers_code == proposal.callers_code
            && (!proposal.callers_code || pending.digest == proposal.digest);
        continues.then(|| pending.clone())
    }

    fn check_allowed(
        &self,
        input: &AdmissionInput<'_>,
        deadline: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), OutcomeError> {
        let recipient = input.lease.subject.recipient;
        let given = |yields| {
            let error = input.reject_if_new.filter(|error| error.yields_to_suppression() == yields);
            error.map_or(Ok(()), |error| Err(error.clone()))
        };
        given(false)?;
        if deadline.since(now) < TIME_LEFT_MIN {
            return Err(OutcomeError::of(ErrorCode::Expired));
        }
        self.check_suppression(ErrorCode::Suppressed, &SuppressionKey::Recipient(recipient), now)?;
        given(true)?;
        if let Some(country) = input.country {
            self.check_suppression(ErrorCode::Blocked, &SuppressionKey::Country(country.to_owned()), now)?;
        }
        let limited = self.reached_limit(&input.lease.subject, input.limits, now);
        // Of two with one wait the limit refuses, not the budget.
        let refusals = limited.into_iter().chain(self.book.refusal(input.spend, now));
        if let Some((limit, wait)) =
            refusals.reduce(|longest, other| if other.1 > longest.1 { other } else { longest })
        {
            return Err(OutcomeError::limited(limit, wait));
        }
        let cooldown = self.cooldown(recipient, now);
        if !cooldown.is_zero() {
            return Err(OutcomeError::limited(ReachedLimit::Cooldown, cooldown));
        }
        Ok(())
    }

    fn check_suppression(
        &self,
        error_code: ErrorCode,
        key: &SuppressionKey,
        now: UnixMillis,
    ) -> Result<(), OutcomeError> {
        let Some(suppression) = self.suppressions.get(key).filter(|found| found.is_in_force(now)) else {
            return Ok(());
        };
        let retry_after = suppression.until.map(|until| seconds_rounded_up(until.since(now)));
        Err(OutcomeError {
            provider_code: suppression.provider_code,
            retry_after,
            ..OutcomeError::of(error_code)
        })
    }

    /// The limit with the longest wait, and the time until every limit allows one more send. Wrong attempts limit sends, too:
    /// a code that could not be checked is not worth a message.
    fn reached_limit(
        &self,
        subject: &LimitSubject<'_>,
        limits: &Limits,
        now: UnixMillis,
    ) -> Option<(ReachedLimit, Duration)> {
        let wait = |limit: Limit| {
            let digest = subject.digest(limit.log())?;
            let wait = self.logs.wait((limit.log(), digest), limits[limit], now);
            (!wait.is_zero()).then_some((limit.into(), wait))
        };
        // Of limits with one wait those of the recipient come first.
        let own = [Limit::Recipient, Limit::RecipientDay, Limit::Wrong, Limit::Refunds];
        let of_subject = [Limit::User, Limit::Ip, Limit::Network, Limit::All];
        own.into_iter()
            .chain(of_subject)
            .filter_map(wait)
            .reduce(|longest, other| if other.1 > longest.1 { other } else { longest })
    }

    /// After its time the cooldown goes on while the request that started it may still be sent. So, unless the
    /// cooldown is off, two messages to one recipient are never in doubt together: a lookup could not tell them apart.
    fn cooldown(&self, recipient: Digest16, now: UnixMillis) -> Duration {
        let Some(cooldown) = self.cooldowns.get(&recipient) else { return Duration::ZERO };
        if cooldown.until > now {
            return cooldown.until.since(now);
        }
        let record = self.record(recipient, &cooldown.request_id, now);
        record.and_then(|record| record.may_be_sent_for(now)).unwrap_or_default()
    }

    /// Records a rejection, so that a repeat gets the same answer.
    fn reject(&mut self, input: &AdmissionInput<'_>, error: OutcomeError, now: UnixMillis) -> Admission {
        let lease = &input.lease;
        let rejected = Outcome::with_error(Status::Rejected, now, lease.subject.purpose, error);
        let outcome = Outcome { history: input.history.clone(), ..rejected };
        self.remember_unsent(lease.subject.recipient, lease.request_id, now);
        let stage = Stage::Completed(outcome.clone());
        self.records.insert(record_key(lease), Record::new(lease.token, now.plus(REJECTION_KEPT), stage));
        Admission::Completed { outcome, ours: true }
    }

    fn charge(&mut self, input: &AdmissionInput<'_>, now: UnixMillis) {
        let (lease, limits, subject) = (&input.lease, input.limits, &input.lease.subject);
        // Sends to the recipient are counted without a limit, too: grants and lists of requests show them.
        let window = limits[Limit::Recipient].window.max(DAY);
        self.logs.append((EventLog::Sends, subject.recipient), event_source(lease), window, now);
        for limit in Limit::OF_SENDS.into_iter().filter(|limit| limit.log() != EventLog::Sends) {
            if let Some(digest) = subject.digest(limit.log()).filter(|_| limits[limit].count > 0) {
                self.logs.append((limit.log(), digest), event_source(lease), limits[limit].window, now);
            }
        }
        if !limits.cooldown.is_zero() {
            let (until, request_id) = (now.plus(limits.cooldown), lease.request_id.clone());
            self.cooldowns.insert(subject.recipient, Cooldown { until, request_id });
        }
    }

    pub(super) fn usage(
        &self,
        subject: &LimitSubject<'_>,
        request_id: Option<&RequestId>,
        limits: &Limits,
        now: UnixMillis,
    ) -> Usage {
        let recipient = subject.recipient;
        let reached = self.reached_limit(subject, limits, now);
        let used = |limit: Limit| self.logs.used((limit.log(), recipient), limits[limit].window, now);
        Usage {
            used: used(Limit::Recipient),
            used_day: used(Limit::RecipientDay),
            wrong_attempts: used(Limit::Wrong),
            limited_for: reached.map_or(Duration::ZERO, |(_, wait)| wait),
            limited_by: reached.map(|(limit, _)| limit),
            cooldown_left: self.cooldown(recipient, now),
            has_record: request_id.is_some_and(|id| self.record(recipient, id, now).is_some()),
        }
    }
}

/// The earliest of: the code's life counted from `requested_at`, the challenge's end, the caller's `not_after`.
fn deadline(input: &AdmissionInput<'_>, challenge_expires: UnixMillis, now: UnixMillis) -> UnixMillis {
    let requested_at = input.requested_at.map_or(now, |at| at.min(now));
    let deadline = requested_at.plus(input.code_life).min(challenge_expires);
    input.not_after.map_or(deadline, |not_after| deadline.min(not_after))
}
