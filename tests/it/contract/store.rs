//! The contract of a store, tested on the one in memory and on a real Redis.

pub mod audit;
mod changed_servers;
mod checks;
mod claims;
mod code_request;
pub mod conversion;
pub mod cost;
mod damaged;
mod damaged_shared;
pub mod defence;
mod failover;
mod forget;
mod forget_redactions;
mod key_checks;
mod limits;
mod log_filter;
mod old_layout;
mod opening;
mod opt_statuses;
mod panics;
mod places;
mod progress;
mod properties;
mod provider_check;
mod receipts;
mod reports;
mod rights;
mod servers;
pub mod shard_charges;
mod shard_nodes;
mod shards;
mod shared;
pub mod spend;
mod suppressions;
mod user_requests;

use std::sync::LazyLock;
use std::time::Duration;

use otpost::clock::Clock;
use otpost::domain::challenge::ChallengeId;
use otpost::domain::history::RequestHistory;
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::limit::{Limit, Limits};
use otpost::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use otpost::domain::request_id::RequestId;
use otpost::domain::time::UnixMillis;
use otpost::domain::verdict::Verdict;
use otpost::store::code_check::{CheckAnswer, CodeCheck};
use otpost::store::memory::MemoryStore;
use otpost::store::redis::RedisStore;
use otpost::store::{
    Admission, AdmissionInput, CompletionAnswer, CompletionInput, Grant, Lease, LimitSubject, Progress,
    ProgressAnswer, ProposedChallenge, Refund, Store,
};

use crate::real;

pub const START: UnixMillis = UnixMillis(1_800_000_000_000);
pub const HOUR: Duration = Duration::from_secs(3_600);
const LIFE: Duration = Duration::from_secs(600);
const LEASE: Duration = Duration::from_secs(20);

/// A store with a settable clock.
pub trait TimedStore: Store {
    fn at(&self, now: UnixMillis);
}

impl TimedStore for MemoryStore {
    fn at(&self, now: UnixMillis) {
        self.set_time(now);
    }
}

impl TimedStore for RedisStore {
    fn at(&self, now: UnixMillis) {
        self.set_time(now);
    }
}

pub static LIMITS: LazyLock<Limits> = LazyLock::new(limits);

pub fn limits() -> Limits {
    Limits::default().with(Limit::User, 3).with(Limit::Ip, 4).with(Limit::Network, 2).with(Limit::All, 0)
}

pub fn named(number: u8) -> Digest16 {
    Digest16::from_bytes([number; 16])
}

/// A request, the lease under which it is admitted, and the challenge that it would start.
#[derive(Clone)]
pub struct TestRequest {
    pub recipient: u8,
    pub purpose: &'static str,
    pub request: RequestId,
    pub owner: u64,
    pub user: Option<Digest16>,
    pub network: Option<Digest16>,
    pub limits: Limits,
    pub requested_at: Option<UnixMillis>,
    pub not_after: Option<UnixMillis>,
    pub challenge: u8,
    pub digest: u8,
    pub kid: &'static str,
    pub callers_code: bool,
    pub history: RequestHistory,
}

pub fn request_to(recipient: u8, request: &str) -> TestRequest {
    TestRequest {
        recipient,
        purpose: "verification",
        request: RequestId::parse(request).expect("valid"),
        owner: 1,
        user: None,
        network: None,
        limits: limits(),
        requested_at: None,
        not_after: None,
        challenge: 100 + recipient,
        digest: 50 + recipient,
        kid: "k1",
        callers_code: false,
        history: RequestHistory::default(),
    }
}

impl TestRequest {
    pub fn owned_by(&self, owner: u64) -> TestRequest {
        TestRequest { owner, ..self.clone() }
    }

    pub fn lease(&self) -> Lease<'_> {
        let subject = LimitSubject {
            recipient: named(self.recipient),
            purpose: self.purpose,
            user: self.user,
            ip: None,
            network: self.network,
        };
        Lease { subject, request_id: &self.request, token: self.owner }
    }

    pub fn admit(&self) -> AdmissionInput<'_> {
        AdmissionInput {
            lease: self.lease(),
            requested_at: self.requested_at,
            not_after: self.not_after,
            code_life: LIFE,
            lease_duration: LEASE,
            proposal: ProposedChallenge {
                id: ChallengeId::from_digest(named(self.challenge)),
                kid: self.kid,
                digest: named(self.digest),
                callers_code: self.callers_code,
            },
            code_key_ids: ",k1,k2,",
            limits: &self.limits,
            reject_if_new: None,
            gate_closed: false,
            crash_suspect_leases_min: u32::MAX,
            country: None,
            history: &self.history,
            spend: None,
        }
    }
}

