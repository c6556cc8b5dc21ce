//! The contract on a Redis Cluster and behind Sentinels, and steps while slots move and servers are replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use otpost::domain::shards::Shards;
use otpost::store::redis::RedisStore;
use otpost::store::{Admission, KeyName, Store as _, StoreError, StoreFault};
use tokio::time::{Instant, sleep};

use super::{
    HOUR, START, TestRequest, TimedStore as _, admit, grant_and_complete, granted, keeps_its_promises,
    limits, named, request_to,
};
use crate::real;
use crate::redis_nodes::{Cluster, Node, Persistence, Sentinel, is_installed, until};

const PREFIX: &str = "servers";
/// After the Sentinels have chosen another master.
const LEFT_WITHIN: Duration = Duration::from_secs(3);
/// From the moment that another server is there. Usually it is half a second; tests share the machine with others.
const REACHED_WITHIN: Duration = Duration::from_secs(3);

fn can_run() -> bool {
    if !is_installed() {
        eprintln!("not tried: redis-server is not installed");
    }
    is_installed()
}

fn store(url: &str) -> RedisStore {
    store_of(url, PREFIX)
}

fn store_of(url: &str, prefix: &str) -> RedisStore {
    real::install_crypto();
    let store = RedisStore::connect(url, prefix, Shards::ONE).expect("a URL");
    store.at(START);
    store
}

/// Repeats a step until it is answered, and returns the answer with the time that it took.
async fn answered<T>(mut step: impl AsyncFnMut() -> Result<T, StoreError>) -> (T, Duration) {
    let begun = Instant::now();
    loop {
        match step().await {
            Ok(answer) => return (answer, begun.elapsed()),
            Err(error @ StoreError::Unreadable { .. }) => panic!("{error}"),
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn connections_received(node: &Node) -> u64 {
    let count = node.info("stats", "total_connections_received").await.expect("it answers");
    count.parse().expect("a number")
}

async fn slot(cluster: &Cluster) -> usize {
    cluster.slot(format!("{{{PREFIX}}}:").as_bytes()).await.expect("a slot")
}

#[tokio::test]
async fn a_cluster_keeps_the_promises_also_without_the_library_and_after_a_move() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::start(3, 0, Persistence::Nothing).await.expect("a Cluster");
    keeps_its_promises(&store_of(&cluster.url(), "promises")).await;

    let store = store(&cluster.url());
    grant_and_complete(&store, &request_to(150, "before")).await;
    let slot = slot(&cluster).await;
    let owner = cluster.primary_of(slot).await.expect("a primary");
    let () = owner.ask(&["FUNCTION", "FLUSH"]).await.expect("it forgets");
    granted(admit(&store, &request_to(151, "library-lost")).await);

    let other = cluster.other_primary(slot).await.expect("another primary");
    cluster.move_slot(slot, other).await.expect("a move");
    let (answer, _) = answered(async || store.admit(&request_to(152, "moved").admit()).await).await;
    granted(answer);
    assert!(!store.may_have_lost_writes(&named(1)).await, "the move lost nothing, and no step was silent");
}

/// Refused steps may be repeated, and charge once; no step takes a moved key for a damaged or a missing one.
#[tokio::test]
async fn a_slot_moves_live() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::start(3, 0, Persistence::Nothing).await.expect("a Cluster");
    let (old, fresh) = (store(&cluster.url()), store(&cluster.url()));
    let many = |recipient: u8| TestRequest {
        limits: limits(),
        ..request_to(recipient, &format!("before-{recipient}"))
    };
    for recipient in 1..=150 {
        grant_and_complete(&old, &many(recipient)).await;
    }
    let slot = slot(&cluster).await;
    let other = cluster.other_primary(slot).await.expect("another primary");
    let used = async |store: &RedisStore, recipient: u8| {
        let request = many(recipient);
        let usage = async || store.usage(&request.lease().subject, None, &limits()).await;
        answered(usage).await.0.used
    };
    let replayed = async |store: &RedisStore, recipient: u8| {
        let request = many(recipient).owned_by(7);
        let (answer, _) = answered(async || store.admit(&request.admit()).await).await;
        assert!(matches!(answer, Admission::Completed { ours: false, .. }), "{recipient}: {answer:?}");
    };
    let steps = async {
        for recipient in (1..=150).step_by(9) {
            replayed(&old, recipient).await;
            assert_eq!(used(&old, recipient).await, 1, "{recipient}");
            let new = request_to(recipient, &format!("during-{recipient}"));
            // Each recipient is in its cooldown.
            let (answer, _) = answered(async || old.admit(&new.admit()).await).await;
            assert!(matches!(answer, Admission::Completed { .. }), "{answer:?}");
        }
    };
    let (moved, ()) = tokio::join!(cluster.move_slot(slot, other), steps);
    assert!(moved.expect("a move") >= 300);
    for store in [&old, &fresh] {
        for recipient in 1..=150 {
            replayed(store, recipient).await;
            assert_eq!(used(store, recipient).await, 1, "{recipient}");
        }
    }
}

#[tokio::test]
async fn a_cluster_node_that_freezes_is_left_for_its_successor() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::start(3, 1, Persistence::Nothing).await.expect("a Cluster");
    let store = store(&cluster.url());
    grant_and_complete(&store, &request_to(1, "first")).await;
    store.heartbeat(1, false).await.expect("answers");
    let slot = slot(&cluster).await;
    let planned = cluster.fail_over(slot).await.expect("a planned failover");
    let (_, took) =
        answered(async || store.usage(&request_to(1, "x").lease().subject, None, &limits()).await).await;
    assert!(took < REACHED_WITHIN, "{took:?} after a planned failover");
    store.heartbeat(1, false).await.expect("answers");
    assert!(store.may_have_lost_writes(&named(1)).await, "another server");
    store.at(START.plus(HOUR));
    // A late answer of a node about the slots counts as a change until the next heartbeat.
    until("an hour without a change", Duration::from_secs(20), async || {
        store.heartbeat(1, false).await.map_err(|error| error.to_string())?;
        let is_in_doubt = store.may_have_lost_writes(&named(1)).await;
        if is_in_doubt { Err("writes may be lost".to_owned()) } else { Ok(()) }
    })
    .await
    .expect("an hour later nothing is in doubt");
    cluster.settled().await.expect("the nodes agree");

    let replica = cluster.replica_of(slot).await.expect("a replica");
    let received = connections_received(replica).await;
    planned.freeze();
    let all = async {
        let steps = (0..50).map(|_| async {
            answered(async || store.usage(&request_to(1, "x").lease().subject, None, &limits()).await).await
        });
        futures_util::future::join_all(steps).await;
        Instant::now()
    };
    let taken_over = async {
        cluster.taken_over(replica).await.expect("a failover");
        Instant::now()
    };
    let (answered_at, taken_over_at) = tokio::join!(all, taken_over);
    let took = answered_at.saturating_duration_since(taken_over_at);
    assert!(took < REACHED_WITHIN, "{took:?} after the failover");
    assert!(store.may_have_lost_writes(&named(1)).await, "steps were silent");
    store.heartbeat(1, false).await.expect("answers");
    assert!(store.may_have_lost_writes(&named(1)).await, "another server");
    let received = connections_received(replica).await - received;
    assert!(received < 20, "{received} connections");
}

