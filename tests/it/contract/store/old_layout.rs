//! Data of layout 1, as its scripts wrote it: what the present store makes of it.

use std::time::{Duration, Instant};

use otpost::domain::limit::Limit;
use otpost::domain::outcome::{ErrorCode, Status};
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::request_id::RequestId;
use otpost::domain::time::UnixMillis;
use otpost::domain::verdict::Verdict;
use otpost::store::code_check::{CodeCheck, ProviderCheckEnd, ProviderCheckStart};
use otpost::store::redis::RedisStore;
use otpost::store::{
    Admission, ClaimAnswer, ClaimInput, CompletionAnswer, CompletionInput, Damaged, LimitSubject, NewReceipt,
    ReceiptAnswer, Refund, RequestState, Store as _, StoreError,
};

use super::{
    HOUR, START, TestRequest, TimedStore as _, admit, completion, failed, granted, limits, named, rejected,
    request_to, sent, verdict, verify,
};
use crate::real::Redis;

pub(super) const UUID: &str = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
/// Longer than two blocks of SHA-256.
const LONG: &str = "orders/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";
const RECORD_IN_PROGRESS: &str = "65656565656565656565656565656565 k1 33333333333333333333333333333333 0 \
     1800000000000 1800000600000 1800000600000 verification {\"to\":\"+57…67\"}";
pub(super) const COMPLETED: &str = "ended 0000000000000001 1800086400000 SM1,4,delivered,0,-,1800000000000,0 \
     {\"status\":\"sent\",\"at\":1800000000000,\"purpose\":\"verification\",\"provider_message_id\":\"SM1\",\
     \"attempts\":1,\"notes\":{\"to\":\"+57…67\",\"challenge\":\"65656565656565656565656565656565\"}}";
const REJECTED: &str = "ended 0000000000000001 1800000900000 - {\"status\":\"rejected\",\"at\":1800000000000,\
     \"purpose\":\"verification\",\"error\":{\"code\":\"cooldown\",\"retry_after\":30},\"notes\":{\"to\":\"+57…67\"}}";
/// The end of one message is not known.
const UNNAMED: &str = "ended 0000000000000001 1800086400000 - {\"status\":\"unknown\",\"at\":1800000000000,\
     \"purpose\":\"verification\",\"attempts\":1,\"notes\":{\"to\":\"+57…67\"},\"unnamed\":\"1 1799999999000 \
     1800000000000 65656565656565656565656565656565 k1 33333333333333333333333333333333 0 verification\"}";
const CHALLENGE: [&str; 12] = [
    "id",
    "65656565656565656565656565656565",
    "kid",
    "k1",
    "digest",
    "33333333333333333333333333333333",
    "callers",
    "0",
    "expires",
    "1800000600000",
    "wrong",
    "0",
];

pub(super) fn of(number: u8, kind: &str) -> String {
    format!("{}:{kind}", named(number))
}

pub(super) fn put(redis: &Redis, key: &str, command: &str, arguments: &[&str]) {
    let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
    redis.replace(key, command, &arguments);
}

/// The old record of recipient 1's request.
pub(super) fn put_record(redis: &Redis, request: &str, record: &str) {
    put(redis, &of(1, &format!("req:{request}")), "SET", &[record, "PX", "86400000"]);
    put(redis, &format!("id:{request}"), "SET", &[&of(1, "")[..32], "PX", "90000000"]);
}

/// `stage`: the words before the challenge.
fn in_progress(stage: &str) -> String {
    format!("{stage} {RECORD_IN_PROGRESS}")
}

/// Data that old workers left, who stopped a minute ago.
pub(super) fn fresh() -> (Redis, RedisStore) {
    let redis = Redis::fresh();
    put(&redis, "server", "SET", &["0123456789abcdef0123456789abcdef01234567 0", "PX", "86340000"]);
    let store = redis.store();
    store.at(START.plus(Duration::from_secs(60)));
    (redis, store)
}

pub(super) fn asked(request: &str) -> TestRequest {
    TestRequest { challenge: 0x65, digest: 0x33, owner: 2, ..request_to(1, request) }
}