#[track_caller]
fn granted(admission: Admission) -> Grant {
    match admission {
        Admission::Granted(grant) => grant,
        other => panic!("expected a grant, got {other:?}"),
    }
}

#[track_caller]
fn rejected(admission: Admission) -> OutcomeError {
    match admission {
        Admission::Completed { outcome, .. } if outcome.status == Status::Rejected => {
            outcome.error.expect("a reason")
        }
        other => panic!("expected a rejection, got {other:?}"),
    }
}

pub fn sent(at: UnixMillis) -> Outcome {
    let error = OutcomeError::of(ErrorCode::Internal);
    Outcome {
        status: Status::Sent,
        error: None,
        provider_message_id: Some("SM1".to_owned()),
        attempts: 1,
        ..Outcome::with_error(Status::Sent, at, "verification", error)
    }
}

fn completion<'a>(lease: Lease<'a>, outcome: &'a Outcome, refund: Refund) -> CompletionInput<'a> {
    CompletionInput {
        lease,
        outcome,
        refund,
        limits: &LIMITS,
        found_by_lookup: false,
        message_is_unnamed: false,
        suppression: None,
        poll_receipt_after: None,
        spent: None,
    }
}

fn failed(at: UnixMillis) -> Outcome {
    Outcome::with_error(Status::Failed, at, "verification", OutcomeError::of(ErrorCode::ProviderRejected))
}

async fn verify(store: &dyn TimedStore, recipient: u8, check_id: u64, digest: u8) -> Verdict {
    verify_under(store, recipient, check_id, &[("k1", named(digest))]).await
}

async fn verify_under(
    store: &dyn TimedStore,
    recipient: u8,
    check_id: u64,
    digests: &[(&str, Digest16)],
) -> Verdict {
    let limits = limits();
    let check = CodeCheck {
        recipient: named(recipient),
        purpose: "verification",
        check_id,
        digests,
        limits: &limits,
    };
    verdict(store.verify(&check).await.expect("the store answers"))
}

fn verdict(answer: CheckAnswer) -> Verdict {
    match answer {
        CheckAnswer::Verified { .. } => Verdict::Verified,
        CheckAnswer::NotVerified(verdict) => verdict,
    }
}

async fn admit(store: &dyn TimedStore, request: &TestRequest) -> Admission {
    store.admit(&request.admit()).await.expect("the store answers")
}

/// Admits a request and completes it as sent.
async fn grant_and_complete(store: &dyn TimedStore, request: &TestRequest) -> Grant {
    let grant = granted(admit(store, request).await);
    let outcome = sent(grant.now);
    let result = store.complete(&completion(request.lease(), &outcome, Refund::None)).await;
    assert_eq!(result.expect("answers"), CompletionAnswer::Recorded);
    grant
}

/// Tests every promise, each with its own recipients.
pub async fn keeps_its_promises(store: &dyn TimedStore) {
    a_repeated_admission_gets_the_same_answer_and_one_charge(store).await;
    a_completed_request_is_replayed_to_other_leases(store).await;
    limits::limits_slide_and_say_when_to_retry(store).await;
    limits::a_refund_returns_the_charge_but_not_the_cooldown(store).await;
    limits::a_cooldown_lasts_as_long_as_its_request_may_be_sent(store).await;
    limits::refunds_after_refusals_are_limited(store).await;
    an_expired_lease_is_in_doubt_but_not_while_waiting(store).await;
    a_crash_suspect_is_admitted_with_a_higher_bound(store).await;
    a_requeued_request_is_free_when_its_next_attempt_is_due(store).await;
    only_the_owner_can_complete_a_request_as_not_sent(store).await;
    no_attempt_starts_after_the_code_was_used(store).await;
    a_refused_request_is_rejected_if_it_is_new(store).await;
    the_epoch_is_a_valid_time(store).await;
    a_request_with_too_little_time_left_is_expired(store).await;
    a_resend_continues_the_challenge_while_enough_life_is_left(store).await;
    checks::a_code_works_once(store).await;
    checks::five_wrong_attempts_lock_a_challenge(store).await;
    checks::ten_wrong_attempts_in_an_hour_lock_a_recipient(store).await;
    checks::a_check_whose_answer_was_lost_is_counted_once(store).await;
    checks::a_check_without_the_key_is_not_counted(store).await;
    checks::an_undone_check_leaves_its_code_to_the_next_one(store).await;
    limits::a_users_limit_spans_recipients(store).await;
    limits::a_networks_limit_spans_recipients_and_is_refunded(store).await;
    limits::a_refund_frees_only_what_its_request_was_charged(store).await;
    limits::a_rejection_names_its_limit(store).await;
    the_first_outcome_stays(store).await;
    claims::keeps_its_promises(store).await;
    key_checks::keeps_its_promises(store).await;
    code_request::keeps_its_promises(store).await;
    conversion::keeps_its_promises(store).await;
    log_filter::keeps_its_promises(store).await;
    audit::keeps_its_promises(store).await;
    panics::keeps_its_promises(store).await;
    progress::keeps_its_promises(store).await;
    provider_check::keeps_its_promises(store).await;
    receipts::keeps_its_promises(store).await;
    shared::keeps_its_promises(store).await;
    suppressions::keeps_its_promises(store).await;
    opt_statuses::keeps_its_promises(store).await;
    user_requests::keeps_its_promises(store).await;
    forget::keeps_its_promises(store).await;
    forget_redactions::keeps_its_promises(store).await;
    // Their times are years later, each after the one before.
    defence::keeps_its_promises(store).await;
    spend::keeps_its_promises(store).await;
}

