//! Failovers of a Redis Cluster: three primaries with a replica each.

use super::Place;
use super::failover::{Failover, prefix};
use crate::redis_nodes::{Cluster, Persistence};
use crate::stage::Verdict;

const PRIMARIES: usize = 3;

async fn start() -> Result<Cluster, String> {
    Cluster::start(PRIMARIES, 1, Persistence::Nothing).await
}

fn failover<'a>(name: &'static str, cluster: &'a Cluster, planned: bool) -> Failover<'a> {
    Failover { name, url: cluster.url(), nodes: cluster.nodes.iter().collect(), planned }
}

/// The slot of the gateway's keys.
async fn slot(name: &str, cluster: &Cluster) -> Result<usize, String> {
    cluster.slot(format!("{{{}}}", prefix(name)).as_bytes()).await
}

/// The primary of the gateway's slot dies, and comes back empty as a replica.
pub(super) async fn primary_killed(place: Place<'_>) -> Result<Verdict, String> {
    let name = "redis_cluster_primary_killed";
    let cluster = start().await?;
    let slot = slot(name, &cluster).await?;
    let (old, replica) = (cluster.primary_of(slot).await?, cluster.replica_of(slot).await?);
    let fault = async || {
        old.kill();
        cluster.taken_over(replica).await?;
        Ok(replica)
    };
    let mend = async || {
        old.restart().await?;
        cluster.settled().await
    };
    failover(name, &cluster, false).run(place, old, fault, mend).await
}

/// The slot moves to another primary with its keys, and back.
pub(super) async fn slot_moved(place: Place<'_>) -> Result<Verdict, String> {
    let name = "redis_cluster_slot_moved";
    let cluster = start().await?;
    let slot = slot(name, &cluster).await?;
    let (old, new) = (cluster.primary_of(slot).await?, cluster.other_primary(slot).await?);
    let fault = async || {
        cluster.move_slot(slot, new).await?;
        Ok(new)
    };
    let mend = async || cluster.move_slot(slot, old).await.map(drop);
    failover(name, &cluster, true).run(place, old, fault, mend).await
}

/// The replica takes over, and gives the slot back.
pub(super) async fn planned_failover(place: Place<'_>) -> Result<Verdict, String> {
    let name = "redis_cluster_planned_failover";
    let cluster = start().await?;
    let slot = slot(name, &cluster).await?;
    let old = cluster.primary_of(slot).await?;
    let fault = async || cluster.fail_over(slot).await;
    let mend = async || {
        cluster.settled().await?;
        cluster.fail_over(slot).await.map(drop)
    };
    failover(name, &cluster, true).run(place, old, fault, mend).await
}
