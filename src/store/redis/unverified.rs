//! Records of unverified sends, as they are stored.

use super::pack::Unpacker;
use crate::domain::defence::{Budget, PENDING_MINUTES, UnverifiedRecord};

pub(super) fn read_record(words: &mut Unpacker<'_>) -> Option<UnverifiedRecord> {
    let mut record = UnverifiedRecord::new(words.u32()?);
    for pending in 0..PENDING_MINUTES {
        record.pending[pending] = words.u16()?;
    }
    (record.hour, record.day) = (words.u32()?, words.u32()?);
    record.budget = Budget { hour: words.u24()?, day: words.u24()? };
    Some(record)
}
