//! A subject's use of its limits.

use std::time::Duration;

/// The answer to a question that charges nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Sends in the window of [`crate::domain::limit::Limit::Number`].
    pub used: u32,
    pub used_day: u32,
    /// Wrong attempts in the last hour.
    pub wrong: u32,
    /// The time until every limit allows one more send, the cooldown apart.
    pub limited_for: Duration,
    pub cooldown: Duration,
    /// The store has a record of the request.
    pub known: bool,
}
