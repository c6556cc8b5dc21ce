//! The world around one request: a broker, two workers, the store, the provider, time, and what goes wrong.

use stateright::{Model, Property, Representative};

use crate::flaw::Flaw;
use crate::properties;
use crate::store::{Answer, Charge, Code, Lease, Open, Outcome, Owner, Record, State, Step, Store, Try};
use crate::worker::{Next, Phase, Worker};

pub const WORKERS: u8 = 2;

/// What the provider's list of messages is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// As it is hoped to be: what was accepted is listed for sure by the time of a second lookup that counts.
    Prompt,
    /// As it may be: a request may be accepted, and an accepted message be listed, arbitrarily late or never.
    Laggard,
}

/// One world to explore.
#[derive(Clone, Debug)]
pub struct Life {
    pub provider: Provider,
    /// Copies of the request in the queue.
    pub copies: u8,
    /// So many things go wrong at most; lost answers of the provider come on top.
    pub faults: u8,
    /// The provider refuses for now so often at most.
    pub refusals: u8,
    pub flaw: Option<Flaw>,
}

/// A POST that may have been accepted. One that was surely refused leaves nothing behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Post {
    pub fate: Fate,
    pub code: Code,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// It may arrive yet.
    Flying,
    Accepted,
    /// It never arrived.
    Vanished,
}

/// How long ago the newest try began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Age {
    /// Its POST may not be over: lookups that find nothing do not count.
    Young,
    /// Longer ago than the provider's time-out.
    Ripe,
    /// Longer ago than that by the least time between two lookups that count.
    Old,
}

/// A step that was asked once without an answer and may reach the store at any later time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Late {
    pub owner: Owner,
    pub step: Step,
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
    /// The deadline has passed, or the code is of no use any more: no message would help.
    pub too_late: bool,
    pub faults_left: u8,
    pub refusals_left: u8,
    pub published: Vec<Outcome>,
    pub confirms: u8,
    pub history: History,
}

/// What the properties have to know of the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct History {
    /// A re-send was begun after two lookups that count.
    pub resent: bool,
    /// A POST started after the deadline.
    pub posted_too_late: bool,
    /// A step asked again got another answer or did something again.
    pub unequal_answer: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Take(u8),
    Ask(u8, Asked),
    Post(u8, Posted),
    /// No message any more: it is too late.
    GiveUp(u8),
    Look(u8, Looked),
    Publish(u8, Published),
    Acknowledge(u8),
    /// The handling ends in order, and its delivery goes back; what it leaves behind is written so.
    Leave(u8, Asked),
    Crash(u8),
    LoseConnection(u8),
    /// The worker stops for a while: by its own clock a POST does not fit into the lease any more.
    Stall(u8),
    LateStepArrives,
    LeaseEnds,
    LeaseOfTheLivingEnds,
    Ages,
    DeadlinePasses,
    /// A POST reaches the provider, however late.
    Arrives(u8),
    /// The provider reports about a message, and its id is written into the record.
    Callback(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Answered,
    /// Applied, but the worker does not know.
    AnswerLost,
    /// Not applied yet; the worker does not know.
    Late,
    /// Never applied. Without an effect only where nobody asks again.
    NeverApplied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    Accepted,
    /// 429, or no connection.
    RefusedForNow,
    RefusedForGood,
    AnswerLost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// The record has the proof.
    Proof(u8),
    Found(u8),
    Absent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    Confirmed,
    ConfirmLost,
}

impl Action {
    /// It happens sooner or later, unless something else does: work, and the passing of time. No fault is, nor is
    /// anything of the provider's own accord.
    pub fn is_sure(self) -> bool {
        match self {
            Action::Take(_) | Action::Post(..) | Action::GiveUp(_) | Action::Look(..) => true,
            Action::Acknowledge(_) | Action::LeaseEnds | Action::Ages | Action::DeadlinePasses => true,
            Action::Ask(_, asked) => asked == Asked::Answered,
            Action::Publish(_, published) => published == Published::Confirmed,
            Action::Leave(..) | Action::Crash(_) | Action::LoseConnection(_) | Action::Stall(_) => false,
            Action::LateStepArrives | Action::LeaseOfTheLivingEnds => false,
            Action::Arrives(_) | Action::Callback(_) => false,
        }
    }
}

