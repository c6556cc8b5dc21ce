//! The link to Redis, in each form of `REDIS_URL`, and signs of a failover: another server, or steps without an answer.
//!
//! Every call has its own timeout, because those of a connection do not cover the wait for a new one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redis::{Cmd, FromRedisValue, RedisResult, from_redis_value};
use tokio::time::error::Elapsed;

use super::address::{self, Servers};
use super::cluster::Cluster;
use super::failure;
use super::no_server::NoServer;
use super::node::Node;
use super::replies::Beat;
use super::sentinel::{self, SentinelSilence};
use crate::domain::server_url::InvalidUrl;
use crate::domain::time::millis;
use crate::store::{StoreError, StoreFault};
use crate::tls::TlsClient;

/// Includes a reconnection.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1_500);

/// The error code by which a script says that something stored cannot be read. The key's name follows, or its kind.
const UNREADABLE: &str = "UNREADABLE";

/// A call of a step.
pub(super) trait Invoke: Sync {
    fn invoke(&self, connection: &mut Connection<'_>) -> impl Future<Output = RedisResult<Vec<u8>>> + Send;
}

/// The answer of a script.
pub(super) enum Answer {
    Bytes(Vec<u8>),
    /// The script could not read this key, or one of this kind.
    KeyUnreadable(String),
}

enum Route {
    /// One server, or the master of Sentinels.
    One(Arc<Node>),
    Cluster(Cluster),
}

/// The link as one call uses it.
pub(super) struct Connection<'l> {
    route: &'l Route,
    /// The node of a Cluster that answered last.
    answered: Option<Arc<Node>>,
}

impl Connection<'_> {
    pub(super) async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        let answer = match self.route {
            Route::One(node) => node.send(command).await.map_err(|failed| failed.error),
            Route::Cluster(cluster) => {
                let (answer, answered) = cluster.send(command).await;
                self.answered = answered;
                answer
            }
        };
        Ok(from_redis_value(answer?)?)
    }

    /// Runs a command without a key where the last query ran. So each primary of a Cluster gets the library when it lacks it:
    /// also a new one, and one that lost it.
    pub(super) async fn query_there<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        let node = match (self.route, &self.answered) {
            (Route::Cluster(_), Some(node)) | (Route::One(node), _) => node,
            (Route::Cluster(_), None) => return Err(NoServer::SlotUnserved.into()),
        };
        Ok(from_redis_value(node.send(command).await.map_err(|failed| failed.error)?)?)
    }
}

/// The process's one link.
pub(super) struct Link {
    route: Route,
    /// The run id of the server that answered the last heartbeat.
    server: Mutex<Option<String>>,
    /// A step got no answer since the last answered heartbeat: a failover may be in progress.
    has_silent_step: AtomicBool,
    /// The server may have lost writes of the one before it until then, in milliseconds after `opened`.
    lost_writes_until: AtomicU64,
    /// The route of the last answered heartbeat. Without one it is unknown, and nothing follows from it.
    heartbeat_route: Mutex<Option<u64>>,
    /// A node of a Redis Cluster answered, and the route is that of one server.
    is_lone_cluster_node: AtomicBool,
    /// Of the route by Sentinels.
    sentinels: Option<Arc<SentinelSilence>>,
    opened: Instant,
}

impl Link {
    /// Connects at the first step, so that a gateway can start while Redis is down.
    pub(super) fn open(url: &str, tls: Option<TlsClient>) -> Result<Link, InvalidUrl> {
        let (route, sentinels) = match address::read(url, tls)? {
            Servers::One(server, access) => (Route::One(Node::at(server, &access)), None),
            Servers::Sentinels(names) => {
                let (master, silence) = sentinel::master(names);
                (Route::One(master), Some(silence))
            }
            Servers::Cluster { nodes, access } => (Route::Cluster(Cluster::new(nodes, access)), None),
        };
        Ok(Link {
            route,
            server: Mutex::default(),
            has_silent_step: AtomicBool::new(false),
            lost_writes_until: AtomicU64::new(0),
            heartbeat_route: Mutex::default(),
            is_lone_cluster_node: AtomicBool::new(false),
            sentinels,
            opened: Instant::now(),
        })
    }

    pub(super) fn tls(&self) -> Option<&TlsClient> {
        match &self.route {
            Route::One(node) => node.tls(),
            Route::Cluster(cluster) => cluster.tls(),
        }
    }

