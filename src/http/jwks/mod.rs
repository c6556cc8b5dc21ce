//! Keys that an issuer publishes: fetched from the start on, kept, and looked up by name.
//!
//! The endpoint is asked from one place, one question at a time: every ten minutes, sooner while it fails, and for a
//! name that is not known at most once a minute, however many ask for one. A good answer replaces all that was known; a
//! failed one changes nothing, for a day. Nobody waits for the endpoint but whose key is not there, and not for long.

pub(super) mod endpoint;
mod keys;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use jsonwebtoken::{Algorithm, Validation};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

use self::endpoint::{Endpoint, Fault};
use self::keys::KeySet;
use super::auth::Key;
use crate::telemetry::events;

/// What keys of a set can be for. A token of another algorithm needs no look at them.
pub(super) const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// How old what we know may become while all is well, up to a minute more.
const REFRESH_EVERY: Duration = Duration::from_secs(10 * 60);
/// The least time between two questions, when somebody's key is not there.
const ASKED_EVERY_MIN: Duration = Duration::from_secs(60);
/// How long keys outlive the last good answer. Longer than most outages, and too short to forget a withdrawn key.
const KEPT_MAX: Duration = Duration::from_secs(24 * 3_600);
/// How long a request waits for a fetch that may bring its key.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// Requests that wait at once. Each holds its body meanwhile.
const WAITING_MAX: usize = 256;
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Half of the longest wait after a failure, a minute: the jitter adds up to as much again.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The published keys, and who keeps them fresh.
pub(super) struct Jwks {
    endpoint: Box<dyn Endpoint>,
    /// What is asked of every token, whatever its key.
    validation: Validation,
    known: watch::Sender<Known>,
    /// Somebody's key is not there.
    asked: Notify,
    waiting: Semaphore,
}

/// There is no key for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The issuer publishes none of this name.
    Unknown,
    /// It may publish one: its last answer is missing.
    Unavailable,
}

#[derive(Default)]
struct Known {
    keys: Option<Arc<KeySet>>,
    /// When the endpoint was asked last.
    began: Option<Instant>,
    fetching: bool,
    /// Answers and failures so far.
    ended: u64,
    /// The last of them was an answer.
    good: bool,
}

impl Jwks {
    pub(super) fn new(endpoint: Box<dyn Endpoint>, validation: Validation) -> Jwks {
        let known = watch::Sender::new(Known::default());
        Jwks { endpoint, validation, known, asked: Notify::new(), waiting: Semaphore::new(WAITING_MAX) }
    }

    /// The key of this name; or for a token that names none the only key that there is.
    pub(super) async fn find(&self, kid: Option<&str>) -> Result<Arc<Key>, NoKey> {
        let ended = {
            let known = self.known.borrow();
            match known.find(kid) {
                Err(_) if known.may_change(kid) => known.ended,
                found => return found,
            }
        };
        let Ok(_turn) = self.waiting.try_acquire() else {
            return Err(NoKey::Unavailable);
        };
        self.asked.notify_one();
        let mut known = self.known.subscribe();
        let fetched = timeout(WAIT_MAX, known.wait_for(|known| known.ended > ended)).await;
        if fetched.is_err() {
            return Err(NoKey::Unavailable);
        }
        self.known.borrow().find(kid)
    }

    /// Keeps the keys fresh, for ever.
    pub(super) async fn follow(self: Arc<Jwks>) {
        let mut delays = delays();
        let mut read = Vec::new();
        let mut good_at = None;
        loop {
            let began = Instant::now();
            self.known.send_modify(|known| (known.began, known.fetching) = (Some(began), true));
            let fetched = self.fetch(&mut read).await;
            let wait = match &fetched {
                Ok(_) => {
                    good_at = Some(began);
                    delays = self::delays();
                    REFRESH_EVERY + ASKED_EVERY_MIN.mul_f64(fastrand::f64())
                }
                Err(_) => delays.next().unwrap_or(RETRY_MAX),
            };
            match &fetched {
                Ok(_) => events::token_keys_fetched(),
                Err(fault) => events::token_keys_failed(fault.reason(), fault, wait),
            }
            let too_old = fetched.is_err() && good_at.is_some_and(|at: Instant| at.elapsed() >= KEPT_MAX);
            if too_old {
                (good_at, read) = (None, Vec::new());
                events::token_keys_dropped();
            }
            self.known.send_modify(|known| {
                known.good = fetched.is_ok();
                match fetched {
                    Ok(Some(keys)) => known.keys = Some(Arc::new(keys)),
                    Ok(None) => {}
                    Err(_) if too_old => known.keys = None,
                    Err(_) => {}
                }
                (known.fetching, known.ended) = (false, known.ended + 1);
            });
            self.rest(began, Instant::now() + wait).await;
        }
    }

    /// Asks once. Answers the keys, or nothing if they are what was `read` before.
    async fn fetch(&self, read: &mut Vec<u8>) -> Result<Option<KeySet>, Fault> {
        let body = self.endpoint.get().await?;
        // An empty answer is none, however often it comes.
        if !body.is_empty() && body == *read {
            return Ok(None);
        }
        let (keys, ignored) = KeySet::read(&body, &self.validation)?;
        *read = body;
        events::token_keys_changed(keys.usable(), ignored.iter().map(|why| why.as_str()));
        Ok(Some(keys))
    }

    /// Until the next question is due, or somebody's key is not there and it may be asked for.
    async fn rest(&self, began: Instant, due: Instant) {
        let due = sleep_until(due);
        tokio::pin!(due);
        loop {
            tokio::select! {
                () = &mut due => return,
                () = self.asked.notified() => if began.elapsed() >= ASKED_EVERY_MIN { return },
            }
        }
    }
}

impl Known {
    fn find(&self, kid: Option<&str>) -> Result<Arc<Key>, NoKey> {
        let keys = self.keys.as_ref().ok_or(NoKey::Unavailable)?;
        match keys.find(kid) {
            Some(key) => Ok(key.clone()),
            None if self.good || kid.is_none() => Err(NoKey::Unknown),
            None => Err(NoKey::Unavailable),
        }
    }

    /// A fetch is under way, or may begin, that could bring a key which is not there.
    fn may_change(&self, kid: Option<&str>) -> bool {
        let could = kid.is_some() || self.keys.is_none();
        could && (self.fetching || self.began.is_none_or(|began| began.elapsed() >= ASKED_EVERY_MIN))
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
