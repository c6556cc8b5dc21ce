//! Places under the cap over all sends: leased from the store in blocks, and taken from them without a call.
//!
//! Only the bookkeeping; `place_steps.rs` calls the store. A block is used only while it is valid by this process's own clock,
//! counted from before the call that leased it, so every use comes before the end that `places.lua` counts it to. A process
//! that dies loses the places that it has leased and not used: at most a hundredth of the cap, until the window is over.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::domain::limit::Quota;
use crate::domain::time::UnixMillis;

/// Asked of the store for a block.
pub(super) const VALID_FOR: Duration = Duration::from_secs(60);
/// The step that uses a place may take this long.
const STEP_MAX: Duration = Duration::from_secs(5);
/// A place may come back this long after its block was used up.
const PUT_BACK_WITHIN: Duration = Duration::from_secs(10);
/// A lease without an answer is repeated for so long; then another one replaces it.
const REPEATED_FOR: Duration = Duration::from_secs(30);
/// Two blocks at a time are at most a hundredth of the cap.
const BLOCKS_IN_CAP: u32 = 200;
const PLACES_MAX: u32 = 50;
const ENDED_MAX: usize = 64;
/// Places of admissions without an answer.
const KEPT_MAX: usize = 1_024;

pub(super) type BlockId = [u8; 8];

/// The right to one send under the cap. It is used, put back, or lost until the window after `until` is over.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// The end of its block; a refund names it.
    pub until: UnixMillis,
    block: BlockId,
    /// By this process's clock.
    valid_until: Duration,
    /// An admission that got no answer may have used it.
    pub(super) is_kept: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    Place(Place),
    /// No place is free for so long, unless one comes back.
    Refused(Duration),
}

struct Block {
    id: BlockId,
    until: UnixMillis,
    /// By this process's clock.
    valid_until: Duration,
    leased: u32,
    used: u32,
}

impl Block {
    fn is_usable(&self, now: Duration) -> bool {
        self.used < self.leased && now < self.valid_until
    }
}

/// A block that is not used any more.
struct Ended {
    id: BlockId,
    used: u32,
    /// As many as the store counts.
    counted: u32,
    forget_at: Duration,
}

/// A lease that is under way, or got no answer.
#[derive(Clone, Copy)]
struct Pending {
    id: BlockId,
    wanted: u32,
    since: Duration,
}

/// The arguments of a call, and its number.
pub(super) struct LeaseCall {
    pub(super) id: BlockId,
    /// 0: the call only gives back.
    pub(super) wanted: u32,
    pub(super) quota: Quota,
    /// Blocks with the places used of them.
    pub(super) returned: Vec<(BlockId, u32)>,
    number: u64,
}

pub(super) enum LeaseAnswer {
    Leased { count: u32, until: UnixMillis },
    Refused(Duration),
    Returned,
}

/// The places of a store, shared by its handlers.
pub(super) struct SharedPlaces {
    pub(super) places: Mutex<Places>,
    /// Held by the one call that leases or gives back.
    pub(super) leasing: tokio::sync::Mutex<()>,
    pub(super) opened: Instant,
}

impl Default for SharedPlaces {
    fn default() -> SharedPlaces {
        SharedPlaces {
            places: Mutex::default(),
            leasing: tokio::sync::Mutex::default(),
            opened: Instant::now(),
        }
    }
}

#[derive(Default)]
pub(super) struct Places {
    current: Option<Block>,
    next: Option<Block>,
    ended: VecDeque<Ended>,
    pending: Option<Pending>,
    /// Places that the next lease asks for. It doubles while blocks are used up, so that an idle worker holds few.
    size: u32,
    quota: Option<Quota>,
    calls: u64,
    /// By the fencing token of the admission that got no answer: its repetition uses the same place.
    kept: HashMap<u64, Place>,
    /// The number of the call that was refused last, and its answer.
    refusal: Option<(u64, Duration)>,
}

impl Places {
    /// A place, and whether the next block should be leased: this one was used to the half.
    pub(super) fn take(&mut self, now: Duration) -> Option<(Place, bool)> {
        self.end_blocks(now);
        let has_next = self.next.is_some();
        let block = self.current.as_mut()?;
        block.used += 1;
        let is_half_used = block.leased > 3 && block.used == block.leased.div_ceil(2);
        let place =
            Place { until: block.until, block: block.id, valid_until: block.valid_until, is_kept: false };
        Some((place, is_half_used && !has_next))
    }

    /// Keeps the place of an admission that may have used it. Beyond the bound it counts as used.
    pub(super) fn keep(&mut self, token: u64, place: Place, now: Duration) {
        self.kept.retain(|_, kept| now < kept.valid_until);
        if self.kept.len() < KEPT_MAX {
            self.kept.insert(token, Place { is_kept: true, ..place });
        }
    }

