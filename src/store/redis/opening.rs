//! Opening: makes sure that the stored data is of this layout, before the first step of the process, and again where a server
//! lacks what the opening wrote.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::connection::{Answer, Link};
use super::keys;
use super::step_call::Call;
use crate::domain::shards::Shards;
use crate::store::{Damaged, StoreError, StoreFault};

/// The number of this layout.
const LAYOUT: &str = "2";

/// Records of layout 1 may exist until then.
#[derive(Clone, Copy)]
pub(super) struct OldData {
    /// By the server's clock, in milliseconds; 0: there were none.
    pub(super) until: u64,
    over: Option<Instant>,
}

impl OldData {
    /// The format that the opening wrote or found.
    pub(super) fn format(self, shards: Shards) -> String {
        match shards {
            Shards::ONE => format!("{LAYOUT} {}", self.until),
            _ => format!("{LAYOUT} {} {shards}", self.until),
        }
    }

    pub(super) fn may_exist(&self) -> bool {
        self.over.is_some_and(|over| Instant::now() < over)
    }
}

#[derive(Clone, Copy)]
enum State {
    Closed,
    /// The cursor of the scan so far: a heartbeat does not wait for its end.
    Opening(u64),
    Open(OldData),
}

pub(super) struct Opening {
    state: Mutex<State>,
    /// For a process that only reads: data that is not open stays so, and counts as none.
    only_reads: bool,
    found_nothing: AtomicBool,
}

impl Opening {
    pub(super) fn new(only_reads: bool) -> Opening {
        Opening { state: Mutex::new(State::Closed), only_reads, found_nothing: AtomicBool::new(false) }
    }

    /// Only for a process that only reads: no process has opened the data.
    pub(super) fn found_nothing(&self) -> bool {
        self.found_nothing.load(Ordering::Relaxed)
    }

    /// `None` if the store is not open, or another step is opening it.
    pub(super) fn opened(&self) -> Option<OldData> {
        match *self.state.try_lock().ok()? {
            State::Open(old_data) => Some(old_data),
            State::Closed | State::Opening(_) => None,
        }
    }

    /// Opens, unless that is done. A call that comes meanwhile waits. `step` without a cursor only asks whether the data is open: a
    /// server that refuses writes answers that.
    pub(super) async fn open<'s>(
        &self,
        link: &Link,
        step: impl Fn(Option<u64>) -> Call<'s>,
    ) -> Result<OldData, StoreError> {
        let mut state = self.state.lock().await;
        loop {
            let cursor = match *state {
                State::Closed => None,
                State::Opening(_) if self.only_reads => {
                    self.found_nothing.store(true, Ordering::Relaxed);
                    *state = State::Open(OldData { until: 0, over: None });
                    continue;
                }
                State::Opening(cursor) => Some(cursor),
                State::Open(old_data) => return Ok(old_data),
            };
            let answer = match link.run(&step(cursor)).await {
                Ok(Answer::Bytes(answer)) => read(&answer).unwrap_or_else(|| Err(unreadable("format"))),
                Ok(Answer::KeyUnreadable(name)) => {
                    Err(StoreError::Unreadable { damaged: keys::damaged(&name), step: "open" })
                }
                Err(error) => Err(error),
            };
            // A cursor is worth nothing to another server, and an old worker may have suppressed more.
            *state = answer.as_ref().map_or(State::Closed, |state| *state);
            answer?;
        }
    }

    /// After the refusal of a server that lacks what this opening wrote, the next step opens again.
    pub(super) async fn close_if_refused<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Unavailable(StoreFault::NotOpened)) = &answer {
            *self.state.lock().await = State::Closed;
        }
        answer
    }
}

fn unreadable(key: &str) -> StoreError {
    StoreError::Unreadable { damaged: Damaged::Shared(key.to_owned()), step: "open" }
}

/// An answer by which a step refuses to run on this data.
pub(super) fn refusal(answer: &[u8]) -> Option<StoreError> {
    let words = str::from_utf8(answer).ok()?;
    let fault = match words.split_once(' ') {
        Some(("f", number)) => other_format(number),
        Some(("s", numbers)) => other_shards(numbers.split_once(' ')?),
        Some(("x", numbers)) => unfinished_change(numbers.split_once(' ')?),
        Some(("d", key)) => return Some(unreadable(key)),
        None if words == "n" => StoreFault::NotOpened,
        None if words == "w" => StoreFault::EarlierWorkers,
        None if words == "l" => StoreFault::Shards(
            "REDIS_PREFIX holds data of an earlier version: start once with REDIS_SHARDS=1, which takes it over"
                .to_owned(),
        ),
        _ => return None,
    };
    Some(StoreError::Unavailable(fault))
}

pub(super) fn other_format(number: &str) -> StoreFault {
    StoreFault::OtherFormat { found: number.to_owned(), readable: LAYOUT }
}

fn other_shards((stored, own): (&str, &str)) -> StoreFault {
    StoreFault::Shards(format!(
        "REDIS_SHARDS is {own}, and REDIS_PREFIX holds data for {stored}: set it to {stored}, or stop all processes and run \
         `otpost store reshard {own}`"
    ))
}

/// Fails if the stored format names another number of shards. One that cannot be read is no reason to show nothing.
pub(super) fn expect_own_shards(format: Option<Vec<u8>>, own: Shards) -> Result<(), StoreError> {
    let format = format.and_then(|format| String::from_utf8(format).ok()).unwrap_or_default();
    let stored = match format.split(' ').collect::<Vec<_>>()[..] {
        [LAYOUT, _] => Some(Shards::ONE),
        [LAYOUT, _, count] => count.parse().ok(),
        _ => None,
    };
    match stored {
        Some(stored) if stored != own => {
            let fault = other_shards((&stored.to_string(), &own.to_string()));
            Err(StoreError::Unavailable(fault))
        }
        _ => Ok(()),
    }
}

fn unfinished_change((from, to): (&str, &str)) -> StoreFault {
    StoreFault::Shards(format!(
        "a change from {from} to {to} shards is not finished: run `otpost store reshard {to}`"
    ))
}

/// `None`: the answer cannot be read.
fn read(answer: &[u8]) -> Option<Result<State, StoreError>> {
    if let Some(refusal) = refusal(answer) {
        return Some(Err(refusal));
    }
    let mut words = str::from_utf8(answer).ok()?.split(' ');
    let letter = words.next()?;
    let mut number = || words.next()?.parse().ok();
    match letter {
        "o" => {
            let (until, left) = (number()?, number()?);
            let over = (left > 0).then(|| Instant::now() + Duration::from_millis(left));
            Some(Ok(State::Open(OldData { until, over })))
        }
        "m" => Some(Ok(State::Opening(number()?))),
        _ => None,
    }
}

/// `None`: the answer cannot be read.
pub(super) fn moved(answer: &[u8]) -> Option<Result<(), StoreError>> {
    match refusal(answer) {
        Some(refusal) => Some(Err(refusal)),
        None => (answer == b"a").then_some(Ok(())),
    }
}