async fn used(store: &RedisStore) -> (u32, Duration) {
    let usage = store.usage(&asked("x").lease().subject, None, &limits()).await.expect("answers");
    (usage.used, usage.cooldown_left)
}

#[tokio::test]
async fn a_record_of_layout_1_decides_admission() {
    for request in [UUID, "orders/1", LONG] {
        let (redis, store) = fresh();
        put_record(&redis, request, COMPLETED);
        let Admission::Completed { outcome, ours } = admit(&store, &asked(request)).await else {
            panic!("completed")
        };
        assert_eq!(
            (outcome.status, outcome.provider_message_id.as_deref(), ours),
            (Status::Sent, Some("SM1"), false)
        );
        assert_eq!(outcome.history.to, "+57…67");
        let Admission::Completed { ours, .. } = admit(&store, &asked(request).owned_by(1)).await else {
            panic!("completed")
        };
        assert!(ours, "its lease is known");

        let (redis, store) = fresh();
        put_record(&redis, request, REJECTED);
        let rejection = rejected(admit(&store, &asked(request)).await);
        assert_eq!((rejection.code, rejection.retry_after), (ErrorCode::Cooldown, Some(30)));
    }
}

#[tokio::test]
async fn a_record_in_progress_of_layout_1_goes_on() {
    for (stage, attempt, starts) in [
        ("sending 0000000000000001 1800086400000 - 1800000020000 1 1800000000000 0 1", 1, 2),
        ("doubt 0000000000000001 1800086400000 - 1800000020000 2 1800000010000 1 1", 2, 2),
        ("waiting - 1800086400000 - 1800000020000 1 1800000000000 0 0", 2, 1),
        ("waiting 0000000000000001 1800086400000 - 1800000020000 1 1800000000000 0 1", 2, 2),
    ] {
        let (redis, store) = fresh();
        put_record(&redis, UUID, &in_progress(stage));
        put(&redis, &of(1, "challenge:verification"), "HSET", &CHALLENGE);
        let (in_doubt, grant) = match admit(&store, &asked(UUID)).await {
            Admission::Granted(grant) => (false, grant),
            Admission::InDoubt(grant) => (true, grant),
            other => panic!("{other:?}"),
        };
        assert_eq!(in_doubt, !stage.starts_with("waiting"), "{stage}");
        assert_eq!((grant.attempt, grant.unfinished_leases), (attempt, starts), "{stage}");
        assert_eq!(
            (grant.kid.as_str(), grant.digest, grant.challenge.as_str()),
            ("k1", named(0x33), named(0x65).as_str())
        );
        assert_eq!((grant.admitted_at, grant.deadline), (START, START.plus(Duration::from_secs(600))));
        assert_eq!(grant.history.expect("kept").to, "+57…67");
        let outcome = sent(START);
        let done = store.complete(&completion(asked(UUID).lease(), &outcome, Refund::None)).await;
        assert_eq!(done.expect("answers"), CompletionAnswer::Recorded, "{stage}");
        assert_eq!(verify(&store, 1, 1, 0x33).await, Verdict::Verified, "{stage}");
    }
    let (redis, store) = fresh();
    put_record(
        &redis,
        UUID,
        &in_progress("sending 0000000000000001 1800086400000 - 1800000090000 1 1800000000000 0 1"),
    );
    assert_eq!(admit(&store, &asked(UUID)).await, Admission::Busy(Duration::from_secs(30)));
}

#[tokio::test]
async fn a_damaged_record_of_layout_1_stays_damaged() {
    let (redis, store) = fresh();
    put_record(&redis, UUID, "sending rubbish");
    store.admit(&asked(UUID).admit()).await.expect_err("it may have been sent");
    store.admit(&asked(UUID).admit()).await.expect_err("it stays so");
    put(&redis, &of(1, "sends"), "ZADD", &["1800000000000", "x"]);
    put_record(&redis, "x", "rubbish");
    granted(admit(&store, &asked("another")).await);
}