/// After a planned failover the old master takes writes for seconds, all of which are lost.
async fn left_before_it_is_a_replica(store: &RedisStore, old: &Node) {
    let begun = Instant::now();
    while !store.may_have_lost_writes(&named(1)).await {
        assert!(begun.elapsed() < LEFT_WITHIN, "the old master is still asked");
        sleep(Duration::from_millis(20)).await;
        store.heartbeat(1, false).await.expect("answers");
    }
    let role = old.info("replication", "role").await.expect("it answers");
    assert_eq!(role, "master", "the old master was left only when it refused");
}

/// The new master, as the Sentinels name it that are not frozen.
async fn successor<'s>(set: &'s Sentinel, old: &Node) -> &'s Node {
    let named = async |sentinel: &Node| {
        sentinel
            .ask::<(String, u16)>(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"])
            .await
            .map(|(_, port)| port)
    };
    loop {
        let (one, other) = (named(&set.sentinels[1]).await, named(&set.sentinels[2]).await);
        if one == other
            && let Some(node) = set.nodes.iter().find(|node| Ok(node.port) == one && node.port != old.port)
        {
            return node;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn sentinels_lead_to_the_master_whichever_it_is() {
    if !can_run() {
        return;
    }
    let set = Sentinel::start(Persistence::Nothing).await.expect("sentinels");
    keeps_its_promises(&store_of(&set.url(), "promises")).await;

    let store = store(&set.url());
    store.heartbeat(1, false).await.expect("answers");
    let request = request_to(153, "kept");
    granted(admit(&store, &request).await);
    let usage = async || store.usage(&request.lease().subject, None, &limits()).await;

    let old = set.master().await.expect("a master");
    let planned = set.fail_over().await.expect("a planned failover");
    let (_, took) = answered(usage).await;
    assert!(took < REACHED_WITHIN, "{took:?} after a planned failover");
    left_before_it_is_a_replica(&store, old).await;
    set.follows(old).await.expect("the old master follows");
    // The old master may lead again. Then only the heartbeat's knowledge of this one shows the change.
    answered(async || store.heartbeat(1, false).await).await;

    let sentinel = &set.sentinels[0];
    sentinel.freeze();
    planned.freeze();
    let all = async {
        futures_util::future::join_all((0..50).map(|_| answered(usage))).await;
        Instant::now()
    };
    let replaced = async { (successor(&set, planned).await, Instant::now()) };
    let (answered_at, (new, replaced_at)) = tokio::join!(all, replaced);
    let took = answered_at.saturating_duration_since(replaced_at);
    assert!(took < REACHED_WITHIN, "{took:?} after the failover, with a frozen Sentinel");
    let received = connections_received(new).await;
    assert!(received < 60, "{received} connections");
    planned.thaw();
    sentinel.thaw();
    assert_eq!(usage().await.expect("the thawed master is not asked").used, 1);
    store.heartbeat(1, false).await.expect("answers");
    assert!(store.may_have_lost_writes(&named(1)).await, "another server");
}

/// An idle worker sends heartbeats alone, each of which is given up early.
#[tokio::test]
async fn an_idle_worker_leaves_a_frozen_primary() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::start(3, 1, Persistence::Nothing).await.expect("a Cluster");
    let store = store_of(&cluster.url(), "idle");
    let limit = Duration::from_millis(450);
    let beat = async || tokio::time::timeout(limit, store.heartbeat(1, true)).await.ok()?.ok();
    until_some(&beat).await;
    let slot = cluster.slot(b"{idle}:format").await.expect("a slot");
    cluster.primary_of(slot).await.expect("a primary").freeze();
    assert!(beat().await.is_none(), "the primary is silent");
    until_some(async || {
        sleep(Duration::from_millis(250)).await;
        beat().await
    })
    .await;
}

/// Asks until there is something.
async fn until_some<T>(ask: impl AsyncFn() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(some) = ask().await {
                return some;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asked).await.expect("in time")
}

/// A server that accepts connections and is silent then, as one that is frozen.
#[tokio::test]
async fn many_steps_share_one_attempt_and_fail_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok(connection) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            open.push(connection);
        }
    });
    for url in [
        format!("redis://{address}"),
        format!("redis+cluster://{address}"),
        format!("redis+sentinel://{address}/m"),
    ] {
        accepted.store(0, Ordering::Relaxed);
        let (store, begun) = (store(&url), Instant::now());
        // The first step opens the store, and the others wait for that: these do not.
        let key = KeyName::Bytes(b"{servers}:format".to_vec());
        let answers = futures_util::future::join_all((0..100).map(|_| store.show(&key))).await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Unavailable(_)))), "{url}");
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(2_500), "{url}: {took:?}");
        let accepted = accepted.load(Ordering::Relaxed);
        assert!((1..=4).contains(&accepted), "{url}: {accepted} connections");
    }
}

