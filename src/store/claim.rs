//! Claims a message that a lookup listed.

use super::lease::Lease;

/// A lookup passes at most this many messages to the store.
pub const LISTED_MAX: usize = 50;

/// Finds out whether one of the listed messages must be that of a request in doubt, and claims it.
#[derive(Clone, Copy, Debug)]
pub struct ClaimInput<'a> {
    pub lease: Lease<'a>,
    /// The ids of the messages that match the request, oldest first.
    pub listed: &'a [&'a str],
    /// A listed message has no text, so it may hold any code.
    pub a_text_is_missing: bool,
}

/// The answer to a [`ClaimInput`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimAnswer {
    /// The message with this id is the request's.
    Claimed(String),
    /// One of the messages is the request's. Another request made a message at the same time, so it is unknown which one.
    SentUnnamed,
    /// Other requests have claimed all of them.
    AllClaimed,
    /// Some are unclaimed, but not more than other requests may have made: those in progress, those whose attempts
    /// stayed in doubt, and those that the provider accepted without naming the message.
    Ambiguous,
    /// The lease was taken over or released, or the request is completed or has no record.
    LeaseNotHeld,
}
