//! Stored data that is damaged, or of another version: every step that reads it fails with an error that says so, and
//! none takes it for nothing. Only Redis can be damaged.

use std::time::Duration;

use otpost::domain::challenge::ChallengeId;
use otpost::domain::limit::{Limit, Limits};
use otpost::domain::outcome::{ErrorCode, Outcome};
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::suppression::{ManualSuppression, NewSuppression, SuppressionTarget};
use otpost::domain::verdict::Verdict;
use otpost::store::code_check::{CheckAnswer, CodeCheck, ProviderCheckEnd};
use otpost::store::redis::RedisStore;
use otpost::store::{
    Admission, AdmissionInput, ClaimAnswer, ClaimInput, CompletionAnswer, CompletionInput, Damaged, Grant,
    NewReceipt, Progress, Refund, Store as _, StoreError,
};
use sha2::{Digest as _, Sha256};

use super::{
    LEASE, START, TestRequest, TimedStore as _, admit, completion, failed, granted, limits, named, rejected,
    request_to, sent, verdict,
};
use crate::real::Redis;

const MASKED: &str = "+57******4567";
const RECIPIENT: Damaged = Damaged::Subject("recipient");
/// A value of another type than a string.
const OTHER_TYPE: (&str, &[&[u8]]) = ("HSET", &[b"a", b"b"]);

fn record_key(request: &str) -> Vec<u8> {
    [b"qh", &Sha256::digest(request)[..16]].concat()
}

/// The name of a key of recipient, user or network `number`.
fn key_of(kind: &str, number: u8) -> Vec<u8> {
    [kind.as_bytes(), &[number; 16]].concat()
}

fn damaged(error: &StoreError) -> Option<Damaged> {
    match error {
        StoreError::Unreadable { damaged, .. } => Some(damaged.clone()),
        StoreError::Unavailable(_) | StoreError::Refused(_) => None,
    }
}

/// An admitted request whose recipient is suppressed.
struct Stored {
    redis: Redis,
    store: RedisStore,
    request: TestRequest,
}

type Answers = Vec<(&'static str, Option<StoreError>)>;

impl Stored {
    async fn new() -> Stored {
        let redis = Redis::fresh();
        let (store, request) = (redis.store(), request_to(1, "stored"));
        store.at(START);
        granted(admit(&store, &request).await);
        Stored { redis, store, request }
    }

    fn receipt(&self) -> NewReceipt<'_> {
        let (target, provider_code) = (SuppressionTarget::Recipient, 21_610);
        NewReceipt {
            recipient: named(1),
            request_id: &self.request.request,
            message_id: "SM1",
            status: DeliveryStatus::Delivered,
            provider_code: None,
            published: false,
            suppression: Some(NewSuppression { target, provider_code, duration: None, masked: MASKED }),
        }
    }

    /// The errors of all steps that read the record.
    async fn steps_that_read_the_record(&self) -> Answers {
        let (store, request, outcome) = (&self.store, &self.request, sent(START));
        let lease = request.lease();
        let in_doubt = Progress::InDoubt(LEASE);
        let claim = ClaimInput { lease, listed: &["SM1"], a_text_is_missing: false };
        vec![
            ("admit", store.admit(&request.owned_by(2).admit()).await.err()),
            ("update_progress", store.update_progress(&lease, Some(1), in_doubt, None).await.err()),
            ("claim_message", store.claim_message(&claim).await.err()),
            ("complete", store.complete(&completion(lease, &outcome, Refund::None)).await.err()),
            ("record_receipt", store.record_receipt(&self.receipt()).await.err()),
            ("usage", store.usage(&lease.subject, Some(lease.request_id), &limits()).await.err()),
            ("request_record", store.request_record(lease.request_id, None).await.err()),
        ]
    }

    /// The errors of all steps that read the value of the recipient.
    async fn steps_that_read_the_recipient(&self) -> Answers {
        let (store, outcome) = (&self.store, failed(START));
        let (lease, limits, digests) = (self.request.lease(), limits(), [("k1", named(51))]);
        let check = code_check(&limits, &digests);
        let suppression = ManualSuppression { masked: MASKED, reason: "", duration: None };
        let refund = CompletionInput {
            suppression: self.receipt().suppression,
            ..completion(lease, &outcome, Refund::FullAndCounted)
        };
        let challenge = ChallengeId::from_digest(named(101));
        let claim = ClaimInput { lease, listed: &["SM1"], a_text_is_missing: false };
        vec![
            ("admit", store.admit(&request_to(1, "next").admit()).await.err()),
            (
                "update_progress",
                store.update_progress(&lease, Some(0), Progress::Sending(LEASE), None).await.err(),
            ),
            ("claim_message", store.claim_message(&claim).await.err()),
            ("complete", store.complete(&refund).await.err()),
            ("verify", store.verify(&check).await.err()),
            ("begin_provider_check", store.begin_provider_check(&check).await.err()),
            (
                "finish_provider_check",
                store.finish_provider_check(&check, ProviderCheckEnd::Right).await.err(),
            ),
            ("reopen_challenge", store.reopen_challenge(&check).await.err()),
            ("link_verification", store.link_verification(&lease.subject, &challenge, "VE1").await.err()),
            ("usage", store.usage(&lease.subject, None, &limits).await.err()),
            ("record_receipt", store.record_receipt(&self.receipt()).await.err()),
            ("request_record", store.request_record(lease.request_id, None).await.err()),
            ("recent_requests", store.recent_requests(named(1)).await.err()),
            ("add_suppression", store.add_suppression(named(1), &suppression).await.err()),
            ("remove_suppression", store.remove_suppression(named(1)).await.err()),
            ("suppressions", store.suppressions(9).await.err()),
        ]
    }

    /// Replaces the body of the recipient's only challenge, which ends its value.
    fn replace_challenge(&self, body: &[u8]) {
        let key = key_of("s", 1);
        let value = self.redis.read(&key);
        let (purpose, at) = (b"verification", 4);
        let end = value.windows(purpose.len()).position(|bytes| bytes == purpose).expect("the challenge");
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        let rest = [&value[at..end + purpose.len()], &length, body].concat();
        let length = u32::try_from(rest.len()).expect("short").to_be_bytes();
        self.redis.replace(&key, "SET", &[[&value[..1], &length[1..], &rest].concat().as_slice()]);
    }
}

