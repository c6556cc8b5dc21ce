//! A value as Redis has it, and its fields for people.

use serde_json::Value;

pub(super) type Fields = Vec<(&'static str, Value)>;

pub(super) enum Stored {
    Bytes(Vec<u8>),
    List(Vec<Vec<u8>>),
    Scores(Vec<(Vec<u8>, f64)>),
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
    OtherType,
}

pub(super) fn bytes(stored: &Stored) -> Option<&[u8]> {
    match stored {
        Stored::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}
