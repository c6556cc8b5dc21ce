//! Failovers of a Redis Cluster: three primaries with a replica each.

use super::Place;
use super::failover::{Failover, Loses, prefix};
use crate::redis_nodes::{Cluster, Persistence};
use crate::stage::Verdict;

const PRIMARIES: usize = 3;

async fn start(keeps: Persistence) -> Result<Cluster, String> {
    Cluster::start(PRIMARIES, 1, keeps).await
}

fn failover<'a>(name: &'static str, cluster: &'a Cluster, loses: Loses) -> Failover<'a> {
    Failover { name, url: cluster.url(), nodes: cluster.nodes.iter().collect(), loses, shards: 1 }
}

/// The slot of the gateway's keys.
async fn slot(name: &str, cluster: &Cluster) -> Result<usize, String> {
    cluster.slot(format!("{{{}}}", prefix(name)).as_bytes()).await
}

/// The primary of the gateway's slot dies, and comes back as a replica with all that it wrote.
pub(super) async fn primary_killed(place: Place<'_>) -> Result<Verdict, String> {
    killed("redis_cluster_primary_killed", 1, place).await
}

/// The same with recipients on all primaries: that of the keys which all shards share dies.
pub(super) async fn primary_of_shards_killed(place: Place<'_>) -> Result<Verdict, String> {
    killed("redis_cluster_shards_primary_killed", 16, place).await
}

async fn killed(name: &'static str, shards: u16, place: Place<'_>) -> Result<Verdict, String> {
    let cluster = start(Persistence::EveryWrite).await?;
    let slot = slot(name, &cluster).await?;
    let (old, replica) = (cluster.primary_of(slot).await?, cluster.replica_of(slot).await?);
    let fault = async || {
        old.kill();
        cluster.taken_over(replica).await?;
        Ok(replica)
    };
    let mend = async || {
        old.restart().await?;
        cluster.settled().await?;
        Ok(replica)
    };
    let failover = Failover { shards, ..failover(name, &cluster, Loses::TheLastBefore) };
    failover.run(place, old, fault, mend).await
}

/// The slot moves to another primary with its keys, and back.
pub(super) async fn slot_moved(place: Place<'_>) -> Result<Verdict, String> {
    let name = "redis_cluster_slot_moved";
    let cluster = start(Persistence::Nothing).await?;
    let slot = slot(name, &cluster).await?;
    let (old, new) = (cluster.primary_of(slot).await?, cluster.other_primary(slot).await?);
    let fault = async || {
        cluster.move_slot(slot, new).await?;
        Ok(new)
    };
    let mend = async || {
        cluster.settled().await?;
        cluster.move_slot(slot, old).await?;
        Ok(old)
    };
    failover(name, &cluster, Loses::Nothing).run(place, old, fault, mend).await
}

/// The replica takes over, and gives the slot back.
pub(super) async fn planned_failover(place: Place<'_>) -> Result<Verdict, String> {
    let name = "redis_cluster_planned_failover";
    let cluster = start(Persistence::Nothing).await?;
    let slot = slot(name, &cluster).await?;
    let old = cluster.primary_of(slot).await?;
    let fault = async || cluster.fail_over(slot).await;
    let mend = async || {
        cluster.settled().await?;
        cluster.fail_over(slot).await
    };
    failover(name, &cluster, Loses::Nothing).run(place, old, fault, mend).await
}
