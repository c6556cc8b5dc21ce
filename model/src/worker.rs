//! The state of a worker and its handler.

use crate::store::{Answer, Grant, Named, Outcome, ProviderIndex, SendReason, Step};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    Idle,
    Admitting,
    /// Admitted; the POST comes next, if it fits into the lease.
    Ready,
    /// The attempt was surely not accepted and is worth a retry.
    WritingWaiting,
    /// Waits if there is a reason, then begins an attempt.
    WritingSending(SendReason),
    /// The answer to the POST was lost.
    WritingInDoubt,
    /// Counts the successive lookups that did not find the message.
    LookingUp {
        absent_lookups: u8,
    },
    Completing(Outcome),
    Publishing(Outcome),
    Acknowledging,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Worker {
    pub phase: Phase,
    /// The delivery is unacknowledged and not lost.
    pub holds_delivery: bool,
    /// By the worker's own clock a whole POST fits into the lease.
    pub post_fits_lease: bool,
    /// The current or last attempt, the admitted code, and whether the resend has begun.
    pub grant: Grant,
    /// Another handler's attempt is in doubt.
    pub took_over: bool,
}

/// The consequence of an answer of the store.
pub enum Next {
    GoOn,
    /// Another handler has the request: the delivery is requeued.
    TakenOver,
}

impl Worker {
    pub const IDLE: Worker = Worker {
        phase: Phase::Idle,
        holds_delivery: false,
        post_fits_lease: false,
        grant: Grant { attempt: 0, code: 0, resent: false, provider: 0, named: Named::NONE },
        took_over: false,
    };

    /// The next call of the store, if there is one.
    pub fn step(&self, number: u8) -> Option<Step> {
        let attempt = self.grant.attempt;
        match self.phase {
            // Each handler proposes another code: without a request time a challenge is random.
            Phase::Admitting => Some(Step::Admit { proposed: number }),
            Phase::Ready if !self.post_fits_lease => {
                let (reason, provider) = (SendReason::LeaseRenewal, self.grant.provider);
                Some(Step::WriteSending { reason, attempt, provider })
            }
            Phase::WritingWaiting => Some(Step::WriteWaiting { attempt }),
            Phase::WritingSending(reason) => {
                Some(Step::WriteSending { reason, attempt, provider: self.next_provider(reason) })
            }
            Phase::WritingInDoubt => Some(Step::WriteInDoubt { attempt }),
            Phase::Completing(outcome) => Some(Step::Complete { outcome, attempt }),
            Phase::Idle
            | Phase::Ready
            | Phase::LookingUp { .. }
            | Phase::Publishing(_)
            | Phase::Acknowledging => None,
        }
    }

    fn next_provider(&self, reason: SendReason) -> ProviderIndex {
        match reason {
            SendReason::OtherProvider | SendReason::DoubtUnanswered => 1,
            SendReason::LeaseRenewal | SendReason::NextAttempt | SendReason::Resend { .. } => {
                self.grant.provider
            }
        }
    }

    pub fn receive(&mut self, answer: Answer) -> Next {
        match (self.phase, answer) {
            (_, Answer::LeaseNotHeld) => return Next::TakenOver,
            (_, Answer::Completed(outcome)) => {
                // The other fields have no effect any more; resetting them makes such worlds equal.
                *self = Worker {
                    phase: Phase::Publishing(outcome),
                    holds_delivery: self.holds_delivery,
                    ..Worker::IDLE
                };
            }
            (_, Answer::AlreadySent(message)) => self.phase = Phase::Completing(Outcome::Sent(message)),
            (_, Answer::Granted(grant)) => {
                (self.phase, self.post_fits_lease, self.grant) = (Phase::Ready, true, grant);
            }
            (_, Answer::InDoubt(grant)) => {
                (self.phase, self.grant, self.took_over) =
                    (Phase::LookingUp { absent_lookups: 0 }, grant, true);
            }
            (Phase::WritingWaiting, Answer::Applied) => {
                self.phase = Phase::WritingSending(SendReason::NextAttempt)
            }
            (Phase::WritingInDoubt, Answer::Applied) => self.phase = Phase::LookingUp { absent_lookups: 0 },
            (Phase::Ready, Answer::Applied) => self.post_fits_lease = true,
            (Phase::WritingSending(reason), Answer::Applied) => {
                (self.phase, self.post_fits_lease) = (Phase::Ready, true);
                self.grant.attempt += u8::from(!reason.keeps_attempt());
                self.grant.resent |= reason.resends();
                self.grant.provider = self.next_provider(reason);
                self.grant.named = self.grant.named.with(self.grant.provider);
            }
            (phase, Answer::Applied | Answer::Busy) => unreachable!("{phase:?} does not expect {answer:?}"),
        }
        Next::GoOn
    }

    /// The outcome if the next attempt is not made.
    ///
    /// After a resend it is never `failed`: two empty lookups justify a resend, but prove nothing.
    pub fn outcome_without_attempt(&self, forgets_doubt: bool) -> Outcome {
        if self.grant.resent && !forgets_doubt { Outcome::Unknown } else { Outcome::Failed }
    }

    /// The call that requeues the request at a shutdown; `None` in phases that run to their end.
    pub fn requeue_step(&self) -> Option<Step> {
        match self.phase {
            Phase::Ready if !self.post_fits_lease => Some(Step::Requeue { in_doubt: false }),
            Phase::Admitting | Phase::WritingSending(_) => Some(Step::Requeue { in_doubt: false }),
            Phase::WritingInDoubt | Phase::LookingUp { .. } => Some(Step::Requeue { in_doubt: true }),
            _ => None,
        }
    }
}
