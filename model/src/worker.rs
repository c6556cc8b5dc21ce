//! How far a worker is with the delivery that it handles.

use crate::store::{Answer, Grant, Outcome, Step, Try};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    Idle,
    Admitting,
    /// Granted: the next thing is the POST, if the clock allows it.
    Ready,
    /// The try was surely not accepted and is worth another.
    MarkingWaiting,
    /// Waits, where there is something to wait for, and then begins a try.
    MarkingSending(Try),
    /// The answer to the POST was lost.
    MarkingDoubt,
    /// Looks for the message; so many lookups in a row that count did not find it.
    Looking {
        absents: u8,
    },
    Settling(Outcome),
    Publishing(Outcome),
    Acknowledging,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Worker {
    pub phase: Phase,
    /// The broker still takes the delivery for handed out to this worker.
    pub holds: bool,
    /// By the worker's own clock a whole POST fits into the lease.
    pub fits: bool,
    /// The try that it makes or has made, the code that it was told to send, and whether the one re-send was begun.
    pub grant: Grant,
    /// The doubt that it is in is another handling's.
    pub took_over: bool,
}

/// What follows an answer of the store.
pub enum Next {
    GoOn,
    /// Another handling has the request: the delivery goes back.
    TakenOver,
}

impl Worker {
    pub const IDLE: Worker = Worker {
        phase: Phase::Idle,
        holds: false,
        fits: false,
        grant: Grant { attempt: 0, code: 0, resent: false },
        took_over: false,
    };

    /// What the worker asks the store next, if it is the store's turn.
    pub fn step(&self, number: u8) -> Option<Step> {
        let attempt = self.grant.attempt;
        match self.phase {
            // Each handling proposes a code of its own: without a request time a challenge is random.
            Phase::Admitting => Some(Step::Admit { proposed: number }),
            Phase::Ready if !self.fits => Some(Step::MarkSending { why: Try::Renewed, attempt }),
            Phase::MarkingWaiting => Some(Step::MarkWaiting { attempt }),
            Phase::MarkingSending(why) => Some(Step::MarkSending { why, attempt }),
            Phase::MarkingDoubt => Some(Step::MarkDoubt { attempt }),
            Phase::Settling(outcome) => Some(Step::Settle { outcome, attempt }),
            Phase::Idle
            | Phase::Ready
            | Phase::Looking { .. }
            | Phase::Publishing(_)
            | Phase::Acknowledging => None,
        }
    }

    pub fn hear(&mut self, answer: Answer) -> Next {
        match (self.phase, answer) {
            (_, Answer::Lost) => return Next::TakenOver,
            (_, Answer::Ended(outcome)) => {
                // Nothing else counts any more, and worlds that differ in it are one.
                *self = Worker { phase: Phase::Publishing(outcome), holds: self.holds, ..Worker::IDLE };
            }
            (_, Answer::Proven(message)) => self.phase = Phase::Settling(Outcome::Sent(message)),
            (_, Answer::Granted(grant)) => {
                (self.phase, self.fits, self.grant) = (Phase::Ready, true, grant);
            }
            (_, Answer::InDoubt(grant)) => {
                (self.phase, self.grant, self.took_over) = (Phase::Looking { absents: 0 }, grant, true);
            }
            (Phase::MarkingWaiting, Answer::Held) => self.phase = Phase::MarkingSending(Try::Next),
            (Phase::MarkingDoubt, Answer::Held) => self.phase = Phase::Looking { absents: 0 },
            (Phase::Ready, Answer::Held) => self.fits = true,
            (Phase::MarkingSending(why), Answer::Held) => {
                (self.phase, self.fits) = (Phase::Ready, true);
                self.grant.attempt += 1;
                self.grant.resent |= matches!(why, Try::Resend { .. });
            }
            (phase, Answer::Held | Answer::Busy) => unreachable!("{phase:?} does not hear {answer:?}"),
        }
        Next::GoOn
    }

    /// How the request ends if the try that would come now is not made.
    ///
    /// After a doubt nobody says `failed`: two lookups that found nothing are good grounds for a re-send, but no proof.
    pub fn unsent(&self, forgets_doubt: bool) -> Outcome {
        if self.grant.resent && !forgets_doubt { Outcome::Unknown } else { Outcome::Failed }
    }

    /// What the delivery leaves behind if the handling ends in order now; nothing where it has to go on.
    pub fn give_back(&self) -> Option<Step> {
        match self.phase {
            Phase::Ready if !self.fits => Some(Step::GiveBack { in_doubt: false }),
            Phase::Admitting | Phase::MarkingSending(_) => Some(Step::GiveBack { in_doubt: false }),
            Phase::MarkingDoubt | Phase::Looking { .. } => Some(Step::GiveBack { in_doubt: true }),
            _ => None,
        }
    }
}
