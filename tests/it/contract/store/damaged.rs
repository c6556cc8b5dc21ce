//! Stored data that is damaged, or of another version: every step that reads it fails with an error that says so, and
//! none takes it for nothing. Only Redis can be damaged.

use std::time::Duration;

use otpost::domain::challenge::ChallengeId;
use otpost::domain::outcome::ErrorCode;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::verdict::Verdict;
use otpost::store::redis::RedisStore;
use otpost::store::{
    Admission, AdmissionInput, ClaimInput, Damaged, Grant, NewReceipt, Progress, Refund, Store as _,
    StoreError,
};

use super::{
    LEASE, START, TestRequest, TimedStore as _, admit, completion, granted, limits, named, rejected,
    request_to, sent,
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
        let is_named =
            |error: &Option<StoreError>| error.as_ref().and_then(damaged) == Some(Damaged::Request);
        answers.into_iter().filter(|(_, error)| !is_named(error)).map(|(step, _)| step).collect()
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
async fn a_damaged_key_of_a_recipient_is_taken_for_none_at_no_admission_and_concerns_no_other() {
    for (key, command, arguments) in [
        ("cooldown", "SET", [b"soon stored".as_slice()].as_slice()),
        ("cooldown", "SET", &[b""]),
        ("cooldown", "HSET", &[b"a", b"b"]),
        ("suppressed", "SET", &[b"21610"]),
        ("suppressed", "SET", &[b"21610 later"]),
        ("suppressed", "SET", &[b"\xff\xfe"]),
        ("suppressed", "HSET", &[b"a", b"b"]),
        ("sends", "SET", &[b"x"]),
        ("sends", "ZADD", &[b"inf", b"a", b"inf", b"b", b"inf", b"c", b"inf", b"d", b"inf", b"e"]),
        ("wrong", "SET", &[b"x"]),
        ("refunds", "SET", &[b"x"]),
    ] {
        let stored = Stored::new().await;
        stored.redis.replace(&stored.key(key), command, arguments);
        stored.store.at(START.plus(Duration::from_secs(40)));
        let admission = stored.store.admit(&request_to(1, "next").admit()).await;
        let error = admission.expect_err(key);
        assert_eq!(damaged(&error), Some(Damaged::Subject(key)), "{arguments:?}");
        assert!(error.is_permanent() && !error.to_string().contains(named(1).as_str()), "{error}");
        granted(admit(&stored.store, &request_to(2, "other")).await);
    }
}

#[tokio::test]
async fn a_damaged_key_of_a_user_or_a_network_concerns_its_requests_only() {
    for (kind, user, network) in [("user", Some(named(7)), None), ("net", None, Some(named(7)))] {
        let stored = Stored::new().await;
        stored.redis.replace(&format!("{kind}:{}", named(7)), "SET", &[b"x"]);
        let of_it = TestRequest { user, network, ..request_to(2, "of-it") };
        let error = stored.store.admit(&of_it.admit()).await.expect_err(kind);
        assert_eq!(damaged(&error), Some(Damaged::Subject(kind)));
        assert!(!error.to_string().contains(named(7).as_str()), "{error}");
        granted(admit(&stored.store, &request_to(2, "other")).await);
    }
}

const DAMAGED_CHALLENGES: [(&str, &[&[u8]]); 6] = [
    ("SET", &[b"x"]),
    ("HSET", &[b"kid", b"k1"]),
    ("HSET", &[b"a", b"b"]),
    ("HSET", &[b"id", b"x", b"kid", b"k1", b"digest", b"x", b"expires", b"nan", b"wrong", b"0"]),
    ("HSET", &[b"id", b"x", b"kid", b"k1", b"digest", b"x", b"expires", b"1800000600000"]),
    ("HSET", &[b"id", b"x", b"kid", b"k1", b"digest", b"x", b"expires", b"1800000600000", b"wrong", b"-9"]),
];

/// Its challenge is damaged, and a request with a code of its own is admitted.
async fn admit_beside_damaged_challenge(stored: &Stored, command: &str, arguments: &[&[u8]]) -> Admission {
    stored.redis.replace(&stored.key("challenge:verification"), command, arguments);
    stored.redis.delete(&stored.key("cooldown"));
    stored.store.at(START.plus(Duration::from_secs(40)));
    let next = TestRequest { challenge: 200, digest: 150, ..request_to(1, "next") };
    admit(&stored.store, &next).await
}

#[tokio::test]
async fn a_new_request_replaces_a_damaged_challenge() {
    for (command, arguments) in DAMAGED_CHALLENGES {
        let stored = Stored::new().await;
        let Grant { challenge, .. } =
            granted(admit_beside_damaged_challenge(&stored, command, arguments).await);
        assert_eq!(challenge, ChallengeId::from_digest(named(200)), "{arguments:?}");
        let verdict = check_digest(&stored.store, "k1", 51).await.expect("answers");
        assert_eq!(verdict, Verdict::Wrong { attempts_left: 4 }, "the code of the damaged challenge");
        let verdict = check_digest(&stored.store, "k1", 150).await.expect("answers");
        assert_eq!(verdict, Verdict::Verified, "nothing of the damaged challenge is left");
    }
}

#[tokio::test]
async fn a_damaged_challenge_lifts_no_lock_of_its_recipient() {
    let (command, arguments) = DAMAGED_CHALLENGES[0];
    let stored = Stored::new().await;
    let now = START.0.to_string();
    let checks: Vec<String> = (0..10).map(|check| format!("{check:016x}")).collect();
    let wrong: Vec<&[u8]> = checks.iter().flat_map(|check| [now.as_bytes(), check.as_bytes()]).collect();
    stored.redis.replace(&stored.key("wrong"), "ZADD", &wrong);
    let error = rejected(admit_beside_damaged_challenge(&stored, command, arguments).await);
    assert_eq!(error.code, ErrorCode::RateLimited);
    let error = check(&stored.store, "k1").await.expect_err("the challenge stays");
    assert_eq!(damaged(&error), Some(Damaged::Subject("challenge")));
}

#[tokio::test]
async fn a_damaged_challenge_is_no_error_of_a_request_that_is_rejected_or_repeated() {
    let stored = Stored::new().await;
    stored.redis.replace(&stored.key("challenge:verification"), "SET", &[b"x"]);
    assert_eq!(rejected(admit(&stored.store, &request_to(1, "next")).await).code, ErrorCode::Cooldown);
    let repeated = AdmissionInput { ..stored.request.admit() };
    assert!(matches!(stored.store.admit(&repeated).await, Ok(Admission::Granted(_))));
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
    for (key, kind) in [("challenge:verification", "challenge"), ("wrong", "wrong")] {
        let stored = Stored::new().await;
        stored.redis.replace(&stored.key(key), "SET", &[b"x"]);
        let error = check(&stored.store, "k1").await.expect_err(key);
        assert_eq!(damaged(&error), Some(Damaged::Subject(kind)));
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

fn damaged(error: &StoreError) -> Option<Damaged> {
    match error {
        StoreError::Unreadable { damaged, .. } => Some(damaged.clone()),
        StoreError::Unavailable(_) | StoreError::Refused(_) => None,
    }
}

async fn check(store: &RedisStore, kid: &str) -> Result<Verdict, StoreError> {
    check_digest(store, kid, 51).await
}

async fn check_digest(store: &RedisStore, kid: &str, digest: u8) -> Result<Verdict, StoreError> {
    let (limits, digests) = (limits(), [(kid, named(digest))]);
    let check = otpost::store::code_check::CodeCheck {
        recipient: named(1),
        purpose: "verification",
        check_id: u64::from(digest),
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