    fn connection(&self) -> Connection<'_> {
        Connection { route: &self.route, answered: None }
    }

    /// Runs a step.
    pub(super) async fn run(&self, call: &impl Invoke) -> Result<Answer, StoreError> {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.invoke(call)).await;
        if let Ok(Err(error)) = &answer
            && error.code() == Some(UNREADABLE)
        {
            return Ok(Answer::KeyUnreadable(error.detail().unwrap_or_default().to_owned()));
        }
        // A step without rights did nothing.
        let has_no_effect = |error: &redis::RedisError| error.code() == Some("NOPERM");
        if !matches!(&answer, Ok(Ok(_))) && !matches!(&answer, Ok(Err(error)) if has_no_effect(error)) {
            self.has_silent_step.store(true, Ordering::Relaxed);
        }
        self.answered(answer).map(Answer::Bytes)
    }

    /// A connection that died while it was idle shows that at its next use. So a step is repeated once over a new one, as every
    /// step can be.
    async fn invoke(&self, call: &impl Invoke) -> RedisResult<Vec<u8>> {
        match call.invoke(&mut self.connection()).await {
            Err(error) if error.is_connection_dropped() && !error.is_connection_refusal() => {
                call.invoke(&mut self.connection()).await
            }
            answer => answer,
        }
    }

    /// The reason for which no server has been reached since the last connection, if an attempt has failed.
    pub(super) fn connection_fault(&self) -> Option<StoreFault> {
        let error = match &self.route {
            Route::One(node) => node.last_failure(),
            Route::Cluster(cluster) => cluster.last_failure(),
        };
        error.map(|error| failure::fault(&error))
    }

    /// Runs a command that only reads.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.answered(tokio::time::timeout(ANSWER_TIMEOUT, self.connection().query(command)).await)
    }

    fn answered<T>(&self, answer: Result<RedisResult<T>, Elapsed>) -> Result<T, StoreError> {
        let fault = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => failure::fault(&error),
            Err(_) => self.search_fault().unwrap_or(StoreFault::NoAnswer),
        };
        Err(StoreError::Unavailable(fault))
    }

    /// The reason for which the last search for a server ended without one.
    fn search_fault(&self) -> Option<StoreFault> {
        let error = match &self.route {
            Route::One(node) => node.last_failure(),
            Route::Cluster(cluster) => cluster.search_failure(),
        };
        error.map(|error| failure::fault(&error))
    }

    /// The run id of the server that answered the last heartbeat; `-` before the first.
    pub(super) fn server(&self) -> String {
        let server = self.server.lock().expect("nothing panics while it holds the lock");
        server.clone().unwrap_or_else(|| "-".to_owned())
    }

    /// Records an answered heartbeat.
    pub(super) fn heartbeat_answered(&self, beat: &Beat<'_>, route: u64) {
        let lost_writes_left = beat.lost_writes_left;
        self.server_has_mode(beat.mode);
        *self.server.lock().expect("nothing panics while it holds the lock") = Some(beat.run_id.to_owned());
        let until = millis(self.opened.elapsed() + lost_writes_left);
        let until = if lost_writes_left.is_zero() { 0 } else { until };
        self.lost_writes_until.store(until, Ordering::Relaxed);
        *self.heartbeat_route.lock().expect("nothing panics while it holds the lock") = Some(route);
        self.has_silent_step.store(false, Ordering::Relaxed);
    }

    /// The mode that a server tells of itself.
    pub(super) fn server_has_mode(&self, mode: &str) {
        let is_lone = mode == "cluster" && matches!(self.route, Route::One(_));
        self.is_lone_cluster_node.store(is_lone, Ordering::Relaxed);
    }

    pub(super) fn leads_to_cluster_node(&self) -> bool {
        self.is_lone_cluster_node.load(Ordering::Relaxed)
    }

    pub(super) fn sentinels_are_silent(&self) -> bool {
        self.sentinels.as_ref().is_some_and(|silence| silence.lasts())
    }

    /// It changes with each new connection, and with each move of a Cluster's slots: steps may then reach another server.
    pub(super) fn route_number(&self) -> u64 {
        match &self.route {
            Route::One(node) => node.number(),
            Route::Cluster(cluster) => cluster.route_number(),
        }
    }

    pub(super) fn may_have_lost_writes(&self) -> bool {
        let heartbeat_route = *self.heartbeat_route.lock().expect("nothing panics while it holds the lock");
        self.has_silent_step.load(Ordering::Relaxed)
            || heartbeat_route.is_some_and(|route| route != self.route_number())
            || self.lost_writes_until.load(Ordering::Relaxed) > millis(self.opened.elapsed())
    }
}
