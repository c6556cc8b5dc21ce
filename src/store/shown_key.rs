//! A key of the store, as people can read it.

use crate::domain::keyed_digest::Digest16;
use crate::domain::request_id::RequestId;

/// A key as a person names it.
pub enum KeyName {
    Bytes(Vec<u8>),
    Recipient(Digest16),
    /// Of a request; with a recipient also its record if another recipient has the same id.
    Request(RequestId, Option<Digest16>),
}

pub struct ShownKey {
    /// With `\x..` for bytes that are no text.
    pub key: String,
    /// `None`: not a key of ours, or of another version.
    pub kind: Option<&'static str>,
    /// In milliseconds; `None`: no expiry.
    pub ttl: Option<u64>,
    /// `None`: it cannot be read.
    pub fields: Option<Vec<(&'static str, serde_json::Value)>>,
}
