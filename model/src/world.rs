//! The world around one request: broker, workers, store, provider, time, and the actions that change it.

use stateright::Representative;

use crate::store::{Code, LeaseState, Open, Outcome, ProviderIndex, Record, Step, Store, Token};
use crate::worker::{Phase, Worker};

pub const WORKERS: u8 = 2;

/// A POST that may have been accepted. A refused POST leaves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Post {
    pub provider: ProviderIndex,
    pub fate: Fate,
    pub code: Code,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// May still arrive.
    Flying,
    Accepted,
    /// Never arrived.
    Vanished,
}

/// The age of the newest attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Age {
    /// Its POST may still run: empty lookups do not count.
    Young,
    /// Older than the provider timeout: an empty lookup counts.
    Ripe,
    /// Older by the interval between lookups too: a second empty lookup counts.
    Old,
}

/// A call without an answer, which may reach the store at any later time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Late {
    pub token: Token,
    pub step: Step,
}

/// The message of the other request, in place of one of ours.
pub const OTHERS_MESSAGE: u8 = u8::MAX;

/// Another request to the same recipient, with the same code. It is modelled from outside: a lookup cannot tell its
/// message from ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Other {
    /// There is none.
    None,
    NotStarted,
    /// Its record says `sending`.
    Sending {
        accepted: bool,
    },
    /// Surely not sent.
    Failed,
    /// Accepted with a message id: the message is claimed. Or a receipt has named it.
    Named,
    /// Accepted by an answer without a message id.
    Unnamed,
    /// In doubt, or ended as `unknown`.
    InDoubt {
        accepted: bool,
    },
}

impl Other {
    /// The provider may list a message that no request has claimed.
    pub fn has_unclaimed_message(self) -> bool {
        matches!(self, Other::Sending { accepted: true } | Other::Unnamed | Other::InDoubt { accepted: true })
    }

