//! Failovers of a primary with two replicas, which three sentinels watch.

use super::Place;
use super::failover::Failover;
use crate::redis_nodes::{Persistence, Sentinel};
use crate::stage::Verdict;

fn failover<'a>(name: &'static str, set: &'a Sentinel, planned: bool) -> Failover<'a> {
    Failover { name, url: set.url(), nodes: set.nodes.iter().chain(&set.sentinels).collect(), planned }
}

/// The master dies, and comes back empty as a replica.
pub(super) async fn master_killed(place: Place<'_>) -> Result<Verdict, String> {
    let set = Sentinel::start(Persistence::Nothing).await?;
    let old = set.master().await?;
    let fault = async || {
        old.kill();
        set.replaced(old).await
    };
    let mend = async || {
        old.restart().await?;
        set.follows(old).await
    };
    failover("redis_sentinel_master_killed", &set, false).run(place, old, fault, mend).await
}

/// The master neither answers nor closes a connection, and wakes as a replica.
pub(super) async fn master_frozen(place: Place<'_>) -> Result<Verdict, String> {
    let set = Sentinel::start(Persistence::Nothing).await?;
    let old = set.master().await?;
    let fault = async || {
        old.freeze();
        set.replaced(old).await
    };
    let mend = async || {
        old.thaw();
        set.follows(old).await
    };
    failover("redis_sentinel_master_frozen", &set, false).run(place, old, fault, mend).await
}

/// A replica takes over while the master runs, and another one after it.
pub(super) async fn planned_failover(place: Place<'_>) -> Result<Verdict, String> {
    let set = Sentinel::start(Persistence::Nothing).await?;
    let old = set.master().await?;
    let fault = async || set.fail_over().await;
    let mend = async || {
        set.follows(old).await?;
        set.fail_over().await.map(drop)
    };
    failover("redis_sentinel_planned_failover", &set, true).run(place, old, fault, mend).await
}
