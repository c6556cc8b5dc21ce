//! Charges outside the recipient's shard: the logs always come to agree with the record of a request.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use otpost::domain::challenge::ChallengeId;
use otpost::domain::limit::{Limit, Limits};
use otpost::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use otpost::domain::shards::Shards;
use otpost::domain::time::UnixMillis;
use otpost::store::redis::RedisStore;
use otpost::store::{
    Admission, AdmissionInput, CompletionAnswer, CompletionInput, KeyName, Refund, Store as _, StoreError,
};
use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{
    HOUR, LEASE, START, TestRequest, TimedStore as _, admit, completion, failed, granted, limits, named,
    rejected, request_to, sent,
};
use crate::real::{Redis, redis_url};

const USER: u8 = 0xa1;
const OTHER_USER: u8 = 0xb2;
const NETWORK: u8 = 0xc3;

/// A store with 256 shards, so that recipients, users and networks are in different ones.
struct Sharded {
    redis: Redis,
    store: RedisStore,
}

fn sharded() -> Sharded {
    let redis = Redis::fresh();
    let store = redis.sharded(256);
    store.at(START);
    Sharded { redis, store }
}

fn by_user(recipient: u8, request: &str) -> TestRequest {
    TestRequest { user: Some(named(USER)), ..request_to(recipient, request) }
}

impl Sharded {
    fn log(&self, kind: &str, digest: u8) -> Vec<u8> {
        self.redis.in_shard(digest, [kind.as_bytes(), &[digest; 16]].concat())
    }

    /// The charges of a log, each with its time.
    fn charges(&self, kind: &str, digest: u8) -> Vec<(Vec<u8>, u64)> {
        self.redis.run(redis::cmd("ZRANGE").arg(self.log(kind, digest)).arg(0).arg(-1).arg("WITHSCORES"))
    }

    fn times(&self, kind: &str, digest: u8) -> Vec<u64> {
        self.charges(kind, digest).into_iter().map(|(_, at)| at).collect()
    }

    /// A crash between the charge and the admission: takes the record away and leaves the charge.
    fn forget_admission(&self, recipient: u8) {
        for key in self.redis.key_names() {
            let tag = self.redis.in_shard(recipient, "");
            if key.starts_with(&[&tag, b"q".as_slice()].concat())
                || key.starts_with(&[&tag, b"s".as_slice()].concat())
            {
                let () = self.redis.run(redis::cmd("DEL").arg(key));
            }
        }
    }

    async fn complete(&self, request: &TestRequest, outcome: &Outcome, refund: Refund) -> CompletionAnswer {
        let input = completion(request.lease(), outcome, refund);
        self.store.complete(&input).await.expect("answers")
    }
}

fn unknown() -> Outcome {
    Outcome::with_error(Status::Unknown, START, "verification", OutcomeError::of(ErrorCode::InDoubt))
}

#[tokio::test]
async fn a_redelivery_after_a_crash_is_charged_once_and_from_now() {
    let sharded = sharded();
    let request = by_user(1, "crashed");
    granted(admit(&sharded.store, &request).await);
    sharded.forget_admission(1);
    assert_eq!(sharded.times("u", USER), [START.0], "the charge of the crash");
    let later = START.plus(LEASE);
    sharded.store.at(later);
    granted(admit(&sharded.store, &request.owned_by(2)).await);
    assert_eq!(sharded.times("u", USER), [later.0]);
    assert_eq!(admit(&sharded.store, &request.owned_by(3)).await, Admission::Busy(LEASE));
    assert_eq!(sharded.times("u", USER), [later.0]);
}

/// As if the handler that was granted the request had ended before it corrected the log.
#[tokio::test]
async fn a_charge_whose_first_time_has_left_the_window_counts_as_long_as_the_record_says() {
    let sharded = sharded();
    let request = by_user(1, "crashed");
    granted(admit(&sharded.store, &request).await);
    let (member, first) = sharded.charges("u", USER).remove(0);
    sharded.forget_admission(1);
    let again = START.plus(Duration::from_secs(3_000));
    sharded.store.at(again);
    granted(admit(&sharded.store, &request.owned_by(2)).await);
    let () = sharded.redis.run(redis::cmd("ZADD").arg(sharded.log("u", USER)).arg(first).arg(member));
    sharded.store.at(START.plus(Duration::from_secs(3_660)));
    assert!(matches!(admit(&sharded.store, &request.owned_by(3)).await, Admission::InDoubt(_)));
    assert_eq!(sharded.times("u", USER), [again.0]);
}

