//! The reasons for which the store gives no usable answer, each with a sentence for the operator.
//!
//! The sentences go to the log, the readiness probe and the status: they name settings, never a value of one.

use std::fmt::{self, Display, Formatter};

use crate::tls::fault::{ServerWords, TlsFault};

const WORDS: ServerWords = ServerWords {
    server: "Redis",
    url: "REDIS_URL",
    ca: "REDIS_CA_FILE",
    client_certificate: Some("REDIS_CLIENT_CERT_FILE"),
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreFault {
    NoAnswer,
    ConnectionRefused,
    NameLookup,
    /// The system's or the client's own words for it.
    ConnectionFailed(String),
    /// The answer is not in Redis' protocol.
    NotRedis,
    Tls(TlsFault),
    Password,
    Database,
    Permission(MissingRight),
    /// A node of a Redis Cluster, though the URL is that of a single server.
    ClusterNode,
    /// The server runs no scripts, as a Sentinel.
    Sentinel,
    /// No Sentinel knows a primary of that name.
    NoPrimary,
    /// The Sentinels have chosen no new primary yet.
    Failover,
    /// A server in a list of Sentinels is none.
    NotSentinel,
    /// A server in a list of nodes belongs to no Cluster.
    NotCluster,
    /// The slot has not moved within the time of the step.
    SlotMoving,
    ClusterDown,
    Loading,
    /// A replica without its primary.
    PrimaryDown,
    OutOfMemory,
    ReadOnly,
    /// Redis could not save its data, and refuses writes.
    SaveFailed,
    TooFewReplicas,
    TooManyClients,
    /// A script of another client runs for too long.
    Busy,
    /// Any other error of the server, by its code.
    Refused(String),
    /// The data has a format that this version does not read.
    OtherFormat {
        found: String,
        readable: &'static str,
    },
    EarlierWorkers,
    /// The data is spread over another number of shards. The sentence names the numbers.
    Shards(String),
    /// A key that all requests of one shard share cannot be read, by its name.
    ShardKey(String),
    /// Some shards give no answer, and the others do.
    ShardsSilent {
        silent: usize,
        of: usize,
        cause: Box<StoreFault>,
    },
    /// The server lacks what the opening of the store wrote.
    NotOpened,
    /// So many audit records wait for RabbitMQ that the act was not made.
    AuditFull,
}

/// The right that the user of Redis lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingRight {
    /// To call or load functions or scripts.
    Functions,
    Keys,
    /// To run a command that a step calls.
    Step,
    Other,
}

impl StoreFault {
    /// The label of metrics, log lines and the status.
    pub fn as_str(&self) -> &'static str {
        match self {
            StoreFault::NoAnswer => "no_answer",
            StoreFault::ConnectionRefused => "connection_refused",
            StoreFault::NameLookup => "name_lookup",
            StoreFault::ConnectionFailed(_) => "connection_failed",
            StoreFault::NotRedis => "not_redis",
            StoreFault::Tls(fault) => fault.as_str(),
            StoreFault::Password => "password",
            StoreFault::Database => "database",
            StoreFault::Permission(_) => "permission",
            StoreFault::ClusterNode => "cluster_node",
            StoreFault::Sentinel => "sentinel",
            StoreFault::NoPrimary => "no_primary",
            StoreFault::Failover => "failover",
            StoreFault::NotSentinel => "not_sentinel",
            StoreFault::NotCluster => "not_cluster",
            StoreFault::SlotMoving => "slot_moving",
            StoreFault::ClusterDown => "cluster_down",
            StoreFault::Loading => "loading",
            StoreFault::PrimaryDown => "primary_down",
            StoreFault::OutOfMemory => "out_of_memory",
            StoreFault::ReadOnly => "read_only",
            StoreFault::SaveFailed => "save_failed",
            StoreFault::TooFewReplicas => "too_few_replicas",
            StoreFault::TooManyClients => "too_many_clients",
            StoreFault::Busy => "busy",
            StoreFault::Refused(_) => "refused",
            StoreFault::OtherFormat { .. } => "other_format",
            StoreFault::EarlierWorkers => "earlier_workers",
            StoreFault::Shards(_) => "shards",
            StoreFault::ShardKey(_) => "shard_key",
            StoreFault::ShardsSilent { .. } => "shards_silent",
            StoreFault::NotOpened => "not_opened",
            StoreFault::AuditFull => "audit_full",
        }
    }

    /// The settings of this process do not fit the stored data.
    pub fn is_of_settings(&self) -> bool {
        matches!(self, StoreFault::Shards(_) | StoreFault::OtherFormat { .. })
    }

    /// The server answers reads, and refuses writes.
    pub fn refuses_writes(&self) -> bool {
        matches!(
            self,
            StoreFault::OutOfMemory
                | StoreFault::ReadOnly
                | StoreFault::SaveFailed
                | StoreFault::TooFewReplicas
        )
    }

    /// It may end without an operator, as by a restart or a failover.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            StoreFault::NoAnswer
                | StoreFault::ConnectionRefused
                | StoreFault::NameLookup
                | StoreFault::ConnectionFailed(_)
                | StoreFault::NoPrimary
                | StoreFault::Failover
                | StoreFault::SlotMoving
                | StoreFault::ClusterDown
                | StoreFault::Loading
                | StoreFault::PrimaryDown
                | StoreFault::ReadOnly
                | StoreFault::Busy
                | StoreFault::NotOpened
        )
    }
}

