//! The record of the request in the store, and the scripts that change it: `admit`, `mark` and `settle`.
//!
//! Each script is one atomic step. Whether its answer arrives is the model's affair.

use crate::flaw::Flaw;

/// Names a handling of a delivery, as the 64 random bits do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// What a worker handles now.
    Worker(u8),
    /// A handling that is over; the number keeps two of them apart.
    Past(u8),
    /// The request was given back.
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// With the provider's id of the message: its place among all that were posted.
    Sent(u8),
    /// Admitted, but surely nothing was sent.
    Failed,
    /// It may have been sent.
    Unknown,
    /// Never admitted.
    Rejected,
}

/// The code in a message, named after the worker that proposed it.
pub type Code = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    Sending,
    Waiting,
    Doubt,
}

/// A request in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Open {
    pub state: State,
    pub owner: Owner,
    pub lease: Lease,
    /// Number of the try.
    pub attempt: u8,
    /// The one re-send that a doubt allows was begun.
    pub resent: bool,
    /// A message of the request that a callback has shown to be accepted.
    pub proof: Option<u8>,
    pub code: Code,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lease {
    Alive,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Record {
    Absent,
    Open(Open),
    Ended(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Charge {
    Never,
    Kept,
    Refunded,
    RefundedTwice,
}

/// Why `sending` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Try {
    /// The lease has too little left for a whole answer.
    Renewed,
    /// The try before it was surely not accepted.
    Next,
    /// So many lookups in a row did not find the message.
    Resend { absents: u8 },
}

/// What a worker asks of the store. All but `admit` and a give-back name the try that the worker made last or, to
/// renew its lease, has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    Admit { proposed: Code },
    MarkWaiting { attempt: u8 },
    MarkSending { why: Try, attempt: u8 },
    MarkDoubt { attempt: u8 },
    GiveBack { in_doubt: bool },
    Settle { outcome: Outcome, attempt: u8 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// Send it.
    Granted(Grant),
    /// Find out first whether it was sent.
    InDoubt(Grant),
    /// Another handling's lease is alive.
    Busy,
    Held,
    /// Another handling has it.
    Lost,
    /// A callback came meanwhile.
    Proven(u8),
    /// This is how the request ended.
    Ended(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    pub attempt: u8,
    pub code: Code,
    pub resent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Store {
    pub record: Record,
    pub charge: Charge,
}

impl Store {
    pub fn run(&mut self, step: Step, me: Owner, too_late: bool, flaw: Option<Flaw>) -> Answer {
        match step {
            Step::Admit { proposed } => self.admit(proposed, me, too_late, flaw),
            Step::Settle { outcome, attempt } => self.settle(outcome, attempt, me, flaw),
            mark => self.mark(mark, me, flaw),
        }
    }

    fn admit(&mut self, proposed: Code, me: Owner, too_late: bool, flaw: Option<Flaw>) -> Answer {
        let open = match &mut self.record {
            Record::Ended(outcome) => return Answer::Ended(*outcome),
            Record::Absent if too_late => {
                self.record = Record::Ended(Outcome::Rejected);
                return Answer::Ended(Outcome::Rejected);
            }
            Record::Absent => {
                self.charge = Charge::Kept;
                self.record = Record::Open(Open {
                    state: State::Sending,
                    owner: me,
                    lease: Lease::Alive,
                    attempt: 1,
                    resent: false,
                    proof: None,
                    code: proposed,
                });
                return Answer::Granted(Grant { attempt: 1, code: proposed, resent: false });
            }
            Record::Open(open) => open,
        };
        if open.owner != me {
            if open.lease == Lease::Alive {
                return Answer::Busy;
            }
            match open.state {
                State::Waiting if open.proof.is_none() => {
                    (open.state, open.attempt) = (State::Sending, open.attempt + 1);
                }
                State::Sending if flaw == Some(Flaw::TakesOverUnseen) => {}
                State::Waiting | State::Sending | State::Doubt => open.state = State::Doubt,
            }
        }
        (open.owner, open.lease) = (me, Lease::Alive);
        let code = if flaw == Some(Flaw::SendsItsOwnCode) { proposed } else { open.code };
        let grant = Grant { attempt: open.attempt, code, resent: open.resent };
        match open.state {
            State::Doubt => Answer::InDoubt(grant),
            State::Sending | State::Waiting => Answer::Granted(grant),
        }
    }

    fn mark(&mut self, step: Step, me: Owner, flaw: Option<Flaw>) -> Answer {
        let Record::Open(open) = &mut self.record else {
            return Answer::Lost;
        };
        if open.owner != me || !(flaw == Some(Flaw::StepsNameNoTry) || open.takes(step)) {
            return Answer::Lost;
        }
        match step {
            Step::MarkWaiting { .. } => open.state = State::Waiting,
            Step::MarkDoubt { .. } => open.state = State::Doubt,
            Step::MarkSending { why, attempt } => {
                // Looked at here and not before: a callback may come between the lookup and this step.
                if let Some(message) = open.proof {
                    return Answer::Proven(message);
                }
                open.state = State::Sending;
                open.attempt = if why == Try::Renewed { attempt } else { attempt + 1 };
                open.resent |= matches!(why, Try::Resend { .. });
            }
            Step::GiveBack { in_doubt } => {
                match open.state {
                    State::Sending if in_doubt && flaw != Some(Flaw::GivesDoubtBackAsWaiting) => {
                        open.state = State::Doubt;
                    }
                    // A try that was not made does not count.
                    State::Sending => (open.state, open.attempt) = (State::Waiting, open.attempt - 1),
                    State::Waiting | State::Doubt => {}
                }
                open.owner = Owner::Nobody;
            }
            Step::Admit { .. } | Step::Settle { .. } => unreachable!("no mark"),
        }
        open.lease = Lease::Alive;
        Answer::Held
    }

    fn settle(&mut self, outcome: Outcome, attempt: u8, me: Owner, flaw: Option<Flaw>) -> Answer {
        let recorded = match self.record {
            // The first one said stays.
            Record::Ended(before) => return Answer::Ended(before),
            Record::Open(Open { proof: Some(message), .. }) => Outcome::Sent(message),
            Record::Open(open) if outcome == Outcome::Failed && !open.may_fail(attempt, me, flaw) => {
                return Answer::Lost;
            }
            Record::Open(_) | Record::Absent => outcome,
        };
        if recorded == Outcome::Failed {
            self.charge = match self.charge {
                Charge::Kept => Charge::Refunded,
                Charge::Never | Charge::Refunded | Charge::RefundedTwice => Charge::RefundedTwice,
            };
        }
        self.record = Record::Ended(recorded);
        Answer::Ended(recorded)
    }
}

impl Open {
    /// Does a mark speak of what stands here? Being the owner is not enough: a step that arrives late speaks of an
    /// earlier try, and a late `admit` makes a handling the owner of a try that it knows nothing of.
    fn takes(&self, mark: Step) -> bool {
        match mark {
            Step::MarkWaiting { attempt } => {
                self.is(State::Sending, attempt) || self.is(State::Waiting, attempt)
            }
            Step::MarkDoubt { attempt } => self.is(State::Sending, attempt) || self.is(State::Doubt, attempt),
            Step::MarkSending { why: Try::Renewed, attempt } => self.is(State::Sending, attempt),
            Step::MarkSending { why: Try::Next, attempt } => {
                self.is(State::Waiting, attempt) || self.is(State::Sending, attempt + 1)
            }
            Step::MarkSending { why: Try::Resend { .. }, attempt } => {
                self.is(State::Doubt, attempt) || self.is(State::Sending, attempt + 1)
            }
            Step::GiveBack { .. } | Step::Admit { .. } | Step::Settle { .. } => true,
        }
    }

    /// Only who holds a request knows that nothing of it was sent, and only as long as nobody made a later try.
    fn may_fail(&self, attempt: u8, me: Owner, flaw: Option<Flaw>) -> bool {
        let (holds, is_last) = (self.owner == me, self.attempt == attempt);
        match flaw {
            Some(Flaw::OutsiderSaysFailed) => true,
            Some(Flaw::StepsNameNoTry) => holds,
            _ => holds && is_last,
        }
    }

    fn is(&self, state: State, attempt: u8) -> bool {
        self.state == state && self.attempt == attempt
    }
}