async fn a_repeated_admission_gets_the_same_answer_and_one_charge(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(1, "once");
    let first = granted(admit(store, &request).await);
    assert_eq!(granted(admit(store, &request).await), first);
    assert_eq!(first.attempt, 1);
    let usage = store.usage(&request.lease().subject, None, &limits()).await.expect("the store answers");
    assert_eq!((usage.used, usage.used_day, usage.cooldown_left), (1, 1, Duration::from_secs(30)));
}

async fn a_completed_request_is_replayed_to_other_leases(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(2, "ended");
    granted(admit(store, &request).await);
    let outcome = sent(START);
    let completion = completion(request.lease(), &outcome, Refund::None);
    assert_eq!(store.complete(&completion).await.expect("answers"), CompletionAnswer::Recorded);
    let replay = Admission::Completed { outcome: sent(START), ours: false };
    assert_eq!(admit(store, &request.owned_by(2)).await, replay);
    store.at(START.plus(24 * HOUR - Duration::from_millis(1)));
    assert_eq!(admit(store, &request.owned_by(2)).await, replay);
    store.at(START.plus(24 * HOUR));
    granted(admit(store, &request.owned_by(2)).await);
}

async fn an_expired_lease_is_in_doubt_but_not_while_waiting(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(6, "dead");
    let first = granted(admit(store, &request).await);
    assert_eq!(admit(store, &request.owned_by(2)).await, Admission::Busy(LEASE));
    store.at(START.plus(LEASE));
    let Admission::InDoubt(doubt) = admit(store, &request.owned_by(2)).await else {
        panic!("a dead lease is doubt")
    };
    assert_eq!((doubt.attempt, doubt.challenge, doubt.admitted_at), (1, first.challenge, START));
    assert!(
        matches!(admit(store, &request.owned_by(2)).await, Admission::InDoubt(_)),
        "the same answer again"
    );
    assert_eq!(
        store
            .update_progress(&request.lease(), Some(1), Progress::Waiting(LEASE), None)
            .await
            .expect("answers"),
        ProgressAnswer::LeaseNotHeld
    );

    let waiting = request_to(7, "waiting");
    store.at(START);
    granted(admit(store, &waiting).await);
    let result = store
        .update_progress(&waiting.lease(), Some(1), Progress::Waiting(Duration::from_secs(3)), None)
        .await
        .expect("answers");
    assert_eq!(result, ProgressAnswer::Applied);
    assert_eq!(admit(store, &waiting.owned_by(2)).await, Admission::Busy(Duration::from_secs(3)));
    store.at(START.plus(Duration::from_secs(3)));
    assert_eq!(granted(admit(store, &waiting.owned_by(2)).await).attempt, 2);
}

