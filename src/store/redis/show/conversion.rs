//! Counts of sent and verified codes.

use serde_json::{Value, json};

use super::stored::{Fields, Stored};
use super::times::time;
use crate::domain::conversion::{Bucket, BucketWidth, Dimension};
use crate::store::redis::counts::{read_counts, read_name};
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
    let (bucket, dimension) =
        (Bucket { width, number: rest[..at].parse().ok()? }, Dimension::of_letter(letter)?);
    let one = |(name, value): &(Vec<u8>, Vec<u8>)| {
        let counts = read_counts(&mut Unpacker::new(value))?;
        Some(json!({"name": read_name(dimension, name)?, "sent": counts.sent, "verified": counts.verified}))
    };
    Some(vec![
        ("by", json!(dimension.as_str())),
        ("from", time(bucket.start())),
        ("until", time(bucket.end())),
        ("part", json!(rest[at + 1..])),
        ("counts", fields.iter().map(one).collect::<Option<Value>>()?),
    ])
}
