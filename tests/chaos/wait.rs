//! Bounded waiting for a condition.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// For an asynchronous check.
pub use crate::redis_nodes::until as until_async;

/// Polls until there is an answer. The error has the last reason.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut check: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    until_async(what, within, async || check()).await
}

/// Milliseconds since 1970, by the clock that all processes here share.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    u64::try_from(since.as_millis()).expect("it is not that late")
}
