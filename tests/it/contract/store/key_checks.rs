//! Key check values: the first one recorded stays until an operator accepts another, or no process has the key any more.

use otpost::domain::key_check::{KeyCheck, KeyFingerprint, KeyUse};
use otpost::domain::time::UnixMillis;
use otpost::store::redis::RedisStore;
use otpost::store::retention::KEY_CHECK_KEPT;
use otpost::store::{Damaged, Store as _, StoreError};

use super::{START, TimedStore};
use crate::real::Redis;

fn code(kid: &str, fingerprint: u8) -> KeyCheck {
    KeyCheck { key_use: KeyUse::Code, kid: kid.to_owned(), fingerprint: KeyFingerprint([fingerprint; 8]) }
}

fn recipient(fingerprint: u8) -> KeyCheck {
    KeyCheck { key_use: KeyUse::Recipient, kid: String::new(), ..code("", fingerprint) }
}

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    another_key_under_a_known_name_differs_until_it_is_accepted(store).await;
    a_key_that_no_process_has_is_forgotten_after_30_days(store).await;
}

async fn differing(store: &dyn TimedStore, keys: &[KeyCheck]) -> Vec<KeyCheck> {
    store.check_keys(keys).await.expect("answers")
}

async fn recorded(store: &dyn TimedStore) -> Vec<KeyCheck> {
    let mut recorded = store.recorded_keys().await.expect("answers");
    recorded.sort();
    recorded
}

async fn another_key_under_a_known_name_differs_until_it_is_accepted(store: &dyn TimedStore) {
    store.at(START);
    assert_eq!(recorded(store).await, []);
    assert_eq!(differing(store, &[recipient(1), code("k1", 2)]).await, [], "the first ones are recorded");
    assert_eq!(differing(store, &[recipient(1), code("k1", 2)]).await, []);
    let wrong = [recipient(9), code("k1", 2), code("k2", 3)];
    assert_eq!(differing(store, &wrong).await, [recipient(9)], "a new id is no other key");
    assert_eq!(recorded(store).await, [recipient(1), code("k1", 2), code("k2", 3)]);
    store.accept_keys(&wrong[..1]).await.expect("answers");
    assert_eq!(differing(store, &wrong).await, []);
    assert_eq!(differing(store, &[recipient(1)]).await, [recipient(1)], "the old key differs now");
}

async fn a_key_that_no_process_has_is_forgotten_after_30_days(store: &dyn TimedStore) {
    let half = KEY_CHECK_KEPT / 2;
    let at = |halves: u32, ms: u64| UnixMillis(START.plus(half * halves).0 + ms);
    store.at(at(1, 0));
    assert_eq!(differing(store, &[code("k2", 3), code("k1", 8)]).await, [code("k1", 8)]);
    // A key that differs renews nothing.
    store.at(UnixMillis(at(2, 0).0 - 1));
    assert_eq!(recorded(store).await, [recipient(9), code("k1", 2), code("k2", 3)]);
    store.at(at(2, 0));
    assert_eq!(recorded(store).await, [code("k2", 3)]);
    assert_eq!(differing(store, &[code("k1", 8)]).await, [], "its name is free");
    assert_eq!(recorded(store).await, [code("k1", 8), code("k2", 3)]);
}

fn key(redis: &Redis) -> String {
    format!("{{{}}}:keys", redis.prefix)
}

fn names(redis: &Redis) -> Vec<String> {
    let mut names: Vec<String> = redis.run(redis::cmd("HKEYS").arg(key(redis)));
    names.sort();
    names
}

#[tokio::test]
async fn forgotten_keys_leave_redis_and_the_whole_record_has_an_end() {
    let redis = Redis::fresh();
    let store = redis.store();
    store.at(START);
    store.check_keys(&[code("old", 1)]).await.expect("answers");
    store.at(START.plus(KEY_CHECK_KEPT));
    store.check_keys(&[code("new", 1)]).await.expect("answers");
    assert_eq!(names(&redis), ["cnew"]);
    let ttl: i64 = redis.run(redis::cmd("PTTL").arg(key(&redis)));
    let kept = i64::try_from(KEY_CHECK_KEPT.as_millis()).expect("a small number");
    assert!((kept - 60_000..=kept).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn shards_share_one_record() {
    let redis = Redis::fresh();
    let check = async |store: RedisStore, key| store.check_keys(&[key]).await.expect("answers");
    assert_eq!(check(redis.sharded(16), recipient(1)).await, []);
    assert_eq!(check(redis.sharded(16), recipient(2)).await, [recipient(2)]);
    assert_eq!(redis.sharded(16).recorded_keys().await.expect("answers"), [recipient(1)]);
}

#[tokio::test]
async fn a_damaged_record_stops_nothing_and_is_replaced() {
    let redis = Redis::fresh();
    let store = redis.store();
    redis.replace("keys", "SET", &[b"x"]);
    let named = StoreError::Unreadable { damaged: Damaged::Shared("keys".to_owned()), step: "check_keys" };
    assert_eq!(store.check_keys(&[recipient(1)]).await, Err(named));
    store.heartbeat(1, true).await.expect("answers");
    redis.delete("keys");
    for (name, value) in [("r", "short"), ("zlater", "12345612345678"), ("", "x")] {
        let _: i64 = redis.run(redis::cmd("HSET").arg(key(&redis)).arg(name).arg(value));
    }
    assert_eq!(store.recorded_keys().await.expect("answers"), [], "of a use that only a later version knows");
    assert_eq!(store.check_keys(&[recipient(1)]).await.expect("answers"), []);
    assert_eq!(store.recorded_keys().await.expect("answers"), [recipient(1)]);
}

#[tokio::test]
async fn two_processes_that_start_at_once_record_one_key() {
    let redis = Redis::fresh();
    let (first, second) = (redis.store(), redis.store());
    let (ours, theirs) = ([recipient(1)], [recipient(2)]);
    let (first, second) = tokio::join!(first.check_keys(&ours), second.check_keys(&theirs));
    let differing = first.expect("answers").len() + second.expect("answers").len();
    assert_eq!(differing, 1);
}
