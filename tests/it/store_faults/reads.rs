//! Commands that only read, while Redis refuses writes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use otpost::domain::limit::Limit;
use otpost::domain::outcome::Status;
use otpost::domain::shards::Shards;
use otpost::store::redis::RedisStore;
use otpost::store::{Admission, Store as _, StoreError, StoreFault};

use super::server::OwnRedis;
use crate::contract::store::{TestRequest, limits, request_to};
use crate::harness::{ALICE, RECIPIENT_KEY};
use crate::inspect::otpost;
use crate::real::{Redis, redis_url};
use crate::why::{said, seed};

const PREFIX: &str = "otpost";
const REFUSALS: [(&str, &str); 3] = [
    ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
    ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
    ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
];

fn command(server: &OwnRedis, shards: &str, arguments: &[&str], exit: i32) -> (String, String) {
    let (url, key) = (server.url(), BASE64.encode(RECIPIENT_KEY));
    let settings = [
        ("ENVIRONMENT", "development"),
        ("REDIS_URL", url.as_str()),
        ("REDIS_PREFIX", PREFIX),
        ("REDIS_SHARDS", shards),
        ("OTP_RECIPIENT_KEY", &key),
    ];
    said(&otpost(&settings, arguments), exit)
}

#[tokio::test]
async fn commands_that_only_read_are_answered_while_redis_refuses_writes() {
    let Some(server) = OwnRedis::start(&[]) else { return };
    for (rights, shards) in [("+@all", "1"), ("+@all", "16"), ("-fcall", "1")] {
        server.run(&["FLUSHALL", &format!("ACL SETUSER default {rights}")]);
        let number = shards.parse::<Shards>().expect("a number of shards");
        let store = RedisStore::connect(&server.url(), PREFIX, number).expect("a URL");
        seed(&store, ALICE, "orders/1", Status::Sent, None).await;
        let command = |arguments: &[&str], exit| command(&server, shards, arguments, exit);
        command(&["suppressions", "add", "+573009999999"], 0);
        command(&["kill-switch", "on", "--reason", "a test"], 0);
        for (breaks, mends) in REFUSALS {
            server.run(&[breaks]);
            let (out, _) = command(&["kill-switch", "status"], 3);
            assert!(out.contains("a test"), "{breaks}: {out}");
            let (out, _) = command(&["suppressions", "list"], 0);
            assert!(out.contains("9999"), "{breaks}: {out}");
            let (out, _) = command(&["why", "orders/1"], 0);
            assert!(out.contains("sent"), "{breaks}: {out}");
            command(&["why", "--to", ALICE], 0);
            command(&["rate-limit", ALICE], 0);
            command(&["store", "show", "--to", ALICE], 0);
            let (_, err) = command(&["kill-switch", "on"], 1);
            assert!(err.starts_with("otpost: Redis (REDIS_URL): "), "{breaks}: {err}");
            assert!(store.check_writable().await.is_err(), "{breaks}");
            server.run(&[mends]);
            store.check_writable().await.expect("it takes writes again");
        }
    }
}

/// An upgraded command brings a library that a full server does not load.
#[tokio::test]
async fn a_read_without_its_library_is_answered_by_a_full_server() {
    let Some(server) = OwnRedis::start(&[]) else { return };
    let store = || RedisStore::connect(&server.url(), PREFIX, Shards::ONE).expect("a URL");
    store().set_kill_switch(Some("a test")).await.expect("answers");
    server.run(&["FUNCTION FLUSH", "CONFIG SET maxmemory 1"]);
    assert!(store().kill_switch().await.expect("answers").is_some());
    let full = StoreError::Unavailable(StoreFault::OutOfMemory);
    assert_eq!(store().set_kill_switch(Some("another")).await, Err(full));
}

#[tokio::test]
async fn the_cap_over_all_sends_is_named_once_it_is_reached() {
    for shards in [1, 16] {
        let redis = Redis::fresh();
        let store = redis.sharded_store(Shards::new(shards).expect("a number of shards"));
        let request = TestRequest { limits: limits().with(Limit::All, 1), ..request_to(1, "orders/1") };
        let admission = store.admit(&request.admit()).await.expect("answers");
        assert!(matches!(admission, Admission::Granted(_)), "{admission:?}");
        for (cap, is_reached) in [("1", true), ("2", false)] {
            let (url, key, shards) = (redis_url(), BASE64.encode(RECIPIENT_KEY), shards.to_string());
            let settings = [
                ("REDIS_URL", url.as_str()),
                ("REDIS_PREFIX", &redis.prefix),
                ("REDIS_SHARDS", &shards),
                ("OTP_RECIPIENT_KEY", &key),
                ("SMS_MAX_PER_HOUR", cap),
            ];
            let (out, _) = said(&otpost(&settings, &["rate-limit", ALICE]), 0);
            let names_it = out.contains("the cap over all sends (SMS_MAX_PER_HOUR) is reached until ");
            assert_eq!(names_it, is_reached, "{shards} shards, a cap of {cap}: {out}");
        }
    }
}
