//! Opening: makes sure that the stored data is of this layout, before the first step of the process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::connection::{Answer, Link};
use super::step_call::Call;
use crate::store::{Damaged, StoreError};

/// The number of this layout.
pub(super) const LAYOUT: &str = "2";

/// Records of layout 1 may exist until then.
pub(super) struct OldData {
    /// By the server's clock, in milliseconds; 0: there were none.
    pub(super) until: u64,
    over: Option<Instant>,
}

impl OldData {
    pub(super) fn may_exist(&self) -> bool {
        self.over.is_some_and(|over| Instant::now() < over)
    }
}

enum Opened {
    Whole(OldData),
    /// To be repeated, with so many suppressions copied.
    Partly(u64),
}

#[derive(Default)]
pub(super) struct Opening {
    done: OnceCell<OldData>,
    /// Suppressions copied so far: a heartbeat does not wait long enough for many.
    copied: AtomicU64,
}

impl Opening {
    /// Opens once. A call that comes meanwhile waits; one after a failure begins again.
    pub(super) async fn once<'s>(
        &self,
        link: &Link,
        step: impl Fn(u64) -> Call<'s>,
    ) -> Result<&OldData, StoreError> {
        let open = async || {
            loop {
                let answer = link.run(&step(self.copied.load(Ordering::Relaxed))).await;
                // A server that fails may be followed by one without the last copies.
                let answer = answer.inspect_err(|_| self.copied.store(0, Ordering::Relaxed))?;
                let opened = match answer {
                    Answer::Bytes(answer) => read(&answer),
                    Answer::KeyUnreadable(_) => None,
                };
                match opened.unwrap_or_else(|| Err(unreadable("format")))? {
                    Opened::Whole(old_data) => return Ok(old_data),
                    Opened::Partly(so_far) => self.copied.store(so_far, Ordering::Relaxed),
                }
            }
        };
        self.done.get_or_try_init(open).await
    }
}

fn unreadable(key: &str) -> StoreError {
    StoreError::Unreadable { damaged: Damaged::Shared(key.to_owned()), step: "open" }
}

/// An answer by which a step refuses to run on this data.
pub(super) fn refusal(answer: &[u8]) -> Option<StoreError> {
    let words = str::from_utf8(answer).ok()?;
    let reason = match words.split_once(' ') {
        Some(("f", number)) => {
            format!("REDIS_PREFIX holds data of format {number}; this version reads format {LAYOUT}")
        }
        Some(("d", key)) => {
            return Some(unreadable(key));
        }
        None if words == "w" => {
            "workers of an earlier version are running with this REDIS_PREFIX: stop them first".to_owned()
        }
        _ => return None,
    };
    Some(StoreError::Refused(reason))
}

/// `None`: the answer cannot be read.
fn read(answer: &[u8]) -> Option<Result<Opened, StoreError>> {
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
            Some(Ok(Opened::Whole(OldData { until, over })))
        }
        "m" => Some(Ok(Opened::Partly(number()?))),
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