/// Each cause has its own words, and names no server.
#[tokio::test]
async fn a_search_without_a_server_says_so() {
    if !can_run() {
        return;
    }
    let set = Sentinel::start(Persistence::Nothing).await.expect("sentinels");
    let unknown = set.url().replace("/mymaster", "/other");
    let error = store(&unknown).kill_switch().await.expect_err("no such master");
    assert_eq!(error, StoreError::Unavailable(StoreFault::NoPrimary));
    for url in ["redis+sentinel://127.0.0.1:1,127.0.0.1:2/m", "redis+cluster://127.0.0.1:1,127.0.0.1:2"] {
        let store = store(url);
        let error = store.kill_switch().await.expect_err("no server listens");
        assert_eq!(error, StoreError::Unavailable(StoreFault::ConnectionRefused), "{url}");
        assert!(store.may_have_lost_writes(&named(1)).await);
    }
    let single = set.master().await.expect("a master").address();
    let error =
        store(&format!("redis+cluster://{single}")).kill_switch().await.expect_err("it is no Cluster");
    assert_eq!(error, StoreError::Unavailable(StoreFault::NotCluster));
    let error =
        store(&format!("redis+sentinel://{single}/m")).kill_switch().await.expect_err("it is no Sentinel");
    assert_eq!(error, StoreError::Unavailable(StoreFault::NotSentinel));
}
