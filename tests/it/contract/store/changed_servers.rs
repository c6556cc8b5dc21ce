//! Servers that change beside a running process: Sentinels that die, nodes that come back empty, join, or know users.

use std::time::Duration;

use otpost::domain::shards::Shards;
use otpost::store::redis::RedisStore;
use otpost::store::{Store as _, StoreError, StoreWarning};
use tokio::time::{Instant, sleep};

use super::rights::{RIGHTS_OF_SHARDS, of_the_page};
use super::{START, TimedStore as _, admit, granted, keeps_its_promises, named, request_to};
use crate::inspect::otpost;
use crate::real;
use crate::redis_nodes::{Cluster, Node, Persistence, Sentinel, is_installed, until};
use crate::store_faults::server::key;
use crate::why::said;

const PREFIX: &str = "otpost";
const WITHIN: Duration = Duration::from_secs(30);

fn can_run() -> bool {
    if !is_installed() {
        eprintln!("not tried: redis-server is not installed");
    }
    is_installed()
}

fn store(url: &str) -> RedisStore {
    store_of(url, Shards::ONE)
}

fn store_of(url: &str, shards: Shards) -> RedisStore {
    real::install_crypto();
    let store = RedisStore::connect(url, PREFIX, shards).expect("a URL");
    store.at(START);
    store
}

async fn answered<T>(mut step: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    let begun = Instant::now();
    loop {
        match step().await {
            Ok(answer) => return answer,
            Err(error) => assert!(begun.elapsed() < WITHIN, "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn until_warnings(store: &RedisStore, expected: &[StoreWarning]) {
    until("the warnings", WITHIN, async || {
        let warnings = store.warnings();
        if warnings == expected { Ok(()) } else { Err(format!("{warnings:?}")) }
    })
    .await
    .expect("they come");
}

#[tokio::test]
async fn dead_sentinels_are_a_warning_while_the_master_answers() {
    if !can_run() {
        return;
    }
    let set = Sentinel::start(Persistence::Nothing).await.expect("sentinels");
    let store = store(&set.url());
    store.heartbeat(1, false).await.expect("answers");
    set.sentinels[..2].iter().for_each(Node::kill);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(store.warnings(), [], "one is left");
    set.sentinels[2].kill();
    until_warnings(&store, &[StoreWarning::SentinelsSilent]).await;
    store.heartbeat(1, false).await.expect("the master answers");
    set.sentinels[0].restart().await.expect("it comes back");
    until_warnings(&store, &[]).await;
}

#[tokio::test]
async fn a_cluster_node_by_the_url_of_a_single_server_is_a_warning() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::start(1, 0, Persistence::Nothing).await.expect("a Cluster");
    let alone = format!("redis://{}", cluster.nodes[0].address());
    for (url, expected) in
        [(alone.as_str(), &[StoreWarning::ClusterNode][..]), (&cluster.url(), &[]), (&real::redis_url(), &[])]
    {
        for is_command in [true, false] {
            let store = store(url);
            match is_command {
                true => store.check_writable().await.expect("answers"),
                false => drop(store.heartbeat(1, false).await.expect("answers")),
            }
            assert_eq!(store.warnings(), expected, "{url}");
        }
    }
}

#[tokio::test]
async fn a_node_that_comes_back_empty_gets_functions_or_scripts_again() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::start(3, 0, Persistence::Nothing).await.expect("a Cluster");
    let slot = cluster.slot(format!("{{{PREFIX}}}:").as_bytes()).await.expect("a slot");
    let node = cluster.primary_of(slot).await.expect("a primary");
    for (nth, rights) in [(1, "+@all"), (2, "-fcall")] {
        let forbid =
            async || node.ask::<()>(&["ACL", "SETUSER", "default", rights]).await.expect("it is set");
        forbid().await;
        let store = store(&cluster.url());
        granted(answered(async || store.admit(&request_to(nth, "before").admit()).await).await);
        node.restart().await.expect("it comes back");
        forbid().await;
        let keys: usize = node.ask(&["DBSIZE"]).await.expect("it answers");
        assert_eq!(keys, 0);
        granted(answered(async || store.admit(&request_to(nth, "after").admit()).await).await);
        answered(async || store.heartbeat(1, false).await).await;
    }
}

/// A master died before its replica, an earlier master, knew that it led.
#[tokio::test]
async fn a_server_that_leads_again_may_have_lost_writes() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::start(1, 0, Persistence::Nothing).await.expect("a Cluster");
    let (node, store) = (&cluster.nodes[0], store(&cluster.url()));
    answered(async || store.heartbeat(1, false).await).await;
    node.restart().await.expect("it comes back");
    let run_id = node.info("server", "run_id").await.expect("it answers");
    let record = format!("{run_id} {}", START.0);
    let key = format!("{{{PREFIX}}}:primary");
    until("a node that serves", WITHIN, async || node.ask::<()>(&["SET", &key, &record]).await)
        .await
        .expect("it is set");
    let hour = Duration::from_secs(3_600);
    store.at(START.plus(hour));
    answered(async || store.heartbeat(1, false).await).await;
    assert!(store.may_have_lost_writes(&named(1)).await, "it knew another server");
    store.at(START.plus(2 * hour));
    answered(async || store.heartbeat(1, false).await).await;
    assert!(!store.may_have_lost_writes(&named(1)).await, "an hour later");
}