#[tokio::test]
async fn a_pending_code_of_layout_1_is_checked() {
    let (redis, store) = fresh();
    put(&redis, &of(1, "challenge:verification"), "HSET", &CHALLENGE);
    put(&redis, &of(1, "wrong"), "ZADD", &["1800000000000", "00000000000000aa"]);
    assert_eq!(verify(&store, 1, 0xaa, 0x34).await, Verdict::Wrong { attempts_left: 5 }, "counted before");
    assert_eq!(verify(&store, 1, 1, 0x34).await, Verdict::Wrong { attempts_left: 4 });
    assert_eq!(verify(&store, 1, 2, 0x33).await, Verdict::Verified);
    assert_eq!(verify(&store, 1, 3, 0x33).await, Verdict::AlreadyUsed);

    let (redis, store) = fresh();
    put(
        &redis,
        &of(1, "challenge:verification"),
        "HSET",
        &[&CHALLENGE[..], &["used", "00000000000000aa"]].concat(),
    );
    assert_eq!(verify(&store, 1, 2, 0x33).await, Verdict::AlreadyUsed);
    assert_eq!(verify(&store, 1, 0xaa, 0x33).await, Verdict::Verified, "the same check again");

    // A new request continues it, also where a suppression that has ended made the value.
    let (redis, store) = fresh();
    put(&redis, &of(1, "challenge:verification"), "HSET", &CHALLENGE);
    put(&redis, "suppressions", "ZADD", &["1800000061000", &named(1).to_string()]);
    put(&redis, &of(1, "suppressed"), "SET", &["21610 1800000061000"]);
    store.heartbeat(1, false).await.expect("answers");
    store.at(START.plus(Duration::from_secs(61)));
    let grant = granted(admit(&store, &TestRequest { challenge: 7, digest: 8, ..asked("new") }).await);
    assert_eq!((grant.challenge.as_str(), grant.digest), (named(0x65).as_str(), named(0x33)));
}

#[tokio::test]
async fn a_providers_code_of_layout_1_is_checked() {
    let (redis, store) = fresh();
    let fields =
        ["kid", "@provider", "digest", "00000000000000000000000000000000", "wrong", "1", "name", "VE1"];
    let open = ["open:00000000000000aa", "VE1"];
    put(&redis, &of(1, "challenge:verification"), "HSET", &[&CHALLENGE[..], &fields, &open].concat());
    put(&redis, &of(1, "asked"), "ZADD", &["1800000000000", "VE1 00000000000000aa"]);
    put(&redis, &of(1, "wrong"), "ZADD", &["1800000000000", "00000000000000aa"]);
    let limits = limits();
    let check = |check_id| CodeCheck {
        recipient: named(1),
        purpose: "verification",
        check_id,
        digests: &[],
        limits: &limits,
    };
    let start = store.begin_provider_check(&check(0xaa)).await.expect("answers");
    assert_eq!(start, ProviderCheckStart::Ask(Some("VE1".to_owned())), "counted before");
    let start = store.begin_provider_check(&check(0xbb)).await.expect("answers");
    assert_eq!(start, ProviderCheckStart::Ask(Some("VE1".to_owned())));
    let found = store
        .finish_provider_check(&check(0xbb), ProviderCheckEnd::ApprovedAfterLostAnswer)
        .await
        .expect("answers");
    assert_eq!(
        verdict(found),
        Verdict::Unanswered { counted: true },
        "the other check may have been the right one"
    );
    let right = store.finish_provider_check(&check(0xaa), ProviderCheckEnd::Right).await.expect("answers");
    assert_eq!(verdict(right), Verdict::Verified);
}

