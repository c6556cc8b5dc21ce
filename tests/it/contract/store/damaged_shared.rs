//! Damaged data that all requests share: steps fail with an error that names the key, end no request, and succeed once
//! the key is deleted or mended. Only Redis can be damaged.

use std::time::Duration;

use otpost::domain::limit::{Limit, Limits};
use otpost::domain::suppression::{NewSuppression, SuppressionTarget};
use otpost::store::redis::RedisStore;
use otpost::store::{
    AdmissionInput, CompletionAnswer, CompletionInput, Damaged, Refund, Store as _, StoreError,
};

use super::{
    HOUR, LEASE, START, TestRequest, TimedStore as _, admit, completion, failed, granted, limits, named,
    request_to, sent,
};
use crate::real::Redis;
use crate::redis_nodes::until;

/// A key, and a command with its arguments that damages it.
type Damage = (&'static str, &'static str, &'static [&'static [u8]]);

/// Every shared key but those of countries, and `server`, which every heartbeat writes anew.
const DAMAGES: [Damage; 11] = [
    ("a", "SET", &[b"x"]),
    ("a", "RPUSH", &[b"1800000000000"]),
    ("A", "SET", &[b"x"]),
    ("A", "RPUSH", &[b"soon"]),
    ("A", "RPUSH", &[b"nan"]),
    ("due", "SET", &[b"x"]),
    ("suppressed", "HSET", &[b"a", b"b"]),
    ("workers", "SET", &[b"x"]),
    ("kill", "HSET", &[b"a", b"b"]),
    ("kill", "SET", &[b"x"]),
    ("kill", "SET", &[b"soon a reason"]),
];

fn fresh() -> (Redis, RedisStore) {
    let redis = Redis::fresh();
    let store = redis.store();
    store.at(START);
    (redis, store)
}

#[track_caller]
fn expect_named<T: std::fmt::Debug>(key: &str, answer: Result<T, StoreError>) {
    let error = answer.expect_err(key);
    assert!(!error.is_permanent(), "{error}");
    match error {
        StoreError::Unreadable { damaged, .. } => assert_eq!(damaged, Damaged::Shared(key.to_owned())),
        other => panic!("{key}: {other}"),
    }
}

/// All sends are counted in `a`, and where the limit is higher, in `A`.
fn with_all_limited(key: &str, request: TestRequest) -> TestRequest {
    let limits = limits().with(Limit::All, if key == "A" { 300 } else { 3 });
    TestRequest { user: Some(named(7)), limits, ..request }
}

#[tokio::test]
async fn a_heartbeat_and_the_status_name_a_damaged_key_until_it_is_deleted() {
    for (key, command, arguments) in DAMAGES {
        let (redis, store) = fresh();
        redis.replace(key, command, arguments);
        for is_active in [true, false] {
            expect_named(key, store.heartbeat(1, is_active).await);
        }
        expect_named(key, store.check_shared_data().await);
        redis.delete(key);
        store.heartbeat(1, true).await.unwrap_or_else(|error| panic!("{key}: {error}"));
        store.check_shared_data().await.unwrap_or_else(|error| panic!("{key}: {error}"));
    }
}

#[tokio::test]
async fn with_shards_damaged_places_under_the_cap_stop_all_and_are_named() {
    for (key, command, arguments) in [
        ("b", "SET", [b"x".as_slice()].as_slice()),
        ("b", "HSET", &[b"a", b"b"]),
        ("g", "SET", &[b"x"]),
        ("countries", "SET", &[b"x"]),
    ] {
        let redis = Redis::fresh();
        let (store, alone) = (redis.sharded(16), Redis::fresh());
        for damaged in [&redis, &alone] {
            damaged.replace(key, command, arguments);
        }
        expect_named(key, store.heartbeat(1, true).await);
        expect_named(key, store.check_shared_data().await);
        redis.delete(key);
        // On a busy machine the first heartbeat over 16 shards can be late.
        let beat = async || store.heartbeat(1, true).await.map_err(|error| error.to_string());
        until(key, Duration::from_secs(20), beat).await.expect("it answers");
        store.check_shared_data().await.unwrap_or_else(|error| panic!("{key}: {error}"));
        alone.store().heartbeat(1, true).await.expect("one shard has no such key");
    }
}

#[tokio::test]
async fn a_request_is_not_admitted_beside_a_damaged_log_of_all_sends_and_is_charged_once_afterwards() {
    for (key, command, arguments) in &DAMAGES[..5] {
        let (redis, store) = fresh();
        // The list's newest entry but two counts: its limit is that many.
        let arguments: Vec<&[u8]> = if *key == "A" { arguments.repeat(300) } else { arguments.to_vec() };
        let arguments = if *command == "SET" { &arguments[..1] } else { &arguments };
        let request = with_all_limited(key, request_to(1, "waits"));
        redis.replace(key, command, arguments);
        for _ in 0..2 {
            expect_named(key, store.admit(&request.admit()).await);
        }
        redis.delete(key);
        assert_eq!(granted(admit(&store, &request).await).sends, 1);
        assert_eq!(redis.read([b"u".as_slice(), &[7; 16]].concat()).len(), 6, "one charge of the user");
    }
}

