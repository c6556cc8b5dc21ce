//! The record of a request: who handles it, how far it has come, and how it ended.

use std::time::Duration;

use super::shared::Claim;
use super::{Challenge, Entry, LogKey, Member, State};
use crate::domain::history::RequestHistory;
use crate::domain::outcome::{Outcome, Status};
use crate::domain::time::UnixMillis;
use crate::store::bounds::{CLAIM_KEPT, OUTCOME_KEPT, REFUNDS_PER_DAY, REFUSAL_KEPT};
use crate::store::{
    Admission, Admit, CompleteRequest, CompleteResult, Grant, Lease, Progress, ProgressResult,
    RecordedReceipt, Refund,
};

pub(super) struct Record {
    /// Nobody, if it was given back.
    pub(super) owner: Option<u64>,
    pub(super) until: UnixMillis,
    pub(super) receipt: Option<RecordedReceipt>,
    /// For how long reports of the request have blocked anything.
    pub(super) blocked: Spell,
    pub(super) stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spell {
    Never,
    ForATime,
    ForGood,
}

pub(super) enum Stage {
    Live(Live),
    Ended(Outcome),
}

pub(super) struct Live {
    pub(super) phase: Phase,
    /// When the owner is taken for dead; of a request that was given back, when its next try is due.
    lease: UnixMillis,
    pub(super) attempt: u32,
    /// When the try `attempt` was begun.
    started: UnixMillis,
    doubts: u32,
    starts: u32,
    pub(super) challenge: Challenge,
    admitted: UnixMillis,
    pub(super) deadline: UnixMillis,
    pub(super) purpose: String,
    pub(super) notes: RequestHistory,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Phase {
    Sending,
    Waiting,
    Doubt,
}

impl Record {
    pub(super) fn live(owner: u64, until: UnixMillis, live: Live) -> Record {
        Record { owner: Some(owner), until, receipt: None, blocked: Spell::Never, stage: Stage::Live(live) }
    }

    pub(super) fn ended(owner: u64, until: UnixMillis, outcome: Outcome) -> Record {
        Record {
            owner: Some(owner),
            until,
            receipt: None,
            blocked: Spell::Never,
            stage: Stage::Ended(outcome),
        }
    }

    fn proof(&self) -> Option<String> {
        self.receipt.as_ref().map(|receipt| receipt.message_id.clone())
    }

    /// How long it is surely handled, if it may still be sent.
    pub(super) fn may_be_sent_for(&self, now: UnixMillis) -> Option<Duration> {
        match &self.stage {
            Stage::Live(live) if live.deadline > now => {
                Some(live.lease.since(now).max(Duration::from_secs(1)))
            }
            Stage::Live(_) | Stage::Ended(_) => None,
        }
    }

    /// The answer for a request that has a record. `sends` are those to its recipient within a day.
    pub(super) fn admit_again(&mut self, ask: &Admit<'_>, sends: u32, now: UnixMillis) -> Admission {
        let owner = ask.lease.token;
        let live = match &mut self.stage {
            Stage::Ended(outcome) => {
                return Admission::Completed { outcome: outcome.clone(), ours: self.owner == Some(owner) };
            }
            Stage::Live(_) if ask.paused => return Admission::Paused,
            Stage::Live(live) => live,
        };
        // Who asks again because its answer was lost gets the same once more.
        let new = self.owner == Some(owner) && live.phase == Phase::Sending && live.started == live.admitted;
        if self.owner != Some(owner) {
            let lease_left = live.lease.since(now);
            if !lease_left.is_zero() {
                return Admission::Busy(lease_left);
            }
            if live.starts >= ask.unfinished_leases_below {
                return Admission::CrashSuspect { starts: live.starts, time_left: live.deadline.since(now) };
            }
            live.take_over(now);
        }
        (self.owner, live.lease) = (Some(owner), now.plus(ask.lease_duration));
        let seen = live.grant(now);
        let grant = if new { Grant { sends, history: None, ..seen } } else { seen };
        match live.phase {
            Phase::Doubt => Admission::InDoubt(grant),
            Phase::Sending | Phase::Waiting => Admission::Granted(grant),
        }
    }
}

impl Live {
    pub(super) fn new(ask: &Admit<'_>, challenge: Challenge, deadline: UnixMillis, now: UnixMillis) -> Live {
        Live {
            phase: Phase::Sending,
            lease: now.plus(ask.lease_duration),
            attempt: 1,
            started: now,
            doubts: 0,
            starts: 1,
            challenge,
            admitted: now,
            deadline,
            purpose: ask.lease.subject.purpose.to_owned(),
            notes: ask.history.clone(),
        }
    }

