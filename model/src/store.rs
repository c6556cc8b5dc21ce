//! The record of the request, and the scripts that change it: `admit`, `update_progress` and `complete`.
//!
//! Each script is one atomic step. The world decides whether its answer arrives.

use crate::flaw::Flaw;

/// The fencing token of a lease: the 64 random bits in the real store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Token {
    /// The current handler of a worker.
    Worker(u8),
    /// A handler that has ended; the number distinguishes two of them.
    Past(u8),
    /// The request was requeued.
    Requeued,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// With the message: its place among all POSTs, or [`OTHERS_MESSAGE`](crate::world::OTHERS_MESSAGE).
    Sent(u8),
    /// The provider's answer did not name the message.
    SentUnnamed,
    /// Admitted, but surely nothing was sent.
    Failed,
    /// It may have been sent.
    Unknown,
    /// Never admitted.
    Rejected,
}

/// The place of a provider in the route.
pub type ProviderIndex = u8;

/// The providers that a record names, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named(u8);

impl Named {
    pub const NONE: Named = Named(0);

    pub fn with(self, provider: ProviderIndex) -> Named {
        Named(self.0 | 1 << provider)
    }

    pub fn has(self, provider: ProviderIndex) -> bool {
        self.0 & 1 << provider != 0
    }
}

/// The code in a message, named after the worker that proposed it.
pub type Code = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    Sending,
    Waiting,
    InDoubt,
}