impl Display for StoreFault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StoreFault::NoAnswer => {
                "no answer in time: check Redis, the network to it, and the scheme and port in REDIS_URL"
            }
            StoreFault::ConnectionRefused => {
                "connection refused: start Redis, or correct host and port in REDIS_URL"
            }
            StoreFault::NameLookup => {
                "the host cannot be looked up: correct it in REDIS_URL, or check the DNS"
            }
            StoreFault::ConnectionFailed(words) => {
                return write!(
                    f,
                    "{words}: check the network to Redis, and the scheme and port in REDIS_URL"
                );
            }
            StoreFault::NotRedis => "the server is no Redis: correct scheme, host and port in REDIS_URL",
            StoreFault::Tls(fault) => return f.write_str(&fault.sentence(&WORDS)),
            StoreFault::Password => "wrong user or password: check the user and password in REDIS_URL",
            StoreFault::Database => {
                "the database cannot be selected: correct its number in REDIS_URL, or raise `databases`"
            }
            StoreFault::Permission(right) => return right.fmt(f),
            StoreFault::ClusterNode => "this is a Redis Cluster: use redis+cluster:// in REDIS_URL",
            StoreFault::Sentinel => {
                "the server runs no scripts: if this is a Sentinel, use redis+sentinel:// in REDIS_URL"
            }
            StoreFault::NoPrimary => {
                "no Sentinel knows the primary: check its name in REDIS_URL, and the Sentinels"
            }
            StoreFault::Failover => {
                "the Sentinels have no working primary yet: wait for the failover, or see the Sentinels"
            }
            StoreFault::NotSentinel => {
                "a server in REDIS_URL is no Sentinel: correct its host, or use redis://"
            }
            StoreFault::SlotMoving => "a slot of REDIS_PREFIX is moving to another node: wait until it has",
            StoreFault::NotCluster => "a server in REDIS_URL belongs to no Cluster: use redis:// for it",
            StoreFault::NotOpened => "Redis lacks the format of the data, which is written again",
            StoreFault::AuditFull => {
                "10000 audit records wait for RabbitMQ, so this was not done: start a worker, or see why it publishes none"
            }
            StoreFault::OtherFormat { found, readable } => {
                return write!(
                    f,
                    "REDIS_PREFIX holds data of format {found}; this version reads format {readable}"
                );
            }
            StoreFault::EarlierWorkers => {
                "workers of an earlier version are running with this REDIS_PREFIX: stop them first"
            }
            StoreFault::Shards(sentence) => sentence,
            StoreFault::ShardKey(name) => {
                return write!(
                    f,
                    "the stored key `{name}` of a shard cannot be read: see `otpost store show`"
                );
            }
            StoreFault::ShardsSilent { silent, of, cause } => {
                return write!(f, "{silent} of {of} shards give no answer, so their requests wait: {cause}");
            }
            StoreFault::Refused(code) => return write!(f, "Redis refuses the step ({code}): see its log"),
            server => server.server_sentence(),
        })
    }
}

impl StoreFault {
    /// Of the states of a server that answers.
    fn server_sentence(&self) -> &'static str {
        match self {
            StoreFault::ClusterDown => "the cluster does not serve every slot: see CLUSTER INFO",
            StoreFault::Loading => "Redis is loading its data: wait until it has",
            StoreFault::PrimaryDown => {
                "a replica without its primary answered: wait for the failover, or correct REDIS_URL"
            }
            StoreFault::OutOfMemory => "Redis' memory is full: raise maxmemory",
            StoreFault::ReadOnly => "a replica answered: the host in REDIS_URL must lead to the primary",
            StoreFault::SaveFailed => {
                "Redis refuses writes since it could not save its data: see its log, and its disk"
            }
            StoreFault::TooFewReplicas => {
                "Redis refuses writes with so few replicas (min-replicas-to-write): restore them"
            }
            StoreFault::TooManyClients => "Redis has too many clients: raise maxclients, or end some",
            _ => "a script of another client blocks Redis: see its log",
        }
    }
}

impl Display for MissingRight {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let what = match self {
            MissingRight::Functions => "run functions or scripts",
            MissingRight::Keys => "use the keys of REDIS_PREFIX",
            MissingRight::Step => "run a command of the step",
            MissingRight::Other => "run a command",
        };
        write!(f, "the user may not {what} (NOPERM): give it the rights of docs/deploy.md")
    }
}

#[cfg(test)]
mod tests {
    use super::TlsFault;
    use crate::telemetry::metrics::words::STORE_FAULTS;

    #[test]
    fn the_runbook_explains_every_reason() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbook.md");
        let page = std::fs::read_to_string(path).expect("a file of text");
        let section = page.split("### Reasons of Redis").nth(1).expect("the section");
        let section = section.split("\n## ").next().expect("a part");
        let labels = include_str!("fault.rs").split("fn as_str").nth(1).expect("the function");
        let labels = labels.split("fn is_of_settings").next().expect("a part");
        let labels: Vec<&str> = labels.split('"').skip(1).step_by(2).collect();
        assert_eq!(labels.len(), 32, "{labels:?}");
        let mut labels: Vec<&str> = labels.into_iter().chain(TlsFault::ALL.map(TlsFault::as_str)).collect();
        // Two faults of an issuer share a label.
        labels.dedup();
        assert_eq!(labels, STORE_FAULTS, "the metric has them from the start");
        for label in labels {
            assert!(section.contains(&format!("`{label}`")), "{label}");
        }
    }
}
