//! The opening: what all requests share is copied from the layout before, whatever the server loses meanwhile.

use std::time::Duration;

use otpost::domain::limit::Limit;
use otpost::domain::outcome::ErrorCode;
use otpost::domain::suppression::ManualSuppression;
use otpost::store::redis::RedisStore;
use otpost::store::{Admission, Store as _, StoreError};

use super::old_layout::{COMPLETED, UUID, asked, fresh, of, put, put_record};
use super::{HOUR, START, TimedStore as _, admit, limits, named, rejected, request_to};
use crate::real::Redis;

/// A list of suppressions began later than suppressions.
fn put_suppression(redis: &Redis, recipient: u8, is_listed: bool) {
    put(redis, &of(recipient, "suppressed"), "SET", &["21610 -"]);
    if is_listed {
        put(redis, "suppressions", "ZADD", &["inf", &named(recipient).to_string()]);
    }
}

/// A step may fail once: it finds that the data is not open.
async fn expect_suppressed(store: &RedisStore, recipient: u8) {
    for _ in 0..2 {
        match store.admit(&request_to(recipient, "opted-out").admit()).await {
            Ok(Admission::Completed { outcome, .. }) => {
                assert_eq!(outcome.error.expect("rejected").code, ErrorCode::Suppressed);
                return;
            }
            Ok(other) => panic!("{other:?}"),
            Err(StoreError::Unavailable(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("it stays unavailable");
}

async fn expect_heartbeat(store: &RedisStore) {
    if store.heartbeat(1, true).await.is_err() {
        store.heartbeat(1, true).await.expect("it has opened again");
    }
}

#[tokio::test]
async fn suppressions_that_a_failover_lost_are_copied_by_the_next_heartbeat() {
    for is_listed in [true, false] {
        let (redis, store) = fresh();
        put_suppression(&redis, 1, is_listed);
        let before = redis.copy();
        store.heartbeat(1, true).await.expect("answers");
        redis.lose_writes_since(&before);
        expect_heartbeat(&store).await;
        let listed = store.suppressions(9).await.expect("answers");
        assert_eq!(listed.len(), 1, "{is_listed}");
    }
}

#[tokio::test]
async fn after_a_failover_no_step_runs_before_the_suppressions_are_copied() {
    let (redis, store) = fresh();
    let other = redis.store();
    other.at(START.plus(Duration::from_secs(60)));
    put_suppression(&redis, 1, true);
    let before = redis.copy();
    for store in [&store, &other] {
        store.heartbeat(1, true).await.expect("answers");
    }
    redis.lose_writes_since(&before);
    expect_suppressed(&store, 1).await;
    // The first one's opening may have another end of the old data.
    redis.lose_writes_since(&before);
    store.at(START.plus(Duration::from_secs(61)));
    expect_suppressed(&store, 1).await;
    expect_suppressed(&other, 1).await;
    expect_heartbeat(&other).await;
}

#[tokio::test]
async fn receipts_that_a_failover_lost_are_awaited_again() {
    let (redis, store) = fresh();
    put_record(&redis, UUID, &COMPLETED.replace("SM1,4,delivered,0,-,1800000000000,0", "-"));
    put(&redis, "receipts", "ZADD", &["1800000060000", &format!("SM1 {} 1800000000000 {UUID}", named(1))]);
    let before = redis.copy();
    store.heartbeat(1, true).await.expect("answers");
    redis.lose_writes_since(&before);
    expect_heartbeat(&store).await;
    assert_eq!(store.overdue_receipts(24 * HOUR, 9).await.expect("answers").len(), 1);
}

#[tokio::test]
async fn an_opted_out_person_stays_so_however_long_the_old_workers_were_off() {
    let redis = Redis::fresh();
    let store = redis.store();
    store.at(START);
    put_suppression(&redis, 1, false);
    put_suppression(&redis, 2, false);
    assert_eq!(store.suppressions(9).await.expect("answers").len(), 2);
    expect_suppressed(&store, 1).await;
    // A removed one does not come back with the next process.
    store.remove_suppression(named(2)).await.expect("answers").expect("suppressed");
    let next = redis.store();
    next.at(START);
    assert_eq!(next.suppressions(9).await.expect("answers").len(), 1);
}

/// `{P}:server` is kept for a day, and a limit may count for a week.
#[tokio::test]
async fn sends_count_however_long_the_old_workers_were_off() {
    let redis = Redis::fresh();
    let store = redis.store();
    store.at(START.plus(30 * HOUR));
    put(&redis, &of(1, "sends"), "ZADD", &["1800000000000", UUID]);
    let mut limits = limits().with(Limit::Recipient, 1);
    limits[Limit::Recipient].window = 48 * HOUR;
    let request = super::TestRequest { limits, ..asked("later") };
    assert_eq!(rejected(admit(&store, &request).await).code, ErrorCode::RateLimited);
}

#[tokio::test]
async fn a_suppression_that_old_workers_made_after_a_rollback_is_copied() {
    let (redis, store) = fresh();
    store.heartbeat(1, true).await.expect("answers");
    put_suppression(&redis, 1, true);
    put(&redis, "server", "SET", &["0123456789abcdef 0", "PX", "86399000"]);
    let next = redis.store();
    next.at(START.plus(Duration::from_secs(60)));
    next.kill_switch().await.expect_err("the old worker is running");
    put(&redis, "server", "SET", &["0123456789abcdef 0", "PX", "80000000"]);
    expect_suppressed(&next, 1).await;
    // One that went on running opens again.
    expect_heartbeat(&store).await;
    expect_suppressed(&store, 1).await;
}

#[tokio::test]
async fn a_damaged_value_of_one_recipient_stops_no_opening() {
    let (redis, store) = fresh();
    let value = [b"s".as_slice(), &named(1).bytes()].concat();
    put_suppression(&redis, 1, true);
    put_suppression(&redis, 2, true);
    redis.replace(&value, "SET", &[b"x"]);
    expect_suppressed(&store, 2).await;
    let error = store.admit(&request_to(1, "opted-out").admit()).await.expect_err("damaged");
    assert!(error.is_permanent(), "{error}");
    // The operator deletes what is damaged.
    redis.delete(&value);
    expect_suppressed(&store, 1).await;
}

#[tokio::test]
async fn a_damaged_note_stops_no_opening_and_a_damaged_country_is_named() {
    let note = [b"n".as_slice(), &named(1).bytes()].concat();
    let (redis, store) = fresh();
    let manual = ManualSuppression { duration: Some(HOUR), reason: "asked", masked: "+57" };
    store.add_suppression(named(1), &manual).await.expect("answers");
    put_suppression(&redis, 1, true);
    redis.replace(&note, "SET", &[b"x"]);
    let next = redis.store();
    next.at(START);
    put(&redis, "server", "SET", &["0123456789abcdef 0", "PX", "80000000"]);
    expect_suppressed(&next, 1).await;

    put(&redis, "server", "SET", &["0123456789abcdef 0", "PX", "80000000"]);
    put(&redis, "country:CO", "SET", &["30007 -"]);
    redis.replace(b"cCO", "SET", &[b"x"]);
    let last = redis.store();
    last.at(START);
    let error = last.kill_switch().await.expect_err("its suppression may be lost");
    assert!(error.to_string().contains("cCO"), "{error}");
}

#[tokio::test]
async fn a_suppression_that_an_operator_removed_is_not_copied_again() {
    let (redis, store) = fresh();
    put_suppression(&redis, 1, true);
    expect_suppressed(&store, 1).await;
    store.remove_suppression(named(1)).await.expect("answers").expect("suppressed");
    // An old worker ran for a moment.
    put(&redis, "server", "SET", &["0123456789abcdef 0", "PX", "80000000"]);
    expect_heartbeat(&store).await;
    assert_eq!(store.suppressions(9).await.expect("answers"), []);
}
