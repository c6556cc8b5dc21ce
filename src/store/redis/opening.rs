//! Opening: makes sure that the stored data is of this layout, before the first step of the process.

use std::time::{Duration, Instant};

use crate::store::{Damaged, StoreError};

/// The number of this layout.
pub(super) const FORMAT: &str = "2";

/// Records of the layout before this one may exist until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Open(OldData),
    /// Another batch is to be copied; so many suppressions are.
    More(u64),
}

/// Data of a format that only another version reads.
pub(super) fn other_format(number: &str) -> StoreError {
    StoreError::Refused(format!(
        "REDIS_PREFIX holds data of format {number}; this version reads format {FORMAT}"
    ))
}

/// `None`: the answer cannot be read.
pub(super) fn read(answer: &[u8]) -> Option<Result<Opening, StoreError>> {
    let mut words = str::from_utf8(answer).ok()?.split(' ');
    let letter = words.next()?;
    let refused = |reason: &str| Err(StoreError::Refused(reason.to_owned()));
    Some(match letter {
        "o" => {
            let (until, left) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let over = (left > 0).then(|| Instant::now() + Duration::from_millis(left));
            Ok(Opening::Open(OldData { until, over }))
        }
        "m" => Ok(Opening::More(words.next()?.parse().ok()?)),
        "f" => Err(other_format(words.next()?)),
        "w" => refused("workers of an earlier version are running with this REDIS_PREFIX: stop them first"),
        "d" => {
            let damaged = Damaged::Shared(words.next()?.to_owned());
            Err(StoreError::Unreadable { damaged, step: "open" })
        }
        _ => return None,
    })
}