    pub(super) fn take_kept(&mut self, token: u64, now: Duration) -> Option<Place> {
        self.kept.remove(&token).filter(|place| now < place.valid_until)
    }

    /// Gives back a place that was not used.
    pub(super) fn put_back(&mut self, place: &Place) {
        let mut blocks =
            self.current.iter_mut().chain(&mut self.next).map(|block| (block.id, &mut block.used));
        let mut ended = self.ended.iter_mut().map(|ended| (ended.id, &mut ended.used));
        let found =
            blocks.find(|(id, _)| *id == place.block).or_else(|| ended.find(|(id, _)| *id == place.block));
        if let Some((_, used)) = found {
            *used = used.saturating_sub(1);
        }
    }

    /// Moves on from a block that is used up or not valid any more.
    fn end_blocks(&mut self, now: Duration) {
        while self.current.as_ref().is_none_or(|block| !block.is_usable(now)) {
            if let Some(block) = self.current.take() {
                if now >= block.valid_until {
                    self.size = block.used;
                }
                self.end(block.id, block.used, block.leased, now);
            }
            match self.next.take() {
                Some(next) => self.current = Some(next),
                None => break,
            }
        }
        self.ended.retain(|ended| now < ended.forget_at || ended.used < ended.counted);
    }

    fn end(&mut self, id: BlockId, used: u32, counted: u32, now: Duration) {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(Ended { id, used, counted, forget_at: now + PUT_BACK_WITHIN });
    }

    /// The number of calls so far. A later refusal also answers those that wait since then.
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    pub(super) fn refusal_after(&self, calls: u64) -> Option<Duration> {
        self.refusal.filter(|(number, _)| *number > calls).map(|(_, wait)| wait)
    }

    /// Begins a lease, or repeats one without an answer. `new_id` names a new block.
    pub(super) fn begin_lease(&mut self, quota: Quota, new_id: BlockId, now: Duration) -> LeaseCall {
        let size_max = (quota.count / BLOCKS_IN_CAP).clamp(1, PLACES_MAX);
        if let Some(pending) = self.pending.take_if(|pending| now >= pending.since + REPEATED_FOR) {
            self.end(pending.id, 0, pending.wanted, now);
        }
        let pending = self.pending.unwrap_or_else(|| {
            self.size = self.size.saturating_mul(2).clamp(1, size_max);
            Pending { id: new_id, wanted: self.size, since: now }
        });
        self.pending = Some(pending);
        self.call(pending.id, pending.wanted, quota)
    }

    /// A call that only gives back, if something is to be given back. While a block is in use the next lease may do that, so the
    /// call waits until no place comes back any more.
    pub(super) fn begin_return(&mut self, now: Duration) -> Option<LeaseCall> {
        self.end_blocks(now);
        let is_idle = self.current.is_none();
        let is_due =
            self.ended.iter().any(|ended| ended.used < ended.counted && (is_idle || now >= ended.forget_at));
        let quota = self.quota.filter(|_| is_due)?;
        Some(self.call([0; 8], 0, quota))
    }

    /// Ends all blocks: the process ends, or the store may have lost them.
    pub(super) fn end_all(&mut self, now: Duration) {
        let blocks = [self.current.take(), self.next.take()];
        for block in blocks.into_iter().flatten() {
            self.end(block.id, block.used, block.leased, now);
        }
        if let Some(pending) = self.pending.take() {
            self.end(pending.id, 0, pending.wanted, now);
        }
    }

    fn call(&mut self, id: BlockId, wanted: u32, quota: Quota) -> LeaseCall {
        self.calls += 1;
        self.quota = Some(quota);
        let unused = self.ended.iter().filter(|ended| ended.used < ended.counted);
        let returned = unused.map(|ended| (ended.id, ended.used)).collect();
        LeaseCall { id, wanted, quota, returned, number: self.calls }
    }

    pub(super) fn answered(&mut self, call: &LeaseCall, answer: &LeaseAnswer) {
        for (id, used) in &call.returned {
            for ended in self.ended.iter_mut().filter(|ended| ended.id == *id) {
                ended.counted = ended.counted.min(*used);
            }
        }
        let pending = self.pending.take_if(|pending| pending.id == call.id);
        match *answer {
            LeaseAnswer::Refused(wait) => self.refusal = Some((call.number, wait)),
            LeaseAnswer::Leased { count, until } => {
                let Some(Pending { id, since, .. }) = pending else { return };
                let valid_until = since + VALID_FOR - STEP_MAX;
                let free = if self.current.is_none() { &mut self.current } else { &mut self.next };
                *free = Some(Block { id, until, valid_until, leased: count, used: 0 });
            }
            LeaseAnswer::Returned => {}
        }
    }
}

#[cfg(test)]
mod tests;
