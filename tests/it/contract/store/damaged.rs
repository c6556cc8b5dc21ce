//! Stored data that is damaged, or of another version: every step that reads it fails with an error that says so, and
//! none takes it for nothing. Only Redis can be damaged.

use std::time::Duration;

use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::verdict::Verdict;
use otpost::store::redis::RedisStore;
use otpost::store::{Admission, ClaimInput, NewReceipt, Progress, Refund, Store as _, StoreError};

use super::{
    LEASE, START, TestRequest, TimedStore as _, admit, completion, granted, limits, named, request_to, sent,
};
use crate::real::Redis;

/// An admitted request, its lease expired.
struct Stored {
    redis: Redis,
    store: RedisStore,
    request: TestRequest,
}

impl Stored {
    async fn new() -> Stored {
        let redis = Redis::fresh();
        let (store, request) = (redis.store(), request_to(1, "stored"));
        store.at(START);
        granted(admit(&store, &request).await);
        Stored { redis, store, request }
    }

    fn key(&self, kind: &str) -> String {
        format!("{}:{kind}", named(1))
    }

    /// The names of the steps that do not say that the record cannot be read.
    async fn steps_that_read(&self) -> Vec<&'static str> {
        let (store, request, outcome) = (&self.store, &self.request, sent(START));
        let lease = request.lease();
        let receipt = NewReceipt {
            recipient: named(1),
            request_id: &request.request,
            message_id: "SM1",
            status: DeliveryStatus::Delivered,
            provider_code: None,
            published: false,
            suppression: None,
        };
        let in_doubt = Progress::InDoubt(LEASE);
        let claim = ClaimInput { lease, listed: &["SM1"], a_text_is_missing: false };
        let answers = [
            ("admit", store.admit(&request.owned_by(2).admit()).await.err()),
            ("update_progress", store.update_progress(&lease, Some(1), in_doubt, None).await.err()),
            ("claim_message", store.claim_message(&claim).await.err()),
            ("complete", store.complete(&completion(lease, &outcome, Refund::None)).await.err()),
            ("record_receipt", store.record_receipt(&receipt).await.err()),
            ("usage", store.usage(&lease.subject, Some(lease.request_id), &limits()).await.err()),
            ("request_record", store.request_record(lease.request_id, None).await.err()),
        ];
        let unreadable = |error: &Option<StoreError>| matches!(error, Some(StoreError::Unreadable { .. }));
        answers.into_iter().filter(|(_, error)| !unreadable(error)).map(|(step, _)| step).collect()
    }
}

#[tokio::test]
async fn a_damaged_record_is_an_error_of_every_step_that_reads_it() {
    for (damage, with) in [
        ("empty", b"".as_slice()),
        ("one word", b"sending"),
        ("too few words", b"sending 0000000000000001 1800086400000"),
        ("another version", b"v2 sending 0000000000000001 1800086400000 - 1800000020000 1"),
        ("another state", b"parked 0000000000000001 1800086400000 - rest"),
        ("no number", b"sending 0000000000000001 soon - 1800000020000 1 1800000000000 0 1 rest"),
        ("not a number", b"sending 0000000000000001 nan - 1800000020000 1 1800000000000 0 1 rest"),
        ("no receipt", b"ended 0000000000000001 1800086400000 SM1,x {}"),
        ("no UTF-8", b"\xff\xfe\xfd \xff 1800086400000 - rest"),
    ] {
        let stored = Stored::new().await;
        stored.redis.replace(&stored.key("req:stored"), "SET", &[with]);
        assert_eq!(stored.steps_that_read().await, Vec::<&str>::new(), "{damage}");
    }
    let stored = Stored::new().await;
    stored.redis.replace(&stored.key("req:stored"), "HSET", &[b"a", b"b"]);
    assert_eq!(stored.steps_that_read().await, Vec::<&str>::new(), "another type");
}

