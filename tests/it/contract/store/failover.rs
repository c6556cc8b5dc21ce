//! Detection of a failover, which only the Redis store has: the server may have lost its last second of writes.

use std::time::Duration;

use otpost::domain::shards::Shards;
use otpost::store::Store as _;
use otpost::store::redis::RedisStore;

use super::{START, TimedStore as _, named};
use crate::real;

const LOST_WRITES_FOR: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_new_server_may_have_lost_writes() {
    let redis = real::Redis::fresh();
    let (old, new) = (redis.store(), redis.store());
    for store in [&old, &new] {
        store.at(START);
        assert!(!store.may_have_lost_writes(&named(1)).await);
    }
    old.heartbeat(1, false).await.expect("answers");
    assert!(!old.may_have_lost_writes(&named(1)).await, "the first server is no change");
    redis.write("primary", "0123456789abcdef 0");
    new.heartbeat(2, false).await.expect("answers");
    assert!(
        new.may_have_lost_writes(&named(1)).await,
        "a promoted replica has the record of its predecessor"
    );
    old.at(START.plus(Duration::from_secs(1)));
    old.heartbeat(1, false).await.expect("answers");
    assert!(old.may_have_lost_writes(&named(1)).await, "every worker learns of the change");
    old.at(START.plus(LOST_WRITES_FOR));
    old.heartbeat(1, false).await.expect("answers");
    assert!(!old.may_have_lost_writes(&named(1)).await, "for a while");
}

#[tokio::test]
async fn an_empty_server_has_lost_writes() {
    let redis = real::Redis::fresh();
    let (old, new) = (redis.store(), redis.store());
    old.at(START);
    new.at(START);
    old.heartbeat(1, false).await.expect("answers");
    redis.delete("primary");
    new.heartbeat(2, false).await.expect("answers");
    assert!(!new.may_have_lost_writes(&named(1)).await, "it never knew another server");
    redis.delete("primary");
    old.heartbeat(1, false).await.expect("answers");
    assert!(old.may_have_lost_writes(&named(1)).await);
}

#[tokio::test]
async fn a_silent_server_may_have_lost_writes() {
    real::install_crypto();
    let store = RedisStore::connect("redis://127.0.0.1:1", "test", Shards::ONE).expect("a URL");
    assert!(!store.may_have_lost_writes(&named(1)).await);
    store.kill_switch().await.expect_err("no server listens");
    assert!(store.may_have_lost_writes(&named(1)).await);
}
