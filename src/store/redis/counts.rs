//! Names and values of counts of codes and of amounts, as they are stored.

use super::pack::{Packer, Unpacker};
use crate::domain::amount::Amount;
use crate::domain::conversion::{CodeCounts, Dimension, OTHER};
use crate::domain::spend::SpendCounts;

/// Digits take six bytes. The empty name is that of all others.
pub(super) fn pack_name(dimension: Dimension, name: &str) -> Vec<u8> {
    match name.strip_prefix('+').and_then(|digits| digits.parse().ok()) {
        Some(digits) if dimension.has_digits() => Packer::new().u48(digits).done(),
        _ => name.as_bytes().to_vec(),
    }
}

pub(super) fn read_name(dimension: Dimension, name: &[u8]) -> Option<String> {
    if dimension.has_digits() && name != OTHER.as_bytes() {
        let mut words = Unpacker::new(name);
        let digits = words.u48()?;
        return words.is_empty().then(|| format!("+{digits}"));
    }
    Some(std::str::from_utf8(name).ok()?.to_owned())
}

pub(super) fn read_counts(words: &mut Unpacker<'_>) -> Option<CodeCounts> {
    Some(CodeCounts { sent: words.u32()?, verified: words.u32()? })
}

pub(super) fn read_spend(words: &mut Unpacker<'_>) -> Option<SpendCounts> {
    Some(SpendCounts { messages: words.u32()?, amount: Amount::from_micros(words.u48()?) })
}
