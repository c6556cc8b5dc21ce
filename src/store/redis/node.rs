//! A connection that is made at its first use, and again once it broke.
//!
//! - One attempt at a time for the whole process, with a growing, random wait before each but the first. Steps that come
//!   meanwhile wait for the attempt, and share its error.
//! - The attempt finds the server anew: by its name, or by asking the Sentinels. A broken connection never leads back to the
//!   server that was left without such a search.
//! - A server that is stopped in mid-air keeps its connections open. So a missing answer breaks the connection, too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, RedisResult, Value};
use tokio::time::Instant;

use super::address::{Access, Address, USER_TIMEOUT};
use super::failure;
use super::sentinel_view::View;
use super::tls::{self, Open};
use crate::telemetry::events;
use crate::tls::TlsClient;

/// Covers the name lookup, TLS, and the login.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(800);
/// To ask the Sentinels, and then to connect.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1_200);
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(1_000);
const WAIT_FIRST: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_millis(400);
/// A connection that breaks sooner counts as a failed attempt.
const STEADY: Duration = Duration::from_secs(1);
/// A connection that works is kept while one with newer certificates cannot be made.
const REPLACE_AGAIN_AFTER: Duration = Duration::from_secs(30);
const COMMANDS_QUEUED_MAX: usize = 512;

type Connected = RedisResult<(Open, u64)>;
type Attempt = Shared<BoxFuture<'static, Connected>>;
type Connect = dyn Fn() -> BoxFuture<'static, RedisResult<Open>> + Send + Sync;

pub(super) struct Node {
    /// As the connection was asked for; of a master the first one.
    pub(super) address: Address,
    connect: Box<Connect>,
    /// The certificates of new connections; `None` without TLS.
    tls: Option<TlsClient>,
    has_unanswered: AtomicBool,
    state: Mutex<State>,
}

struct State {
    connection: Connection,
    /// Of the connection that is open or about to be.
    number: u64,
    /// Attempts in a row that brought no steady connection.
    failures: u32,
    /// Of the last attempt.
    last_failure: Option<RedisError>,
    /// The certificates of the connection that is open or about to be.
    certificates: u64,
    /// A connection with newer certificates could not be made, and none has been made since.
    is_not_replaced: bool,
    /// The open connection is not replaced again before.
    replace_not_before: Option<Instant>,
    /// When the first command was given up since the last answer.
    unanswered_since: Option<Instant>,
}

impl State {
    fn end_of_not_replaced(&mut self) {
        if std::mem::take(&mut self.is_not_replaced) {
            events::store_replaced();
        }
    }
}

enum Connection {
    None,
    Attempt(Attempt),
    Open(Open, Instant),
}

/// A command without an answer that could be used.
pub(super) struct Failed {
    pub(super) error: RedisError,
    /// The server may have run it.
    pub(super) is_sent: bool,
}

impl Node {
    pub(super) fn new(
        address: Address,
        tls: Option<TlsClient>,
        connect: impl Fn() -> BoxFuture<'static, RedisResult<Open>> + Send + Sync + 'static,
    ) -> Arc<Node> {
        let state = State {
            connection: Connection::None,
            number: 0,
            failures: 0,
            last_failure: None,
            certificates: 0,
            is_not_replaced: false,
            replace_not_before: None,
            unanswered_since: None,
        };
        Arc::new(Node {
            address,
            connect: Box::new(connect),
            tls,
            has_unanswered: AtomicBool::new(false),
            state: Mutex::new(state),
        })
    }

    /// A node that is always at this address.
    pub(super) fn at(address: Address, access: &Access) -> Arc<Node> {
        let (access, place) = (access.clone(), address.clone());
        Node::new(address, access.tls.clone(), move || {
            let (access, place) = (access.clone(), place.clone());
            async move { connect_to(&place, &access).await }.boxed()
        })
    }

    pub(super) fn tls(&self) -> Option<&TlsClient> {
        self.tls.as_ref()
    }

    pub(super) async fn send(self: &Arc<Self>, command: &Cmd) -> Result<Value, Failed> {
        let failed = |is_sent| move |error| Failed { error, is_sent };
        let (mut open, number) = self.connection().await.map_err(failed(false))?;
        let mut sent = SentCommand { node: self, number, is_answered: false };
        let answer = open.connection.send_packed_command(command).await.and_then(Value::extract_error);
        sent.is_answered = true;
        if let Err(error) = &answer
            && ends_connection(error)
        {
            self.replace(number);
        }
        answer.map_err(failed(true))
    }