/// Every step says that this is damaged.
#[track_caller]
fn expect_damaged(answers: Answers, expected: &Damaged, damage: &str) {
    for (step, error) in answers {
        let error = error.unwrap_or_else(|| panic!("{damage}: {step} takes it for sound"));
        assert_eq!(damaged(&error).as_ref(), Some(expected), "{damage}: {step}: {error}");
        assert!(error.is_permanent(), "{damage}: {step}: {error}");
    }
}

/// Every value that is cut off or has bytes too many, then values of other versions and forms.
fn damages(value: &[u8]) -> Vec<(String, Vec<u8>)> {
    let cut = (0..value.len()).map(|length| (format!("cut after {length}"), value[..length].to_vec()));
    let random = (0..40_u8).map(|seed| {
        let bytes: Vec<u8> = (0..8_u8).flat_map(|nth| Sha256::digest([seed, nth]).to_vec()).collect();
        (format!("random bytes {seed}"), bytes[..bytes.len() - 6 * usize::from(seed)].to_vec())
    });
    let another_version = [&[value[0] + 1], &value[1..]].concat();
    let longer = [value, b"\0"].concat();
    let others = [("another version", another_version), ("a byte too many", longer)];
    let others = others.into_iter().map(|(name, value)| (name.to_owned(), value));
    cut.chain(random).chain(others).collect()
}

#[tokio::test]
async fn a_damaged_record_is_an_error_of_every_step_that_reads_it() {
    for is_completed in [false, true] {
        let stored = Stored::new().await;
        if is_completed {
            let outcome = sent(START);
            let completion = completion(stored.request.lease(), &outcome, Refund::None);
            stored.store.complete(&completion).await.expect("answers");
        }
        let key = record_key("stored");
        let value = stored.redis.read(&key);
        let another_state = [&value[..20], &[9], &value[21..]].concat();
        let damages = damages(&value).into_iter().chain([("another state".to_owned(), another_state)]);
        for (damage, value) in damages {
            stored.redis.replace(&key, "SET", &[&value]);
            expect_damaged(stored.steps_that_read_the_record().await, &Damaged::Request, &damage);
        }
        stored.redis.replace(&key, OTHER_TYPE.0, OTHER_TYPE.1);
        expect_damaged(stored.steps_that_read_the_record().await, &Damaged::Request, "another type");
    }
}

