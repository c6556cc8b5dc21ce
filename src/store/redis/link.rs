//! The connection to Redis, and what it says of the server at its other end.
//!
//! Every call has a time limit of its own: the client's does not bound its wait for a reconnection.

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{Client, ErrorKind, IntoConnectionInfo};

use super::call::Call;
use crate::domain::time::millis;
use crate::store::StoreError;

/// The longest wait for one answer, reconnecting included.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);

/// Shared by everything in the process and restored by itself.
pub(super) struct Link {
    connection: Mutex<ConnectionManager>,
    client: Client,
    /// The server that the last pulse met.
    server: Mutex<Option<String>>,
    /// A step was not answered since the last pulse that was: a failover may be going on.
    unanswered: AtomicBool,
    /// Until when the server may lack what the one before it knew, in milliseconds after `opened`.
    forgetful_until: AtomicU64,
    opened: Instant,
}

impl Link {
    /// Connects when the first step is asked: a gateway starts while Redis is down.
    pub(super) fn open(url: &str) -> Result<Link, StoreError> {
        let settings = TcpSettings::default().set_nodelay(true).set_user_timeout(Duration::from_secs(3));
        let info = url.into_connection_info().map_err(unavailable)?.set_tcp_settings(settings);
        let client = Client::open(info).map_err(unavailable)?;
        Ok(Link {
            connection: Mutex::new(connection_to(&client).map_err(unavailable)?),
            client,
            server: Mutex::default(),
            unanswered: AtomicBool::new(false),
            forgetful_until: AtomicU64::new(0),
            opened: Instant::now(),
        })
    }

    /// Runs a script, which answers with text.
    pub(super) async fn ask(&self, call: &Call<'_>) -> Result<String, StoreError> {
        let mut connection = self.connection.lock().expect("nothing panics while it holds the lock").clone();
        let answer = tokio::time::timeout(ANSWER_WITHIN, call.invoke(&mut connection)).await;
        if !matches!(answer, Ok(Ok(_))) {
            self.unanswered.store(true, Ordering::Relaxed);
        }
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.leave_replica(&error);
                Err(unavailable(error))
            }
            Err(_) => Err(StoreError::Unavailable("no answer in time".to_owned())),
        }
    }

    /// After a failover the old primary may keep our connection, as a replica that refuses every write. The client
    /// stays with it, so it is left here: the address leads to the new primary.
    fn leave_replica(&self, error: &redis::RedisError) {
        let refused = matches!(error.code(), Some("READONLY" | "MASTERDOWN" | "LOADING"));
        if refused && let Ok(connection) = connection_to(&self.client) {
            *self.connection.lock().expect("nothing panics while it holds the lock") = connection;
        }
    }

    /// The server that the last pulse met; `-` for none yet.
    pub(super) fn server(&self) -> String {
        let server = self.server.lock().expect("nothing panics while it holds the lock");
        server.clone().unwrap_or_else(|| "-".to_owned())
    }

    /// A pulse was answered: by whom, and for how much longer that server may lack something.
    pub(super) fn answered(&self, server: &str, forgetful_for: Duration) {
        *self.server.lock().expect("nothing panics while it holds the lock") = Some(server.to_owned());
        let until = millis(self.opened.elapsed() + forgetful_for);
        let until = if forgetful_for.is_zero() { 0 } else { until };
        self.forgetful_until.store(until, Ordering::Relaxed);
        self.unanswered.store(false, Ordering::Relaxed);
    }

    pub(super) fn may_have_forgotten(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed)
            || self.forgetful_until.load(Ordering::Relaxed) > millis(self.opened.elapsed())
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

/// Tells the kind of a fault and the server's error word: a server's message could hold a value.
fn unavailable(error: redis::RedisError) -> StoreError {
    let is_of_credentials = error.kind() == ErrorKind::AuthenticationFailed;
    match error.code() {
        code if is_of_credentials || matches!(code, Some("NOAUTH" | "WRONGPASS")) => {
            StoreError::Refused("check the user and password in REDIS_URL".to_owned())
        }
        Some(code @ "NOPERM") => StoreError::Refused(format!("the user may not do that ({code})")),
        Some(code) => StoreError::Refused(format!("{} ({code})", error.category())),
        None => StoreError::Unavailable(unreached(&error)),
    }
}

/// The system's own words for what it says of a connection or a name; of anything else, as a certificate, the kind alone:
/// those words could name the host.
fn unreached(error: &redis::RedisError) -> String {
    let cause = error.source().and_then(|source| source.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    let Some(io) = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>()) else {
        return error.category().to_owned();
    };
    let text = io.to_string().to_lowercase();
    match io.raw_os_error().is_some() || text.starts_with("failed to lookup") {
        true => text.split(" (os error").next().unwrap_or_default().to_owned(),
        false => io.kind().to_string(),
    }
}
