//! Counts of sent and verified codes, and amounts spent.

use serde_json::{Value, json};

use super::stored::{Fields, Stored};
use super::times::time;
use crate::domain::conversion::{Bucket, BucketWidth, Dimension};
use crate::domain::spend::{SpendCounts, SpendGroup};
use crate::store::redis::counts::{read_counts, read_name, read_spend};
use crate::store::redis::pack::Unpacker;

pub(super) fn writers(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let Stored::Hash(fields) = stored else { return None };
    let one = |(writer, value): &(Vec<u8>, Vec<u8>)| {
        let mut words = Unpacker::new(value);
        let (at, sequence) = (words.time()?, words.u32()?);
        Some(json!({"writer": hex::encode(writer), "at": time(at), "sequence": sequence}))
    };
    Some(vec![("writers", fields.iter().map(one).collect::<Option<Value>>()?)])
}

/// The name is that of a bucket, the letter of a dimension and a part.
pub(super) fn counts(name: &[u8], stored: &Stored) -> Option<Fields> {
    let Stored::Hash(fields) = stored else { return None };
    let name = std::str::from_utf8(name).ok()?;
    let width = BucketWidth::ALL.into_iter().find(|width| name.starts_with(width.letter()))?;
    let rest = name.get(1..)?;
    let (at, letter) = rest.char_indices().find(|(_, character)| !character.is_ascii_digit())?;
    let bucket = Bucket { width, number: rest[..at].parse().ok()? };
    let of_spend = SpendGroup::of_letter(letter);
    let dimension = of_spend.map(SpendGroup::names).or_else(|| Dimension::of_letter(letter))?;
    let one = |(name, value): &(Vec<u8>, Vec<u8>)| {
        let (name, mut words) = (read_name(dimension, name)?, Unpacker::new(value));
        if of_spend.is_some() {
            let SpendCounts { messages, amount } = read_spend(&mut words)?;
            return Some(json!({"name": name, "messages": messages, "amount": amount}));
        }
        let counts = read_counts(&mut words)?;
        Some(json!({"name": name, "sent": counts.sent, "verified": counts.verified}))
    };
    Some(vec![
        ("by", json!(of_spend.map_or(dimension.as_str(), SpendGroup::as_str))),
        ("from", time(bucket.start())),
        ("until", time(bucket.end())),
        ("part", json!(rest[at + 1..])),
        ("counts", fields.iter().map(one).collect::<Option<Value>>()?),
    ])
}