#[tokio::test]
async fn a_repeat_within_the_window_leaves_the_time_of_the_charge() {
    let sharded = sharded();
    let request = by_user(1, "repeated");
    granted(admit(&sharded.store, &request).await);
    sharded.complete(&request, &sent(START), Refund::None).await;
    sharded.store.at(START.plus(Duration::from_secs(3_599)));
    assert!(matches!(
        admit(&sharded.store, &request.owned_by(2)).await,
        Admission::Completed { ours: false, .. }
    ));
    assert_eq!(sharded.times("u", USER), [START.0]);
}

#[tokio::test]
async fn a_repeat_with_another_user_charges_that_user_nothing() {
    let sharded = sharded();
    let request = by_user(1, "shared");
    granted(admit(&sharded.store, &request).await);
    let other = TestRequest { user: Some(named(OTHER_USER)), ..request.owned_by(2) };
    assert_eq!(admit(&sharded.store, &other).await, Admission::Busy(LEASE));
    assert_eq!((sharded.times("u", USER).len(), sharded.times("u", OTHER_USER).len()), (1, 0));
    // The other user completes it, and the refund goes to the one who was charged.
    sharded.store.at(START.plus(LEASE));
    assert!(matches!(admit(&sharded.store, &other).await, Admission::InDoubt(_)));
    assert_eq!(sharded.complete(&other, &unknown(), Refund::None).await, CompletionAnswer::Recorded);
    assert_eq!((sharded.times("u", USER), sharded.times("u", OTHER_USER).len()), (vec![START.0], 0));
}

#[tokio::test]
async fn a_repeat_after_the_window_costs_nothing() {
    let sharded = sharded();
    let request = by_user(1, "repeated");
    granted(admit(&sharded.store, &request).await);
    sharded.complete(&request, &sent(START), Refund::None).await;
    sharded.store.at(START.plus(2 * HOUR));
    let replay = Admission::Completed { outcome: sent(START), ours: false };
    assert_eq!(admit(&sharded.store, &request.owned_by(2)).await, replay);
    assert_eq!(sharded.charges("u", USER), []);
}

#[tokio::test]
async fn a_rejected_request_keeps_no_charge_and_waits_for_the_longest_limit() {
    let sharded = sharded();
    let from = |recipient: u8, user: u8, request: &str| TestRequest {
        user: Some(named(user)),
        network: Some(named(NETWORK)),
        ..request_to(recipient, request)
    };
    for (recipient, seconds) in [(1, 0), (2, 60)] {
        sharded.store.at(START.plus(Duration::from_secs(seconds)));
        granted(admit(&sharded.store, &from(recipient, USER, "first")).await);
    }
    sharded.store.at(START.plus(Duration::from_secs(120)));
    let error = rejected(admit(&sharded.store, &from(3, OTHER_USER, "second")).await);
    assert_eq!((error.code, error.retry_after), (ErrorCode::RateLimited, Some(3_480)), "the network's limit");
    assert_eq!((sharded.charges("u", OTHER_USER).len(), sharded.charges("w", NETWORK).len()), (0, 2));
    let usage = sharded.store.usage(&from(3, USER, "x").lease().subject, None, &limits()).await;
    assert_eq!(usage.expect("answers").limited_for, Duration::from_secs(3_480));
    // The user's third send is later, so that limit lasts longer than the network's.
    granted(admit(&sharded.store, &by_user(4, "third")).await);
    sharded.store.at(START.plus(Duration::from_secs(180)));
    let tight = limits().with(Limit::User, 1);
    let both = TestRequest { limits: tight, ..from(5, USER, "both") };
    assert_eq!(rejected(admit(&sharded.store, &both).await).retry_after, Some(3_540), "the user's limit");
    assert_eq!((sharded.charges("u", USER).len(), sharded.charges("w", NETWORK).len()), (3, 2));
}

