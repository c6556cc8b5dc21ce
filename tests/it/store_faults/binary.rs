//! The real binary while Redis does not answer or refuses: log lines, readiness, status, and recovery.

use std::net::TcpListener;

use otpost::domain::shards::Shards;
use otpost::store::Store as _;
use otpost::store::resharding::{ReshardAnswer, ReshardRefusal, Resharding};
use serde_json::{Value, json};

use super::server::OwnRedis;
use crate::contract::broker::World as _;
use crate::contract::broker::rabbit::{RabbitWorld, in_world, url};
use crate::damaged::{expect_sent, readiness, send, until_ready};
use crate::inspect::{otpost, rows};
use crate::logs::Running;
use crate::real::{Redis, redis_url};

const UNAVAILABLE: &str = "store is unavailable";

fn dry_run() -> Resharding {
    let to = Shards::new(16).expect("a number of shards");
    Resharding { to, forget_limits: true, dry_run: true }
}

/// The health of Redis in `otpost status`.
fn status(world: &RabbitWorld, redis_url: &str, prefix: &str, exit: i32) -> Value {
    let (dead, amqp) = (world.names.dead(), url());
    let settings = [
        ("ENVIRONMENT", "development"),
        ("AMQP_URL", amqp.as_str()),
        ("AMQP_PREFIX", dead.trim_end_matches(".dead")),
        ("REDIS_URL", redis_url),
        ("REDIS_PREFIX", prefix),
    ];
    rows(&otpost(&settings, &["status", "--json"]), exit)[0]["health"]["redis"].clone()
}

/// A worker with a Redis of its own.
struct Scene<'a> {
    world: &'a RabbitWorld,
    redis_url: String,
    redis: Redis,
    ops: String,
    worker: Running,
}

impl<'a> Scene<'a> {
    async fn start(world: &'a RabbitWorld, redis_url: String) -> Scene<'a> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let ops = listener.local_addr().expect("bound").to_string();
        drop(listener);
        let redis = Redis::fresh();
        let more = [("OPS_ADDR", ops.as_str()), ("REDIS_URL", &redis_url)];
        let mut worker = Running::with_servers("worker", world, &redis, &more);
        worker.says("started").await;
        Scene { world, redis_url, redis, ops, worker }
    }

    fn status(&self, exit: i32) -> Value {
        status(self.world, &self.redis_url, &self.redis.prefix, exit)
    }

