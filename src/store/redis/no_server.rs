//! A search for a server that ended without one, as an error of the client.

use std::error::Error;
use std::sync::Arc;

use redis::{ErrorKind, RedisError};

/// A search for a server that ended without one. The texts name no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoServer {
    #[error("no Sentinel knows a master of the name in REDIS_URL")]
    MasterUnknown,
    #[error("the Sentinels hold the master for down, and have chosen no other yet")]
    MasterDown,
    #[error("the Sentinels name a server that is no master")]
    NotMaster,
    #[error("a slot of REDIS_PREFIX is moving")]
    SlotMoving,
    #[error("no node of the Redis Cluster serves a slot of REDIS_PREFIX")]
    SlotUnserved,
}

impl From<NoServer> for RedisError {
    fn from(none: NoServer) -> RedisError {
        std::io::Error::other(none).into()
    }
}

impl NoServer {
    pub(super) fn of(error: &RedisError) -> Option<NoServer> {
        if error.kind() != ErrorKind::Io {
            return None;
        }
        io_error(error)?.get_ref()?.downcast_ref().copied()
    }
}

/// The error of a connection that is behind a client's error.
pub(super) fn io_error(error: &RedisError) -> Option<&std::io::Error> {
    let cause = error.source().and_then(|source| source.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    cause.and_then(|cause| cause.downcast_ref())
}