#[tokio::test]
async fn a_record_whose_rest_is_damaged_is_an_error_of_an_admission() {
    let stored = Stored::new().await;
    let record = stored.redis.read(&stored.key("req:stored"));
    let words: Vec<&[u8]> = record.split(|byte| *byte == b' ').collect();
    for (nth, damage) in
        [(4, b"x".as_slice()), (5, b"x"), (7, b"-1"), (13, b"x"), (15, b"1e3"), (17, b"\xff"), (17, b"{")]
    {
        let mut words = words.clone();
        words[nth] = damage;
        stored.redis.replace(&stored.key("req:stored"), "SET", &[words.join(&b' ').as_slice()]);
        stored.store.at(START.plus(LEASE));
        let admission = stored.store.admit(&stored.request.owned_by(2).admit()).await;
        assert!(matches!(admission, Err(StoreError::Unreadable { .. })), "{nth} {damage:?}: {admission:?}");
    }
    stored.redis.replace(
        &stored.key("req:stored"),
        "SET",
        &[b"ended 0000000000000001 1800086400000 - {\"status\":\"gone\"}"],
    );
    let admission = stored.store.admit(&stored.request.admit()).await;
    assert!(matches!(admission, Err(StoreError::Unreadable { .. })), "{admission:?}");
}

#[tokio::test]
async fn no_damaged_key_is_taken_for_none_at_an_admission() {
    for (key, command, arguments) in [
        ("challenge:verification", "SET", [b"x".as_slice()].as_slice()),
        ("challenge:verification", "HSET", &[b"kid", b"k1"]),
        ("challenge:verification", "HSET", &[b"id", b"x", b"kid", b"k1", b"expires", b"nan", b"wrong", b"0"]),
        ("challenge:verification", "HSET", &[b"id", b"x", b"kid", b"k1", b"expires", b"1800000600000"]),
        ("cooldown", "SET", &[b"soon stored"]),
        ("cooldown", "SET", &[b""]),
        ("cooldown", "HSET", &[b"a", b"b"]),
        ("suppressed", "SET", &[b"21610"]),
        ("suppressed", "SET", &[b"21610 later"]),
        ("suppressed", "SET", &[b"\xff\xfe"]),
        ("suppressed", "HSET", &[b"a", b"b"]),
        ("sends", "SET", &[b"x"]),
        ("wrong", "SET", &[b"x"]),
        ("refunds", "SET", &[b"x"]),
    ] {
        let stored = Stored::new().await;
        stored.redis.replace(&stored.key(key), command, arguments);
        stored.store.at(START.plus(Duration::from_secs(40)));
        let admission = stored.store.admit(&request_to(1, "next").admit()).await;
        assert!(
            matches!(admission, Err(StoreError::Unreadable { .. })),
            "{key} {arguments:?}: {admission:?}"
        );
    }
}

#[tokio::test]
async fn a_code_is_never_verified_by_a_damaged_challenge() {
    for arguments in [
        [b"kid".as_slice(), b"k1"].as_slice(),
        &[b"digest", b"x", b"expires", b"1800000600000", b"wrong", b"0"],
        &[b"kid", b"k1", b"digest", b"x", b"expires", b"nan", b"wrong", b"0"],
        &[b"kid", b"k1", b"digest", b"x", b"expires", b"1800000600000", b"wrong", b"few"],
        &[b"kid", b"k1", b"expires", b"1800000600000", b"wrong", b"0"],
    ] {
        let stored = Stored::new().await;
        stored.redis.replace(&stored.key("challenge:verification"), "HSET", arguments);
        for kid in ["k1", "k9"] {
            let check = check(&stored.store, kid).await;
            let is_error = matches!(check, Err(StoreError::Unreadable { .. }));
            assert!(is_error || matches!(check, Ok(Verdict::KeyUnavailable)), "{arguments:?}: {check:?}");
            assert!(is_error || kid == "k9", "{arguments:?}: {check:?}");
        }
    }
    for key in ["challenge:verification", "wrong"] {
        let stored = Stored::new().await;
        stored.redis.replace(&stored.key(key), "SET", &[b"x"]);
        let check = check(&stored.store, "k1").await;
        assert!(matches!(check, Err(StoreError::Unreadable { .. })), "{key}: {check:?}");
    }
}