    /// By its record it may have such a message.
    pub fn may_have_unclaimed_message(self) -> bool {
        matches!(self, Other::Sending { .. } | Other::Unnamed | Other::InDoubt { .. })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct World {
    pub ready: u8,
    pub acked: u8,
    pub workers: [Worker; WORKERS as usize],
    pub store: Store,
    pub late: Option<Late>,
    pub posts: Vec<Post>,
    pub age: Age,
    /// The deadline has passed, or the code was used or replaced.
    pub too_late: bool,
    pub faults_left: u8,
    pub refusals_left: u8,
    pub published: Vec<Outcome>,
    pub confirms: u8,
    pub other: Other,
    pub history: History,
}

/// Facts of the past that the properties need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct History {
    /// A resend began after two lookups that count.
    pub resent: bool,
    /// A message in doubt was handed to another provider, because no lookup was answered.
    pub handed_over: bool,
    /// A POST started after the deadline.
    pub posted_too_late: bool,
    /// A repeated call got another answer or had another effect.
    pub unequal_answer: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Consume(u8),
    Call(u8, CallResult),
    Post(u8, PostResult),
    /// The circuit breaker of the attempt's provider is open: the gate gives the next one.
    Switch(u8),
    /// Ends the request, because it is too late for a message.
    GiveUp(u8),
    LookUp(u8, LookupResult),
    Publish(u8, PublishResult),
    Acknowledge(u8),
    /// The handler ends in order and requeues its delivery; the call writes the requeue to the record.
    Requeue(u8, CallResult),
    Crash(u8),
    LoseConnection(u8),
    /// The worker freezes for a while: by its own clock a POST no longer fits into the lease.
    Freeze(u8),
    LateStepArrives,
    LeaseExpires,
    LeaseOfLiveHandlerExpires,
    Ages,
    DeadlinePasses,
    /// A POST reaches the provider, at any later time.
    PostArrives(u8),
    /// A receipt arrives, and its message id is written to the record.
    ReceiptArrives(u8),
    OtherBecomes(Other),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    Answered,
    /// Applied, unknown to the worker.
    AnswerLost,
    /// Not applied yet, unknown to the worker.
    AppliedLater,
    /// Never applied. The model uses it only for calls that are not repeated.
    NeverApplied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostResult {
    Accepted,
    /// The answer broke off after its status.
    AcceptedUnnamed,
    /// 429 or no connection.
    RefusedForNow,
    RefusedForGood,
    AnswerLost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupResult {
    /// The record has a receipt.
    Receipt(u8),
    Found(u8),
    /// Messages match, but not more than other requests may have.
    Unaccounted,
    Absent,
    /// For so long that the other provider gets the message.
    Unanswered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishResult {
    Confirmed,
    ConfirmLost,
}

impl Action {
    /// Work and the passing of time happen in the end. Faults and late arrivals at the provider need not.
    pub fn happens_eventually(self) -> bool {
        match self {
            Action::LookUp(_, LookupResult::Unanswered) | Action::Switch(_) => false,
            Action::Consume(_) | Action::Post(..) | Action::GiveUp(_) | Action::LookUp(..) => true,
            Action::Acknowledge(_) | Action::LeaseExpires | Action::Ages | Action::DeadlinePasses => true,
            Action::Call(_, result) => result == CallResult::Answered,
            Action::Publish(_, result) => result == PublishResult::Confirmed,
            Action::Requeue(..) | Action::Crash(_) | Action::LoseConnection(_) | Action::Freeze(_) => false,
            Action::LateStepArrives | Action::LeaseOfLiveHandlerExpires => false,
            Action::PostArrives(_) | Action::ReceiptArrives(_) | Action::OtherBecomes(_) => false,
        }
    }
}

impl World {
    pub fn worker(&self, w: u8) -> &Worker {
        &self.workers[usize::from(w)]
    }

    pub fn worker_mut(&mut self, w: u8) -> &mut Worker {
        &mut self.workers[usize::from(w)]
    }

    pub fn accepted(&self) -> impl Iterator<Item = (u8, &Post)> {
        (0..).zip(&self.posts).filter(|(_, post)| post.fate == Fate::Accepted)
    }

    /// The model follows one late call at a time, and none after the completion.
    pub fn allows_late_step(&self) -> bool {
        self.late.is_none() && !matches!(self.store.record, Record::Completed(_))
    }

    /// `admit` would answer that another handler has the request; the call changes nothing.
    pub fn waits_for_other_handler(&self, w: u8) -> bool {
        let busy = |open: Open| open.lease == LeaseState::Valid && open.token != Token::Worker(w);
        self.worker(w).phase == Phase::Admitting
            && matches!(self.store.record, Record::Open(open) if busy(open))
    }

    /// Ends a handler: its delivery returns to the queue, and its token is never used again.
    pub fn end_handler(&mut self, w: u8) {
        self.ready += u8::from(self.worker(w).holds_delivery);
        *self.worker_mut(w) = Worker::IDLE;
        let me = Token::Worker(w);
        let mut record_token = match self.store.record {
            Record::Open(open) => Some(open.token),
            Record::Absent | Record::Completed(_) => None,
        };
        let mut late_token = self.late.map(|late| late.token);
        for token in [&mut record_token, &mut late_token].into_iter().flatten() {
            if *token == me {
                *token = Token::Past(u8::MAX);
            }
        }
        // Past tokens are renumbered, so that worlds that differ only in a number are equal.
        let past = |token: Option<Token>| matches!(token, Some(Token::Past(_)));
        let same = record_token == late_token;
        if let (Record::Open(open), Some(token)) = (&mut self.store.record, record_token) {
            open.token = if past(record_token) { Token::Past(0) } else { token };
        }
        if let (Some(late), Some(token)) = (&mut self.late, late_token) {
            let number = u8::from(past(record_token) && !same);
            late.token = if past(late_token) { Token::Past(number) } else { token };
        }
    }
}

/// The workers are alike: of two worlds with swapped workers one is enough.
impl Representative for World {
    fn representative(&self) -> World {
        let mut other = self.clone();
        other.workers.swap(0, 1);
        for worker in other.workers.iter_mut().filter(|worker| worker.grant.attempt > 0) {
            worker.grant.code = swapped(worker.grant.code);
        }
        for post in &mut other.posts {
            post.code = swapped(post.code);
        }
        if let Record::Open(open) = &mut other.store.record {
            open.code = swapped(open.code);
            open.token = open.token.swapped();
        }
        if let Some(late) = &mut other.late {
            late.token = late.token.swapped();
            if let Step::Admit { proposed } = &mut late.step {
                *proposed = swapped(*proposed);
            }
        }
        if other < *self { other } else { self.clone() }
    }
}

fn swapped(w: u8) -> u8 {
    WORKERS - 1 - w
}

impl Token {
    fn swapped(self) -> Token {
        match self {
            Token::Worker(w) => Token::Worker(swapped(w)),
            past => past,
        }
    }
}
