//! The record of a request: its lease, its progress, and at the end its outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use super::book::Reserved;
use crate::domain::challenge::ChallengeId;
use crate::domain::history::RequestHistory;
use crate::domain::keyed_digest::Digest16;
use crate::domain::outcome::Outcome;
use crate::domain::time::{UnixMillis, millis};
use crate::store::retention::{CHALLENGE_KEPT_AFTER, CLAIM_KEPT, OUTCOME_KEPT, is_word};
use crate::store::{Admission, AdmissionInput, Grant, Progress, ProposedChallenge, RecordedReceipt};

#[derive(Clone)]
pub(super) struct Challenge {
    pub(super) id: ChallengeId,
    pub(super) kid: String,
    pub(super) digest: Digest16,
    pub(super) callers_code: bool,
    pub(super) expires: UnixMillis,
    /// The check that verified it.
    pub(super) used: Option<u64>,
    /// Checks that were counted, the right one included.
    pub(super) checks: u32,
    pub(super) verification_sid: Option<String>,
    /// Provider checks that have begun and not finished, with the SID of the verification they asked about.
    pub(super) unfinished_checks: BTreeMap<u64, Option<String>>,
}

pub(super) struct Record {
    /// The fencing token of the lease; `None` after a requeue.
    pub(super) lease_token: Option<u64>,
    pub(super) kept_until: UnixMillis,
    pub(super) receipt: Option<RecordedReceipt>,
    /// The strongest suppression that receipts of this request have caused.
    pub(super) suppression_strength: SuppressionStrength,
    /// Of a completed request.
    pub(super) unnamed: Option<UnnamedMessages>,
    pub(super) stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SuppressionStrength {
    None,
    Temporary,
    Permanent,
}

pub(super) enum Stage {
    InProgress(InProgress),
    Completed(Outcome),
}

pub(super) struct InProgress {
    pub(super) phase: Phase,
    /// The end of the lease. After a requeue: the earliest start of the next attempt.
    pub(super) busy_until: UnixMillis,
    pub(super) attempts_started: u32,
    pub(super) attempt_started_at: UnixMillis,
    pub(super) attempts_in_doubt: u32,
    pub(super) unfinished_leases: u32,
    pub(super) challenge: Challenge,
    pub(super) admitted_at: UnixMillis,
    pub(super) deadline: UnixMillis,
    pub(super) purpose: String,
    pub(super) history: RequestHistory,
    pub(super) reserved: Option<Reserved>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Phase {
    Sending,
    Waiting,
    InDoubt,
}

impl Challenge {
    pub(super) fn new(proposal: &ProposedChallenge<'_>, expires: UnixMillis) -> Challenge {
        Challenge {
            id: proposal.id,
            kid: proposal.kid.to_owned(),
            digest: proposal.digest,
            callers_code: proposal.callers_code,
            expires,
            used: None,
            checks: 0,
            verification_sid: None,
            unfinished_checks: BTreeMap::new(),
        }
    }

    pub(super) fn is_kept(&self, now: UnixMillis) -> bool {
        self.expires.plus(CHALLENGE_KEPT_AFTER) > now
    }
}

impl Record {
    pub(super) fn new(lease_token: u64, kept_until: UnixMillis, stage: Stage) -> Record {
        Record {
            lease_token: Some(lease_token),
            kept_until,
            receipt: None,
            suppression_strength: SuppressionStrength::None,
            unnamed: None,
            stage,
        }
    }

    /// Of a request in progress: a completion ends it.
    pub(super) fn reserved(&self) -> Option<Reserved> {
        match &self.stage {
            Stage::InProgress(request) => request.reserved,
            Stage::Completed(_) => None,
        }
    }

    /// When the provider was last asked to send, at the latest.
    pub(super) fn asked_at(&self) -> Option<UnixMillis> {
        match &self.stage {
            Stage::InProgress(request) => Some(request.attempt_started_at),
            Stage::Completed(_) => Some(UnixMillis(self.kept_until.0.saturating_sub(millis(OUTCOME_KEPT)))),
        }
    }

    /// A receipt proves that its message was sent.
    pub(super) fn proven_message(&self) -> Option<String> {
        self.receipt.as_ref().map(|receipt| receipt.message_id.clone())
    }

