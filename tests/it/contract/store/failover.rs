//! What only the store on Redis knows: that the server may have lost its last second.

use std::time::Duration;

use otpost::store::Store as _;
use otpost::store::redis::RedisStore;

use super::{START, TimedStore as _};
use crate::real;

const FORGETFUL_FOR: Duration = Duration::from_secs(600);

#[tokio::test]
async fn another_server_than_before_may_have_forgotten() {
    let redis = real::Redis::fresh();
    let (old, new) = (redis.store(), redis.store());
    for store in [&old, &new] {
        store.at(START);
        assert!(!store.may_have_lost_writes());
    }
    old.heartbeat(1, false).await.expect("answers");
    assert!(!old.may_have_lost_writes(), "the first server that is met is no other");
    redis.write("server", "0123456789abcdef 0");
    new.heartbeat(2, false).await.expect("answers");
    assert!(new.may_have_lost_writes(), "a replica knows whom it follows");
    old.at(START.plus(Duration::from_secs(1)));
    old.heartbeat(1, false).await.expect("answers");
    assert!(old.may_have_lost_writes(), "and tells the others");
    old.at(START.plus(FORGETFUL_FOR));
    old.heartbeat(1, false).await.expect("answers");
    assert!(!old.may_have_lost_writes(), "for a while");
}

#[tokio::test]
async fn a_server_that_is_empty_has_forgotten() {
    let redis = real::Redis::fresh();
    let (old, new) = (redis.store(), redis.store());
    old.at(START);
    new.at(START);
    old.heartbeat(1, false).await.expect("answers");
    redis.delete("server");
    new.heartbeat(2, false).await.expect("answers");
    assert!(!new.may_have_lost_writes(), "it never met another one");
    redis.delete("server");
    old.heartbeat(1, false).await.expect("answers");
    assert!(old.may_have_lost_writes());
}

#[tokio::test]
async fn without_an_answer_anything_may_be_forgotten() {
    real::install_crypto();
    let nobody = RedisStore::connect("redis://127.0.0.1:1", "test").expect("a URL");
    assert!(!nobody.may_have_lost_writes());
    nobody.kill_switch().await.expect_err("nobody listens");
    assert!(nobody.may_have_lost_writes());
}
