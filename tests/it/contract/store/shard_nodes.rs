//! Shards on the nodes of a Redis Cluster.

use otpost::domain::shards::Shards;
use otpost::store::Store as _;
use otpost::store::redis::RedisStore;

use super::{START, TimedStore as _, keeps_its_promises, named};
use crate::real;
use crate::redis_nodes::{Cluster, Persistence, is_installed};

const PREFIX: &str = "shards";

fn can_run() -> bool {
    if !is_installed() {
        eprintln!("not tried: redis-server is not installed");
    }
    is_installed()
}

fn store(cluster: &Cluster, shards: u16) -> RedisStore {
    real::install_crypto();
    let shards = Shards::new(shards).expect("a number of shards");
    let store = RedisStore::connect(&cluster.url(), PREFIX, shards).expect("a URL");
    store.at(START);
    store
}

/// A step that touched keys of two slots would be refused.
#[tokio::test]
async fn shards_keep_the_promises_on_a_cluster_and_use_all_its_nodes() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::start(3, 0, Persistence::Nothing).await.expect("a Cluster");
    let store = store(&cluster, 256);
    keeps_its_promises(&store).await;
    store.heartbeat(1, true).await.expect("answers");
    store.check_shared_data().await.expect("all is readable");
    for node in &cluster.nodes {
        let keys: usize = node.ask(&["DBSIZE"]).await.expect("it answers");
        assert!(keys > 20, "a node has {keys} keys");
    }
}

#[tokio::test]
async fn a_failover_puts_only_the_shards_of_its_node_in_doubt() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::start(3, 1, Persistence::Nothing).await.expect("a Cluster");
    let store = store(&cluster, 16);
    let of_shard = |shard: u8| named(shard << 4);
    for shard in 0..16 {
        assert!(!store.may_have_lost_writes(&of_shard(shard)).await, "{shard}");
    }
    let failed = cluster.slot(format!("{{{PREFIX}:00}}:").as_bytes()).await.expect("a slot");
    let old = cluster.primary_of(failed).await.expect("a primary").port;
    let mut moved = Vec::new();
    for shard in 0..16_u8 {
        let slot = cluster.slot(format!("{{{PREFIX}:{shard:02x}}}:").as_bytes()).await.expect("a slot");
        moved.push(cluster.primary_of(slot).await.expect("a primary").port == old);
    }
    assert!(moved.contains(&true) && moved.contains(&false), "the shards are on several nodes");
    cluster.fail_over(failed).await.expect("a failover");
    for shard in 0..16 {
        let may_have_lost_writes = store.may_have_lost_writes(&of_shard(shard)).await;
        assert_eq!(may_have_lost_writes, moved[usize::from(shard)], "{shard}");
    }
}