async fn a_crash_suspect_is_admitted_with_a_higher_bound(store: &dyn TimedStore) {
    let request = request_to(51, "deadly");
    store.at(START);
    granted(admit(store, &request).await);
    let later = |nth: u32| START.plus(LEASE * nth);
    let below_two = AdmissionInput { crash_suspect_leases_min: 2, ..request.admit() };
    let by = |token| AdmissionInput { lease: Lease { token, ..below_two.lease }, ..below_two };
    store.at(later(1));
    assert_eq!(progress::in_doubt(store.admit(&by(2)).await.expect("answers")).unfinished_leases, 2);
    assert!(matches!(store.admit(&by(3)).await.expect("answers"), Admission::Busy(_)));
    store.at(later(2));
    let suspect = |unfinished_leases| Admission::CrashSuspect {
        unfinished_leases,
        time_left: LIFE - LEASE * unfinished_leases,
    };
    assert_eq!(store.admit(&by(3)).await.expect("answers"), suspect(2));
    assert_eq!(
        progress::in_doubt(store.admit(&by(2)).await.expect("answers")).unfinished_leases,
        2,
        "its owner keeps the lease"
    );
    store.at(later(3));
    assert_eq!(progress::in_doubt(admit(store, &request.owned_by(3)).await).unfinished_leases, 3);
    store.at(later(4));
    let late = Admission::CrashSuspect { unfinished_leases: 3, time_left: LIFE - LEASE * 4 };
    assert_eq!(store.admit(&by(4)).await.expect("answers"), late);
    store.at(START.plus(LIFE + LEASE));
    let over = Admission::CrashSuspect { unfinished_leases: 3, time_left: Duration::ZERO };
    assert_eq!(store.admit(&by(4)).await.expect("answers"), over);
}

async fn a_requeued_request_is_free_when_its_next_attempt_is_due(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(8, "back");
    let first = granted(admit(store, &request).await);
    let due = Duration::from_secs(7);
    store
        .update_progress(
            &request.lease(),
            Some(1),
            Progress::Requeued { retry_in: due, in_doubt: false },
            None,
        )
        .await
        .expect("answers");
    assert_eq!(admit(store, &request.owned_by(2)).await, Admission::Busy(due));
    store.at(START.plus(due));
    let second = granted(admit(store, &request.owned_by(2)).await);
    assert_eq!((second.attempt, second.challenge), (2, first.challenge));
    let unmade = Progress::Requeued { retry_in: Duration::ZERO, in_doubt: false };
    store.update_progress(&request.owned_by(2).lease(), Some(1), unmade, None).await.expect("answers");
    assert_eq!(
        granted(admit(store, &request.owned_by(3)).await).attempt,
        2,
        "an attempt that was not made does not count"
    );
}

async fn only_the_owner_can_complete_a_request_as_not_sent(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(21, "held");
    granted(admit(store, &request).await);
    let other = request.owned_by(2);
    let outcome = failed(START);
    let not_sent = completion(other.lease(), &outcome, Refund::Full);
    assert_eq!(store.complete(&not_sent).await.expect("answers"), CompletionAnswer::MayHaveBeenSent);
    let outcome = sent(START);
    let sent_after_all = completion(other.lease(), &outcome, Refund::None);
    assert_eq!(store.complete(&sent_after_all).await.expect("answers"), CompletionAnswer::Recorded);
}

async fn no_attempt_starts_after_the_code_was_used(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(22, "stale");
    granted(admit(store, &request).await);
    store.update_progress(&request.lease(), Some(1), Progress::Waiting(LEASE), None).await.expect("answers");
    assert_eq!(verify(store, 22, 1, 72).await, Verdict::Verified);
    let next = Progress::Sending(LEASE);
    assert_eq!(
        store.update_progress(&request.lease(), Some(1), next, None).await.expect("answers"),
        ProgressAnswer::ChallengeUsedOrReplaced
    );
}

async fn a_refused_request_is_rejected_if_it_is_new(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(23, "open");
    granted(admit(store, &request).await);
    let outcome = sent(START);
    let completion = completion(request.lease(), &outcome, Refund::None);
    store.complete(&completion).await.expect("answers");
    let other = request.owned_by(2);
    let error = OutcomeError::detailed(ErrorCode::InvalidRequest, "`code` is \"refused\"");
    let refused = Some(&error);
    let closed = AdmissionInput { reject_if_new: refused, ..other.admit() };
    let replay = Admission::Completed { outcome: sent(START), ours: false };
    assert_eq!(store.admit(&closed).await.expect("answers"), replay);
    let new = request_to(24, "new");
    let admission =
        store.admit(&AdmissionInput { reject_if_new: refused, ..new.admit() }).await.expect("answers");
    assert_eq!(rejected(admission), error);
    let begun = request_to(24, "begun");
    let first = granted(admit(store, &begun).await);
    store.at(START.plus(LEASE));
    let again = begun.owned_by(2);
    let taken_over =
        store.admit(&AdmissionInput { reject_if_new: refused, ..again.admit() }).await.expect("answers");
    let Admission::InDoubt(grant) = taken_over else { panic!("an admitted request goes on: {taken_over:?}") };
    assert_eq!((grant.challenge, grant.sends), (first.challenge, 0));
}

