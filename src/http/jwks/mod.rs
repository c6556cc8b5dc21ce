//! The keys that an issuer publishes (RFC 7517), fetched from startup on and looked up by `kid`.
//!
//! One task fetches the key set: every ten minutes, sooner after a failure, and at most once a minute for an unknown
//! `kid`, however many requests have one. A successful fetch replaces all keys. After failures, keys stay valid for a
//! day. Only a request whose key is missing waits for the endpoint, and briefly.

pub(super) mod endpoint;
mod fetch_error;
mod keys;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

use self::endpoint::Endpoint;
use self::fetch_error::FetchError;
use self::keys::KeySet;
use super::token_key::TokenKey;
use crate::telemetry::events;

/// The time between successful fetches; jitter adds up to a minute.
const REFRESH_EVERY: Duration = Duration::from_secs(10 * 60);
/// The least time between two fetches for an unknown `kid`.
const FETCH_INTERVAL_MIN: Duration = Duration::from_secs(60);
/// Keys stay valid this long after the last successful fetch: longer than most outages, yet a withdrawn key expires.
const KEY_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// The longest wait of a request for a fetch that may bring its key.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// Requests that wait at once. Each keeps its body in memory.
const WAITING_MAX: usize = 256;
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Half of the longest wait after a failure: jitter adds up to the same again.
const RETRY_MAX: Duration = Duration::from_secs(30);

pub(super) struct Jwks {
    endpoint: Box<dyn Endpoint>,
    state: watch::Sender<KeyState>,
    /// Requests a fetch for an unknown `kid`.
    fetch_requested: Notify,
    waiting: Semaphore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The issuer publishes no key with this `kid`.
    Unknown,
    /// The issuer may publish one, but the last fetch failed or is missing.
    Unavailable,
}

#[derive(Default)]
struct KeyState {
    keys: Option<Arc<KeySet>>,
    fetch_started: Option<Instant>,
    fetching: bool,
    /// Finished fetches, failed ones included.
    fetches: u64,
    last_succeeded: bool,
}

impl Jwks {
    pub(super) fn new(endpoint: Box<dyn Endpoint>) -> Jwks {
        let state = watch::Sender::new(KeyState::default());
        Jwks { endpoint, state, fetch_requested: Notify::new(), waiting: Semaphore::new(WAITING_MAX) }
    }

    /// The key with this `kid`. Without a `kid`, the only usable key.
    pub(super) async fn find(&self, kid: Option<&str>) -> Result<Arc<TokenKey>, NoKey> {
        let fetches = {
            let state = self.state.borrow();
            match state.find(kid) {
                Err(_) if state.may_change(kid) => state.fetches,
                found => return found,
            }
        };
        let Ok(_permit) = self.waiting.try_acquire() else {
            return Err(NoKey::Unavailable);
        };
        self.fetch_requested.notify_one();
        let mut state = self.state.subscribe();
        let fetched = timeout(WAIT_MAX, state.wait_for(|state| state.fetches > fetches)).await;
        if fetched.is_err() {
            return Err(NoKey::Unavailable);
        }
        self.state.borrow().find(kid)
    }

    pub(super) async fn refresh(self: Arc<Jwks>) {
        let mut delays = delays();
        let mut last_body = Vec::new();
        let mut succeeded_at = None;
        loop {
            let began = Instant::now();
            self.state.send_modify(|state| (state.fetch_started, state.fetching) = (Some(began), true));
            let fetched = self.fetch(&mut last_body).await;
            let wait = match &fetched {
                Ok(_) => {
                    succeeded_at = Some(began);
                    delays = self::delays();
                    REFRESH_EVERY + FETCH_INTERVAL_MIN.mul_f64(fastrand::f64())
                }
                Err(_) => delays.next().unwrap_or(RETRY_MAX),
            };
            match &fetched {
                Ok(_) => events::token_keys_fetched(),
                Err(error) => events::token_keys_failed(error.reason(), error, wait),
            }
            let too_old =
                fetched.is_err() && succeeded_at.is_some_and(|at: Instant| at.elapsed() >= KEY_AGE_MAX);
            if too_old {
                (succeeded_at, last_body) = (None, Vec::new());
                events::token_keys_dropped();
            }
            self.state.send_modify(|state| {
                state.last_succeeded = fetched.is_ok();
                match fetched {
                    Ok(Some(keys)) => state.keys = Some(Arc::new(keys)),
                    Err(_) if too_old => state.keys = None,
                    Ok(None) | Err(_) => {}
                }
                (state.fetching, state.fetches) = (false, state.fetches + 1);
            });
            self.wait_for_next_fetch(began, Instant::now() + wait).await;
        }
    }

    /// Fetches once. `None` if the key set is the same as `last_body`.
    async fn fetch(&self, last_body: &mut Vec<u8>) -> Result<Option<KeySet>, FetchError> {
        let body = self.endpoint.get().await?;
        // An empty body is an error each time: `last_body` is empty at first.
        if !body.is_empty() && body == *last_body {
            return Ok(None);
        }
        let (keys, ignored) = KeySet::read(&body)?;
        *last_body = body;
        events::token_keys_changed(keys.usable(), ignored.iter().map(|reason| reason.as_str()));
        Ok(Some(keys))
    }

    /// Waits until `due`, or until an unknown `kid` requests a fetch and the last one is long enough ago.
    async fn wait_for_next_fetch(&self, began: Instant, due: Instant) {
        let due = sleep_until(due);
        tokio::pin!(due);
        loop {
            tokio::select! {
                () = &mut due => return,
                () = self.fetch_requested.notified() => if began.elapsed() >= FETCH_INTERVAL_MIN { return },
            }
        }
    }
}

impl KeyState {
    fn find(&self, kid: Option<&str>) -> Result<Arc<TokenKey>, NoKey> {
        let keys = self.keys.as_ref().ok_or(NoKey::Unavailable)?;
        match keys.find(kid) {
            Some(key) => Ok(key.clone()),
            None if self.last_succeeded || kid.is_none() => Err(NoKey::Unknown),
            None => Err(NoKey::Unavailable),
        }
    }

    /// A fetch that could bring a missing key is in progress, or may start now.
    fn may_change(&self, kid: Option<&str>) -> bool {
        let could = kid.is_some() || self.keys.is_none();
        could
            && (self.fetching || self.fetch_started.is_none_or(|began| began.elapsed() >= FETCH_INTERVAL_MIN))
    }
}

fn delays() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(RETRY_FIRST)
        .with_max_delay(RETRY_MAX)
        .with_jitter()
        .without_max_times()
        .build()
}
