//! Use of the limits.

use std::time::Duration;

use crate::domain::reached_limit::ReachedLimit;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Sends in the window of [`crate::domain::limit::Limit::Recipient`].
    pub used: u32,
    pub used_day: u32,
    /// In the last hour.
    pub wrong_attempts: u32,
    /// The time until every limit allows one more send, the cooldown apart.
    pub limited_for: Duration,
    /// The limit of that time.
    pub limited_by: Option<ReachedLimit>,
    pub cooldown_left: Duration,
    pub has_record: bool,
}