#[tokio::test]
async fn what_layout_1_counted_still_counts() {
    let (redis, store) = fresh();
    put(&redis, &of(1, "sends"), "ZADD", &["1800000000000", UUID, "1800000010000", "orders/2"]);
    put(&redis, &of(1, "cooldown"), "SET", &["1800000070000 orders/2", "PX", "600000"]);
    put(&redis, &of(1, "recent"), "ZADD", &["1800000005000", LONG]);
    put(&redis, &of(1, "refunds"), "ZADD", &["1800000005000", LONG, "1800000006000", "r2"]);
    assert_eq!(used(&store).await, (2, Duration::from_secs(10)));
    assert_eq!(rejected(admit(&store, &asked("soon")).await).code, ErrorCode::Cooldown);
    let recent = store.recent_requests(named(1)).await.expect("answers");
    let recent: Vec<&str> = recent.iter().map(|request| request.request_id.as_str()).collect();
    assert_eq!(recent, ["soon", "orders/2", LONG, UUID]);
    store.at(START.plus(Duration::from_secs(70)));
    let refusals = TestRequest { limits: limits().with(Limit::Refunds, 2), ..asked("refunded") };
    assert_eq!(rejected(admit(&store, &refusals).await).code, ErrorCode::RateLimited);
    granted(admit(&store, &asked("later")).await);
    assert_eq!(used(&store).await.0, 3);
}

#[tokio::test]
async fn an_unfinished_request_of_layout_1_extends_the_cooldown() {
    let (redis, store) = fresh();
    put_record(
        &redis,
        "orders/2",
        &in_progress("doubt 0000000000000001 1800086400000 - 1800000085000 1 1800000000000 1 1"),
    );
    put(&redis, &of(1, "cooldown"), "SET", &["1800000030000 orders/2", "PX", "540000"]);
    assert_eq!(used(&store).await, (0, Duration::from_secs(25)));
}

#[tokio::test]
async fn subject_logs_of_layout_1_still_count_and_are_refunded() {
    let all = [(Limit::Ip, "ip"), (Limit::User, "user"), (Limit::Network, "net"), (Limit::All, "spend")];
    for (limit, kind) in all {
        for count in [2, 300] {
            let (redis, store) = fresh();
            let key = if kind == "spend" { "spend:h".to_owned() } else { format!("{kind}:{}", named(9)) };
            let charge = |n: u32| [(1_800_000_000_000_u64 + u64::from(n)).to_string(), format!("{n:024x}")];
            let charges: Vec<String> = (0..count).flat_map(charge).collect();
            put(&redis, &key, "ZADD", &charges.iter().map(String::as_str).collect::<Vec<_>>());
            let id = Some(named(9));
            let mut input = asked(UUID);
            let subject =
                LimitSubject { user: id, ip: id, network: id, recipient: named(1), purpose: "verification" };
            let off = limits().with(Limit::Ip, 0).with(Limit::User, 0).with(Limit::Network, 0);
            let limits = off.with(limit, count);
            put_record(
                &redis,
                UUID,
                &in_progress("waiting - 1800086400000 - 1800000020000 1 1800000000000 0 0"),
            );
            let limited_for =
                async || store.usage(&subject, None, &limits).await.expect("answers").limited_for;
            if count == 2 {
                // The charge of a request is refunded before its log is needed.
                input.limits = off;
                granted(admit(&store, &input).await);
                let mut lease = input.lease();
                lease.subject = subject;
                let outcome = failed(START);
                let outcome = otpost::domain::outcome::Outcome { attempts: 2, ..outcome };
                let refund = CompletionInput { limits: &limits, ..completion(lease, &outcome, Refund::Full) };
                let done = store.complete(&refund).await;
                assert_eq!(done.expect("answers"), CompletionAnswer::Recorded);
                assert_eq!(limited_for().await, Duration::ZERO, "{kind}");
            } else {
                let left = limited_for().await;
                assert_eq!(left, HOUR - Duration::from_secs(60), "{kind}");
                assert_eq!(limited_for().await, left, "{kind}: it is moved once");
            }
        }
    }
}