    /// One line with the reason, the pause of both channels with it, the probe and the status.
    async fn expect_silence(&mut self, level: &str, reason: &str, words: &str) {
        let line = self.worker.says(UNAVAILABLE).await;
        assert_eq!((&line["level"], &line["reason"]), (&json!(level), &json!(reason)), "{line}");
        assert!(line["fault"].as_str().is_some_and(|fault| fault.contains(words)), "{line}");
        for _channel in 0..2 {
            let paused = self.worker.says_without("sending paused", UNAVAILABLE).await;
            assert_eq!(paused["reason"], "store_silent", "{paused}");
            assert!(paused["fault"].as_str().is_some_and(|fault| fault.contains(words)), "{paused}");
        }
        let not_ready = readiness(&self.ops);
        assert!(not_ready.starts_with("HTTP/1.1 503") && not_ready.contains(words), "{not_ready}");
        let health = self.status(3);
        assert_eq!((&health["state"], &health["reason"]), (&json!("down"), &json!(reason)), "{health}");
        assert!(health["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{health}");
        for text in [line.to_string(), not_ready, health.to_string()] {
            assert!(!text.contains("hunter2") && !text.contains("127.0.0.1"), "{text}");
        }
    }

    /// No second line came in the meantime, though every heartbeat failed.
    async fn expect_recovery(&mut self) {
        for _channel in 0..2 {
            self.worker.says_without("sending resumed", UNAVAILABLE).await;
        }
        let over = self.worker.says_without("store is available again", UNAVAILABLE).await;
        assert!(over["failures"].as_u64().is_some_and(|failures| failures > 2), "{over}");
        until_ready(&self.ops).await;
        assert_eq!(self.status(0)["state"], "up");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_a_wrong_password_starts_names_it_once_and_sends_when_it_is_right() {
    let Some(server) = OwnRedis::start(&["--requirepass", "right"]) else { return };
    in_world(async |world: &RabbitWorld| {
        let redis_url = format!("redis://:hunter2@127.0.0.1:{}", server.port);
        let mut scene = Scene::start(world, redis_url).await;
        let mut results = world.results().await;
        scene.expect_silence("ERROR", "password", "check the user and password in REDIS_URL").await;
        send(world, "waits", 1).await;
        let () = redis::cmd("CONFIG")
            .arg(&["SET", "requirepass", "hunter2"])
            .query(&mut server.connection(":right@"))
            .expect("Redis does it");
        scene.expect_recovery().await;
        expect_sent(&mut results, "waits").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_notices_a_server_that_refuses_writes() {
    let Some(server) = OwnRedis::start(&[]) else { return };
    in_world(async |world: &RabbitWorld| {
        let mut scene = Scene::start(world, server.url()).await;
        let mut results = world.results().await;
        until_ready(&scene.ops).await;
        for (nth, (breaks, mends, level, reason, words)) in [
            ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "ERROR", "out_of_memory", "raise maxmemory"),
            ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "WARN", "read_only", "lead to the primary"),
            (
                "CONFIG SET min-replicas-to-write 1",
                "CONFIG SET min-replicas-to-write 0",
                "ERROR",
                "too_few_replicas",
                "min-replicas-to-write",
            ),
        ]
        .into_iter()
        .enumerate()
        {
            server.run(&[breaks]);
            scene.expect_silence(level, reason, words).await;
            let id = format!("r{nth}");
            send(world, &id, nth).await;
            server.run(&[mends]);
            scene.expect_recovery().await;
            expect_sent(&mut results, &id).await;
        }
    })
    .await;
}

/// Functions are refused as a whole; a script fails at its first write, so a status that only read would not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_notices_a_full_memory_where_functions_are_not_allowed() {
    let Some(server) = OwnRedis::start(&[]) else { return };
    in_world(async |world: &RabbitWorld| {
        server.run(&["ACL SETUSER default -fcall"]);
        let mut scene = Scene::start(world, server.url()).await;
        until_ready(&scene.ops).await;
        server.run(&["CONFIG SET maxmemory 1"]);
        scene.expect_silence("ERROR", "out_of_memory", "raise maxmemory").await;
        server.run(&["CONFIG SET maxmemory 0"]);
        scene.expect_recovery().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_with_another_number_of_shards_is_not_ready_until_it_fits() {
    in_world(async |world: &RabbitWorld| {
        let redis = Redis::fresh();
        redis.replace("format", "SET", &[b"2 0 16"]);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let ops = listener.local_addr().expect("bound").to_string();
        drop(listener);
        let more = [("OPS_ADDR", ops.as_str()), ("HTTP_ADDR", "127.0.0.1:0")];
        let mut api = Running::with_servers("http", world, &redis, &more);
        api.says("started").await;
        let not_ready = readiness(&ops);
        assert!(not_ready.starts_with("HTTP/1.1 503"), "{not_ready}");
        assert!(not_ready.contains("REDIS_SHARDS is 1, and REDIS_PREFIX holds data for 16"), "{not_ready}");
        redis.replace("format", "SET", &[b"2 0"]);
        until_ready(&ops).await;
        let answer = redis.store().reshard(&dry_run()).await.expect("answers");
        assert_eq!(answer, ReshardAnswer::Refused(ReshardRefusal::Running), "an API is a running process");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_is_no_running_process() {
    in_world(async |world: &RabbitWorld| {
        let redis = Redis::fresh();
        let store = redis.store();
        store.heartbeat(1, false).await.expect("answers");
        let primary = format!("{{{}}}:primary", redis.prefix);
        // As twenty seconds after the last heartbeat.
        let () = redis.run(redis::cmd("PEXPIRE").arg(primary).arg(86_400_000 - 20_000));
        assert_eq!(status(world, &redis_url(), &redis.prefix, 0)["state"], "up");
        let answer = store.reshard(&dry_run()).await.expect("answers");
        assert!(matches!(answer, ReshardAnswer::Done { .. }), "{answer:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_cluster_by_a_plain_url_is_said_once_and_works() {
    let Some(server) = OwnRedis::start(&["--cluster-enabled", "yes"]) else { return };
    server.run(&["CLUSTER ADDSLOTSRANGE 0 16383"]);
    in_world(async |world: &RabbitWorld| {
        let mut scene = Scene::start(world, server.url()).await;
        let mut results = world.results().await;
        let line = scene.worker.says("store works with a fault").await;
        assert_eq!((&line["level"], &line["reason"]), (&json!("WARN"), &json!("cluster_node")), "{line}");
        until_ready(&scene.ops).await;
        let health = scene.status(0);
        assert_eq!(health["state"], "up");
        assert!(
            health["detail"].as_str().is_some_and(|detail| detail.contains("redis+cluster://")),
            "{health}"
        );
        send(world, "sent", 1).await;
        expect_sent(&mut results, "sent").await;
    })
    .await;
}