async fn the_epoch_is_a_valid_time(store: &dyn TimedStore) {
    store.at(START);
    let epoch = Some(UnixMillis(0));
    for (request, not_after, requested_at) in [("not-after", epoch, None), ("requested", None, epoch)] {
        let request = TestRequest { not_after, requested_at, ..request_to(25, request) };
        assert_eq!(rejected(admit(store, &request).await).code, ErrorCode::Expired);
    }
}

async fn a_request_with_too_little_time_left_is_expired(store: &dyn TimedStore) {
    store.at(START);
    let too_soon =
        TestRequest { not_after: Some(START.plus(Duration::from_secs(29))), ..request_to(9, "soon") };
    assert_eq!(rejected(admit(store, &too_soon).await).code, ErrorCode::Expired);
    let old = TestRequest { requested_at: Some(UnixMillis(START.0 - 571_000)), ..request_to(9, "old") };
    assert_eq!(rejected(admit(store, &old).await).code, ErrorCode::Expired);
    let from_the_future =
        TestRequest { requested_at: Some(START.plus(24 * HOUR)), ..request_to(9, "future") };
    assert_eq!(granted(admit(store, &from_the_future).await).deadline, START.plus(LIFE));
}

async fn a_resend_continues_the_challenge_while_enough_life_is_left(store: &dyn TimedStore) {
    store.at(START);
    let first = grant_and_complete(store, &request_to(10, "resend-1")).await;
    store.at(START.plus(Duration::from_secs(480)));
    let other = TestRequest { challenge: 210, digest: 211, ..request_to(10, "resend-2") };
    let second = grant_and_complete(store, &other).await;
    assert_eq!(
        (second.challenge, second.digest, second.expires_at),
        (first.challenge, first.digest, first.expires_at)
    );
    assert_eq!(second.deadline, first.expires_at);
    store.at(START.plus(Duration::from_millis(510_001)));
    let third =
        grant_and_complete(store, &TestRequest { challenge: 212, ..request_to(10, "resend-3") }).await;
    assert_eq!(third.challenge, ChallengeId::from_digest(named(212)));
    store.at(START.plus(Duration::from_secs(541)));
    let callers =
        TestRequest { callers_code: true, challenge: 213, digest: 214, ..request_to(10, "resend-4") };
    assert_eq!(grant_and_complete(store, &callers).await.challenge, ChallengeId::from_digest(named(213)));
    store.at(START.plus(Duration::from_secs(572)));
    let same =
        TestRequest { challenge: 215, request: RequestId::parse("resend-5").expect("valid"), ..callers };
    assert_eq!(grant_and_complete(store, &same).await.challenge, ChallengeId::from_digest(named(213)));
}

async fn the_first_outcome_stays(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(20, "end");
    granted(admit(store, &request).await);
    let other = request.owned_by(2);
    let outcome = sent(START);
    let first = completion(request.lease(), &outcome, Refund::None);
    let outcome = failed(START);
    let second = completion(other.lease(), &outcome, Refund::FullAndCounted);
    assert_eq!(store.complete(&first).await.expect("answers"), CompletionAnswer::Recorded);
    assert_eq!(store.complete(&first).await.expect("answers"), CompletionAnswer::Recorded);
    assert_eq!(
        store.complete(&second).await.expect("answers"),
        CompletionAnswer::AlreadyCompleted(sent(START))
    );
    let usage = store.usage(&request.lease().subject, None, &limits()).await.expect("the store answers");
    assert_eq!(usage.used, 1, "an outcome that was not recorded refunds nothing");
}

#[tokio::test]
async fn memory_keeps_its_promises() {
    keeps_its_promises(&MemoryStore::new(Clock::System)).await;
}

#[tokio::test]
async fn redis_keeps_its_promises() {
    let redis = real::Redis::fresh();
    keeps_its_promises(&redis.store()).await;
    redis.expect_only_these_without_a_ttl(&[":format", ":kill", ":n", ":n", ":s", ":s", ":suppressed"]);
}