    fn take_over(&mut self, now: UnixMillis) {
        self.starts += 1;
        match self.phase {
            Phase::Waiting => {
                (self.phase, self.attempt, self.started) = (Phase::Sending, self.attempt + 1, now);
            }
            Phase::Sending | Phase::Doubt => self.doubt(),
        }
    }

    /// The try at hand is in doubt. It may have been before.
    fn doubt(&mut self) {
        self.doubts += u32::from(self.phase != Phase::Doubt);
        self.phase = Phase::Doubt;
    }

    /// Does a mark of somebody who knows of so many tries belong here? One that comes late does not.
    fn fits(&self, made: Option<u32>, mark: Progress) -> bool {
        let Some(made) = made else {
            return matches!(mark, Progress::Requeued { in_doubt: false, .. });
        };
        let under_way = self.phase == Phase::Sending && self.attempt == made + 1;
        let must_be_made = matches!(mark, Progress::InDoubt(_) | Progress::Requeued { in_doubt: true, .. });
        self.attempt == made || (under_way && !must_be_made)
    }

    /// The try under way, if there is one, was not made.
    fn none_under_way(&mut self, made: Option<u32>) {
        if self.phase == Phase::Sending && made != Some(self.attempt) {
            self.attempt -= 1;
        }
    }

    /// Is it known here that nothing was sent, by somebody who knows of so many tries?
    fn is_unsent(&self, made: u32) -> bool {
        let last = self.attempt == made || (self.phase == Phase::Sending && self.attempt == made + 1);
        self.doubts == 0 && last
    }

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
            started: self.started,
            attempts_in_doubt: self.doubts,
            unfinished_leases: self.starts,
            sends: 0,
            history: Some(self.notes.clone()),
        }
    }
}

impl State {
    pub(super) fn mark(
        &mut self,
        handling: &Lease<'_>,
        made: Option<u32>,
        mark: Progress,
        notes: Option<&RequestHistory>,
        now: UnixMillis,
    ) -> ProgressResult {
        let subject = &handling.subject;
        let pending = self.challenge(subject.recipient, subject.purpose).filter(|c| c.used.is_none());
        let pending = pending.map(|challenge| challenge.id);
        let key = (subject.recipient, handling.request.clone());
        let Some(record) = self.record_mut(&key, now).filter(|record| record.owner == Some(handling.token))
        else {
            return ProgressResult::NotOwner;
        };
        let proof = record.proof();
        let Stage::Live(live) = &mut record.stage else {
            return ProgressResult::NotOwner;
        };
        if !live.fits(made, mark) {
            return ProgressResult::NotOwner;
        }
        match mark {
            Progress::Waiting(span) => {
                live.none_under_way(made);
                (live.phase, live.lease) = (Phase::Waiting, now.plus(span));
            }
            // The code of a challenge that was used or replaced meanwhile is of no use to anybody.
            Progress::Sending(_) if live.doubts > 0 && proof.is_some() => {
                return ProgressResult::AlreadySent(proof.expect("there is one"));
            }
            Progress::Sending(_) if pending != Some(live.challenge.id) => {
                return ProgressResult::ChallengeReplaced;
            }
            Progress::Sending(lease) => {
                live.none_under_way(made);
                (live.phase, live.attempt) = (Phase::Sending, live.attempt + 1);
                (live.started, live.lease) = (now, now.plus(lease));
            }
            Progress::InDoubt(lease) => {
                live.doubt();
                live.lease = now.plus(lease);
            }
            Progress::Requeued { due, in_doubt } => {
                if in_doubt {
                    live.doubt();
                }
                live.none_under_way(made);
                if live.phase == Phase::Sending {
                    live.phase = Phase::Waiting;
                }
                live.starts = live.starts.saturating_sub(1);
                live.lease = now.plus(due);
                record.owner = None;
            }
        }
        if let Some(notes) = notes {
            live.notes = notes.clone();
        }
        match (mark, proof) {
            (Progress::InDoubt(_), Some(message_id)) => ProgressResult::AlreadySent(message_id),
            _ => ProgressResult::Applied,
        }
    }

