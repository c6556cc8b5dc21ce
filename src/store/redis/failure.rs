//! The client's errors as reasons. An error's message stays here: it could hold a value, a user or an address.

use std::io;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::no_server::{NoServer, io_error};
use crate::store::fault::{MissingRight, StoreFault};
use crate::tls::fault::TlsFault;

/// The longest error code of a server that is shown.
const CODE_LENGTH_MAX: usize = 24;

pub(super) fn fault(error: &RedisError) -> StoreFault {
    match error.kind() {
        ErrorKind::AuthenticationFailed => StoreFault::Password,
        ErrorKind::Io => connection_fault(error),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => StoreFault::NotRedis,
        _ => match error.code() {
            Some(code) => server_fault(code, error),
            None => StoreFault::ConnectionFailed(error.category().to_owned()),
        },
    }
}

/// Certificates do not mend themselves within a step.
pub(super) fn is_of_tls(error: &RedisError) -> bool {
    io_error(error).and_then(TlsFault::of).is_some()
}

fn is_of_the_database(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError)
        && error.to_string().starts_with("Redis server refused to switch database")
}

fn server_fault(code: &str, error: &RedisError) -> StoreFault {
    let detail = error.detail().unwrap_or_default();
    match code {
        "NOAUTH" | "WRONGPASS" => StoreFault::Password,
        "NOPERM" => StoreFault::Permission(missing_right(detail)),
        "MOVED" | "ASK" | "CROSSSLOT" => StoreFault::ClusterNode,
        "CLUSTERDOWN" | "TRYAGAIN" => StoreFault::ClusterDown,
        "LOADING" => StoreFault::Loading,
        "MASTERDOWN" => StoreFault::PrimaryDown,
        "OOM" => StoreFault::OutOfMemory,
        "READONLY" => StoreFault::ReadOnly,
        "MISCONF" => StoreFault::SaveFailed,
        "NOREPLICAS" => StoreFault::TooFewReplicas,
        "BUSY" => StoreFault::Busy,
        _ if detail.contains("max number of clients") => StoreFault::TooManyClients,
        _ if detail.contains("cluster support disabled") => StoreFault::NotCluster,
        _ if detail.to_lowercase().contains("unknown command 'sentinel'") => StoreFault::NotSentinel,
        _ if detail.contains("unknown command") => StoreFault::Sentinel,
        _ if detail.contains("not allowed in cluster mode") => StoreFault::ClusterNode,
        _ if is_of_the_database(error) && detail.contains("no permissions") => {
            StoreFault::Permission(MissingRight::Other)
        }
        _ if is_of_the_database(error) => StoreFault::Database,
        _ => StoreFault::Refused(shown(code)),
    }
}

/// The code is a word of the server, so it is bounded.
fn shown(code: &str) -> String {
    let is_code = code.len() <= CODE_LENGTH_MAX && code.bytes().all(|byte| byte.is_ascii_uppercase());
    if is_code { code.to_owned() } else { "?".to_owned() }
}

/// The names of commands are matched: the rest of the message holds the user's name in some versions.
fn missing_right(detail: &str) -> MissingRight {
    let names = |words: &[&str]| words.iter().any(|word| detail.contains(word));
    if names(&["'fcall'", "'evalsha'", "'function|load'", "'script|load'"]) {
        MissingRight::Functions
    } else if names(&["access one of the keys", "access a key", "No permissions to access"]) {
        MissingRight::Keys
    } else if names(&["a command of the step"]) {
        MissingRight::Step
    } else {
        MissingRight::Other
    }
}

fn connection_fault(error: &RedisError) -> StoreFault {
    if let Some(none) = NoServer::of(error) {
        return match none {
            NoServer::MasterUnknown => StoreFault::NoPrimary,
            NoServer::MasterDown | NoServer::NotMaster => StoreFault::Failover,
            NoServer::SlotMoving => StoreFault::SlotMoving,
            NoServer::SlotUnserved => StoreFault::ClusterDown,
        };
    }
    match io_error(error) {
        Some(io) => io_fault(io),
        None => StoreFault::ConnectionFailed(error.category().to_owned()),
    }
}

fn io_fault(error: &io::Error) -> StoreFault {
    if let Some(fault) = TlsFault::of(error) {
        return StoreFault::Tls(fault);
    }
    let text = error.to_string().to_lowercase();
    match error.kind() {
        io::ErrorKind::ConnectionRefused => StoreFault::ConnectionRefused,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => StoreFault::NoAnswer,
        _ if text.starts_with("failed to lookup") => StoreFault::NameLookup,
        // The system's message names no host.
        _ if error.raw_os_error().is_some() => {
            StoreFault::ConnectionFailed(text.split(" (os error").next().unwrap_or_default().to_owned())
        }
        kind => StoreFault::ConnectionFailed(kind.to_string()),
    }
}
