//! The charges of a request in slots of their own: made before the admission, corrected by the record after it.
//!
//! Two logs, of two users, each with a limit of one; two requests, one of which is delivered for both users. A charge, an admission, a
//! correction and a completion are one atomic step each, and between two steps anything may happen. A charge leaves its window after
//! two units of time.

use stateright::{Model, Property};

use crate::charge_properties::properties;

pub const USERS: usize = 2;
pub const LIMIT: usize = 1;
const HANDLERS: usize = 2;
/// A charge counts for so many units of time.
const WINDOW: u8 = 2;
/// Enough for a charge to leave its window after a later record of it.
const TIME_MAX: u8 = 2;

/// A delivery: its request, and the user that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    request: usize,
    user: usize,
}

const DELIVERIES: [Delivery; 4] = [
    Delivery { request: 0, user: 0 },
    Delivery { request: 0, user: 0 },
    Delivery { request: 0, user: 1 },
    Delivery { request: 1, user: 0 },
];

/// A mistake in the design that the model must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChargeFlaw {
    /// A handler whose step failed removes the charge that it made.
    UndoesFailedCharge,
    /// A handler that is not granted removes its charge without regard to the record.
    IgnoresRecord,
    /// A charge under another key than the record's stays.
    KeepsOtherUsersCharge,
    /// A completion that is repeated corrects nothing.
    CorrectsOnlyOnce,
    /// A new record keeps no charge that an earlier call made.
    DisownsFoundCharge,
    /// A charge that was found counts from now in the record, and in its log only once it is corrected.
    RenewsAfterAdmission,
    /// A charge that is later than that of the record is removed.
    RemovesLaterCharge,
}

impl ChargeFlaw {
    pub const ALL: [ChargeFlaw; 7] = [
        ChargeFlaw::UndoesFailedCharge,
        ChargeFlaw::IgnoresRecord,
        ChargeFlaw::KeepsOtherUsersCharge,
        ChargeFlaw::CorrectsOnlyOnce,
        ChargeFlaw::DisownsFoundCharge,
        ChargeFlaw::RenewsAfterAdmission,
        ChargeFlaw::RemovesLaterCharge,
    ];
}

/// The charge that a record lists, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listed {
    pub user: usize,
    pub at: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    None,
    Refused,
    Live { charged: Option<Listed>, owner: Option<usize> },
    Sent { charged: Option<Listed> },
    Refunded { charged: Option<Listed> },
}

impl Record {
    /// The charge that stands.
    pub fn charge(self) -> Option<Listed> {
        match self {
            Record::Live { charged, .. } | Record::Sent { charged } => charged,
            Record::None | Record::Refused | Record::Refunded { .. } => None,
        }
    }

    pub fn refunded(self) -> Option<Listed> {
        if let Record::Refunded { charged } = self { charged } else { None }
    }
}

/// The answer to a charge, with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Charge {
    Made(u8),
    Found(u8),
    Refused,
}

/// The next step of a handler. `delivery` is a place in [`DELIVERIES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handler {
    Idle,
    Charge { delivery: usize },
    Admit { delivery: usize, charge: Charge },
    Correct { delivery: usize, charge: Charge, record: Record },
    Complete { delivery: usize, is_repeated: bool },
    CorrectCompleted { delivery: usize, record: Record, is_repeated: bool },
}

