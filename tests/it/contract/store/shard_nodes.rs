//! Shards on the nodes of a Redis Cluster.

use std::time::Duration;

use otpost::domain::budget::UtcOffset;
use otpost::domain::shards::Shards;
use otpost::store::redis::RedisStore;
use otpost::store::{AdmissionInput, SpendStore as _, Store as _, StoreError, StoreFault, StoreWarning};

use super::spend::reservation;
use super::{START, TestRequest, TimedStore as _, granted, keeps_its_promises, named, request_to};
use crate::real;
use crate::redis_nodes::{Cluster, Persistence, is_installed, until};

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

/// The port of the node that has a shard.
async fn port_of(cluster: &Cluster, tag: &str) -> u16 {
    let slot = cluster.slot(format!("{{{tag}}}:").as_bytes()).await.expect("a slot");
    cluster.primary_of(slot).await.expect("a primary").port
}

#[tokio::test]
async fn silent_shards_are_counted_and_the_others_go_on() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::start(3, 0, Persistence::Nothing).await.expect("a Cluster");
    for node in &cluster.nodes {
        let () =
            node.ask(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await.expect("it is set");
    }
    let store = store(&cluster, 16);
    store.heartbeat(1, true).await.expect("answers");
    assert_eq!(store.warnings(), []);
    let shared = port_of(&cluster, PREFIX).await;
    let mut ports = Vec::new();
    for shard in 0..16 {
        ports.push(port_of(&cluster, &format!("{PREFIX}:{shard:02x}")).await);
    }
    let down = *ports.iter().find(|port| **port != shared).expect("several nodes have shards");
    let silent = ports.iter().filter(|port| **port == down).count();
    let node = cluster.nodes.iter().find(|node| node.port == down).expect("it is known");
    node.kill();
    let expected = StoreWarning::ShardsSilent { silent, of: 16 };
    until("a warning", Duration::from_secs(30), async || {
        store.heartbeat(1, true).await.expect("what all shards share is elsewhere");
        let warnings = store.warnings();
        if warnings == [expected] { Ok(()) } else { Err(format!("{warnings:?}")) }
    })
    .await
    .expect("it comes");
    match store.check_shared_data().await {
        Err(StoreError::Unavailable(StoreFault::ShardsSilent { silent: counted, of: 16, .. })) => {
            assert_eq!(counted, silent);
        }
        other => panic!("{other:?}"),
    }
    node.restart().await.expect("it comes back");
    until("the end of the warning", Duration::from_secs(30), async || {
        store.heartbeat(1, true).await.expect("answers");
        let warnings = store.warnings();
        if warnings.is_empty() { Ok(()) } else { Err(format!("{warnings:?}")) }
    })
    .await
    .expect("it ends");
}

/// A silent shard keeps its sum, and those of the others are read on.
#[tokio::test]
async fn a_silent_shard_keeps_no_other_book_from_being_read() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::start(3, 0, Persistence::Nothing).await.expect("a Cluster");
    let (store, other) = (store(&cluster, 16), store(&cluster, 16));
    let shared = port_of(&cluster, PREFIX).await;
    let mut ports = Vec::new();
    for shard in 0..16 {
        ports.push(port_of(&cluster, &format!("{PREFIX}:{shard:02x}")).await);
    }
    let frozen =
        u8::try_from(ports.iter().position(|port| *port != shared).expect("several nodes")).expect("few");
    let alive =
        u8::try_from(ports.iter().position(|port| *port == shared).expect("one is there")).expect("few");
    let spend = async |by: &RedisStore, shard: u8, nth: u8, id: &str| {
        let request = TestRequest { recipient: (shard << 4) + nth, ..request_to(1, id) };
        let input = AdmissionInput { spend: Some(reservation(10, Some(100), None)), ..request.admit() };
        by.admit(&input).await.expect("answers")
    };
    granted(spend(&other, frozen, 0, "spend-frozen").await);
    granted(spend(&other, alive, 0, "spend-alive-1").await);
    let book = async || store.spend_book(UtcOffset::new(-300)).await.expect("some answer");
    assert_eq!((book().await.hour.reserved.micros(), book().await.silent_shards), (20, 0));
    let node =
        cluster.nodes.iter().find(|node| node.port == ports[usize::from(frozen)]).expect("it is known");
    node.freeze();
    granted(spend(&other, alive, 1, "spend-alive-2").await);
    let read = book().await;
    node.thaw();
    assert_eq!(read.hour.reserved.micros(), 30, "the frozen one counts as it was");
    assert!(read.silent_shards > 0);
}
