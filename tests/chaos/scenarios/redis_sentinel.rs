//! Failovers of a primary with two replicas, which three sentinels watch.

use super::Place;
use super::failover::{Failover, Loses};
use crate::redis_nodes::{Persistence, Sentinel};
use crate::stage::Verdict;

/// Longer than sentinels need to make the old master a replica.
const PAUSE_MS: &str = "20000";

fn failover<'a>(name: &'static str, set: &'a Sentinel, loses: Loses) -> Failover<'a> {
    Failover {
        name,
        url: set.url(),
        nodes: set.nodes.iter().chain(&set.sentinels).collect(),
        loses,
        shards: 1,
    }
}

/// The master dies, and comes back as a replica with all that it wrote.
pub(super) async fn master_killed(place: Place<'_>) -> Result<Verdict, String> {
    let set = Sentinel::start(Persistence::EveryWrite).await?;
    let old = set.master().await?;
    let fault = async || {
        old.kill();
        set.replaced(old).await
    };
    let mend = async || {
        old.restart().await?;
        set.follows(old).await?;
        set.master().await
    };
    failover("redis_sentinel_master_killed", &set, Loses::TheLastBefore).run(place, old, fault, mend).await
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
        set.follows(old).await?;
        set.master().await
    };
    failover("redis_sentinel_master_frozen", &set, Loses::TheLastBefore).run(place, old, fault, mend).await
}

/// Writes are paused before a replica takes over, so that the old master takes none that would be lost.
pub(super) async fn planned_failover(place: Place<'_>) -> Result<Verdict, String> {
    let set = Sentinel::start(Persistence::Nothing).await?;
    let old = set.master().await?;
    let fault = async || {
        // The sentinels publish to the master, which waits for the end of the pause as well: they would take it for down, and might
        // begin a second failover.
        for sentinel in &set.sentinels {
            let () =
                sentinel.ask(&["SENTINEL", "SET", "mymaster", "down-after-milliseconds", "60000"]).await?;
        }
        let () = old.ask(&["CLIENT", "PAUSE", PAUSE_MS, "WRITE"]).await?;
        set.fail_over().await
    };
    let mend = async || {
        set.follows(old).await?;
        set.master().await
    };
    failover("redis_sentinel_planned_failover", &set, Loses::Nothing).run(place, old, fault, mend).await
}

/// A replica takes over while the old master goes on taking writes.
pub(super) async fn failover_without_pause(place: Place<'_>) -> Result<Verdict, String> {
    let set = Sentinel::start(Persistence::Nothing).await?;
    let old = set.master().await?;
    let fault = async || set.fail_over().await;
    let mend = async || {
        set.follows(old).await?;
        set.master().await
    };
    let name = "redis_sentinel_failover_without_pause";
    failover(name, &set, Loses::UntilItIsLeft).run(place, old, fault, mend).await
}