/// A request in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Open {
    pub state: State,
    pub token: Token,
    pub lease: LeaseState,
    /// Counted from 1.
    pub attempt: u8,
    /// The only resend has begun.
    pub resent: bool,
    /// The accepted message that a receipt named.
    pub receipt: Option<u8>,
    pub code: Code,
    /// The provider of the attempt.
    pub provider: ProviderIndex,
    pub named: Named,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeaseState {
    Valid,
    Expired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Record {
    Absent,
    Open(Open),
    Completed(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Charge {
    Never,
    Kept,
    Refunded,
    RefundedTwice,
}

/// The reason why a handler writes `sending`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SendReason {
    /// The rest of the lease is shorter than a POST may take.
    LeaseRenewal,
    /// The attempt before was surely not accepted.
    NextAttempt,
    /// The number of successive lookups that did not find the message.
    Resend { absent_lookups: u8 },
    /// The circuit breaker of the attempt's provider has opened: the next one gets the attempt.
    OtherProvider,
    /// The provider in doubt answers no lookup: the next one gets the same code.
    DoubtUnanswered,
}

impl SendReason {
    /// The only resend, at this or at another provider.
    pub fn resends(self) -> bool {
        matches!(self, SendReason::Resend { .. } | SendReason::DoubtUnanswered)
    }

    /// The attempt that the record names stays the same.
    pub fn keeps_attempt(self) -> bool {
        matches!(self, SendReason::LeaseRenewal | SendReason::OtherProvider)
    }
}

/// A call of the store. All but `Admit` and `Requeue` name the worker's last attempt, or for a renewal the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    Admit { proposed: Code },
    WriteWaiting { attempt: u8 },
    WriteSending { reason: SendReason, attempt: u8, provider: ProviderIndex },
    WriteInDoubt { attempt: u8 },
    Requeue { in_doubt: bool },
    Complete { outcome: Outcome, attempt: u8 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    Granted(Grant),
    /// Reconcile before sending.
    InDoubt(Grant),
    /// Another handler's lease is valid.
    Busy,
    Applied,
    /// Another handler has the request, or the attempt is not the recorded one.
    LeaseNotHeld,
    /// A receipt arrived meanwhile.
    AlreadySent(u8),
    Completed(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    pub attempt: u8,
    pub code: Code,
    pub resent: bool,
    pub provider: ProviderIndex,
    pub named: Named,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Store {
    pub record: Record,
    pub charge: Charge,
}

impl Store {
    pub fn run(&mut self, step: Step, me: Token, too_late: bool, flaw: Option<Flaw>) -> Answer {
        match step {
            Step::Admit { proposed } => self.admit(proposed, me, too_late, flaw),
            Step::Complete { outcome, attempt } => self.complete(outcome, attempt, me, flaw),
            update => self.update_progress(update, me, flaw),
        }
    }

    fn admit(&mut self, proposed: Code, me: Token, too_late: bool, flaw: Option<Flaw>) -> Answer {
        let open = match &mut self.record {
            Record::Completed(outcome) => return Answer::Completed(*outcome),
            Record::Absent if too_late => {
                self.record = Record::Completed(Outcome::Rejected);
                return Answer::Completed(Outcome::Rejected);
            }
            Record::Absent => {
                self.charge = Charge::Kept;
                self.record = Record::Open(Open {
                    state: State::Sending,
                    token: me,
                    lease: LeaseState::Valid,
                    attempt: 1,
                    resent: false,
                    receipt: None,
                    code: proposed,
                    provider: 0,
                    named: Named::NONE.with(0),
                });
                return Answer::Granted(Grant {
                    attempt: 1,
                    code: proposed,
                    resent: false,
                    provider: 0,
                    named: Named::NONE.with(0),
                });
            }
            Record::Open(open) => open,
        };
        if open.token != me {
            if open.lease == LeaseState::Valid {
                return Answer::Busy;
            }
            match open.state {
                State::Waiting if open.receipt.is_none() => {
                    (open.state, open.attempt) = (State::Sending, open.attempt + 1);
                }
                State::Sending if flaw == Some(Flaw::TakesOverWithoutLookup) => {}
                State::Waiting | State::Sending | State::InDoubt => open.state = State::InDoubt,
            }
        }
        (open.token, open.lease) = (me, LeaseState::Valid);
        let code = if flaw == Some(Flaw::SendsItsOwnCode) { proposed } else { open.code };
        let Open { attempt, resent, provider, named, .. } = *open;
        let grant = Grant { attempt, code, resent, provider, named };
        match open.state {
            State::InDoubt => Answer::InDoubt(grant),
            State::Sending | State::Waiting => Answer::Granted(grant),
        }
    }

    fn update_progress(&mut self, step: Step, me: Token, flaw: Option<Flaw>) -> Answer {
        let Record::Open(open) = &mut self.record else {
            return Answer::LeaseNotHeld;
        };
        if open.token != me || !(flaw == Some(Flaw::StepsNameNoAttempt) || open.allows(step)) {
            return Answer::LeaseNotHeld;
        }
        match step {
            Step::WriteWaiting { .. } => open.state = State::Waiting,
            Step::WriteInDoubt { .. } => open.state = State::InDoubt,
            Step::WriteSending { reason, attempt, provider } => {
                // LookupResult at here and not before: a callback may come between the lookup and this step.
                if let Some(message) = open.receipt {
                    return Answer::AlreadySent(message);
                }
                open.state = State::Sending;
                open.attempt = if reason.keeps_attempt() { attempt } else { attempt + 1 };
                open.resent |= reason.resends();
                (open.provider, open.named) = (provider, open.named.with(provider));
            }
            Step::Requeue { in_doubt } => {
                match open.state {
                    State::Sending if in_doubt && flaw != Some(Flaw::RequeuesDoubtAsWaiting) => {
                        open.state = State::InDoubt;
                    }
                    // An attempt that was not made does not count.
                    State::Sending => (open.state, open.attempt) = (State::Waiting, open.attempt - 1),
                    State::Waiting | State::InDoubt => {}
                }
                open.token = Token::Requeued;
            }
            Step::Admit { .. } | Step::Complete { .. } => unreachable!("no progress update"),
        }
        open.lease = LeaseState::Valid;
        Answer::Applied
    }

    fn complete(&mut self, outcome: Outcome, attempt: u8, me: Token, flaw: Option<Flaw>) -> Answer {
        let recorded = match self.record {
            // The first outcome stays.
            Record::Completed(before) => return Answer::Completed(before),
            Record::Open(Open { receipt: Some(message), .. }) => Outcome::Sent(message),
            Record::Open(open) if outcome == Outcome::Failed && !open.may_fail(attempt, me, flaw) => {
                return Answer::LeaseNotHeld;
            }
            Record::Open(_) | Record::Absent => outcome,
        };
        if recorded == Outcome::Failed {
            self.charge = match self.charge {
                Charge::Kept => Charge::Refunded,
                Charge::Never | Charge::Refunded | Charge::RefundedTwice => Charge::RefundedTwice,
            };
        }
        self.record = Record::Completed(recorded);
        Answer::Completed(recorded)
    }
}

impl Open {
    /// The update must name the recorded attempt. The token is not enough: a late call names an earlier attempt, and a
    /// late `admit` makes a handler the owner of an attempt that it does not know.
    fn allows(&self, update: Step) -> bool {
        match update {
            Step::WriteWaiting { attempt } => {
                self.is(State::Sending, attempt) || self.is(State::Waiting, attempt)
            }
            Step::WriteInDoubt { attempt } => {
                self.is(State::Sending, attempt) || self.is(State::InDoubt, attempt)
            }
            Step::WriteSending { reason, attempt, .. } if reason.keeps_attempt() => {
                self.is(State::Sending, attempt)
            }
            Step::WriteSending { reason, attempt, .. } if reason.resends() => {
                self.is(State::InDoubt, attempt) || self.is(State::Sending, attempt + 1)
            }
            Step::WriteSending { attempt, .. } => {
                self.is(State::Waiting, attempt) || self.is(State::Sending, attempt + 1)
            }
            Step::Requeue { .. } | Step::Admit { .. } | Step::Complete { .. } => true,
        }
    }

    /// Only the owner knows that nothing was sent, and only while its attempt is the last one.
    fn may_fail(&self, attempt: u8, me: Token, flaw: Option<Flaw>) -> bool {
        let (is_owner, is_last) = (self.token == me, self.attempt == attempt);
        match flaw {
            Some(Flaw::NonOwnerFailsRequest) => true,
            Some(Flaw::StepsNameNoAttempt) => is_owner,
            _ => is_owner && is_last,
        }
    }

    fn is(&self, state: State, attempt: u8) -> bool {
        self.state == state && self.attempt == attempt
    }
}
