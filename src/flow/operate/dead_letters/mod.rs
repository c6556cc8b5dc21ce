//! Lists, replays and drops dead letters.
//!
//! Bodies are never shown, only a masked excerpt. A dead letter leaves the queue after the broker has confirmed its
//! replay. A crash in between keeps it: a second replay has the same new id, so that nothing is sent twice.

pub mod desk;
pub mod entry;
pub mod operation;
pub mod replayer;
pub mod row;

use self::entry::Entry;
use crate::broker::{DeadLetters, DeadLettersError};

/// Dead letters that were read, oldest first.
pub struct Listing {
    pub entries: Vec<Entry>,
    /// The queue holds more than were read.
    pub more: bool,
}

pub async fn read(queue: &mut dyn DeadLetters, count_max: usize) -> Result<Listing, DeadLettersError> {
    let mut entries: Vec<Entry> = queue.browse(count_max).await?.into_iter().map(Entry::new).collect();
    // Only another read shows that the queue holds more.
    let more = queue.browse(1).await.is_ok_and(|more| !more.is_empty());
    entries.sort_by_key(|entry| entry.dead_letter.at);
    Ok(Listing { entries, more })
}