impl Model for Life {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            ready: self.copies,
            acked: 0,
            workers: [Worker::IDLE; WORKERS as usize],
            store: Store { record: Record::Absent, charge: Charge::Never },
            late: None,
            posts: Vec::new(),
            age: Age::Young,
            too_late: false,
            faults_left: self.faults,
            refusals_left: self.refusals,
            published: Vec::new(),
            confirms: 0,
            history: History::default(),
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for w in 0..WORKERS {
            self.work(world, w, actions);
            if world.faults_left > 0 {
                self.worker_faults(world, w, actions);
            }
            self.leave(world, w, actions);
        }
        self.surroundings(world, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        self.apply(&mut next, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Life>> {
        properties::all(self)
    }
}

// What can happen.
impl Life {
    fn work(&self, world: &World, w: u8, actions: &mut Vec<Action>) {
        let worker = world.worker(w);
        if worker.step(w).is_some() && !world.is_kept_waiting(w) {
            actions.push(Action::Ask(w, Asked::Answered));
        }
        match worker.phase {
            Phase::Idle if world.ready > 0 => actions.push(Action::Take(w)),
            Phase::Ready => self.post(world, w, actions),
            Phase::Looking { absents } => self.look(world, w, absents, actions),
            Phase::Publishing(_) => {
                actions.push(Action::Publish(w, Published::Confirmed));
                if self.flaw == Some(Flaw::AcksBeforeConfirm) {
                    actions.push(Action::Acknowledge(w));
                }
            }
            Phase::Acknowledging => actions.push(Action::Acknowledge(w)),
            _ => {}
        }
    }

    fn post(&self, world: &World, w: u8, actions: &mut Vec<Action>) {
        if !world.worker(w).fits && self.flaw != Some(Flaw::PostsWithoutLease) {
            return;
        }
        if world.too_late && self.flaw != Some(Flaw::PostsTooLate) {
            actions.push(Action::GiveUp(w));
            return;
        }
        for posted in [Posted::Accepted, Posted::RefusedForGood, Posted::AnswerLost] {
            actions.push(Action::Post(w, posted));
        }
        if world.refusals_left > 0 {
            actions.push(Action::Post(w, Posted::RefusedForNow));
        }
    }

    /// A lookup without an answer, or one that does not count, changes nothing: it is left out.
    fn look(&self, world: &World, w: u8, absents: u8, actions: &mut Vec<Action>) {
        if let Record::Open(Open { proof: Some(message), .. }) = world.store.record {
            actions.push(Action::Look(w, Looked::Proof(message)));
            return;
        }
        if world.too_late {
            actions.push(Action::GiveUp(w));
        }
        for (message, _) in world.accepted() {
            actions.push(Action::Look(w, Looked::Found(message)));
        }
        let must_be_listed = world.accepted().any(|(message, _)| {
            let newest = usize::from(message) + 1 == world.posts.len();
            self.provider == Provider::Prompt && !(newest && world.age != Age::Old)
        });
        let counts = match absents {
            0 => world.age != Age::Young,
            _ => world.age == Age::Old,
        };
        if counts && !must_be_listed && !world.too_late && !world.worker(w).grant.resent {
            actions.push(Action::Look(w, Looked::Absent));
        }
    }

    fn worker_faults(&self, world: &World, w: u8, actions: &mut Vec<Action>) {
        let worker = world.worker(w);
        if worker.phase == Phase::Idle {
            return;
        }
        actions.push(Action::Crash(w));
        if worker.holds {
            actions.push(Action::LoseConnection(w));
        }
        if worker.phase == Phase::Ready && worker.fits {
            actions.push(Action::Stall(w));
        }
        if let Phase::Publishing(_) = worker.phase {
            actions.push(Action::Publish(w, Published::ConfirmLost));
        }
        if worker.step(w).is_some() {
            if !world.is_kept_waiting(w) {
                actions.push(Action::Ask(w, Asked::AnswerLost));
            }
            if world.takes_late_steps() {
                actions.push(Action::Ask(w, Asked::Late));
            }
        }
    }

    /// A stop is a fault like others; a handling whose delivery is lost leaves wherever it would have to wait.
    fn leave(&self, world: &World, w: u8, actions: &mut Vec<Action>) {
        let worker = world.worker(w);
        if worker.holds && world.faults_left == 0 {
            return;
        }
        if worker.give_back().is_some() {
            actions.push(Action::Leave(w, Asked::AnswerLost));
            actions.push(Action::Leave(w, Asked::NeverApplied));
            if world.takes_late_steps() && world.faults_left > 0 {
                actions.push(Action::Leave(w, Asked::Late));
            }
        } else if !worker.holds && matches!(worker.phase, Phase::MarkingWaiting | Phase::Publishing(_)) {
            actions.push(Action::Leave(w, Asked::NeverApplied));
        }
    }

    fn surroundings(&self, world: &World, actions: &mut Vec<Action>) {
        if world.late.is_some() {
            actions.push(Action::LateStepArrives);
        }
        // Where nobody would send any more it changes nothing.
        let may_send = |worker: &Worker| {
            matches!(worker.phase, Phase::Ready | Phase::MarkingSending(_) | Phase::Looking { .. })
        };
        let matters = !matches!(world.store.record, Record::Ended(_)) || world.workers.iter().any(may_send);
        if matters && !world.too_late {
            actions.push(Action::DeadlinePasses);
        }
        for (message, post) in (0..).zip(&world.posts) {
            if post.fate == Fate::Flying {
                actions.push(Action::Arrives(message));
            }
        }
        let Record::Open(open) = world.store.record else {
            return;
        };
        if open.proof.is_none() {
            actions.extend(world.accepted().map(|(message, _)| Action::Callback(message)));
        }
        if open.lease == Lease::Alive {
            self.lease_ends(world, open, actions);
        }
        if self.ages(world) {
            actions.push(Action::Ages);
        }
    }

    /// Who is at work renews its lease in time: that of a live handling ends only if it freezes, which is a fault.
    fn lease_ends(&self, world: &World, open: Open, actions: &mut Vec<Action>) {
        // A lease of `sending` is longer than any POST that was begun by a look at it.
        let ends_first = open.state == State::Waiting || self.flaw == Some(Flaw::PostsWithoutLease);
        match open.owner {
            Owner::Nobody | Owner::Past(_) => actions.push(Action::LeaseEnds),
            Owner::Worker(_) if world.faults_left == 0 => {}
            Owner::Worker(w) if world.worker(w).fits && !ends_first => {}
            Owner::Worker(_) => actions.push(Action::LeaseOfTheLivingEnds),
        }
    }

    /// Age matters to lookups only, so it grows only where one waits for it.
    fn ages(&self, world: &World) -> bool {
        let looking = |least| {
            let waits =
                |worker: &Worker| matches!(worker.phase, Phase::Looking { absents } if absents >= least);
            world.workers.iter().any(waits)
        };
        match world.age {
            Age::Young => looking(0) && world.workers.iter().all(|worker| !worker.fits),
            Age::Ripe => looking(1),
            Age::Old => false,
        }
    }
}

// What comes of it.
impl Life {
    fn apply(&self, world: &mut World, action: Action) {
        match action {
            Action::Take(w) => {
                world.ready -= 1;
                *world.worker_mut(w) = Worker { phase: Phase::Admitting, holds: true, ..Worker::IDLE };
            }
            Action::Ask(w, asked) => self.ask(world, w, asked),
            Action::Post(w, posted) => self.posted(world, w, posted),
            Action::GiveUp(w) => {
                let worker = world.worker_mut(w);
                let outcome = match worker.phase {
                    Phase::Looking { .. } => Outcome::Unknown,
                    _ => worker.unsent(self.flaw == Some(Flaw::FailsAfterDoubt)),
                };
                (worker.phase, worker.fits) = (Phase::Settling(outcome), false);
            }
            Action::Look(w, looked) => self.looked(world, w, looked),
            Action::Publish(w, published) => self.published(world, w, published),
            Action::Acknowledge(w) => {
                // An acknowledgement of a delivery that was lost fails harmlessly.
                world.acked += u8::from(world.worker(w).holds);
                world.worker_mut(w).holds = false;
                world.end_handling(w);
            }
            Action::Leave(w, asked) => self.left(world, w, asked),
            Action::Crash(w) => {
                world.faults_left -= 1;
                world.end_handling(w);
            }
            Action::LoseConnection(w) => {
                world.faults_left -= 1;
                world.ready += 1;
                world.worker_mut(w).holds = false;
            }
            Action::Stall(w) => {
                world.faults_left -= 1;
                world.worker_mut(w).fits = false;
            }
            Action::LateStepArrives => {
                let late = world.late.take().expect("offered only with a late step");
                self.run(world, late.step, late.owner);
            }
            Action::LeaseEnds | Action::LeaseOfTheLivingEnds => {
                world.faults_left -= u8::from(action == Action::LeaseOfTheLivingEnds);
                if let Record::Open(open) = &mut world.store.record {
                    open.lease = Lease::Over;
                }
            }
            Action::Ages => self.age(world),
            Action::DeadlinePasses => world.too_late = true,
            Action::Arrives(message) => world.posts[usize::from(message)].fate = Fate::Accepted,
            Action::Callback(message) => {
                if let Record::Open(open) = &mut world.store.record {
                    open.proof = Some(message);
                }
            }
        }
    }

    fn ask(&self, world: &mut World, w: u8, asked: Asked) {
        let step = world.worker(w).step(w).expect("offered only with a step");
        let owner = Owner::Worker(w);
        match asked {
            Asked::Late => {
                world.faults_left -= 1;
                world.late = Some(Late { owner, step });
            }
            Asked::AnswerLost => {
                world.faults_left -= 1;
                let first = self.run(world, step, owner);
                let store = world.store;
                let (mut store_again, too_late) = (store, world.too_late);
                let second = store_again.run(step, owner, too_late, self.flaw);
                world.history.unequal_answer |= first != second || store != store_again;
            }
            Asked::NeverApplied => {}
            Asked::Answered => {
                let answer = self.run(world, step, owner);
                match world.worker_mut(w).hear(answer) {
                    Next::GoOn => {}
                    Next::TakenOver => world.end_handling(w),
                }
            }
        }
    }

    fn run(&self, world: &mut World, step: Step, owner: Owner) -> Answer {
        let answer = world.store.run(step, owner, world.too_late, self.flaw);
        match (step, answer) {
            (Step::MarkSending { why, .. }, Answer::Held) => {
                world.age = Age::Young;
                world.history.resent |= why == Try::Resend { absents: 2 };
            }
            (Step::Admit { .. }, Answer::Granted(_)) => world.age = Age::Young,
            _ => {}
        }
        if let Record::Ended(_) = world.store.record {
            world.late = None;
        }
        answer
    }

    fn age(&self, world: &mut World) {
        if world.age == Age::Young {
            world.age = Age::Ripe;
            return;
        }
        world.age = Age::Old;
        if self.provider == Provider::Prompt {
            for post in world.posts.iter_mut().filter(|post| post.fate == Fate::Flying) {
                post.fate = Fate::Vanished;
            }
        }
    }

    fn posted(&self, world: &mut World, w: u8, posted: Posted) {
        world.history.posted_too_late |= world.too_late;
        let message = u8::try_from(world.posts.len()).expect("few messages are posted");
        let worker = world.worker_mut(w);
        let code = worker.grant.code;
        worker.fits = false;
        worker.phase = match posted {
            Posted::Accepted => Phase::Settling(Outcome::Sent(message)),
            Posted::RefusedForNow => Phase::MarkingWaiting,
            Posted::RefusedForGood => {
                Phase::Settling(worker.unsent(self.flaw == Some(Flaw::FailsAfterDoubt)))
            }
            Posted::AnswerLost => Phase::MarkingDoubt,
        };
        match posted {
            Posted::Accepted => world.posts.push(Post { fate: Fate::Accepted, code }),
            Posted::AnswerLost => world.posts.push(Post { fate: Fate::Flying, code }),
            Posted::RefusedForNow => world.refusals_left -= 1,
            Posted::RefusedForGood => {}
        }
    }

    fn looked(&self, world: &mut World, w: u8, looked: Looked) {
        let enough = if self.flaw == Some(Flaw::ResendsAfterOneAbsent) { 1 } else { 2 };
        let worker = world.worker_mut(w);
        worker.phase = match (looked, worker.phase) {
            (Looked::Proof(message) | Looked::Found(message), _) => Phase::Settling(Outcome::Sent(message)),
            (Looked::Absent, Phase::Looking { absents }) if absents + 1 < enough => {
                Phase::Looking { absents: absents + 1 }
            }
            (Looked::Absent, _) if self.flaw == Some(Flaw::ResendsUnasked) => {
                (worker.fits, worker.grant.resent) = (true, true);
                Phase::Ready
            }
            (Looked::Absent, _) => Phase::MarkingSending(Try::Resend { absents: enough }),
        };
        if self.flaw == Some(Flaw::ResendsUnasked) && world.worker(w).phase == Phase::Ready {
            world.history.resent = true;
        }
    }

    fn published(&self, world: &mut World, w: u8, published: Published) {
        let Phase::Publishing(outcome) = world.worker(w).phase else {
            unreachable!("offered only to who publishes");
        };
        if !world.published.contains(&outcome) {
            world.published.push(outcome);
        }
        match published {
            Published::ConfirmLost => world.faults_left -= 1,
            Published::Confirmed => {
                // More than one a copy says nothing new.
                world.confirms = (world.confirms + 1).min(self.copies);
                world.worker_mut(w).phase = Phase::Acknowledging;
            }
        }
    }

    fn left(&self, world: &mut World, w: u8, asked: Asked) {
        let worker = world.worker(w);
        let (owner, step) = (Owner::Worker(w), worker.give_back());
        if worker.holds || asked == Asked::Late {
            world.faults_left -= 1;
        }
        match (asked, step) {
            (Asked::AnswerLost | Asked::Answered, Some(step)) => {
                self.run(world, step, owner);
            }
            (Asked::Late, Some(step)) => world.late = Some(Late { owner, step }),
            (Asked::NeverApplied, _) | (_, None) => {}
        }
        world.end_handling(w);
    }
}

impl World {
    pub fn worker(&self, w: u8) -> &Worker {
        &self.workers[usize::from(w)]
    }

    fn worker_mut(&mut self, w: u8) -> &mut Worker {
        &mut self.workers[usize::from(w)]
    }

    pub fn accepted(&self) -> impl Iterator<Item = (u8, &Post)> {
        (0..).zip(&self.posts).filter(|(_, post)| post.fate == Fate::Accepted)
    }

    /// One at a time is followed, and none where it would change nothing.
    fn takes_late_steps(&self) -> bool {
        self.late.is_none() && !matches!(self.store.record, Record::Ended(_))
    }

    /// `admit` would answer that another handling has the request: nothing changes by asking.
    fn is_kept_waiting(&self, w: u8) -> bool {
        let busy = |open: Open| open.lease == Lease::Alive && open.owner != Owner::Worker(w);
        self.worker(w).phase == Phase::Admitting
            && matches!(self.store.record, Record::Open(open) if busy(open))
    }

    /// The handling is over. What it held goes back to the broker, and its name is never used again.
    fn end_handling(&mut self, w: u8) {
        self.ready += u8::from(self.worker(w).holds);
        *self.worker_mut(w) = Worker::IDLE;
        let me = Owner::Worker(w);
        let mut record_owner = match self.store.record {
            Record::Open(open) => Some(open.owner),
            Record::Absent | Record::Ended(_) => None,
        };
        let mut late_owner = self.late.map(|late| late.owner);
        for owner in [&mut record_owner, &mut late_owner].into_iter().flatten() {
            if *owner == me {
                *owner = Owner::Past(u8::MAX);
            }
        }
        // Past handlings are numbered anew, so that worlds that differ in a number only are one.
        let past = |owner: Option<Owner>| matches!(owner, Some(Owner::Past(_)));
        let same = record_owner == late_owner;
        if let (Record::Open(open), Some(owner)) = (&mut self.store.record, record_owner) {
            open.owner = if past(record_owner) { Owner::Past(0) } else { owner };
        }
        if let (Some(late), Some(owner)) = (&mut self.late, late_owner) {
            let number = u8::from(past(record_owner) && !same);
            late.owner = if past(late_owner) { Owner::Past(number) } else { owner };
        }
    }
}

/// The workers are alike: of two worlds in which they have only changed places, one is enough.
impl Representative for World {
    fn representative(&self) -> World {
        let mut other = self.clone();
        other.workers.swap(0, 1);
        for worker in other.workers.iter_mut().filter(|worker| worker.grant.attempt > 0) {
            worker.grant.code = other_place(worker.grant.code);
        }
        for post in &mut other.posts {
            post.code = other_place(post.code);
        }
        if let Record::Open(open) = &mut other.store.record {
            open.code = other_place(open.code);
            open.owner = open.owner.in_other_place();
        }
        if let Some(late) = &mut other.late {
            late.owner = late.owner.in_other_place();
            if let Step::Admit { proposed } = &mut late.step {
                *proposed = other_place(*proposed);
            }
        }
        if other < *self { other } else { self.clone() }
    }
}

fn other_place(w: u8) -> u8 {
    WORKERS - 1 - w
}

impl Owner {
    fn in_other_place(self) -> Owner {
        match self {
            Owner::Worker(w) => Owner::Worker(other_place(w)),
            past => past,
        }
    }
}