#[tokio::test]
async fn a_damaged_value_of_a_recipient_is_an_error_of_every_step_that_reads_it_and_concerns_no_other() {
    let stored = Stored::new().await;
    let suppression = ManualSuppression { masked: MASKED, reason: "", duration: None };
    stored.store.add_suppression(named(1), &suppression).await.expect("answers");
    let key = key_of("s", 1);
    for (damage, value) in damages(&stored.redis.read(&key)) {
        stored.redis.replace(&key, "SET", &[&value]);
        expect_damaged(stored.steps_that_read_the_recipient().await, &RECIPIENT, &damage);
    }
    stored.redis.replace(&key, OTHER_TYPE.0, OTHER_TYPE.1);
    expect_damaged(stored.steps_that_read_the_recipient().await, &RECIPIENT, "another type");
    granted(admit(&stored.store, &request_to(2, "other")).await);
}

/// A flipped bit can make another sound value, but no answer that is none, and no code right.
#[tokio::test]
async fn a_flipped_byte_is_an_error_or_has_an_answer_and_verifies_no_wrong_code() {
    let stored = Stored::new().await;
    for (key, kind) in [(key_of("s", 1), RECIPIENT), (record_key("stored"), Damaged::Request)] {
        let value = stored.redis.read(&key);
        for (at, mask) in (0..value.len()).flat_map(|at| [(at, 1), (at, 0x80), (at, 0xff)]) {
            let mut flipped = value.clone();
            flipped[at] ^= mask;
            let checks_and_steps = async {
                stored.redis.replace(&key, "SET", &[&flipped]);
                let verdict = check_digest(&stored.store, "k1", 150).await;
                assert!(!matches!(verdict, Ok(Verdict::Verified)), "byte {at}");
                let usage = stored.store.usage(&stored.request.lease().subject, None, &limits()).await;
                stored.redis.replace(&key, "SET", &[&flipped]);
                [verdict.err(), usage.err(), stored.store.admit(&stored.request.admit()).await.err()]
            };
            for error in checks_and_steps.await.into_iter().flatten() {
                assert_eq!(damaged(&error).as_ref(), Some(&kind), "byte {at}: {error}");
            }
        }
        stored.redis.replace(&key, "SET", &[&value]);
    }
}

/// The request is the first to count for a user and a network, too.
#[tokio::test]
async fn a_request_beside_a_key_of_another_type_is_charged_nowhere() {
    let request = TestRequest { user: Some(named(7)), network: Some(named(7)), ..request_to(1, "stored") };
    for (key, kind) in [
        (key_of("s", 1), RECIPIENT),
        (record_key("stored"), Damaged::Request),
        (key_of("u", 7), Damaged::Subject("user")),
        (key_of("w", 7), Damaged::Subject("network")),
    ] {
        let redis = Redis::fresh();
        let store = redis.store();
        store.at(START);
        redis.replace(&key, OTHER_TYPE.0, OTHER_TYPE.1);
        for refused in [None, Some(failed(START).error.expect("a reason"))] {
            let input = AdmissionInput { reject_if_new: refused.as_ref(), ..request.admit() };
            let is_read = refused.is_none() || matches!(kind, RECIPIENT | Damaged::Request);
            if is_read {
                let error = store.admit(&input).await.expect_err("damaged");
                assert_eq!(damaged(&error), Some(kind.clone()));
            }
        }
        assert_eq!(redis.dump().len(), 2, "nothing is written but the format");
        redis.delete(&key);
        assert_eq!(granted(admit(&store, &request).await).sends, 1);
        for log in ["u", "w"] {
            assert_eq!(redis.read(key_of(log, 7)).len(), 6, "one charge");
        }
    }
}

