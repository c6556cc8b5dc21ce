//! Places under the cap over all sends, leased in blocks: two workers, a clock of a few ticks, lost and late answers.
//!
//! A block is valid for one tick after its lease, and counts until the window after that is over. One worker may die.

use stateright::{Model, Property};

const CAP: u8 = 3;
const BLOCK: u8 = 2;
const VALID: u8 = 1;
const WINDOW: u8 = 2;
const TICKS: u8 = 3;
const WORKERS: usize = 2;
/// Blocks in a run.
const LEASES: u8 = 4;

/// A mistake in the design that the model must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceFlaw {
    /// A block counts from its lease, not from its end.
    CountsFromLease,
    /// A call gives back so many places, instead of saying how many were used.
    ReturnsRelative,
    /// A block is valid from the answer to its lease, and not from the first call.
    CountsFromAnswer,
    /// A worker goes on with a block after its end.
    UsesEndedBlock,
    /// A repeated refund counts again.
    RefundsTwice,
}

impl PlaceFlaw {
    pub const ALL: [PlaceFlaw; 5] = [
        PlaceFlaw::CountsFromLease,
        PlaceFlaw::ReturnsRelative,
        PlaceFlaw::CountsFromAnswer,
        PlaceFlaw::UsesEndedBlock,
        PlaceFlaw::RefundsTwice,
    ];
}

/// A block in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Leased {
    id: u8,
    until: u8,
    count: u8,
    refunds: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    id: u8,
    until: u8,
    count: u8,
    used: u8,
    /// It is not used any more; the store is still to learn how many of it were.
    is_ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Worker {
    block: Option<Block>,
    /// The id of a lease without an answer.
    pending: Option<u8>,
    is_alive: bool,
}

/// A call that gives back a block, and may still reach the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Return {
    id: u8,
    used: u8,
}

/// A send: when, of which block's end, and whether its refund has reached the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Send {
    at: u8,
    until: u8,
    is_refunded: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    now: u8,
    store: Vec<Leased>,
    workers: [Worker; WORKERS],
    late: Option<Return>,
    sends: Vec<Send>,
    next_id: u8,
    faults_left: u8,
    /// Places that a dead worker or an abandoned lease had.
    lost: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Tick,
    Lease {
        worker: usize,
        is_answered: bool,
    },
    Use {
        worker: usize,
    },
    /// A handler gives a place back to its block.
    PutBack {
        worker: usize,
    },
    Return {
        worker: usize,
        is_answered: bool,
    },
    /// The call does not reach the store yet.
    ReturnLate {
        worker: usize,
    },
    LateArrives,
    Refund {
        send: usize,
        is_repeated: bool,
    },
    Die {
        worker: usize,
    },
}

pub struct Places {
    pub faults: u8,
    pub flaw: Option<PlaceFlaw>,
}

