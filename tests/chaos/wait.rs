//! Waiting for something to become true, never for longer than told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep};

/// How often a thing is looked at that cannot tell by itself.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until there is an answer. The last "why not" is told if there is none in time.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    until_async(what, within, async || look()).await
}

/// The same, where looking takes time itself.
pub async fn until_async<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, String> {
    let deadline = Instant::now() + within;
    loop {
        let why_not = match look().await {
            Ok(found) => return Ok(found),
            Err(why_not) => why_not,
        };
        if Instant::now() >= deadline {
            return Err(format!("{what} did not come within {within:?} {why_not}"));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Milliseconds since 1970, by the clock that all processes here share.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    u64::try_from(since.as_millis()).expect("it is not that late")
}