#[tokio::test]
async fn a_damaged_key_of_a_user_or_a_network_concerns_its_requests_only() {
    for (kind, key, user, network) in
        [("user", "u", Some(named(7)), None), ("network", "w", None, Some(named(7)))]
    {
        let stored = Stored::new().await;
        stored.redis.replace(key_of(key, 7), "SET", &[b"x"]);
        let of_it = TestRequest { user, network, ..request_to(2, "of-it") };
        let error = stored.store.admit(&of_it.admit()).await.expect_err(kind);
        assert_eq!(damaged(&error), Some(Damaged::Subject(kind)));
        assert!(error.is_permanent() && !error.to_string().contains(named(7).as_str()), "{error}");
        granted(admit(&stored.store, &request_to(2, "other")).await);
    }
}

#[tokio::test]
async fn a_damaged_claim_note_or_list_of_possible_checks_is_named_by_its_kind() {
    let stored = Stored::new().await;
    let (limits, digests) = (limits(), [("k1", named(51))]);
    stored.redis.replace(key_of("v", 1), "SET", &[b"x"]);
    let check = code_check(&limits, &digests);
    let error =
        stored.store.finish_provider_check(&check, ProviderCheckEnd::Right).await.expect_err("damaged");
    assert_eq!(damaged(&error), Some(Damaged::Subject("possible_checks")));

    let claim = ClaimInput { lease: stored.request.lease(), listed: &["SM1"], a_text_is_missing: false };
    stored.redis.replace([key_of("m", 1).as_slice(), b"SM1"].concat(), OTHER_TYPE.0, OTHER_TYPE.1);
    let error = stored.store.claim_message(&claim).await.expect_err("damaged");
    assert_eq!(damaged(&error), Some(Damaged::Subject("claim")));

    let suppression = ManualSuppression { masked: MASKED, reason: "", duration: None };
    stored.store.add_suppression(named(1), &suppression).await.expect("answers");
    stored.redis.replace(key_of("n", 1), OTHER_TYPE.0, OTHER_TYPE.1);
    let error = stored.store.add_suppression(named(1), &suppression).await.expect_err("damaged");
    assert_eq!(damaged(&error), Some(Damaged::Subject("suppression_note")));
}

const DAMAGED_BODIES: [&[u8]; 3] = [b"", b"abc", &[0xff; 60]];

/// Its challenge is damaged, and a request with a code of its own is admitted.
async fn admit_beside_damaged_challenge(stored: &Stored, body: &[u8], limits: Limits) -> Admission {
    let outcome: Outcome = sent(START);
    let completion = completion(stored.request.lease(), &outcome, Refund::None);
    stored.store.complete(&completion).await.expect("answers");
    stored.replace_challenge(body);
    stored.store.at(START.plus(Duration::from_secs(40)));
    let next = TestRequest { challenge: 200, digest: 150, limits, ..request_to(1, "next") };
    admit(&stored.store, &next).await
}

#[tokio::test]
async fn a_new_request_replaces_a_damaged_challenge() {
    for body in DAMAGED_BODIES {
        let stored = Stored::new().await;
        let Grant { challenge, .. } = granted(admit_beside_damaged_challenge(&stored, body, limits()).await);
        assert_eq!(challenge, ChallengeId::from_digest(named(200)), "{body:?}");
        let verdict = check_digest(&stored.store, "k1", 51).await.expect("answers");
        assert_eq!(verdict, Verdict::Wrong { attempts_left: 4 }, "the code of the damaged challenge");
        let verdict = check_digest(&stored.store, "k1", 150).await.expect("answers");
        assert_eq!(verdict, Verdict::Verified, "nothing of the damaged challenge is left");
    }
}

#[tokio::test]
async fn a_damaged_challenge_lifts_no_lock_of_its_recipient() {
    let stored = Stored::new().await;
    for digest in [91, 92] {
        let verdict = check_digest(&stored.store, "k1", digest).await.expect("answers");
        assert!(matches!(verdict, Verdict::Wrong { .. }), "{verdict:?}");
    }
    let limits = limits().with(Limit::Wrong, 2);
    let error = rejected(admit_beside_damaged_challenge(&stored, b"abc", limits).await);
    assert_eq!(error.code, ErrorCode::RateLimited);
    let error = check_digest(&stored.store, "k1", 51).await.expect_err("the challenge stays");
    assert_eq!(damaged(&error), Some(RECIPIENT));
}

