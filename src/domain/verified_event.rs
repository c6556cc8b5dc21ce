//! The verified event: the JSON body that is published when a code was verified.

use serde::Serialize;

use super::channel::Channel;
use super::time::{UnixMillis, serialize_rfc3339};

/// A code was verified: the JSON body of a verified event on the results exchange.
#[derive(Serialize, schemars::JsonSchema)]
pub struct VerifiedEvent<'a> {
    /// The last request that sent the code.
    pub request_id: &'a str,
    /// The channel of the code.
    pub channel: Channel,
    /// The purpose of the code.
    pub purpose: &'a str,
    /// The recipient, masked.
    pub to: &'a str,
    /// Always `verified`.
    pub status: VerifiedEventStatus,
    /// When the code was checked (RFC 3339).
    #[serde(serialize_with = "serialize_rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: UnixMillis,
    /// The code of a test number: it verifies no person.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub test: bool,
}

/// The status of a verified event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VerifiedEventStatus {
    /// The right code was typed, for the first time.
    Verified,
}