#[tokio::test]
async fn a_refund_removes_the_charge_and_doubt_keeps_it() {
    let sharded = sharded();
    for (recipient, outcome, refund, left) in [
        (1, failed(START), Refund::FullAndCounted, 0),
        (2, unknown(), Refund::None, 1),
        (3, sent(START), Refund::None, 2),
    ] {
        let request = by_user(recipient, "ended");
        granted(admit(&sharded.store, &request).await);
        for _ in 0..2 {
            assert_eq!(sharded.complete(&request, &outcome, refund).await, CompletionAnswer::Recorded);
            assert_eq!(sharded.charges("u", USER).len(), left, "{:?}", outcome.status);
        }
    }
}

#[tokio::test]
async fn a_removal_that_failed_is_repeated_with_its_step() {
    for is_redelivered in [false, true] {
        let sharded = sharded();
        let request = by_user(1, "refunded");
        granted(admit(&sharded.store, &request).await);
        let charges = sharded.charges("u", USER);
        let (log, outcome) = (sharded.log("u", USER), failed(START));
        let () = sharded.redis.run(redis::cmd("SET").arg(&log).arg("damaged"));
        let input = completion(request.lease(), &outcome, Refund::Full);
        let answer = sharded.store.complete(&input).await.expect("the outcome is recorded");
        assert_eq!(answer, CompletionAnswer::Recorded, "a damaged log changes no outcome");
        let () = sharded.redis.run(redis::cmd("DEL").arg(&log));
        let (member, at) = &charges[0];
        let () = sharded.redis.run(redis::cmd("ZADD").arg(&log).arg(*at).arg(member));
        if is_redelivered {
            let admission = admit(&sharded.store, &request.owned_by(2)).await;
            assert!(matches!(admission, Admission::Completed { ours: false, .. }), "{admission:?}");
        } else {
            assert_eq!(sharded.complete(&request, &outcome, Refund::Full).await, CompletionAnswer::Recorded);
        }
        assert_eq!(sharded.charges("u", USER), [], "redelivered: {is_redelivered}");
    }
}

#[tokio::test]
async fn progress_and_receipts_keep_the_charges_of_a_record() {
    use otpost::domain::receipt::DeliveryStatus;
    use otpost::store::{NewReceipt, Progress};
    let sharded = sharded();
    let request = by_user(1, "kept");
    granted(admit(&sharded.store, &request).await);
    sharded
        .store
        .update_progress(&request.lease(), Some(1), Progress::Waiting(LEASE), None)
        .await
        .expect("answers");
    let receipt = NewReceipt {
        recipient: named(1),
        request_id: &request.request,
        message_id: "SM1",
        status: DeliveryStatus::Sent,
        provider_code: None,
        published: false,
        suppression: None,
    };
    sharded.store.record_receipt(&receipt).await.expect("answers");
    let record = sharded.store.request_record(&request.request, Some(named(1))).await.expect("answers");
    assert_eq!(record.expect("known").receipt.expect("recorded").message_id, "SM1");
    let refused = Outcome { attempts: 1, ..failed(START) };
    assert_eq!(sharded.complete(&request, &refused, Refund::Full).await, CompletionAnswer::Recorded);
    let record = sharded.store.request_record(&request.request, None).await.expect("answers");
    assert!(record.is_some_and(|record| record.receipt.is_some()), "the receipt stays");
    assert_eq!(sharded.charges("u", USER), [], "the refund found the charge");
}

#[tokio::test]
async fn a_place_is_used_by_a_send_and_by_nothing_else() {
    let sharded = sharded();
    let capped = |request: TestRequest| TestRequest {
        limits: limits().with(Limit::All, 2).with(Limit::User, 1),
        ..request
    };
    let first = capped(by_user(1, "first"));
    granted(admit(&sharded.store, &first).await);
    for owner in 2..6 {
        assert_eq!(admit(&sharded.store, &first.owned_by(owner)).await, Admission::Busy(LEASE));
    }
    let limited = capped(by_user(2, "limited"));
    assert_eq!(rejected(admit(&sharded.store, &limited).await).code, ErrorCode::RateLimited);
    let second = capped(request_to(3, "second"));
    granted(admit(&sharded.store, &second).await);
    let third = capped(request_to(4, "third"));
    assert_eq!(rejected(admit(&sharded.store, &third).await).code, ErrorCode::RateLimited);
    let usage = sharded.store.usage(&third.lease().subject, None, &third.limits).await.expect("answers");
    assert!(usage.limited_for > HOUR, "until after the block's end");
    for _ in 0..2 {
        sharded.complete(&second, &failed(START), Refund::Full).await;
    }
    granted(admit(&sharded.store, &capped(request_to(5, "fourth"))).await);
    assert_eq!(
        rejected(admit(&sharded.store, &capped(request_to(6, "fifth"))).await).code,
        ErrorCode::RateLimited
    );
}