#[tokio::test]
async fn damaged_data_of_layout_1_that_all_requests_share_stops_them() {
    for key in ["receipts", "spend:h"] {
        let (redis, store) = fresh();
        put(&redis, key, "SET", &["x"]);
        let request = TestRequest { limits: limits().with(Limit::All, 9), ..asked(UUID) };
        let damaged = Damaged::Shared(key.to_owned());
        let error = store.admit(&request.admit()).await.expect_err("it cannot be read");
        assert!(matches!(&error, StoreError::Unreadable { damaged: its, .. } if *its == damaged), "{error}");
        redis.delete(key);
        granted(admit(&store, &request).await);
    }
}

#[tokio::test]
async fn suppressions_of_layout_1_are_in_force() {
    let (redis, store) = fresh();
    let [first, second, third, fifth] = [1, 2, 3, 5].map(|number| named(number).to_string());
    let listed =
        ["inf", &first, "1800000900000", &second, "1800000050000", &third, "inf", "rubbish", "9", &fifth];
    put(&redis, "suppressions", "ZADD", &listed);
    put(&redis, &of(1, "suppressed"), "SET", &["0 -"]);
    put(&redis, &of(1, "suppression"), "SET", &["1799999999000 +57…67 asked us"]);
    put(&redis, &of(2, "suppressed"), "SET", &["30006 1800000900000"]);
    put(&redis, &of(2, "suppression"), "SET", &["1800000000000 +57…68"]);
    put(&redis, &of(3, "suppressed"), "SET", &["30006 1800000050000"]);
    put(&redis, "country:CO", "SET", &["21408 1800000900000"]);
    put(&redis, &of(5, "suppressed"), "SET", &["rubbish"]);
    let entries = store.suppressions(9).await.expect("answers");
    assert_eq!(entries.len(), 3);
    let unreadable = entries.iter().find(|entry| entry.to.is_none()).expect("it stays in force");
    assert_eq!((unreadable.until, unreadable.provider_code), (None, None));
    let entries: Vec<_> = entries.iter().filter(|entry| entry.to.is_some()).collect();
    assert_eq!((entries[0].to.as_deref(), entries[0].reason.as_deref()), (Some("+57…67"), Some("asked us")));
    assert_eq!((entries[0].since, entries[0].until), (Some(UnixMillis(1_799_999_999_000)), None));
    assert_eq!((entries[1].provider_code, entries[1].to.as_deref()), (Some(30_006), Some("+57…68")));
    assert_eq!(entries[1].until, Some(UnixMillis(1_800_000_900_000)));
    for recipient in [1, 2, 5] {
        let rejection = rejected(admit(&store, &request_to(recipient, "a")).await);
        assert_eq!(rejection.code, ErrorCode::Suppressed);
    }
    granted(admit(&store, &request_to(3, "b")).await);
    let request = request_to(4, "c");
    let blocked =
        store.admit(&otpost::store::AdmissionInput { country: Some("CO"), ..request.admit() }).await;
    assert_eq!(rejected(blocked.expect("answers")).code, ErrorCode::Blocked);
    // A removed one does not come back with the next process.
    store.remove_suppression(named(1)).await.expect("answers");
    let next = redis.store();
    next.at(START.plus(Duration::from_secs(61)));
    assert_eq!(next.suppressions(9).await.expect("answers").len(), 2);
}

#[tokio::test]
async fn a_copy_that_was_broken_off_is_repeated() {
    let (redis, store) = fresh();
    let names: Vec<String> = (0..1_100_u32).map(|n| format!("{n:032x}")).collect();
    let suppress =
        |names: &[String]| redis.write_all(names.iter().map(|name| (format!("{name}:suppressed"), "0 -")));
    suppress(&names[..500]);
    assert_eq!(store.suppressions(2_000).await.expect("answers").len(), 500);
    // The first process stopped before its scan was over: the format was not yet written.
    redis.delete("format");
    suppress(&names[500..]);
    let (next, other) = (redis.store(), redis.store());
    let lists = tokio::join!(next.suppressions(2_000), next.suppressions(2_000), other.suppressions(2_000));
    for listed in [lists.0, lists.1, lists.2] {
        assert_eq!(listed.expect("answers").len(), 1_000, "as many as are listed at most");
    }
    for name in [0_u128, 499, 500, 1_099] {
        let recipient = otpost::domain::keyed_digest::Digest16::from_bytes(name.to_be_bytes());
        assert!(next.remove_suppression(recipient).await.expect("answers").is_some(), "{name}");
    }
}