    /// The message that a completed request names, if a receipt is of another one that the request may have, too.
    pub(super) fn named_beside(&self, message_id: &str) -> Option<String> {
        let Stage::Completed(outcome) = &self.stage else { return None };
        let named = outcome.provider_message_id.as_ref().filter(|id| is_word(id) && *id != message_id);
        named.filter(|_| self.unnamed.is_some()).cloned()
    }

    /// The time for which the request may still be sent, at least a second; `None` if it may not.
    pub(super) fn may_be_sent_for(&self, now: UnixMillis) -> Option<Duration> {
        match &self.stage {
            Stage::InProgress(request) if request.deadline > now => {
                Some(request.busy_until.since(now).max(Duration::from_secs(1)))
            }
            Stage::InProgress(_) | Stage::Completed(_) => None,
        }
    }

    /// Answers the admission of a request that has a record. `sends` counts those to its recipient within a day.
    pub(super) fn admit_again(
        &mut self,
        input: &AdmissionInput<'_>,
        sends: u32,
        now: UnixMillis,
    ) -> Admission {
        let token = input.lease.token;
        let ours = self.lease_token == Some(token);
        let request = match &mut self.stage {
            Stage::Completed(outcome) => return Admission::Completed { outcome: outcome.clone(), ours },
            Stage::InProgress(_) if input.gate_closed => return Admission::GateClosed,
            Stage::InProgress(request) => request,
        };
        // A repeated step gets the answer that was lost, and only the answer to a new request counts the sends.
        let is_new =
            ours && request.phase == Phase::Sending && request.attempt_started_at == request.admitted_at;
        if !ours {
            let lease_left = request.busy_until.since(now);
            if !lease_left.is_zero() {
                return Admission::Busy(lease_left);
            }
            if request.unfinished_leases >= input.crash_suspect_leases_min {
                return Admission::CrashSuspect {
                    unfinished_leases: request.unfinished_leases,
                    time_left: request.deadline.since(now),
                };
            }
            request.take_over(now);
        }
        (self.lease_token, request.busy_until) = (Some(token), now.plus(input.lease_duration));
        let grant = request.grant(now);
        let grant = if is_new { Grant { sends, history: None, ..grant } } else { grant };
        match request.phase {
            Phase::InDoubt => Admission::InDoubt(grant),
            Phase::Sending | Phase::Waiting => Admission::Granted(grant),
        }
    }
}

impl InProgress {
    pub(super) fn new(
        input: &AdmissionInput<'_>,
        challenge: Challenge,
        deadline: UnixMillis,
        now: UnixMillis,
    ) -> InProgress {
        InProgress {
            phase: Phase::Sending,
            busy_until: now.plus(input.lease_duration),
            attempts_started: 1,
            attempt_started_at: now,
            attempts_in_doubt: 0,
            unfinished_leases: 1,
            challenge,
            admitted_at: now,
            deadline,
            purpose: input.lease.subject.purpose.to_owned(),
            history: input.history.clone(),
            reserved: None,
        }
    }

    /// A new lease continues where the last one stopped. An attempt that it left unanswered is in doubt.
    fn take_over(&mut self, now: UnixMillis) {
        self.unfinished_leases += 1;
        match self.phase {
            Phase::Waiting => self.start_attempt(now),
            Phase::Sending | Phase::InDoubt => self.mark_in_doubt(),
        }
    }

    pub(super) fn start_attempt(&mut self, now: UnixMillis) {
        (self.phase, self.attempts_started, self.attempt_started_at) =
            (Phase::Sending, self.attempts_started + 1, now);
    }

    /// Marks the current attempt as in doubt, and counts it once.
    pub(super) fn mark_in_doubt(&mut self) {
        self.attempts_in_doubt += u32::from(self.phase != Phase::InDoubt);
        self.phase = Phase::InDoubt;
    }

    /// Is the handler's count of attempts up to date? In phase `Sending` the record already counts the attempt about to be
    /// made.
    pub(super) fn accepts(&self, attempts_made: Option<u32>, progress: Progress) -> bool {
        let Some(attempts_made) = attempts_made else {
            return matches!(progress, Progress::Requeued { in_doubt: false, .. });
        };
        // An attempt can be in doubt only if it was made.
        let in_doubt = matches!(progress, Progress::InDoubt(_) | Progress::Requeued { in_doubt: true, .. });
        self.attempts_started == attempts_made || (!in_doubt && self.may_be_unmade_after(attempts_made))
    }