    /// A command was given up by its caller before the client's own limit. A frozen server closes no connection, so the connection is
    /// replaced once nothing was answered for as long as that limit.
    fn given_up(self: &Arc<Self>, number: u64) {
        self.has_unanswered.store(true, Ordering::Relaxed);
        let is_silent = {
            let mut state = self.state();
            let since = *state.unanswered_since.get_or_insert_with(Instant::now);
            since.elapsed() >= RESPONSE_TIMEOUT
        };
        if is_silent {
            self.answered();
            self.replace(number);
        }
    }

    fn answered(&self) {
        if self.has_unanswered.swap(false, Ordering::Relaxed) {
            self.state().unanswered_since = None;
        }
    }

    /// Its last attempt failed, or its connection broke and no other has been made.
    pub(super) fn is_down(&self) -> bool {
        let state = self.state();
        state.failures > 0 && !matches!(state.connection, Connection::Open(..))
    }

    async fn connection(self: &Arc<Self>) -> Connected {
        let attempt = {
            let mut state = self.state();
            match &state.connection {
                Connection::Open(open, _) => {
                    let connected = (open.clone(), state.number);
                    self.renew_if_old(&mut state);
                    return Ok(connected);
                }
                Connection::Attempt(attempt) => attempt.clone(),
                Connection::None => self.begin(&mut state),
            }
        };
        attempt.await
    }

    /// Begins an attempt. It goes on when the step that needed it has given up.
    fn begin(self: &Arc<Self>, state: &mut State) -> Attempt {
        state.number += 1;
        state.certificates = self.newest_certificates();
        state.replace_not_before = None;
        let (node, number, wait) = (Arc::clone(self), state.number, wait_after(state.failures));
        let attempt = async move {
            tokio::time::sleep(wait).await;
            let connected = tokio::time::timeout(ATTEMPT_TIMEOUT, (node.connect)()).await;
            let connected = connected.unwrap_or_else(|_| Err(timed_out()));
            node.connected(&connected);
            connected.map(|open| (open, number))
        };
        let attempt = attempt.boxed().shared();
        state.connection = Connection::Attempt(attempt.clone());
        tokio::spawn(attempt.clone());
        attempt
    }

    fn newest_certificates(&self) -> u64 {
        self.tls.as_ref().map_or(0, TlsClient::generation)
    }

    /// Begins to make a connection with newer certificates, if there are any. The old one stays in use until then.
    fn renew_if_old(self: &Arc<Self>, state: &mut State) {
        let newest = self.newest_certificates();
        let is_due = state.replace_not_before.is_none_or(|time| time <= Instant::now());
        if state.certificates != newest && is_due {
            state.replace_not_before = Some(Instant::now() + REPLACE_AGAIN_AFTER);
            tokio::spawn(Arc::clone(self).renew(state.number, newest));
        }
    }

    async fn renew(self: Arc<Self>, number: u64, certificates: u64) {
        let connected = tokio::time::timeout(ATTEMPT_TIMEOUT, (self.connect)()).await;
        match connected.unwrap_or_else(|_| Err(timed_out())) {
            Ok(open) => {
                let mut state = self.state();
                if state.number == number && matches!(state.connection, Connection::Open(..)) {
                    state.number += 1;
                    (state.certificates, state.replace_not_before) = (certificates, None);
                    state.connection = Connection::Open(open, Instant::now());
                    state.end_of_not_replaced();
                }
            }
            Err(error) => {
                self.state().is_not_replaced = true;
                events::store_not_replaced(&failure::fault(&error), REPLACE_AGAIN_AFTER);
            }
        }
    }

    fn connected(&self, connected: &RedisResult<Open>) {
        let mut state = self.state();
        state.connection = match connected {
            Ok(open) => {
                state.end_of_not_replaced();
                Connection::Open(open.clone(), Instant::now())
            }
            Err(_) => Connection::None,
        };
        state.failures += u32::from(connected.is_err());
        state.last_failure = connected.as_ref().err().cloned();
    }

    pub(super) fn last_failure(&self) -> Option<RedisError> {
        self.state().last_failure.clone()
    }

    /// The number of the connection that is open or about to be.
    pub(super) fn number(&self) -> u64 {
        self.state().number
    }

    /// The number of the open connection, and the view of the Sentinels by which it was made.
    pub(super) fn open_view(&self) -> Option<(u64, Option<Arc<View>>)> {
        let state = self.state();
        match &state.connection {
            Connection::Open(open, _) => Some((state.number, open.view.clone())),
            _ => None,
        }
    }