    pub(super) fn settle(&mut self, settle: &CompleteRequest<'_>, now: UnixMillis) -> CompleteResult {
        let (handling, outcome) = (&settle.lease, settle.outcome);
        let recipient = handling.subject.recipient;
        let nothing_sent = matches!(outcome.status, Status::Failed | Status::Rejected);
        let known = self.record(recipient, handling.request, now);
        if let Some(record) = known {
            let ours = record.owner == Some(handling.token);
            match &record.stage {
                Stage::Ended(_) if ours => return CompleteResult::Recorded,
                Stage::Ended(before) => return CompleteResult::AlreadyCompleted(before.clone()),
                // Only who holds a request, and has made its last try, knows that nothing of it was sent.
                Stage::Live(live) if nothing_sent && !(ours && live.is_unsent(outcome.attempts)) => {
                    return CompleteResult::NotOwner;
                }
                Stage::Live(_) => {}
            }
        }
        let receipt = known.and_then(|record| record.receipt.clone());
        let blocked = known.map_or(Spell::Never, |record| record.blocked);
        if let Some(message_id) = settle.message_id() {
            if !self.claim(settle, message_id, now) {
                return CompleteResult::MessageClaimed;
            }
            if let Some(due) = settle.receipt_due {
                self.expect_receipt(handling, message_id, due, now);
            }
        }
        if let Some(block) = settle.suppression {
            self.block(recipient, block, now);
        }
        self.refund(handling, settle.refund, now);
        let kept = if outcome.status == Status::Rejected { REFUSAL_KEPT } else { OUTCOME_KEPT };
        let ended = Record::ended(handling.token, now.plus(kept), outcome.clone());
        self.records.insert((recipient, handling.request.clone()), Record { receipt, blocked, ..ended });
        CompleteResult::Recorded
    }

    /// Makes a message this request's. False if it was found, and is another one's.
    fn claim(&mut self, settle: &CompleteRequest<'_>, message_id: &str, now: UnixMillis) -> bool {
        let request = settle.lease.request;
        let key = (settle.lease.subject.recipient, message_id.to_owned());
        match self.claims.get(&key).filter(|claim| claim.until > now) {
            Some(claim) if claim.request == *request => true,
            Some(_) if settle.found => false,
            _ => {
                self.claims.insert(key, Claim { request: request.clone(), until: now.plus(CLAIM_KEPT) });
                true
            }
        }
    }

    fn refund(&mut self, handling: &Lease<'_>, refund: Refund, now: UnixMillis) {
        if refund == Refund::None {
            return;
        }
        let (subject, request) = (&handling.subject, handling.request);
        let recipient = subject.recipient;
        if refund == Refund::Counted {
            let refund = Entry { member: Member::Request(recipient, request.clone()), at: now };
            self.append(LogKey::Refunds(recipient), refund, REFUNDS_PER_DAY.window);
        }
        let charged = [
            Some(LogKey::Sends(recipient)),
            Some(LogKey::All),
            subject.user.map(LogKey::User),
            subject.ip.map(LogKey::Ip),
        ];
        let member = Member::Request(recipient, request.clone());
        for key in charged.into_iter().flatten() {
            if let Some(log) = self.logs.get_mut(&key) {
                log.retain(|entry| entry.member != member);
            }
        }
        self.remember_unsent(recipient, request, now);
    }
}