#[tokio::test]
async fn a_damaged_suppression_of_a_country_is_watched_once_a_request_met_it() {
    for value in [b"x".as_slice(), b"21408 later", &[0; 9], &[0; 11]] {
        let (redis, store) = fresh();
        let (other, request) = (redis.store(), request_to(1, "waits"));
        let admission = AdmissionInput { country: Some("CO"), ..request.admit() };
        redis.replace("cCO", "SET", &[value]);
        expect_named("cCO", other.check_shared_data().await);
        store.heartbeat(1, false).await.expect("no request met it");
        expect_named("cCO", store.admit(&admission).await);
        expect_named("cCO", store.heartbeat(1, false).await);
        redis.delete("cCO");
        store.heartbeat(1, false).await.expect("mended");
        other.check_shared_data().await.expect("mended");
        granted(store.admit(&admission).await.expect("answers"));
    }
}

/// An admission takes it for none: it would need a command more for each message.
#[tokio::test]
async fn the_status_names_a_country_whose_key_has_another_type() {
    for (key, country) in [("cAA", "AA"), ("cZZ", "ZZ")] {
        let (redis, store) = fresh();
        redis.replace(key, "HSET", &[b"a", b"b"]);
        expect_named(key, store.check_shared_data().await);
        let request = request_to(1, "sent");
        granted(
            store
                .admit(&AdmissionInput { country: Some(country), ..request.admit() })
                .await
                .expect("answers"),
        );
    }
}

#[tokio::test]
async fn a_completion_waits_for_the_key_of_expected_receipts_and_then_is_whole() {
    let (redis, store) = fresh();
    let request = request_to(1, "sent");
    granted(admit(&store, &request).await);
    let outcome = sent(START);
    let input = CompletionInput {
        poll_receipt_after: Some(LEASE),
        ..completion(request.lease(), &outcome, Refund::None)
    };
    redis.replace("due", "SET", &[b"x"]);
    for _ in 0..2 {
        expect_named("due", store.complete(&input).await);
    }
    redis.delete("due");
    assert_eq!(store.complete(&input).await.expect("answers"), CompletionAnswer::Recorded);
    store.at(START.plus(Duration::from_secs(60)));
    assert_eq!(store.overdue_receipts(HOUR, 9).await.expect("answers").len(), 1);
}

#[tokio::test]
async fn a_completion_that_stopped_at_a_damaged_key_refunds_and_suppresses_when_it_is_repeated() {
    for key in ["a", "A", "suppressed"] {
        let (redis, store) = fresh();
        let request = with_all_limited(key, request_to(1, "refused"));
        granted(admit(&store, &request).await);
        let (target, masked) = (SuppressionTarget::Recipient, "+57******4567");
        let (outcome, lease) = (failed(START), request.lease());
        let suppression = Some(NewSuppression { target, provider_code: 21_610, duration: None, masked });
        let input = CompletionInput {
            suppression,
            limits: &request.limits,
            ..completion(lease, &outcome, Refund::FullAndCounted)
        };
        redis.replace(key, "SET", &[b"x"]);
        for _ in 0..2 {
            expect_named(key, store.complete(&input).await);
        }
        redis.delete(key);
        assert_eq!(store.complete(&input).await.expect("answers"), CompletionAnswer::Recorded);
        let limits = Limits { cooldown: Duration::ZERO, ..request.limits };
        let usage = store.usage(&lease.subject, None, &limits).await.expect("answers");
        assert_eq!((usage.used, usage.limited_for), (0, Duration::ZERO), "{key}");
        assert_eq!(store.suppressions(9).await.expect("answers").len(), 1, "{key}");
        assert_eq!(store.recent_requests(named(1)).await.expect("answers").len(), 1, "{key}");
        assert_eq!(redis.read([b"u".as_slice(), &[7; 16]].concat()), b"", "{key}");
    }
}

#[tokio::test]
async fn a_damaged_kill_switch_can_be_turned_on_and_off() {
    for (_, command, arguments) in &DAMAGES[8..] {
        for reason in [Some("pumping"), None] {
            let (redis, store) = fresh();
            redis.replace("kill", command, arguments);
            expect_named("kill", store.kill_switch().await);
            assert_eq!(store.set_kill_switch(reason).await.expect("it can be changed"), None);
            let switch = store.kill_switch().await.expect("it is mended");
            assert_eq!(switch.map(|switch| switch.reason).as_deref(), reason);
            assert_eq!(store.heartbeat(1, false).await.expect("answers").kill_switch_on, reason.is_some());
        }
    }
}

#[tokio::test]
async fn rubbish_that_no_step_reads_stops_nothing() {
    let (redis, store) = fresh();
    redis.replace("due", "ZADD", &[b"0", b"rubbish", b"0", b"SM1 x y z", b"inf", b"x"]);
    redis.replace("suppressed", "ZADD", &[b"inf", b"rubbish"]);
    redis.replace("workers", "ZADD", &[b"0", b"rubbish"]);
    redis.replace("primary", "HSET", &[b"a", b"b"]);
    store.heartbeat(1, false).await.expect("answers");
    assert!(store.may_have_lost_writes(&named(1)).await, "it cannot be told whether the server has changed");
    assert_eq!(store.overdue_receipts(HOUR, 9).await.expect("answers"), []);
    store.check_shared_data().await.expect("answers");
    granted(admit(&store, &request_to(1, "first")).await);
    assert_eq!(store.suppressions(9).await.expect("answers"), []);
}