    /// Drops a connection, unless that was done, and begins to make another.
    pub(super) fn replace(self: &Arc<Self>, number: u64) {
        let mut state = self.state();
        if let Connection::Open(_, since) = &state.connection
            && state.number == number
        {
            state.failures = if since.elapsed() < STEADY { state.failures + 1 } else { 0 };
            drop(self.begin(&mut state));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }
}

struct SentCommand<'a> {
    node: &'a Arc<Node>,
    number: u64,
    is_answered: bool,
}

impl Drop for SentCommand<'_> {
    fn drop(&mut self) {
        match self.is_answered {
            true => self.node.answered(),
            false => self.node.given_up(self.number),
        }
    }
}

/// The wait before an attempt.
fn wait_after(failures: u32) -> Duration {
    let wait = match failures {
        0 => return Duration::ZERO,
        _ => WAIT_FIRST.saturating_mul(2_u32.saturating_pow(failures - 1)).min(WAIT_MAX),
    };
    wait.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Is the connection, or the server at its end, of no use any more? After a failover the old primary may keep our connection,
/// as a replica that refuses every write.
fn ends_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || matches!(error.code(), Some("READONLY" | "MASTERDOWN" | "LOADING"))
}

pub(super) async fn connect_to(address: &Address, access: &Access) -> RedisResult<Open> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
        .set_pipeline_buffer_size(COMMANDS_QUEUED_MAX);
    let info = access.to(address)?;
    match &access.tls {
        Some(tls) => {
            let connected = tls::connect(address, info.redis_settings(), tls, USER_TIMEOUT, config);
            tokio::time::timeout(CONNECT_TIMEOUT, connected).await.unwrap_or_else(|_| Err(timed_out()))
        }
        None => {
            let connected = Client::open(info)?;
            Ok(connected.get_multiplexed_async_connection_with_config(&config).await?.into())
        }
    }
}

pub(super) fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

#[cfg(test)]
mod tests {
    use redis::RedisConnectionInfo;
    use redis::aio::MultiplexedConnection;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    /// A connection to a server that answers each command with OK.
    async fn led_by(view: View) -> Open {
        let (ours, mut server) = tokio::io::duplex(4_096);
        tokio::spawn(async move {
            let mut read = [0; 4_096];
            while let Ok(count @ 1..) = server.read(&mut read).await {
                let commands = read[..count].iter().filter(|byte| **byte == b'*').count();
                server.write_all("+OK\r\n".repeat(commands).as_bytes()).await.expect("it is read");
            }
        });
        let (login, config) = (RedisConnectionInfo::default(), AsyncConnectionConfig::new());
        let connected = MultiplexedConnection::new_with_config(&login, ours, config).await;
        let (connection, reader) = connected.expect("it answers");
        tokio::spawn(reader);
        Open::from(connection).by(Arc::new(view))
    }

    /// A failover between the two views: the attempt that began first knows of it.
    #[tokio::test]
    async fn a_connection_keeps_the_view_that_led_to_it_when_a_renewal_comes_too_late() {
        let (attempts, mut attempted) = mpsc::unbounded_channel::<oneshot::Sender<u64>>();
        let node = Node::new(("primary".to_owned(), 1), None, move || {
            let (answer, epoch) = oneshot::channel();
            attempts.send(answer).expect("the test waits for it");
            async move { Ok(led_by(View::of_epoch(epoch.await.expect("an epoch"))).await) }.boxed()
        });
        let mut attempt = async || attempted.recv().await.expect("an attempt");
        let connected = async |number: u64, epoch: u64| {
            node.connection().await.map_err(drop).expect("it connects");
            assert_eq!(node.open_view(), Some((number, Some(Arc::new(View::of_epoch(epoch))))));
        };
        let connecting = {
            let node = Arc::clone(&node);
            tokio::spawn(async move { node.connection().await.map(|_| ()) })
        };
        attempt().await.send(1).expect("it is awaited");
        connecting.await.expect("it ends").expect("it connects");
        connected(1, 1).await;
        let renewal = tokio::spawn(Arc::clone(&node).renew(1, 7));
        let renewing = attempt().await;
        node.replace(1);
        attempt().await.send(1).expect("it is awaited");
        connected(2, 1).await;
        renewing.send(2).expect("it is awaited");
        renewal.await.expect("it ends");
        connected(2, 1).await;
        let renewal = tokio::spawn(Arc::clone(&node).renew(2, 8));
        attempt().await.send(2).expect("it is awaited");
        renewal.await.expect("it ends");
        connected(3, 2).await;
    }
}