#[tokio::test]
async fn a_damaged_idempotency_key_is_never_taken_for_a_free_one() {
    let redis = Redis::fresh();
    let (store, name) = (redis.store(), format!("key:{}", named(1)));
    for (command, value) in [
        ("SET", b"x".as_slice()),
        ("SET", b""),
        ("SET", b"nan 0123456789abcdef0123456789abcdef"),
        ("SET", b"1800000600000 first"),
        ("SADD", b"x"),
    ] {
        redis.replace(&name, command, &[value]);
        for request in [None, Some(named(2))] {
            let bound = store.idempotency_key(named(1), request).await;
            assert!(matches!(bound, Err(StoreError::Unreadable { .. })), "{command} {value:?}: {bound:?}");
        }
    }
}

async fn check(store: &RedisStore, kid: &str) -> Result<Verdict, StoreError> {
    let (limits, digests) = (limits(), [(kid, named(51))]);
    let check = otpost::store::code_check::CodeCheck {
        recipient: named(1),
        purpose: "verification",
        check_id: 1,
        digests: &digests,
        limits: &limits,
    };
    store.verify(&check).await
}

#[tokio::test]
async fn the_damaged_record_of_another_request_is_no_error_of_this_one() {
    let stored = Stored::new().await;
    stored.redis.replace(&stored.key("req:stored"), "SET", &[b"x"]);
    stored.store.at(START.plus(Duration::from_secs(40)));
    let next = request_to(1, "next");
    assert!(
        matches!(admit(&stored.store, &next).await, Admission::Completed { .. }),
        "rejected by the cooldown"
    );
    stored.redis.delete(&stored.key("cooldown"));
    let other = request_to(1, "other");
    granted(admit(&stored.store, &other).await);
    let in_doubt = Progress::InDoubt(LEASE);
    stored.store.update_progress(&other.lease(), Some(1), in_doubt, None).await.expect("answers");
    let claim = ClaimInput { lease: other.lease(), listed: &["SM1"], a_text_is_missing: false };
    let answer = stored.store.claim_message(&claim).await.expect("answers");
    assert_eq!(answer, otpost::store::ClaimAnswer::Ambiguous);
}

#[tokio::test]
async fn damaged_lists_and_switches_stop_no_worker_and_can_be_removed() {
    let stored = Stored::new().await;
    let (redis, store) = (&stored.redis, &stored.store);
    redis.replace("receipts", "ZADD", &[b"0", b"rubbish", b"0", b"SM1 x y z"]);
    assert_eq!(store.overdue_receipts(super::HOUR, 9).await.expect("answers"), []);
    redis.replace("server", "HSET", &[b"a", b"b"]);
    store.heartbeat(1, false).await.expect("answers");
    assert!(store.may_have_lost_writes(), "it cannot be told whether the server has changed");
    redis.replace("kill", "HSET", &[b"a", b"b"]);
    assert!(store.heartbeat(1, false).await.expect("answers").kill_switch_on);
    assert!(matches!(store.kill_switch().await, Err(StoreError::Unreadable { .. })));
    store.set_kill_switch(None).await.expect("it can be turned off");
    assert!(!store.heartbeat(1, false).await.expect("answers").kill_switch_on);
    redis.replace(&stored.key("suppressed"), "SET", &[b"x"]);
    store.remove_suppression(named(1)).await.expect("it can be removed");
    stored.store.at(START.plus(Duration::from_secs(40)));
    granted(admit(store, &request_to(2, "elsewhere")).await);
}