/// A heartbeat is given up after half a second, and with it an opening.
#[tokio::test]
async fn an_opening_that_is_given_up_goes_on_where_it_was() {
    let names: Vec<String> = (0..5_000_u32).map(|n| format!("{n:032x}")).collect();
    let filled = || {
        let (redis, store) = fresh();
        redis.write_all(names.iter().map(|name| (format!("{name}:suppressed"), "0 -")));
        (redis, store)
    };
    let (_redis, store) = filled();
    let begin = Instant::now();
    // A step that waits for the whole opening.
    store.suppressions(1).await.expect("answers");
    let patience = begin.elapsed() / 2;
    let (_redis, store) = filled();
    let mut given_up = 0;
    while !matches!(tokio::time::timeout(patience, store.heartbeat(1, true)).await, Ok(Ok(_))) {
        given_up += 1;
        assert!(given_up < 20, "it begins anew each time");
    }
}

#[tokio::test]
async fn receipts_of_layout_1_are_awaited_and_recorded() {
    for request in [UUID, LONG] {
        let (redis, store) = fresh();
        put_record(
            &redis,
            request,
            &COMPLETED.replace("SM1,4,delivered,0,-,1800000000000,0", "SM1,3,sent,0,30003,1800000000000"),
        );
        let member = format!("SM1 {} 1800000000000 {request}", named(1));
        put(&redis, "receipts", "ZADD", &["1800000060000", &member, "0", "rubbish"]);
        let overdue = store.overdue_receipts(24 * HOUR, 9).await.expect("answers");
        assert_eq!(overdue.len(), 1);
        assert_eq!((overdue[0].request_id.as_str(), overdue[0].message_id.as_str()), (request, "SM1"));
        assert_eq!(
            (overdue[0].recipient, overdue[0].completed_at, overdue[0].lapsed),
            (named(1), START, false)
        );
        let id = RequestId::parse(request).expect("valid");
        let receipt = |status| NewReceipt {
            recipient: named(1),
            request_id: &id,
            message_id: "SM1",
            status,
            provider_code: None,
            published: false,
            suppression: None,
        };
        let recorded =
            async || store.request_record(&id, None).await.expect("answers").expect("known").receipt;
        assert_eq!(
            recorded().await.map(|receipt| (receipt.status, receipt.provider_code)),
            Some((DeliveryStatus::Sent, Some(30_003)))
        );
        let answer = store.record_receipt(&receipt(DeliveryStatus::Sent)).await.expect("answers");
        assert_eq!(answer, ReceiptAnswer::NothingToPublish);
        let answer = store.record_receipt(&receipt(DeliveryStatus::Delivered)).await.expect("answers");
        assert!(matches!(answer, ReceiptAnswer::Publish { purpose, .. } if purpose == "verification"));
    }
    let (redis, store) = fresh();
    put_record(&redis, LONG, COMPLETED);
    let id = RequestId::parse(LONG).expect("valid");
    let receipt = NewReceipt {
        recipient: named(1),
        request_id: &id,
        message_id: "SM1",
        status: DeliveryStatus::Read,
        provider_code: None,
        published: true,
        suppression: None,
    };
    let answer = store.record_receipt(&receipt).await.expect("answers");
    assert_eq!(answer, ReceiptAnswer::NothingToPublish, "the record is found by its text");
    let record = store.request_record(&id, None).await.expect("answers").expect("known");
    assert_eq!(
        record.receipt.map(|receipt| (receipt.status, receipt.published)),
        Some((DeliveryStatus::Read, true))
    );
}

