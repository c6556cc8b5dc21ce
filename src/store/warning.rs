//! Faults beside which the store works, each with a sentence for the operator.

use std::fmt::{self, Display, Formatter};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreWarning {
    /// The server is a node of a Redis Cluster, though the URL is that of a single server.
    ClusterNode,
    /// The primary answers, and a failover would go unnoticed.
    SentinelsSilent,
    ShardsSilent {
        silent: usize,
        of: usize,
    },
}

impl StoreWarning {
    /// The label of the metric and the log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            StoreWarning::ClusterNode => "cluster_node",
            StoreWarning::SentinelsSilent => "sentinels_silent",
            StoreWarning::ShardsSilent { .. } => "shards_silent",
        }
    }

    /// The value of the metric.
    pub fn value(self) -> i64 {
        match self {
            StoreWarning::ClusterNode | StoreWarning::SentinelsSilent => 1,
            StoreWarning::ShardsSilent { silent, .. } => i64::try_from(silent).unwrap_or(i64::MAX),
        }
    }

    /// It has a line a minute. One that is meant so, as where a proxy leads to the Cluster, has one line.
    pub const fn is_repeated(self) -> bool {
        !matches!(self, StoreWarning::ClusterNode)
    }
}

impl Display for StoreWarning {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            StoreWarning::ClusterNode => f.write_str(
                "REDIS_URL names one node of a Redis Cluster, so a failover stops the gateway: use redis+cluster://, unless a \
                 proxy follows failovers",
            ),
            StoreWarning::SentinelsSilent => {
                f.write_str("no Sentinel answers, so a failover would go unnoticed: see the Sentinels")
            }
            StoreWarning::ShardsSilent { silent, of } => {
                write!(f, "{silent} of {of} shards do not answer, so their requests wait: see the nodes of Redis")
            }
        }
    }
}