#[tokio::test]
async fn a_damaged_challenge_is_no_error_of_a_request_that_is_rejected_or_repeated() {
    let stored = Stored::new().await;
    stored.replace_challenge(b"abc");
    assert_eq!(rejected(admit(&stored.store, &request_to(1, "next")).await).code, ErrorCode::Cooldown);
    let repeated = AdmissionInput { ..stored.request.admit() };
    assert!(matches!(stored.store.admit(&repeated).await, Ok(Admission::Granted(_))));
    // Else no request over HTTP could replace it.
    let lease = stored.request.lease();
    let usage = stored.store.usage(&lease.subject, None, &limits()).await.expect("answers");
    assert_eq!(usage.used, 1);
}

#[tokio::test]
async fn a_code_is_never_verified_by_a_damaged_challenge() {
    for body in DAMAGED_BODIES {
        let stored = Stored::new().await;
        stored.replace_challenge(body);
        for kid in ["k1", "k9"] {
            let error = check_digest(&stored.store, kid, 51).await.expect_err("damaged");
            assert_eq!(damaged(&error), Some(RECIPIENT), "{body:?}");
        }
    }
}

#[tokio::test]
async fn a_damaged_idempotency_key_is_never_taken_for_a_free_one() {
    let redis = Redis::fresh();
    let (store, name) = (redis.store(), key_of("k", 1));
    for (command, arguments) in [
        ("SET", [b"x".as_slice()].as_slice()),
        ("SET", &[b""]),
        ("SET", &[&[1; 21]]),
        ("SET", &[&[1; 23]]),
        OTHER_TYPE,
    ] {
        redis.replace(&name, command, arguments);
        for request in [None, Some(named(2))] {
            let error = store.bind_idempotency_key(named(1), request).await.expect_err("damaged");
            assert_eq!(damaged(&error), Some(Damaged::Subject("idempotency_key")), "{arguments:?}");
        }
    }
}

#[tokio::test]
async fn the_damaged_record_of_another_request_is_no_error_of_this_one() {
    let stored = Stored::new().await;
    let record = stored.redis.read(record_key("stored"));
    // The first cannot be read at all; of the second, the purpose is longer than the record.
    let mut damaged_within = record.clone();
    damaged_within[75] = 0xff;
    for (nth, damage) in [b"x".to_vec(), damaged_within].into_iter().enumerate() {
        let stored = Stored::new().await;
        stored.redis.replace(record_key("stored"), "SET", &[&damage]);
        stored.store.at(START.plus(Duration::from_secs(40)));
        let next = admit(&stored.store, &request_to(1, "next")).await;
        assert_eq!(rejected(next).code, ErrorCode::Cooldown, "{nth}");
        stored.store.at(START.plus(Duration::from_secs(601)));
        let other = request_to(1, "other");
        granted(admit(&stored.store, &other).await);
        let in_doubt = Progress::InDoubt(LEASE);
        stored.store.update_progress(&other.lease(), Some(1), in_doubt, None).await.expect("answers");
        let claim = ClaimInput { lease: other.lease(), listed: &["SM1"], a_text_is_missing: false };
        let answer = stored.store.claim_message(&claim).await.expect("answers");
        assert_eq!(answer, ClaimAnswer::Ambiguous, "{nth}");
    }
}

/// Two requests that sent one code.
async fn stored_twice() -> Stored {
    let stored = Stored::new().await;
    let mut outcome = sent(START);
    outcome.history.challenge = Some(ChallengeId::from_digest(named(101)).as_str().to_owned());
    let complete = async |request: &TestRequest| {
        stored.store.complete(&completion(request.lease(), &outcome, Refund::None)).await.expect("answers");
    };
    complete(&stored.request).await;
    stored.store.at(START.plus(Duration::from_secs(40)));
    let newer = request_to(1, "newer");
    granted(admit(&stored.store, &newer).await);
    complete(&newer).await;
    stored
}

/// The request that a right check answers, and the damage that it met. The check is the same each time.
async fn verified(stored: &Stored) -> (Option<String>, Option<Damaged>) {
    let (limits, digests) = (limits(), [("k1", named(51))]);
    let answer = stored.store.verify(&code_check(&limits, &digests)).await.expect("the check does not fail");
    let CheckAnswer::Verified { request, unreadable } = answer else { panic!("not verified: {answer:?}") };
    let damaged = unreadable.map(|error| damaged(&error).expect("of damage"));
    (request.map(|request| request.id.as_str().to_owned()), damaged)
}