#[tokio::test]
async fn a_request_of_layout_1_is_shown() {
    for recipient in [None, Some(named(1))] {
        let (redis, store) = fresh();
        put_record(&redis, LONG, COMPLETED);
        put(&redis, &of(1, "challenge:verification"), "HSET", &[&CHALLENGE[..], &["wrong", "2"]].concat());
        let id = RequestId::parse(LONG).expect("valid");
        let record = store.request_record(&id, recipient).await.expect("answers").expect("known");
        assert!(matches!(record.state, RequestState::Completed(outcome) if outcome.status == Status::Sent));
        assert_eq!(record.code.map(|code| (code.checks, code.used)), Some((2, false)));
        assert_eq!(store.request_record(&id, Some(named(2))).await.expect("answers"), None);
    }
    // Of two recipients with one request id, the index names the first.
    let (redis, store) = fresh();
    put_record(&redis, UUID, REJECTED);
    put(&redis, &of(2, &format!("req:{UUID}")), "SET", &[COMPLETED]);
    let id = RequestId::parse(UUID).expect("valid");
    let second = store.request_record(&id, Some(named(2))).await.expect("answers").expect("known");
    assert!(matches!(second.state, RequestState::Completed(outcome) if outcome.status == Status::Sent));
    let first = store.request_record(&id, None).await.expect("answers").expect("known");
    assert!(matches!(first.state, RequestState::Completed(outcome) if outcome.status == Status::Rejected));
}

#[tokio::test]
async fn keys_and_claims_of_layout_1_are_bound() {
    let (redis, store) = fresh();
    put(&redis, &format!("key:{}", named(7)), "SET", &[&format!("1800000100000 {}", named(8))]);
    assert_eq!(store.bind_idempotency_key(named(7), Some(named(9))).await.expect("answers"), Some(named(8)));
    store.at(START.plus(Duration::from_secs(100)));
    assert_eq!(store.bind_idempotency_key(named(7), None).await.expect("answers"), None, "its time is over");

    let doubt = in_progress("doubt 0000000000000002 1800086400000 - 1800000085000 1 1800000000000 1 1");
    let claim = async |store: &RedisStore, listed: &[&str]| {
        let request = asked("in-doubt");
        let input = ClaimInput { lease: request.lease(), listed, a_text_is_missing: false };
        store.claim_message(&input).await.expect("answers")
    };
    let (redis, store) = fresh();
    put_record(&redis, "in-doubt", &doubt);
    put(&redis, &of(1, "sid:SM1"), "SET", &["1800007200000 orders/1"]);
    assert_eq!(claim(&store, &["SM1"]).await, ClaimAnswer::AllClaimed);
    assert_eq!(claim(&store, &["SM1", "SM2"]).await, ClaimAnswer::Claimed("SM2".to_owned()));

    // Another request may have an unnamed message.
    let (redis, store) = fresh();
    put_record(&redis, "in-doubt", &doubt);
    put_record(&redis, "orders/1", UNNAMED);
    put(&redis, &of(1, "sends"), "ZADD", &["1800000000000", "orders/1", "1800000000001", "in-doubt"]);
    assert_eq!(claim(&store, &["SM1"]).await, ClaimAnswer::Ambiguous);
    assert_eq!(claim(&store, &["SM1", "SM2"]).await, ClaimAnswer::Claimed("SM2".to_owned()));
}

fn refusal(answer: Result<impl Sized, StoreError>) -> String {
    match answer {
        Err(StoreError::Unavailable(fault)) => fault.to_string(),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it is not refused"),
    }
}

#[tokio::test]
async fn old_workers_must_stop_first() {
    let (redis, store) = fresh();
    put(&redis, "server", "SET", &["0123456789abcdef 0", "PX", "86399000"]);
    for _ in 0..2 {
        let reason = refusal(store.admit(&asked(UUID).admit()).await);
        assert_eq!(
            reason,
            "workers of an earlier version are running with this REDIS_PREFIX: stop them first"
        );
    }
    put(&redis, "server", "SET", &["0123456789abcdef 0", "PX", "86384000"]);
    granted(admit(&store, &asked(UUID)).await);
    store.heartbeat(1, true).await.expect("answers");
    let next = redis.store();
    next.at(START.plus(Duration::from_secs(61)));
    granted(admit(&next, &request_to(2, "next")).await);
}

