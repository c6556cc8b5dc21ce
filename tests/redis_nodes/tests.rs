//! The servers do what the other tests rely on.

use std::path::Path;

use redis::cluster::ClusterClient;

use crate::redis_nodes::{Cluster, Persistence, Sentinel, is_installed};

/// A plain client that follows redirections.
async fn write_all(cluster: &Cluster, count: usize) -> redis::RedisResult<()> {
    let nodes = cluster.nodes.iter().map(|node| format!("redis://{}", node.address()));
    let client = ClusterClient::new(nodes)?;
    let mut connection = client.get_async_connection().await?;
    for nth in 0..count {
        let () =
            redis::cmd("SET").arg(format!("{{here}}:{nth}")).arg(nth).query_async(&mut connection).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_slot_moves_with_its_keys_and_a_replica_takes_over() {
    if !is_installed() {
        return println!("skipped, as this machine has no redis-server");
    }
    let cluster = Cluster::start(3, 1, Persistence::Nothing).await.expect("a Cluster");
    let slot = cluster.slot(b"{here}:1").await.expect("a slot");
    write_all(&cluster, 100).await.expect("all keys can be written");
    let (old, other) = (cluster.primary_of(slot).await.unwrap(), cluster.other_primary(slot).await.unwrap());
    assert_eq!(cluster.move_slot(slot, other).await.expect("a move"), 100);
    cluster.settled().await.expect("the nodes agree");
    assert_eq!(cluster.primary_of(slot).await.unwrap().port, other.port);
    let left: usize = old.ask(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]).await.unwrap();
    assert_eq!(left, 0);

    assert!(cluster.url().starts_with("redis+cluster://127.0.0.1:"), "{}", cluster.url());
    let planned = cluster.fail_over(slot).await.expect("a planned failover");
    cluster.settled().await.expect("the nodes agree");
    let replica = cluster.replica_of(slot).await.expect("the old primary follows");
    assert_eq!((planned.port == other.port, replica.port == other.port), (false, true));

    planned.kill();
    cluster.taken_over(replica).await.expect("an unplanned failover");
    planned.restart().await.expect("it comes back");
    cluster.settled().await.expect("it follows");
    assert_eq!(cluster.primary_of(slot).await.unwrap().port, replica.port);
    let keys: usize = replica.ask(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]).await.unwrap();
    assert_eq!(keys, 100);
}

#[tokio::test]
async fn sentinels_replace_a_master_that_fails_over_freezes_or_dies() {
    if !is_installed() {
        return println!("skipped, as this machine has no redis-server");
    }
    let set = Sentinel::start(Persistence::EveryWrite).await.expect("sentinels");
    assert!(set.url().ends_with("/mymaster"), "{}", set.url());
    let first = set.master().await.expect("a master");
    let () = first.ask(&["SET", "key", "kept"]).await.unwrap();
    let second = set.fail_over().await.expect("a planned failover");
    set.follows(first).await.expect("the old master follows");

    second.freeze();
    let frozen = second.ask::<String>(&["PING"]).await;
    assert!(frozen.is_err(), "a frozen server answered");
    let third = set.replaced(second).await.expect("a failover");
    second.thaw();
    set.follows(second).await.expect("the thawed master follows");

    third.kill();
    let fourth = set.replaced(third).await.expect("a failover");
    assert_eq!(fourth.ask::<String>(&["GET", "key"]).await.as_deref(), Ok("kept"));
    let process = fourth.process_id().expect("it runs");
    drop(set);
    assert!(!Path::new(&format!("/proc/{process}")).exists(), "a server was left behind");
}
