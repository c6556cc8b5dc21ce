//! Bounded waiting for a condition.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep};

/// The interval of polling.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// Polls until there is an answer. The error has the last reason.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut check: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    until_async(what, within, async || check()).await
}

/// The same with an asynchronous check.
pub async fn until_async<T>(
    what: &str,
    within: Duration,
    mut check: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, String> {
    let deadline = Instant::now() + within;
    loop {
        let why_not = match check().await {
            Ok(found) => return Ok(found),
            Err(why_not) => why_not,
        };
        if Instant::now() >= deadline {
            return Err(format!("{what} did not come within {within:?} {why_not}"));
        }
        sleep(POLL_EVERY).await;
    }
}

/// Milliseconds since 1970, by the clock that all processes here share.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    u64::try_from(since.as_millis()).expect("it is not that late")
}