/// It reads no format, and could send again what was moved.
#[tokio::test]
async fn an_old_worker_that_comes_back_stops_the_new_ones() {
    let (redis, store) = fresh();
    store.heartbeat(1, true).await.expect("answers");
    put(&redis, "server", "SET", &["0123456789abcdef 0", "PX", "86399000"]);
    let reason = "workers of an earlier version are running with this REDIS_PREFIX: stop them first";
    assert_eq!(refusal(store.heartbeat(1, true).await), reason);
    put(&redis, "server", "SET", &["0123456789abcdef 0", "PX", "86384000"]);
    store.heartbeat(1, true).await.expect_err("it may have changed what was copied");
    store.heartbeat(1, true).await.expect("it has stopped");
}

#[tokio::test]
async fn of_a_long_log_the_newest_events_are_moved() {
    let (redis, store) = fresh();
    let events: Vec<String> = (0..3_000_u64)
        .flat_map(|number| [(1_800_000_000_000 + number).to_string(), format!("r{number}")])
        .collect();
    put(&redis, &of(1, "sends"), "ZADD", &events.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(used(&store).await.0, 1_000);
    store.recent_requests(named(1)).await.expect("the value is whole");
}

#[tokio::test]
async fn a_damaged_key_of_layout_1_is_named_without_its_digest() {
    for (key, kind) in [
        (of(1, "sends"), Damaged::Subject("recipient")),
        (format!("net:{}", named(3)), Damaged::Subject("network")),
    ] {
        let (redis, store) = fresh();
        put(&redis, &key, "SET", &["x"]);
        let request = TestRequest { network: Some(named(3)), ..asked(UUID) };
        let error = store.admit(&request.admit()).await.expect_err("damaged");
        assert!(matches!(&error, StoreError::Unreadable { damaged, .. } if *damaged == kind), "{error}");
    }
}

#[tokio::test]
async fn data_of_another_format_is_refused() {
    let redis = Redis::fresh();
    let (store, running) = (redis.store(), redis.store());
    running.heartbeat(1, true).await.expect("answers");
    assert_eq!(redis.read("format"), b"2 0");
    redis.delete("format");
    running.heartbeat(1, true).await.expect_err("it is missing");
    running.heartbeat(1, true).await.expect("answers");
    assert_eq!(redis.read("format"), b"2 0", "it is written again");
    for other in ["3", "3 of another kind", "3 0 16>256,1"] {
        put(&redis, "format", "SET", &[other]);
        assert_eq!(
            refusal(redis.store().kill_switch().await),
            "REDIS_PREFIX holds data of format 3; this version reads format 2"
        );
    }
    put(&redis, "format", "SET", &["3 0"]);
    let reason = "REDIS_PREFIX holds data of format 3; this version reads format 2";
    assert_eq!(refusal(store.kill_switch().await), reason);
    assert_eq!(refusal(running.heartbeat(1, true).await), reason);
    assert_eq!(redis.read("format"), b"3 0");
}

#[tokio::test]
async fn data_of_layout_1_is_moved_for_a_week() {
    for (hours, is_read) in [(168, true), (169, false)] {
        let (redis, store) = fresh();
        store.heartbeat(1, true).await.expect("answers");
        assert_eq!(redis.read("format"), b"2 1800608460000");
        put(
            &redis,
            &of(1, "sends"),
            "ZADD",
            &[&(1_800_000_000_000_u64 + hours * 3_600_000).to_string(), UUID],
        );
        let store = redis.store();
        store.at(START.plus(HOUR * u32::try_from(hours).expect("small")).plus(Duration::from_secs(60)));
        assert_eq!(used(&store).await.0, u32::from(is_read));
    }
    let redis = Redis::fresh();
    let store = redis.store();
    store.at(START);
    store.heartbeat(1, true).await.expect("answers");
    put(&redis, &of(1, "sends"), "ZADD", &["1800000000000", UUID]);
    assert_eq!(used(&store).await.0, 0, "there never were old workers");
}