impl Places {
    fn has(&self, flaw: PlaceFlaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn counts_until(&self, block: &Leased) -> u8 {
        block.until + WINDOW - if self.has(PlaceFlaw::CountsFromLease) { VALID } else { 0 }
    }

    fn used(&self, world: &World) -> u8 {
        let counted = world.store.iter().filter(|block| self.counts_until(block) > world.now);
        counted.map(|block| block.count.saturating_sub(block.refunds)).sum()
    }

    fn lease(&self, world: &mut World, worker: usize, is_answered: bool) {
        let (now, repeated) = (world.now, world.workers[worker].pending);
        let id = repeated.unwrap_or(world.next_id);
        if repeated.is_none() {
            world.next_id += 1;
        }
        let used = self.used(world);
        let known = world.store.iter().position(|block| block.id == id);
        if known.is_none() && used < CAP {
            let count = BLOCK.min(CAP - used);
            world.store.push(Leased { id, until: world.now + VALID, count, refunds: 0 });
        }
        let leased = world.store.iter().find(|block| block.id == id).copied();
        let worker = &mut world.workers[worker];
        worker.pending = if is_answered { None } else { Some(id) };
        if let Some(Leased { id, until, count, .. }) = leased.filter(|_| is_answered) {
            worker.block = Some(Block {
                id,
                until,
                count,
                used: 0,
                is_ended: now > until && !self.has(PlaceFlaw::CountsFromAnswer),
            });
        }
    }

    fn give_back(&self, world: &mut World, Return { id, used }: Return) {
        for block in world.store.iter_mut().filter(|block| block.id == id) {
            let unused = BLOCK - used;
            block.count = if self.has(PlaceFlaw::ReturnsRelative) {
                block.count.saturating_sub(unused)
            } else {
                block.count.min(used)
            };
        }
    }

    fn refund(&self, world: &mut World, send: usize, is_repeated: bool) {
        let until = world.sends[send].until;
        if is_repeated && !self.has(PlaceFlaw::RefundsTwice) {
            return;
        }
        world.sends[send].is_refunded = true;
        if let Some(block) =
            world.store.iter_mut().find(|block| block.until == until && block.refunds < block.count)
        {
            block.refunds += 1;
        }
    }

    /// Ends what the clock has ended.
    fn tick(&self, world: &mut World) {
        world.now += 1;
        let now = world.now;
        for worker in &mut world.workers {
            if let Some(block) = &mut worker.block
                && now > block.until
                && !self.has(PlaceFlaw::UsesEndedBlock)
            {
                block.is_ended = true;
            }
        }
        world.sends.retain(|send| send.at + WINDOW > now);
    }

    fn of_worker(world: &World, worker: usize, actions: &mut Vec<Action>) {
        let Worker { block, is_alive, .. } = world.workers[worker];
        if !is_alive {
            return;
        }
        let faults = world.faults_left > 0;
        let answers = if faults { &[true, false][..] } else { &[true] };
        match block {
            None => {
                actions.extend(
                    answers.iter().map(|is_answered| Action::Lease { worker, is_answered: *is_answered }),
                );
            }
            Some(block) => {
                if !block.is_ended && block.used < block.count {
                    actions.push(Action::Use { worker });
                }
                if block.used > 0 {
                    actions.push(Action::PutBack { worker });
                }
                actions.extend(
                    answers.iter().map(|is_answered| Action::Return { worker, is_answered: *is_answered }),
                );
                if faults && world.late.is_none() {
                    actions.push(Action::ReturnLate { worker });
                }
            }
        }
        if faults {
            actions.push(Action::Die { worker });
        }
    }

    fn end(world: &mut World, worker: usize) -> Option<Return> {
        let block = world.workers[worker].block.as_mut()?;
        block.is_ended = true;
        Some(Return { id: block.id, used: block.used })
    }

    fn act(&self, world: &mut World, action: Action) {
        match action {
            Action::Tick => self.tick(world),
            Action::Lease { worker, is_answered } => self.lease(world, worker, is_answered),
            Action::Use { worker } => {
                let at = world.now;
                if let Some(block) = &mut world.workers[worker].block {
                    block.used += 1;
                    world.sends.push(Send { at, until: block.until, is_refunded: false });
                    world.sends.sort_unstable();
                }
            }
            Action::PutBack { worker } => {
                let Some(block) = world.workers[worker].block else { return };
                let own = |send: &Send| send.until == block.until && !send.is_refunded;
                if let Some(send) = world.sends.iter().position(own) {
                    world.sends.remove(send);
                    if let Some(block) = &mut world.workers[worker].block {
                        block.used -= 1;
                    }
                }
            }
            Action::Return { worker, is_answered } => {
                let Some(returned) = Self::end(world, worker) else { return };
                self.give_back(world, returned);
                if is_answered {
                    world.workers[worker].block = None;
                }
            }
            Action::ReturnLate { worker } => world.late = Self::end(world, worker),
            Action::LateArrives => {
                if let Some(returned) = world.late.take() {
                    self.give_back(world, returned);
                }
            }
            Action::Refund { send, is_repeated } => self.refund(world, send, is_repeated),
            Action::Die { worker } => {
                let Worker { block, pending, .. } = world.workers[worker];
                let held =
                    |id: u8| world.store.iter().find(|block| block.id == id).map_or(0, |block| block.count);
                world.lost += block.map_or(0, |block| held(block.id).saturating_sub(block.used))
                    + pending.map_or(0, held);
                world.workers[worker] = Worker { block: None, pending: None, is_alive: false };
            }
        }
    }
}

impl Model for Places {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            now: 0,
            store: Vec::new(),
            workers: [Worker { block: None, pending: None, is_alive: true }; WORKERS],
            late: None,
            sends: Vec::new(),
            next_id: 0,
            faults_left: self.faults,
            lost: 0,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        (0..WORKERS).for_each(|worker| Self::of_worker(world, worker, actions));
        if world.now < TICKS {
            actions.push(Action::Tick);
        }
        if world.late.is_some() {
            actions.push(Action::LateArrives);
        }
        for (send, sent) in world.sends.iter().enumerate() {
            if !sent.is_refunded {
                // One at a time is enough to take a refunded place again.
                if world.sends.iter().all(|send| !send.is_refunded) {
                    actions.push(Action::Refund { send, is_repeated: false });
                }
            } else if world.faults_left > 0 {
                actions.push(Action::Refund { send, is_repeated: true });
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.faults_left -= match action {
            Action::Lease { is_answered: false, .. }
            | Action::Return { is_answered: false, .. }
            | Action::ReturnLate { .. }
            | Action::Refund { is_repeated: true, .. }
            | Action::Die { .. } => 1,
            _ => 0,
        };
        self.act(&mut next, action);
        // Old blocks change nothing any more.
        next.store.retain(|block| self.counts_until(block) > next.now);
        (next != *world && next.next_id <= LEASES).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Places>> {
        vec![
            Property::always("no window has more sends than the cap", |_, world: &World| {
                world.sends.iter().filter(|send| !send.is_refunded).count() <= usize::from(CAP)
            }),
            Property::always(
                "the store counts every send that a window has",
                |model: &Places, world: &World| {
                    let counted = usize::from(model.used(world));
                    world.sends.iter().filter(|send| !send.is_refunded).count() <= counted
                },
            ),
            Property::always("a dead worker loses one block at most", |_, world: &World| {
                let dead = world.workers.iter().filter(|worker| !worker.is_alive).count();
                usize::from(world.lost) <= dead * usize::from(BLOCK)
            }),
            Property::sometimes("the cap is reached", |_, world: &World| {
                world.sends.iter().filter(|send| !send.is_refunded).count() == usize::from(CAP)
            }),
            Property::sometimes("places that came back are used by the other worker", |_, world: &World| {
                world.now == 0 && world.sends.len() == usize::from(CAP) && world.next_id > 2
            }),
            Property::sometimes("a refunded place is used again", |_, world: &World| {
                world.sends.len() == usize::from(CAP) + 1
            }),
        ]
    }
}