#[tokio::test]
async fn a_node_that_joins_later_takes_over_a_slot() {
    if !can_run() {
        return;
    }
    let mut cluster = Cluster::start(3, 0, Persistence::Nothing).await.expect("a Cluster");
    let store = store(&cluster.url());
    granted(admit(&store, &request_to(1, "before")).await);
    let slot = cluster.slot(format!("{{{PREFIX}}}:").as_bytes()).await.expect("a slot");
    let joined = cluster.start_node(3, Persistence::Nothing, Vec::new()).await.expect("another node");
    cluster.nodes.push(joined);
    cluster.meet().await.expect("it joins");
    let joined = cluster.nodes.last().expect("it joined");
    until("a node that serves", WITHIN, async || {
        let info: String = joined.ask(&["CLUSTER", "INFO"]).await?;
        if info.contains("cluster_state:ok") { Ok(()) } else { Err(info) }
    })
    .await
    .expect("it knows all slots");
    assert!(cluster.move_slot(slot, joined).await.expect("a move") > 0);
    let used =
        answered(async || store.usage(&request_to(1, "x").lease().subject, None, &super::limits()).await);
    assert_eq!(used.await.used, 1, "the keys came along");
    granted(answered(async || store.admit(&request_to(2, "after").admit()).await).await);
    let functions: Vec<redis::Value> = joined.ask(&["FUNCTION", "LIST"]).await.expect("it answers");
    assert_eq!(functions.len(), 1, "the new node has the library");
}

/// Gives a user the rights of `docs/deploy.md`, and more, on a node.
async fn give_rights(node: &Node, more: &[&str]) {
    let page = of_the_page();
    let words: Vec<&str> = page.iter().copied().chain(more.iter().copied()).collect();
    let () = node.ask(&words).await.expect("the rights are valid");
}

#[tokio::test]
async fn the_rights_of_the_page_are_enough_on_a_cluster_and_behind_sentinels() {
    if !can_run() {
        return;
    }
    let as_user = |url: &str| url.replacen("://", "://otpost:PASSWORD@", 1);
    let cluster = Cluster::start(3, 0, Persistence::Nothing).await.expect("a Cluster");
    let more = [&RIGHTS_OF_SHARDS[..], &["+cluster|slots"]].concat();
    for node in &cluster.nodes {
        give_rights(node, &more).await;
    }
    for shards in [1, 16] {
        let shards = Shards::new(shards).expect("a number of shards");
        let store = store_of(&as_user(&cluster.url()), shards);
        keeps_its_promises(&store).await;
        store.heartbeat(1, true).await.expect("answers");
        for node in &cluster.nodes {
            let () = node.ask(&["FLUSHALL"]).await.expect("it is flushed");
        }
    }
    let set = Sentinel::start(Persistence::Nothing).await.expect("sentinels");
    for node in &set.nodes {
        give_rights(node, &["+role"]).await;
    }
    let store = store(&as_user(&set.url()));
    keeps_its_promises(&store).await;
    store.heartbeat(1, true).await.expect("answers");
}

/// The binary, as trust in a certificate holds for a process.
#[tokio::test]
async fn a_cluster_with_tls_is_reached_by_the_names_of_its_certificate() {
    if !can_run() {
        return;
    }
    let port = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound").port()
    };
    let ports = [port(), port(), port()];
    let tls = |nth: usize| {
        let port = ports[nth].to_string();
        let words = [
            ["--tls-port", &port],
            ["--tls-cluster", "yes"],
            ["--tls-auth-clients", "no"],
            ["--tls-key-file", &key("redis.private.pem")],
            ["--tls-cert-file", &key("redis.certificate.pem")],
            ["--tls-ca-cert-file", &key("redis.certificate.pem")],
        ];
        words.into_iter().flatten().map(str::to_owned).collect()
    };
    let cluster = Cluster::start_with(3, 0, Persistence::Nothing, tls).await.expect("a Cluster");
    for node in &cluster.nodes {
        give_rights(node, &["+cluster|slots"]).await;
    }
    // One address is enough: the others are those that the node tells.
    let url = format!("rediss+cluster://otpost:PASSWORD@127.0.0.1:{}", ports[0]);
    let run = |trusts: &str, arguments: &[&str], exit| {
        let settings = [
            ("ENVIRONMENT", "development"),
            ("REDIS_URL", url.as_str()),
            ("REDIS_PREFIX", PREFIX),
            ("SSL_CERT_FILE", &key(trusts)),
        ];
        said(&otpost(&settings, arguments), exit)
    };
    run("redis.certificate.pem", &["kill-switch", "on", "--reason", "over TLS"], 0);
    let (out, _) = run("redis.certificate.pem", &["kill-switch", "status"], 3);
    assert!(out.contains("over TLS"), "{out}");
    let (_, err) = run("relay.certificate.pem", &["kill-switch", "status"], 1);
    assert!(err.contains("the certificate of Redis has an unknown issuer"), "{err}");
}
