//! The connection to Redis, and signs of a failover: another server, or steps without an answer.
//!
//! Every call has its own timeout, because the client's does not cover its wait for a reconnection.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::Client;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;

use super::{address, failure};
use crate::domain::server_url::InvalidUrl;
use crate::domain::time::millis;
use crate::store::{StoreError, StoreFault};

/// Includes a reconnection.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1_500);

/// The error code by which a script says that something stored cannot be read. The key's name follows, or its kind.
const UNREADABLE: &str = "UNREADABLE";

/// A call of a step.
pub(super) trait Invoke: Sync {
    fn invoke(
        &self,
        connection: &mut ConnectionManager,
    ) -> impl Future<Output = redis::RedisResult<Vec<u8>>> + Send;
}

/// The answer of a script.
pub(super) enum Answer {
    Bytes(Vec<u8>),
    /// The script could not read this key, or one of this kind.
    KeyUnreadable(String),
}

/// The process's one connection. It reconnects on its own.
pub(super) struct Link {
    connection: Mutex<ConnectionManager>,
    client: Client,
    /// The run id of the server that answered the last heartbeat.
    server: Mutex<Option<String>>,
    /// A step got no answer since the last answered heartbeat: a failover may be in progress.
    has_silent_step: AtomicBool,
    /// The server may have lost writes of the one before it until then, in milliseconds after `opened`.
    lost_writes_until: AtomicU64,
    opened: Instant,
}

impl Link {
    /// Connects at the first step, so that a gateway can start while Redis is down.
    pub(super) fn open(url: &str) -> Result<Link, InvalidUrl> {
        let unusable =
            |error: redis::RedisError| InvalidUrl::new(format!("cannot be used: {}", error.category()));
        let settings = TcpSettings::default().set_nodelay(true).set_user_timeout(Duration::from_secs(3));
        let client = Client::open(address::read(url)?.set_tcp_settings(settings)).map_err(unusable)?;
        Ok(Link {
            connection: Mutex::new(connection_to(&client).map_err(unusable)?),
            client,
            server: Mutex::default(),
            has_silent_step: AtomicBool::new(false),
            lost_writes_until: AtomicU64::new(0),
            opened: Instant::now(),
        })
    }

    /// Runs a step.
    pub(super) async fn run(&self, call: &impl Invoke) -> Result<Answer, StoreError> {
        let mut connection = self.connection.lock().expect("nothing panics while it holds the lock").clone();
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, call.invoke(&mut connection)).await;
        if let Ok(Err(error)) = &answer
            && error.code() == Some(UNREADABLE)
        {
            return Ok(Answer::KeyUnreadable(error.detail().unwrap_or_default().to_owned()));
        }
        if !matches!(answer, Ok(Ok(_))) {
            self.has_silent_step.store(true, Ordering::Relaxed);
        }
        match answer {
            Ok(Ok(answer)) => Ok(Answer::Bytes(answer)),
            Ok(Err(error)) => {
                self.leave_connection(&error);
                Err(StoreError::Unavailable(failure::fault(&error)))
            }
            Err(_) => Err(StoreError::Unavailable(StoreFault::NoAnswer)),
        }
    }

    /// Runs a command that only reads.
    pub(super) async fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, StoreError> {
        let mut connection = self.connection.lock().expect("nothing panics while it holds the lock").clone();
        match tokio::time::timeout(ANSWER_TIMEOUT, command.query_async(&mut connection)).await {
            Ok(answer) => answer.map_err(|error| StoreError::Unavailable(failure::fault(&error))),
            Err(_) => Err(StoreError::Unavailable(StoreFault::NoAnswer)),
        }
    }

    /// After a failover the old primary may keep our connection, as a replica that refuses every write. The client does
    /// not leave it, so this opens a new connection: the address leads to the new primary. It does not open one again that the
    /// server refused, either: the password may be right by now.
    fn leave_connection(&self, error: &redis::RedisError) {
        if failure::needs_new_connection(error)
            && let Ok(connection) = connection_to(&self.client)
        {
            *self.connection.lock().expect("nothing panics while it holds the lock") = connection;
        }
    }

    /// The run id of the server that answered the last heartbeat; `-` before the first.
    pub(super) fn server(&self) -> String {
        let server = self.server.lock().expect("nothing panics while it holds the lock");
        server.clone().unwrap_or_else(|| "-".to_owned())
    }

    /// Records an answered heartbeat. The server may have lost writes for `lost_writes_left` longer.
    pub(super) fn heartbeat_answered(&self, server: &str, lost_writes_left: Duration) {
        *self.server.lock().expect("nothing panics while it holds the lock") = Some(server.to_owned());
        let until = millis(self.opened.elapsed() + lost_writes_left);
        let until = if lost_writes_left.is_zero() { 0 } else { until };
        self.lost_writes_until.store(until, Ordering::Relaxed);
        self.has_silent_step.store(false, Ordering::Relaxed);
    }

    pub(super) fn may_have_lost_writes(&self) -> bool {
        self.has_silent_step.load(Ordering::Relaxed)
            || self.lost_writes_until.load(Ordering::Relaxed) > millis(self.opened.elapsed())
    }
}

fn connection_to(client: &Client) -> redis::RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(Duration::from_millis(800)))
        .set_response_timeout(Some(Duration::from_millis(1_000)))
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(50))
        .set_max_delay(Duration::from_millis(200))
        .set_pipeline_buffer_size(512);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}