#[tokio::test]
async fn two_handlers_of_one_request_charge_it_once() {
    let sharded = sharded();
    let free = Limits { cooldown: Duration::ZERO, ..limits().with(Limit::User, 100) };
    for number in 0..30_u8 {
        let request = TestRequest { limits: free, ..by_user(number, "raced") };
        let other = request.owned_by(2);
        let (first, second) = tokio::join!(admit(&sharded.store, &request), admit(&sharded.store, &other));
        let granted =
            [&first, &second].into_iter().filter(|one| matches!(one, Admission::Granted(_))).count();
        assert_eq!(granted, 1, "{first:?} {second:?}");
        assert_eq!(sharded.charges("u", USER).len(), usize::from(number) + 1);
    }
}

#[tokio::test]
async fn requests_at_once_never_exceed_a_limit() {
    let sharded = sharded();
    for round in 0..10_u32 {
        sharded.store.at(START.plus(2 * HOUR * round));
        let requests: Vec<_> = (0..20).map(|number| by_user(number, &format!("at-once-{round}"))).collect();
        let admissions = requests.iter().map(|request| admit(&sharded.store, request));
        let admissions = futures_util::future::join_all(admissions).await;
        let granted = admissions.iter().filter(|one| matches!(one, Admission::Granted(_))).count();
        assert!((1..=3).contains(&granted), "{granted} of 3");
        assert_eq!(sharded.charges("u", USER).len(), granted);
    }
}

#[tokio::test]
async fn nothing_is_charged_behind_a_closed_gate_or_with_a_refused_request() {
    let sharded = sharded();
    let request = by_user(1, "closed");
    let closed = AdmissionInput { gate_closed: true, ..request.admit() };
    assert_eq!(sharded.store.admit(&closed).await.expect("answers"), Admission::GateClosed);
    let error = OutcomeError::of(ErrorCode::ChannelDisabled);
    let refused = AdmissionInput { reject_if_new: Some(&error), ..request.admit() };
    rejected(sharded.store.admit(&refused).await.expect("answers"));
    assert_eq!(sharded.charges("u", USER), []);
}

#[tokio::test]
async fn a_charge_beside_a_damaged_log_stays_for_the_repetition() {
    let sharded = sharded();
    let () = sharded.redis.run(redis::cmd("SET").arg(sharded.log("w", NETWORK)).arg("damaged"));
    let request = TestRequest { network: Some(named(NETWORK)), ..by_user(1, "damaged") };
    let error = sharded.store.admit(&request.admit()).await.expect_err("a log cannot be read");
    assert!(
        matches!(&error, StoreError::Unreadable { damaged, .. } if damaged.to_string().contains("network")),
        "{error}"
    );
    assert_eq!(sharded.charges("u", USER).len(), 1, "another handler may have found it");
    let () = sharded.redis.run(redis::cmd("DEL").arg(sharded.log("w", NETWORK)));
    assert!(matches!(sharded.store.admit(&request.admit()).await, Ok(Admission::Granted(_))));
    assert_eq!(sharded.charges("u", USER).len(), 1);
}