impl Handler {
    fn delivery(self) -> Option<usize> {
        match self {
            Handler::Idle => None,
            Handler::Charge { delivery }
            | Handler::Admit { delivery, .. }
            | Handler::Correct { delivery, .. }
            | Handler::Complete { delivery, .. }
            | Handler::CorrectCompleted { delivery, .. } => Some(delivery),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queued {
    Ready,
    Taken,
    Acknowledged,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The time of each request's charge in a user's log.
    logs: [[Option<u8>; 2]; USERS],
    now: u8,
    pub records: [Record; 2],
    handlers: [Handler; HANDLERS],
    queue: [Queued; DELIVERIES.len()],
    faults_left: u8,
}

impl World {
    pub fn is_quiet(&self) -> bool {
        self.queue.iter().all(|queued| *queued == Queued::Acknowledged)
            && self.handlers.iter().all(|handler| *handler == Handler::Idle)
    }

    pub fn counts(&self, at: u8) -> bool {
        self.now < at + WINDOW
    }

    /// The charge of a request in a user's log, if it counts.
    pub fn counted(&self, user: usize, request: usize) -> Option<u8> {
        self.logs[user][request].filter(|at| self.counts(*at))
    }

    /// The charge of a record, if it counts.
    pub fn recorded(&self, request: usize) -> Option<Listed> {
        self.records[request].charge().filter(|charge| self.counts(charge.at))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Arrives,
    /// The step was done.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Take {
        handler: usize,
        delivery: usize,
    },
    Charge {
        handler: usize,
        answer: Answer,
    },
    /// Other steps of the round, such as the place under the cap over all sends, fail.
    FailRound {
        handler: usize,
    },
    /// `is_refused`: by a limit of the recipient.
    Admit {
        handler: usize,
        is_refused: bool,
        answer: Answer,
    },
    Correct {
        handler: usize,
        answer: Answer,
    },
    Complete {
        handler: usize,
        is_sent: bool,
        answer: Answer,
    },
    Crash {
        handler: usize,
    },
    Pass,
}

pub struct Charges {
    pub faults: u8,
    pub flaw: Option<ChargeFlaw>,
}

impl Charges {
    fn has(&self, flaw: ChargeFlaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// A charge that is found counts from now.
    fn charge(&self, world: &mut World, delivery: usize) -> Charge {
        let Delivery { request, user } = DELIVERIES[delivery];
        let now = world.now;
        if let Some(at) = world.counted(user, request) {
            if self.has(ChargeFlaw::RenewsAfterAdmission) {
                return Charge::Found(at);
            }
            world.logs[user][request] = Some(now);
            return Charge::Found(now);
        }
        let others = (0..2).filter(|other| *other != request && world.counted(user, *other).is_some());
        if others.count() >= LIMIT {
            return Charge::Refused;
        }
        world.logs[user][request] = Some(now);
        Charge::Made(now)
    }

    /// Returns the record that answers the admission.
    fn admit(
        &self,
        world: &mut World,
        handler: usize,
        delivery: usize,
        charge: Charge,
        is_refused: bool,
    ) -> Record {
        let Delivery { request, user } = DELIVERIES[delivery];
        let charged = match charge {
            Charge::Made(at) => Some(Listed { user, at }),
            Charge::Found(_) if self.has(ChargeFlaw::DisownsFoundCharge) => None,
            Charge::Found(_) if self.has(ChargeFlaw::RenewsAfterAdmission) => {
                Some(Listed { user, at: world.now })
            }
            Charge::Found(at) => Some(Listed { user, at }),
            Charge::Refused => None,
        };
        let record = &mut world.records[request];
        match *record {
            Record::None if charge == Charge::Refused || is_refused => *record = Record::Refused,
            Record::None => *record = Record::Live { charged, owner: Some(handler) },
            Record::Live { charged, owner: None } => *record = Record::Live { charged, owner: Some(handler) },
            _ => {}
        }
        *record
    }

    /// Makes the logs agree with the record that answered.
    fn correct(&self, world: &mut World, handler: usize, delivery: usize, charge: Charge, record: Record) {
        let Delivery { request, user } = DELIVERIES[delivery];
        if let Some(refunded) = record.refunded() {
            world.logs[refunded.user][request] = None;
        }
        let (Charge::Made(at) | Charge::Found(at)) = charge else { return };
        let is_granted = matches!(record, Record::Live { owner: Some(owner), .. } if owner == handler);
        let is_kept = match record.charge() {
            _ if self.has(ChargeFlaw::IgnoresRecord) => is_granted || matches!(charge, Charge::Found(_)),
            Some(listed) if listed.user == user && at == listed.at => true,
            Some(listed) if listed.user == user => {
                let is_removed = at > listed.at && self.has(ChargeFlaw::RemovesLaterCharge);
                // A refund may have removed it meanwhile.
                if world.logs[user][request].is_some() {
                    world.logs[user][request] = Some(listed.at);
                }
                !is_removed && world.counts(listed.at)
            }
            Some(_) => self.has(ChargeFlaw::KeepsOtherUsersCharge),
            None => false,
        };
        if !is_kept {
            world.logs[user][request] = None;
        }
    }

    /// Returns the record that answers the completion; the first outcome stays.
    fn complete(world: &mut World, handler: usize, delivery: usize, is_sent: bool) -> Record {
        let record = &mut world.records[DELIVERIES[delivery].request];
        if let Record::Live { charged, owner } = *record
            && (is_sent || owner == Some(handler))
        {
            *record = if is_sent { Record::Sent { charged } } else { Record::Refunded { charged } };
        }
        *record
    }

    fn steps(world: &World, handler: usize, faults: bool, actions: &mut Vec<Action>) {
        let answers = if faults { &[Answer::Arrives, Answer::Lost][..] } else { &[Answer::Arrives] };
        match world.handlers[handler] {
            Handler::Idle => {
                let ready = (0..DELIVERIES.len()).filter(|delivery| world.queue[*delivery] == Queued::Ready);
                actions.extend(ready.map(|delivery| Action::Take { handler, delivery }));
                return;
            }
            Handler::Charge { .. } => {
                actions.extend(answers.iter().map(|answer| Action::Charge { handler, answer: *answer }));
                actions.extend(faults.then_some(Action::FailRound { handler }));
            }
            Handler::Admit { .. } => actions.extend(answers.iter().flat_map(|answer| {
                [false, true].map(|is_refused| Action::Admit { handler, is_refused, answer: *answer })
            })),
            Handler::Complete { .. } => actions.extend(answers.iter().flat_map(|answer| {
                [false, true].map(|is_sent| Action::Complete { handler, is_sent, answer: *answer })
            })),
            Handler::Correct { .. } | Handler::CorrectCompleted { .. } => {
                actions.extend(answers.iter().map(|answer| Action::Correct { handler, answer: *answer }));
            }
        }
        actions.extend(faults.then_some(Action::Crash { handler }));
    }

    fn release(world: &mut World, handler: usize, queued: Queued) {
        if let Some(delivery) = world.handlers[handler].delivery() {
            world.queue[delivery] = queued;
            let record = &mut world.records[DELIVERIES[delivery].request];
            if let Record::Live { charged, owner: Some(owner) } = *record
                && owner == handler
            {
                *record = Record::Live { charged, owner: None };
            }
        }
        world.handlers[handler] = Handler::Idle;
    }

    /// After the correction of an admission.
    fn go_on(world: &mut World, handler: usize, delivery: usize, record: Record) {
        match record {
            Record::Live { owner: Some(owner), .. } if owner == handler => {
                world.handlers[handler] = Handler::Complete { delivery, is_repeated: false };
            }
            Record::Live { .. } => Self::release(world, handler, Queued::Ready),
            _ => Self::release(world, handler, Queued::Acknowledged),
        }
    }

    fn act(&self, world: &mut World, action: Action) {
        match action {
            Action::Take { handler, delivery } => {
                world.queue[delivery] = Queued::Taken;
                world.handlers[handler] = Handler::Charge { delivery };
            }
            Action::Crash { handler } => Self::release(world, handler, Queued::Ready),
            Action::Pass => world.now += 1,
            Action::FailRound { handler } => {
                let Handler::Charge { delivery } = world.handlers[handler] else { return };
                let charge = self.charge(world, delivery);
                if self.has(ChargeFlaw::UndoesFailedCharge) && matches!(charge, Charge::Made(_)) {
                    // Removed in a step of its own.
                    world.handlers[handler] = Handler::Correct { delivery, charge, record: Record::None };
                }
            }
            Action::Charge { handler, answer } => {
                let Handler::Charge { delivery } = world.handlers[handler] else { return };
                let charge = self.charge(world, delivery);
                if answer == Answer::Arrives {
                    world.handlers[handler] = Handler::Admit { delivery, charge };
                }
            }
            Action::Admit { handler, is_refused, answer } => {
                let Handler::Admit { delivery, charge } = world.handlers[handler] else { return };
                let record = self.admit(world, handler, delivery, charge, is_refused);
                world.handlers[handler] = match answer {
                    Answer::Arrives => Handler::Correct { delivery, charge, record },
                    Answer::Lost => Handler::Charge { delivery },
                };
            }
            Action::Complete { handler, is_sent, answer } => {
                let Handler::Complete { delivery, is_repeated } = world.handlers[handler] else { return };
                let record = Self::complete(world, handler, delivery, is_sent);
                world.handlers[handler] = match answer {
                    Answer::Arrives => Handler::CorrectCompleted { delivery, record, is_repeated },
                    Answer::Lost => Handler::Complete { delivery, is_repeated: true },
                };
            }
            Action::Correct { handler, answer } => self.act_on_correction(world, handler, answer),
        }
    }

    fn act_on_correction(&self, world: &mut World, handler: usize, answer: Answer) {
        match world.handlers[handler] {
            Handler::Correct { delivery, charge, record } => {
                self.correct(world, handler, delivery, charge, record);
                match (answer, record) {
                    (Answer::Lost, _) | (_, Record::None) => {
                        world.handlers[handler] = Handler::Charge { delivery }
                    }
                    (Answer::Arrives, _) => Self::go_on(world, handler, delivery, record),
                }
            }
            Handler::CorrectCompleted { delivery, record, is_repeated } => {
                let is_skipped = is_repeated && self.has(ChargeFlaw::CorrectsOnlyOnce);
                if let Some(refunded) = record.refunded().filter(|_| !is_skipped) {
                    world.logs[refunded.user][DELIVERIES[delivery].request] = None;
                }
                match answer {
                    Answer::Lost => {
                        world.handlers[handler] = Handler::Complete { delivery, is_repeated: true }
                    }
                    Answer::Arrives => Self::release(world, handler, Queued::Acknowledged),
                }
            }
            _ => {}
        }
    }
}

impl Model for Charges {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            logs: [[None; 2]; USERS],
            now: 0,
            records: [Record::None; 2],
            handlers: [Handler::Idle; HANDLERS],
            queue: [Queued::Ready; DELIVERIES.len()],
            faults_left: self.faults,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for handler in 0..HANDLERS {
            Self::steps(world, handler, world.faults_left > 0, actions);
        }
        actions.extend((world.now < TIME_MAX).then_some(Action::Pass));
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        let is_fault = match action {
            Action::Crash { .. } | Action::FailRound { .. } => true,
            Action::Charge { answer, .. }
            | Action::Admit { answer, .. }
            | Action::Correct { answer, .. }
            | Action::Complete { answer, .. } => answer == Answer::Lost,
            Action::Take { .. } | Action::Pass => false,
        };
        next.faults_left -= u8::from(is_fault);
        self.act(&mut next, action);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Charges>> {
        properties()
    }
}
