//! The master of Sentinels.
//!
//! All Sentinels are asked at once, and the answers of most are enough: one that is frozen, or has been cut off, neither delays the
//! search nor leads to an old master.
//!
//! In a planned failover the old master goes on answering for seconds, and everything it writes then is lost. No answer of its own shows
//! that. So the Sentinels are asked again and again while a connection is open.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult, Value, from_redis_value};
use tokio::time::{Instant, timeout, timeout_at};

use super::address::{Address, Sentinels};
use super::no_server::NoServer;
use super::node::{Failed, Node, connect_to, timed_out};
use super::sentinel_view::{View, in_order, read_view};
use super::tls::Open;

/// A Sentinel that answers later is not waited for, as the master must still be reached in the rest of the attempt.
const SENTINEL_TIMEOUT: Duration = Duration::from_millis(400);

/// The time between two looks for a newer master.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// A few unanswered looks in a row are no silence yet.
const SILENT_AFTER: Duration = Duration::from_secs(1);

/// The answers of the last Sentinels are waited for so long.
const LATE_ANSWERS: Duration = Duration::from_millis(100);

/// The Sentinels, each with a connection that is kept, and the master that they led to.
struct Known {
    sentinels: Vec<Arc<Node>>,
    names: Sentinels,
    node: OnceLock<Weak<Node>>,
    is_watching: AtomicBool,
    silence: Arc<SentinelSilence>,
}

/// Since when no Sentinel has answered while a master is connected.
#[derive(Default)]
pub(super) struct SentinelSilence(Mutex<Option<Instant>>);

impl SentinelSilence {
    pub(super) fn lasts(&self) -> bool {
        self.lock().is_some_and(|since| since.elapsed() >= SILENT_AFTER)
    }

    fn note(&self, is_silent: bool) {
        let mut since = self.lock();
        *since = is_silent.then(|| since.unwrap_or_else(Instant::now));
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }
}

/// The connection to the master, wherever it is.
pub(super) fn master(names: Sentinels) -> (Arc<Node>, Arc<SentinelSilence>) {
    let first = names.sentinels[0].clone();
    let sentinel = |address: &Address| Node::at(address.clone(), &names.sentinel_access);
    let known = Arc::new(Known {
        sentinels: names.sentinels.iter().map(sentinel).collect(),
        names,
        node: OnceLock::new(),
        is_watching: AtomicBool::new(false),
        silence: Arc::default(),
    });
    let connecting = Arc::clone(&known);
    let node = Node::new(first, known.names.access.tls.clone(), move || {
        let known = Arc::clone(&connecting);
        async move { known.connect_to_master().await }.boxed()
    });
    known.node.get_or_init(|| Arc::downgrade(&node));
    (node, Arc::clone(&known.silence))
}

impl Known {
    async fn connect_to_master(self: &Arc<Self>) -> RedisResult<Open> {
        let mut error = RedisError::from(NoServer::MasterUnknown);
        for view in in_order(self.views().await?) {
            if view.is_down {
                error = NoServer::MasterDown.into();
                continue;
            }
            let connected = async {
                let mut open = connect_to(&view.master, &self.names.access).await?;
                is_master(&mut open.connection).await?.then_some(open).ok_or(NoServer::NotMaster.into())
            };
            match connected.await {
                Ok(open) => {
                    // Not before the first connection, as only then there is a runtime.
                    if !self.is_watching.swap(true, Ordering::Relaxed) {
                        tokio::spawn(Arc::clone(self).watch());
                    }
                    return Ok(open.by(Arc::new(view)));
                }
                Err(problem) => error = problem,
            }
        }
        Err(error)
    }

    /// Leaves a master that another has replaced, until the link ends.
    async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let Some(node) = self.node.get().and_then(Weak::upgrade) else { return };
            let Some((number, Some(connected))) = node.open_view() else { continue };
            let views = self.views().await;
            self.silence.note(views.is_err());
            if views.is_ok_and(|views| views.iter().any(|view| view.replaces(&connected))) {
                node.replace(number);
            }
        }
    }

    /// The views of most Sentinels, and of the others that answer soon: only one may know of the latest failover.
    async fn views(&self) -> RedisResult<Vec<View>> {
        let ask =
            |sentinel| async move { timeout(SENTINEL_TIMEOUT, view(sentinel, &self.names.master)).await };
        let mut asked: FuturesUnordered<_> = self.sentinels.iter().map(ask).collect();
        let (mut answers, mut views, mut error) = (0, Vec::new(), None);
        let mut late = None;
        loop {
            let next = match late {
                None => asked.next().await,
                Some(until) => timeout_at(until, asked.next()).await.unwrap_or_default(),
            };
            let Some(answer) = next else { break };
            match answer {
                Ok(Ok(view)) => {
                    answers += 1;
                    views.extend(view);
                }
                // A refusal says more than a Sentinel that is away.
                Ok(Err(problem)) if problem.code().is_some() => error = Some(problem),
                Ok(Err(problem)) => error = error.or(Some(problem)),
                Err(_) => error = error.or_else(|| Some(timed_out())),
            }
            if late.is_none() && answers * 2 > self.sentinels.len() {
                late = Some(Instant::now() + LATE_ANSWERS);
            }
        }
        match error {
            Some(error) if answers == 0 => Err(error),
            _ => Ok(views),
        }
    }
}

/// `None`: the Sentinel does not know the master.
async fn view(sentinel: &Arc<Node>, master: &str) -> RedisResult<Option<View>> {
    let ask = async |word: &str| sentinel.send(redis::cmd("SENTINEL").arg(word).arg(master)).await;
    let (address, details) = tokio::join!(ask("GET-MASTER-ADDR-BY-NAME"), ask("MASTER"));
    let address: Option<Address> = from_redis_value(address.map_err(|Failed { error, .. }| error)?)?;
    // Without the right to read them the address alone must do.
    let details = details.map_or_else(|_| Vec::new(), words);
    Ok(address.map(|master| read_view(master, &details)))
}

fn words(details: Value) -> Vec<String> {
    from_redis_value(details).unwrap_or_default()
}

/// Sentinels may name a server before it has become the master, or after it was.
async fn is_master(connection: &mut MultiplexedConnection) -> RedisResult<bool> {
    match redis::cmd("ROLE").query_async::<Vec<Value>>(connection).await {
        Ok(role) => Ok(matches!(role.first(), Some(Value::BulkString(role)) if role == b"master")),
        // Its first refusal of a write will show it.
        Err(error) if error.code() == Some("NOPERM") => Ok(true),
        Err(error) => Err(error),
    }
}