/// Every charge of a user's log is one that a record keeps, at the same time, and the other way round.
pub async fn expect_logs_agree_with_records(redis: &Redis, store: &RedisStore, now: UnixMillis) {
    let (mut in_logs, mut in_records) = (BTreeSet::new(), BTreeSet::new());
    let window_begins = UnixMillis(now.0.saturating_sub(3_600_000)).to_string();
    for key in redis.key_names() {
        let shown = store.show(&KeyName::Bytes(key)).await.expect("answers").remove(0);
        let fields: Map<String, Value> =
            shown.fields.into_iter().flatten().map(|(name, value)| (name.to_owned(), value)).collect();
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let add = |set: &mut BTreeSet<[String; 4]>, charge: [&Value; 4]| {
            if *charge[3].as_str().expect("a time") > *window_begins {
                set.insert(charge.map(text));
            }
        };
        if shown.kind == Some("sends of a user") {
            for send in fields["sends"].as_array().expect("a list") {
                add(&mut in_logs, [&fields["digest"], &send["request"], &send["recipient"], &send["at"]]);
            }
        }
        let charges = fields.get("charges").and_then(Value::as_array).into_iter().flatten();
        for charge in charges.filter(|charge| charge["log"] == "user" && fields["charges_refunded"] == false)
        {
            add(
                &mut in_records,
                [&charge["digest"], &fields["request"], &fields["recipient"], &charge["at"]],
            );
        }
    }
    assert_eq!(in_logs, in_records);
}

/// Forwards to Redis. After a number of answers it loses one, with its connection.
struct Lossy {
    url: String,
    answers_left: Arc<AtomicI64>,
}

impl Lossy {
    async fn start() -> Lossy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = redis_url().replacen(&server(), &listener.local_addr().expect("bound").to_string(), 1);
        let answers_left = Arc::new(AtomicI64::new(i64::MAX));
        let counter = Arc::clone(&answers_left);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, Arc::clone(&counter)));
            }
        });
        Lossy { url, answers_left }
    }
}

/// Host and port of the tests' Redis, between its credentials and its database.
fn server() -> String {
    let url = redis_url();
    let authority = url.trim_start_matches("redis://").split('/').next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default().to_owned()
}

async fn forward(client: TcpStream, answers_left: Arc<AtomicI64>) {
    let server = TcpStream::connect(server()).await.expect("Redis listens");
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let requests = tokio::io::copy(&mut from_client, &mut to_server);
    let answers = async {
        let mut buffer = vec![0; 65_536];
        loop {
            let length = from_server.read(&mut buffer).await.unwrap_or(0);
            if length == 0 || answers_left.fetch_sub(1, Ordering::SeqCst) == 0 {
                return;
            }
            if to_client.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { _ = requests => {}, () = answers => {} }
}

async fn until_answered<T>(mut step: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    for _ in 0..20 {
        if let Ok(answer) = step().await {
            return answer;
        }
    }
    panic!("the store does not answer");
}

#[tokio::test]
async fn whichever_answer_is_lost_the_logs_agree_with_the_record() {
    let (redis, lossy) = (Redis::fresh(), Lossy::start().await);
    let shards = Shards::new(256).expect("a number of shards");
    let store = RedisStore::connect(&lossy.url, &redis.prefix, shards).expect("a URL");
    store.at(START);
    let direct = Sharded { store: redis.sharded(256), redis };
    direct.store.at(START);
    let limits = limits().with(Limit::User, 100).with(Limit::Network, 100);
    for lost in 0..12_u8 {
        let request = TestRequest {
            limits,
            network: Some(named(NETWORK)),
            challenge: lost,
            ..by_user(100 + lost, &format!("lost-{lost}"))
        };
        lossy.answers_left.store(lost.into(), Ordering::SeqCst);
        let admission = until_answered(async || store.admit(&request.admit()).await).await;
        let grant = granted(admission);
        assert_eq!(grant.challenge, ChallengeId::from_digest(named(lost)));
        assert_eq!((direct.times("u", USER).len(), direct.times("w", NETWORK).len()), (1, 1), "lost {lost}");
        expect_logs_agree_with_records(&direct.redis, &direct.store, START).await;
        let outcome = failed(UnixMillis(START.0 + 1));
        let input =
            CompletionInput { limits: &limits, ..completion(request.lease(), &outcome, Refund::Full) };
        let answer = until_answered(async || store.complete(&input).await).await;
        assert_eq!(answer, CompletionAnswer::Recorded);
        assert_eq!(
            (direct.charges("u", USER), direct.charges("w", NETWORK)),
            (vec![], vec![]),
            "lost {lost}"
        );
        lossy.answers_left.store(i64::MAX, Ordering::SeqCst);
    }
}