    /// Withdraws the recorded attempt if the handler did not make it.
    pub(super) fn withdraw_attempt(&mut self, attempts_made: Option<u32>) {
        if self.phase == Phase::Sending && attempts_made != Some(self.attempts_started) {
            self.attempts_started -= 1;
        }
    }

    /// Does a handler that knows of `attempts_made` attempts know that nothing was sent?
    pub(super) fn is_unsent(&self, attempts_made: u32) -> bool {
        let knows_last = self.attempts_started == attempts_made || self.may_be_unmade_after(attempts_made);
        self.attempts_in_doubt == 0 && knows_last
    }

    /// Does the record count one attempt more, which the handler may not have made yet?
    fn may_be_unmade_after(&self, attempts_made: u32) -> bool {
        self.phase == Phase::Sending && self.attempts_started == attempts_made + 1
    }

    fn grant(&self, now: UnixMillis) -> Grant {
        Grant {
            attempt: self.attempts_started,
            challenge: self.challenge.id,
            kid: self.challenge.kid.clone(),
            digest: self.challenge.digest,
            callers_code: self.challenge.callers_code,
            admitted_at: self.admitted_at,
            expires_at: self.challenge.expires,
            deadline: self.deadline,
            now,
            attempt_started_at: self.attempt_started_at,
            attempts_in_doubt: self.attempts_in_doubt,
            unfinished_leases: self.unfinished_leases,
            sends: 0,
            history: Some(self.history.clone()),
        }
    }
}

/// The messages that a request may have, and whose ids it does not know.
#[derive(Clone)]
pub(super) struct UnnamedMessages {
    pub(super) count: u32,
    pub(super) from: UnixMillis,
    pub(super) until: UnixMillis,
    /// `None` if the store had lost the record.
    pub(super) code: Option<MessageCode>,
}

/// The code in a message, as far as the store knows it.
#[derive(Clone)]
pub(super) struct MessageCode {
    pub(super) challenge: ChallengeId,
    pub(super) kid: String,
    pub(super) digest: Digest16,
    pub(super) callers_code: bool,
    pub(super) purpose: String,
}

impl MessageCode {
    /// Digests compare only within one purpose and key. Beyond that, codes that we made count as different, and a caller's
    /// code may equal any.
    pub(super) fn may_equal(&self, other: &MessageCode) -> bool {
        if self.challenge == other.challenge {
            return true;
        }
        if self.kid == other.kid && self.purpose == other.purpose {
            return self.digest == other.digest;
        }
        self.callers_code || other.callers_code
    }
}

impl Record {
    /// The messages that the request may have and that no completion has named.
    pub(super) fn unnamed_messages(&self, now: UnixMillis) -> Option<UnnamedMessages> {
        match &self.stage {
            Stage::Completed(_) => self.unnamed.clone(),
            Stage::InProgress(request) => {
                let sending = u32::from(request.phase == Phase::Sending);
                let count = request.attempts_in_doubt + sending;
                let only_current_attempt = count == 1 && request.phase != Phase::Waiting;
                Some(UnnamedMessages {
                    count,
                    from: if only_current_attempt { request.attempt_started_at } else { request.admitted_at },
                    until: now.min(request.deadline),
                    code: Some(MessageCode {
                        challenge: request.challenge.id,
                        kid: request.challenge.kid.clone(),
                        digest: request.challenge.digest,
                        callers_code: request.challenge.callers_code,
                        purpose: request.purpose.clone(),
                    }),
                })
            }
        }
    }

    /// The messages that stay without a name if the request is completed now.
    pub(super) fn unnamed_at_completion(
        &self,
        id_is_known: bool,
        now: UnixMillis,
    ) -> Option<UnnamedMessages> {
        let possible = self.unnamed_messages(now)?;
        let count = possible.count.saturating_sub(u32::from(id_is_known));
        let until = match &self.stage {
            // The outcome has the id of the last attempt's message; the earlier attempts ended before that one began.
            Stage::InProgress(request) if id_is_known && request.phase == Phase::Sending => {
                request.attempt_started_at
            }
            _ => possible.until,
        };
        (count > 0).then_some(UnnamedMessages { count, until, ..possible })
    }
}

/// A completion whose record was lost: the times of its messages are unknown.
pub(super) fn unnamed_without_record(id_is_known: bool, now: UnixMillis) -> Option<UnnamedMessages> {
    let from = UnixMillis(now.0.saturating_sub(millis(CLAIM_KEPT)));
    (!id_is_known).then_some(UnnamedMessages { count: 1, from, until: now, code: None })
}
