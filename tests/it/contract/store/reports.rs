//! What only Redis has to promise of the states that workers report: its hash stays small, and harms nothing when damaged.

use otpost::domain::worker_state::WorkerState;
use otpost::store::redis::RedisStore;
use otpost::store::{Damaged, Store as _, StoreError};

use super::{START, TimedStore as _};
use crate::real::Redis;

const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

async fn report(store: &RedisStore, worker: u64) {
    store.report_worker(worker, Some(&WorkerState::default())).await.expect("answers");
}

fn fields(redis: &Redis) -> usize {
    redis.run(redis::cmd("HLEN").arg(format!("{{{}}}:states", redis.prefix)))
}

#[tokio::test]
async fn a_new_worker_removes_those_that_fell_silent() {
    let redis = Redis::fresh();
    let store = redis.store();
    store.at(START);
    for worker in 0..40 {
        report(&store, worker).await;
    }
    store.at(START.plus(MINUTE));
    report(&store, 0).await;
    assert_eq!(fields(&redis), 40, "a known worker removes nothing");
    report(&store, 100).await;
    assert_eq!(fields(&redis), 2);
    redis.expect_only_these_without_a_ttl(&["format"]);
}

#[tokio::test]
async fn all_workers_of_shards_share_one_key() {
    let redis = Redis::fresh();
    for worker in 0..3 {
        report(&redis.sharded(16), worker).await;
    }
    assert_eq!(fields(&redis), 3);
    assert_eq!(redis.sharded(16).reported_workers().await.expect("answers").len(), 3);
}

#[tokio::test]
async fn a_report_that_cannot_be_read_is_left_out() {
    let redis = Redis::fresh();
    let store = redis.store();
    report(&store, 7).await;
    let key = format!("{{{}}}:states", redis.prefix);
    for (field, value) in
        [("0000000000000008", "x"), ("0000000000000009", "123456\u{1}\u{1}"), ("short", "1234567")]
    {
        let _: i64 = redis.run(redis::cmd("HSET").arg(&key).arg(field).arg(value));
    }
    let reported = store.reported_workers().await.expect("answers");
    assert_eq!(reported.iter().map(|worker| worker.worker_id).collect::<Vec<_>>(), [7]);
}

#[tokio::test]
async fn a_damaged_key_of_states_stops_no_heartbeat() {
    let redis = Redis::fresh();
    let store = redis.store();
    redis.replace("states", "SET", &[b"x"]);
    let named =
        StoreError::Unreadable { damaged: Damaged::Shared("states".to_owned()), step: "reported_workers" };
    assert_eq!(store.reported_workers().await, Err(named));
    store.report_worker(1, Some(&WorkerState::default())).await.expect_err("it is no hash");
    store.heartbeat(1, true).await.expect("answers");
    redis.delete("states");
    report(&store, 1).await;
}