#[tokio::test]
async fn a_damaged_record_undoes_no_right_check_and_hides_no_other_request_of_its_code() {
    let stored = stored_twice().await;
    let older = |damaged| (Some("stored".to_owned()), Some(damaged));
    let (newer, text) = (record_key("newer"), [b"t", &record_key("newer")[1..]].concat());
    let (value, id) = (stored.redis.read(&newer), stored.redis.read(&text));
    // The length at the start is right, so the script takes it for whole.
    let short = u32::try_from(value.len() - 5).expect("short").to_be_bytes();
    let cut_inside = [&value[..1], &short[1..], &value[4..value.len() - 1]].concat();
    let damages = damages(&value).into_iter().chain([("cut inside".to_owned(), cut_inside)]);
    for (damage, value) in damages {
        stored.redis.replace(&newer, "SET", &[&value]);
        assert_eq!(verified(&stored).await, older(Damaged::Request), "{damage}");
    }
    stored.redis.replace(&newer, OTHER_TYPE.0, OTHER_TYPE.1);
    assert_eq!(verified(&stored).await, older(Damaged::Request), "another type");
    stored.redis.replace(&newer, "SET", &[&value]);
    stored.redis.replace(&text, OTHER_TYPE.0, OTHER_TYPE.1);
    assert_eq!(verified(&stored).await, older(Damaged::Subject("request_text")));
    for damage in [b"\xff\xfe".as_slice(), b"", b"two words", &[b'x'; 300]] {
        stored.redis.replace(&text, "SET", &[damage]);
        assert_eq!(verified(&stored).await, older(Damaged::Subject("request_text")), "{damage:?}");
    }
    stored.redis.delete(&text);
    assert_eq!(verified(&stored).await, older(Damaged::Subject("request_text")), "missing");
    assert_eq!(stored.store.recent_requests(named(1)).await.expect("the others").len(), 1);
    stored.redis.replace(&text, "SET", &[&id]);
    assert_eq!(verified(&stored).await, (Some("newer".to_owned()), None), "mended");
    for request in ["stored", "newer"] {
        stored.redis.replace(record_key(request), "SET", &[b"x"]);
    }
    assert_eq!(verified(&stored).await, (None, Some(Damaged::Request)));
    for request in ["stored", "newer"] {
        stored.redis.delete(record_key(request));
    }
    assert_eq!(verified(&stored).await, (None, None));
}

fn code_check<'a>(
    limits: &'a Limits,
    digests: &'a [(&'a str, otpost::domain::keyed_digest::Digest16)],
) -> CodeCheck<'a> {
    let check_id = u64::from(digests[0].1.bytes()[0]);
    CodeCheck { recipient: named(1), purpose: "verification", check_id, digests, limits }
}

async fn check_digest(store: &RedisStore, kid: &str, digest: u8) -> Result<Verdict, StoreError> {
    store.verify(&code_check(&limits(), &[(kid, named(digest))])).await.map(verdict)
}

#[tokio::test]
async fn a_damaged_record_stops_no_request_of_another_recipient_with_the_same_id() {
    let Stored { redis, store, request } = Stored::new().await;
    let (key, to) = (record_key("stored"), |recipient| TestRequest { recipient, ..request.clone() });
    let whole = redis.read(&key);
    redis.replace(&key, "SET", &[&whole[..whole.len() - 1]]);
    granted(admit(&store, &to(2)).await);
    assert!(matches!(admit(&store, &to(2).owned_by(2)).await, Admission::Busy(_)), "it has a record");
    let (outcome, other) = (sent(START), to(2));
    let done = store.complete(&completion(other.lease(), &outcome, Refund::None)).await;
    assert_eq!(done.expect("answers"), CompletionAnswer::Recorded);
    assert!(matches!(admit(&store, &other).await, Admission::Completed { ours: true, .. }));
    store.admit(&request.admit()).await.expect_err("its own record is damaged");
    // A record that does not say whose it is may be anyone's.
    redis.replace(&key, "SET", &[&whole[..19]]);
    store.admit(&to(3).admit()).await.expect_err("damaged");
}
