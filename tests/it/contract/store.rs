//! What every store promises, asked of the one in memory and of a real Redis.

mod doubt;
mod elsewhere;
mod failover;
mod properties;
mod receipts;
mod shared;
mod suppressions;

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
use otpost::store::code_check::CodeCheck;
use otpost::store::memory::MemoryStore;
use otpost::store::redis::RedisStore;
use otpost::store::{
    Admission, Admit, CompleteRequest, CompleteResult, Grant, Lease, Progress, ProgressResult,
    ProposedChallenge, Refund, Store, Subject,
};

use crate::real;

pub const START: UnixMillis = UnixMillis(1_800_000_000_000);
pub const HOUR: Duration = Duration::from_secs(3_600);
const LIFE: Duration = Duration::from_secs(600);
const LEASE: Duration = Duration::from_secs(20);

/// A store whose time a test sets.
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

pub fn limits() -> Limits {
    Limits::default().with(Limit::User, 3).with(Limit::Ip, 4).with(Limit::All, 0)
}

pub fn named(number: u8) -> Digest16 {
    Digest16::from_random([number; 16])
}

/// A request of one recipient, with the challenge that it would start.
#[derive(Clone)]
pub struct Ask {
    pub recipient: u8,
    pub purpose: &'static str,
    pub request: RequestId,
    pub owner: u64,
    pub user: Option<Digest16>,
    pub limits: Limits,
    pub requested_at: Option<UnixMillis>,
    pub not_after: Option<UnixMillis>,
    pub challenge: u8,
    pub digest: u8,
    pub kid: &'static str,
    pub callers_code: bool,
    pub notes: RequestHistory,
}

pub fn ask(recipient: u8, request: &str) -> Ask {
    Ask {
        recipient,
        purpose: "verification",
        request: RequestId::parse(request).expect("valid"),
        owner: 1,
        user: None,
        limits: limits(),
        requested_at: None,
        not_after: None,
        challenge: 100 + recipient,
        digest: 50 + recipient,
        kid: "k1",
        callers_code: false,
        notes: RequestHistory::default(),
    }
}

impl Ask {
    pub fn owned_by(&self, owner: u64) -> Ask {
        Ask { owner, ..self.clone() }
    }

    pub fn handling(&self) -> Lease<'_> {
        let subject =
            Subject { recipient: named(self.recipient), purpose: self.purpose, user: self.user, ip: None };
        Lease { subject, request: &self.request, token: self.owner }
    }

    pub fn admit(&self) -> Admit<'_> {
        Admit {
            lease: self.handling(),
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
            known_kids: ",k1,k2,",
            limits: &self.limits,
            channel_disabled: false,
            paused: false,
            unfinished_leases_below: u32::MAX,
            country: None,
            history: &self.notes,
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
fn refused(admission: Admission) -> OutcomeError {
    match admission {
        Admission::Completed { outcome, .. } if outcome.status == Status::Rejected => {
            outcome.error.expect("a reason")
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

pub fn sent(at: UnixMillis) -> Outcome {
    let error = OutcomeError::of(ErrorCode::Internal);
    Outcome {
        status: Status::Sent,
        error: None,
        provider_message_id: Some("SM1".to_owned()),
        attempts: 1,
        ..Outcome::refused(Status::Sent, at, "verification", error)
    }
}

fn settle<'a>(handling: Lease<'a>, outcome: &'a Outcome, refund: Refund) -> CompleteRequest<'a> {
    CompleteRequest {
        lease: handling,
        outcome,
        refund,
        found_by_lookup: false,
        suppression: None,
        receipt_due: None,
    }
}

fn failed(at: UnixMillis) -> Outcome {
    Outcome::refused(Status::Failed, at, "verification", OutcomeError::of(ErrorCode::ProviderRejected))
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
    store.verify(&check).await.expect("the store answers")
}

async fn admit(store: &dyn TimedStore, ask: &Ask) -> Admission {
    store.admit(&ask.admit()).await.expect("the store answers")
}

/// Admits a request, and ends it as sent at once.
async fn granted_and_sent(store: &dyn TimedStore, ask: &Ask) -> Grant {
    let grant = granted(admit(store, ask).await);
    let outcome = sent(grant.now);
    let settled = store.complete(&settle(ask.handling(), &outcome, Refund::None)).await;
    assert_eq!(settled.expect("answers"), CompleteResult::Recorded);
    grant
}

/// Every promise in turn, each with a recipient of its own.
async fn keeps_its_promises(store: &dyn TimedStore) {
    a_request_is_charged_once_and_answered_the_same_to_its_owner(store).await;
    an_ended_request_is_replayed_to_others(store).await;
    limits_slide_and_tell_when_to_come_back(store).await;
    a_cooldown_is_not_given_back_but_a_charge_is(store).await;
    a_cooldown_lasts_as_long_as_its_request_may_be_sent(store).await;
    refusals_of_a_provider_are_no_free_loop(store).await;
    a_dead_lease_is_in_doubt_and_a_waiting_one_is_not(store).await;
    a_request_that_handlings_died_with_is_taken_up_by_who_wants_it_all_the_same(store).await;
    a_request_given_back_is_free_when_its_next_try_is_due(store).await;
    only_who_holds_a_request_can_say_that_nothing_was_sent(store).await;
    a_try_with_a_code_that_was_used_meanwhile_is_stale(store).await;
    a_closed_channel_refuses_what_is_new(store).await;
    any_time_is_a_time(store).await;
    too_little_time_left_is_expired(store).await;
    a_resend_continues_the_challenge_while_it_is_young(store).await;
    a_code_works_once(store).await;
    five_wrong_tries_lock_a_challenge(store).await;
    ten_wrong_tries_in_an_hour_lock_a_recipient(store).await;
    a_try_whose_answer_was_lost_is_counted_once(store).await;
    an_unknown_key_counts_nothing(store).await;
    a_users_limit_holds_over_recipients(store).await;
    the_first_end_stays(store).await;
    doubt::keeps_its_promises(store).await;
    elsewhere::keeps_its_promises(store).await;
    receipts::keeps_its_promises(store).await;
    shared::keeps_its_promises(store).await;
    suppressions::keeps_its_promises(store).await;
}

async fn a_request_is_charged_once_and_answered_the_same_to_its_owner(store: &dyn TimedStore) {
    store.at(START);
    let request = ask(1, "once");
    let first = granted(admit(store, &request).await);
    assert_eq!(granted(admit(store, &request).await), first);
    assert_eq!(first.attempt, 1);
    let usage = store.usage(&request.handling().subject, None, &limits()).await.expect("the store answers");
    assert_eq!((usage.used, usage.used_day, usage.cooldown), (1, 1, Duration::from_secs(30)));
}

async fn an_ended_request_is_replayed_to_others(store: &dyn TimedStore) {
    store.at(START);
    let request = ask(2, "ended");
    granted(admit(store, &request).await);
    let outcome = sent(START);
    let settle = settle(request.handling(), &outcome, Refund::None);
    assert_eq!(store.complete(&settle).await.expect("answers"), CompleteResult::Recorded);
    let replay = Admission::Completed { outcome: sent(START), ours: false };
    assert_eq!(admit(store, &request.owned_by(2)).await, replay);
    store.at(START.plus(24 * HOUR - Duration::from_millis(1)));
    assert_eq!(admit(store, &request.owned_by(2)).await, replay);
    store.at(START.plus(24 * HOUR));
    granted(admit(store, &request.owned_by(2)).await);
}

async fn limits_slide_and_tell_when_to_come_back(store: &dyn TimedStore) {
    for number in 0..5_u32 {
        store.at(START.plus(Duration::from_secs(60) * number));
        granted_and_sent(store, &ask(3, &format!("slide-{number}"))).await;
    }
    store.at(START.plus(Duration::from_secs(300)));
    let refusal = refused(admit(store, &ask(3, "slide-5")).await);
    assert_eq!((refusal.code, refusal.retry_after), (ErrorCode::RateLimited, Some(3_300)));
    store.at(START.plus(HOUR));
    granted_and_sent(store, &ask(3, "slide-6")).await;
    let again = refused(admit(store, &ask(3, "slide-7")).await);
    assert_eq!((again.code, again.retry_after), (ErrorCode::RateLimited, Some(60)));
}

async fn a_cooldown_is_not_given_back_but_a_charge_is(store: &dyn TimedStore) {
    store.at(START);
    let request = ask(4, "refund");
    granted(admit(store, &request).await);
    let outcome = failed(START);
    let settle = settle(request.handling(), &outcome, Refund::Counted);
    store.complete(&settle).await.expect("answers");
    let usage = store.usage(&request.handling().subject, None, &limits()).await.expect("the store answers");
    assert_eq!(usage.used, 0);
    let refusal = refused(admit(store, &ask(4, "next")).await);
    assert_eq!((refusal.code, refusal.retry_after), (ErrorCode::Cooldown, Some(30)));
    store.at(START.plus(Duration::from_secs(30)));
    granted(admit(store, &ask(4, "later")).await);
}

/// Two messages to one number that are in doubt together could not be told apart.
async fn a_cooldown_lasts_as_long_as_its_request_may_be_sent(store: &dyn TimedStore) {
    let refused_for = async |request: &str, at: UnixMillis| {
        store.at(at);
        let refusal = refused(admit(store, &ask(90, request)).await);
        assert_eq!(refusal.code, ErrorCode::Cooldown);
        let usage = store.usage(&ask(90, request).handling().subject, None, &limits()).await;
        let cooldown = usage.expect("the store answers").cooldown;
        assert_eq!(Some(cooldown.as_secs()), refusal.retry_after, "and whoever asks first is told so");
        cooldown.as_secs()
    };
    let at = |seconds| START.plus(Duration::from_secs(seconds));
    store.at(START);
    let first = ask(90, "doubtful%1");
    granted(admit(store, &first).await);
    let doubt = Progress::InDoubt(Duration::from_secs(45));
    store.update_progress(&first.handling(), Some(1), doubt, None).await.expect("answers");
    assert_eq!(refused_for("too-soon", at(10)).await, 20, "the cooldown itself");
    assert_eq!(refused_for("in-doubt", at(30)).await, 15, "until somebody else would take it up");
    assert_eq!(refused_for("nobody-has-it", at(599)).await, 1);
    store.at(at(600));
    granted(admit(store, &ask(90, "past-its-deadline")).await);
    // One that has ended makes nobody wait.
    let outcome = sent(at(600));
    let last = ask(90, "past-its-deadline");
    store.complete(&settle(last.handling(), &outcome, Refund::None)).await.expect("answers");
    store.at(at(630));
    granted(admit(store, &ask(90, "after-its-end")).await);
    // Without a cooldown nobody waits for anybody.
    let limits = Limits { cooldown: Duration::ZERO, ..limits() };
    for request in ["free-1", "free-2"] {
        granted(admit(store, &Ask { limits, ..ask(91, request) }).await);
    }
}

async fn refusals_of_a_provider_are_no_free_loop(store: &dyn TimedStore) {
    for number in 0..10_u32 {
        store.at(START.plus(Duration::from_secs(30) * number));
        let request = ask(5, &format!("free-{number}"));
        granted(admit(store, &request).await);
        let outcome = failed(START);
        let settle = settle(request.handling(), &outcome, Refund::Counted);
        store.complete(&settle).await.expect("answers");
    }
    store.at(START.plus(Duration::from_secs(600)));
    assert_eq!(refused(admit(store, &ask(5, "free-10")).await).code, ErrorCode::RateLimited);
}

async fn a_dead_lease_is_in_doubt_and_a_waiting_one_is_not(store: &dyn TimedStore) {
    store.at(START);
    let request = ask(6, "dead");
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
            .update_progress(&request.handling(), Some(1), Progress::Waiting(LEASE), None)
            .await
            .expect("answers"),
        ProgressResult::NotOwner
    );

    let waiting = ask(7, "waiting");
    store.at(START);
    granted(admit(store, &waiting).await);
    let marked = store
        .update_progress(&waiting.handling(), Some(1), Progress::Waiting(Duration::from_secs(3)), None)
        .await
        .expect("answers");
    assert_eq!(marked, ProgressResult::Applied);
    assert_eq!(admit(store, &waiting.owned_by(2)).await, Admission::Busy(Duration::from_secs(3)));
    store.at(START.plus(Duration::from_secs(3)));
    assert_eq!(granted(admit(store, &waiting.owned_by(2)).await).attempt, 2);
}

async fn a_request_that_handlings_died_with_is_taken_up_by_who_wants_it_all_the_same(store: &dyn TimedStore) {
    let request = ask(51, "deadly");
    store.at(START);
    granted(admit(store, &request).await);
    let later = |nth: u32| START.plus(LEASE * nth);
    let careful = Admit { unfinished_leases_below: 2, ..request.admit() };
    let by = |token| Admit { lease: Lease { token, ..careful.lease }, ..careful };
    store.at(later(1));
    assert_eq!(doubt::in_doubt(store.admit(&by(2)).await.expect("answers")).unfinished_leases, 2);
    assert!(matches!(store.admit(&by(3)).await.expect("answers"), Admission::Busy(_)));
    store.at(later(2));
    let suspect =
        |leases| Admission::CrashSuspect { unfinished_leases: leases, time_left: LIFE - LEASE * leases };
    assert_eq!(store.admit(&by(3)).await.expect("answers"), suspect(2));
    assert_eq!(
        doubt::in_doubt(store.admit(&by(2)).await.expect("answers")).unfinished_leases,
        2,
        "its owner keeps it"
    );
    store.at(later(3));
    assert_eq!(doubt::in_doubt(admit(store, &request.owned_by(3)).await).unfinished_leases, 3);
    store.at(later(4));
    let late = Admission::CrashSuspect { unfinished_leases: 3, time_left: LIFE - LEASE * 4 };
    assert_eq!(store.admit(&by(4)).await.expect("answers"), late);
    store.at(START.plus(LIFE + LEASE));
    let over = Admission::CrashSuspect { unfinished_leases: 3, time_left: Duration::ZERO };
    assert_eq!(store.admit(&by(4)).await.expect("answers"), over);
}

async fn a_request_given_back_is_free_when_its_next_try_is_due(store: &dyn TimedStore) {
    store.at(START);
    let request = ask(8, "back");
    let first = granted(admit(store, &request).await);
    let due = Duration::from_secs(7);
    store
        .update_progress(&request.handling(), Some(1), Progress::Requeued { due, in_doubt: false }, None)
        .await
        .expect("answers");
    assert_eq!(admit(store, &request.owned_by(2)).await, Admission::Busy(due));
    store.at(START.plus(due));
    let second = granted(admit(store, &request.owned_by(2)).await);
    assert_eq!((second.attempt, second.challenge), (2, first.challenge));
    let untried = Progress::Requeued { due: Duration::ZERO, in_doubt: false };
    store.update_progress(&request.owned_by(2).handling(), Some(1), untried, None).await.expect("answers");
    assert_eq!(
        granted(admit(store, &request.owned_by(3)).await).attempt,
        2,
        "a try that was not made is no try"
    );
}

async fn only_who_holds_a_request_can_say_that_nothing_was_sent(store: &dyn TimedStore) {
    store.at(START);
    let request = ask(21, "held");
    granted(admit(store, &request).await);
    let other = request.owned_by(2);
    let outcome = failed(START);
    let nothing = settle(other.handling(), &outcome, Refund::Free);
    assert_eq!(store.complete(&nothing).await.expect("answers"), CompleteResult::NotOwner);
    let outcome = sent(START);
    let something = settle(other.handling(), &outcome, Refund::None);
    assert_eq!(store.complete(&something).await.expect("answers"), CompleteResult::Recorded);
}

async fn a_try_with_a_code_that_was_used_meanwhile_is_stale(store: &dyn TimedStore) {
    store.at(START);
    let request = ask(22, "stale");
    granted(admit(store, &request).await);
    store
        .update_progress(&request.handling(), Some(1), Progress::Waiting(LEASE), None)
        .await
        .expect("answers");
    assert_eq!(verify(store, 22, 1, 72).await, Verdict::Verified);
    let next = Progress::Sending(LEASE);
    assert_eq!(
        store.update_progress(&request.handling(), Some(1), next, None).await.expect("answers"),
        ProgressResult::ChallengeReplaced
    );
}

async fn a_closed_channel_refuses_what_is_new(store: &dyn TimedStore) {
    store.at(START);
    let request = ask(23, "open");
    granted(admit(store, &request).await);
    let outcome = sent(START);
    let settle = settle(request.handling(), &outcome, Refund::None);
    store.complete(&settle).await.expect("answers");
    let other = request.owned_by(2);
    let closed = Admit { channel_disabled: true, ..other.admit() };
    let replay = Admission::Completed { outcome: sent(START), ours: false };
    assert_eq!(store.admit(&closed).await.expect("answers"), replay);
    let new = ask(24, "new");
    let refusal =
        refused(store.admit(&Admit { channel_disabled: true, ..new.admit() }).await.expect("answers"));
    assert_eq!(refusal.code, ErrorCode::ChannelDisabled);
}

async fn any_time_is_a_time(store: &dyn TimedStore) {
    store.at(START);
    let epoch = Some(UnixMillis(0));
    for (request, not_after, requested_at) in [("not-after", epoch, None), ("requested", None, epoch)] {
        let ask = Ask { not_after, requested_at, ..ask(25, request) };
        assert_eq!(refused(admit(store, &ask).await).code, ErrorCode::Expired);
    }
}

async fn too_little_time_left_is_expired(store: &dyn TimedStore) {
    store.at(START);
    let too_soon = Ask { not_after: Some(START.plus(Duration::from_secs(29))), ..ask(9, "soon") };
    assert_eq!(refused(admit(store, &too_soon).await).code, ErrorCode::Expired);
    let old = Ask { requested_at: Some(UnixMillis(START.0 - 571_000)), ..ask(9, "old") };
    assert_eq!(refused(admit(store, &old).await).code, ErrorCode::Expired);
    let from_the_future = Ask { requested_at: Some(START.plus(24 * HOUR)), ..ask(9, "future") };
    assert_eq!(granted(admit(store, &from_the_future).await).deadline, START.plus(LIFE));
}

async fn a_resend_continues_the_challenge_while_it_is_young(store: &dyn TimedStore) {
    store.at(START);
    let first = granted_and_sent(store, &ask(10, "resend-1")).await;
    store.at(START.plus(Duration::from_secs(480)));
    let other = Ask { challenge: 210, digest: 211, ..ask(10, "resend-2") };
    let second = granted_and_sent(store, &other).await;
    assert_eq!(
        (second.challenge, second.digest, second.expires_at),
        (first.challenge, first.digest, first.expires_at)
    );
    assert_eq!(second.deadline, first.expires_at);
    store.at(START.plus(Duration::from_millis(510_001)));
    let third = granted_and_sent(store, &Ask { challenge: 212, ..ask(10, "resend-3") }).await;
    assert_eq!(third.challenge, ChallengeId::from_digest(named(212)));
    store.at(START.plus(Duration::from_secs(541)));
    let callers = Ask { callers_code: true, challenge: 213, digest: 214, ..ask(10, "resend-4") };
    assert_eq!(granted_and_sent(store, &callers).await.challenge, ChallengeId::from_digest(named(213)));
    store.at(START.plus(Duration::from_secs(572)));
    let same = Ask { challenge: 215, request: RequestId::parse("resend-5").expect("valid"), ..callers };
    assert_eq!(granted_and_sent(store, &same).await.challenge, ChallengeId::from_digest(named(213)));
}

async fn a_code_works_once(store: &dyn TimedStore) {
    store.at(START);
    assert_eq!(verify(store, 11, 1, 61).await, Verdict::NonePending);
    granted(admit(store, &ask(11, "works")).await);
    assert_eq!(verify(store, 11, 2, 0).await, Verdict::Wrong { attempts_left: 4 });
    assert_eq!(verify(store, 11, 3, 61).await, Verdict::Verified);
    assert_eq!(verify(store, 11, 3, 61).await, Verdict::Verified, "asked again after a lost answer");
    assert_eq!(verify(store, 11, 4, 61).await, Verdict::AlreadyUsed);
    store.at(START.plus(LIFE + HOUR));
    assert_eq!(verify(store, 11, 5, 61).await, Verdict::NonePending);
}

async fn five_wrong_tries_lock_a_challenge(store: &dyn TimedStore) {
    store.at(START);
    granted(admit(store, &ask(12, "lock")).await);
    for (check_id, attempts_left) in (1..).zip([4, 3, 2, 1, 0]) {
        assert_eq!(verify(store, 12, check_id, 0).await, Verdict::Wrong { attempts_left });
    }
    assert_eq!(verify(store, 12, 6, 62).await, Verdict::Locked { retry_after: None });
    store.at(START.plus(LIFE));
    assert_eq!(verify(store, 12, 7, 62).await, Verdict::Expired { at: START.plus(LIFE) });
}

/// No code can be checked then, and none is sent: it would cost a message and be of no use.
async fn ten_wrong_tries_in_an_hour_lock_a_recipient(store: &dyn TimedStore) {
    let late = |seconds| Duration::from_secs(seconds);
    store.at(START);
    granted_and_sent(store, &Ask { challenge: 220, ..ask(13, "hour-0") }).await;
    for check_id in 0..5 {
        verify(store, 13, check_id, 0).await;
    }
    store.at(START.plus(late(40)));
    granted_and_sent(store, &Ask { challenge: 221, ..ask(13, "hour-1") }).await;
    for check_id in 5..9 {
        verify(store, 13, check_id, 0).await;
    }
    assert_eq!(verify(store, 13, 9, 63).await, Verdict::Verified);
    store.at(START.plus(late(80)));
    granted_and_sent(store, &Ask { challenge: 222, ..ask(13, "hour-2") }).await;
    assert_eq!(verify(store, 13, 10, 0).await, Verdict::Wrong { attempts_left: 4 });
    let locked = Verdict::Locked { retry_after: Some(HOUR - late(80)) };
    assert_eq!(verify(store, 13, 99, 63).await, locked);
    store.at(START.plus(late(120)));
    let third = ask(13, "hour-3");
    let usage = store.usage(&third.handling().subject, None, &limits()).await.expect("the store answers");
    assert_eq!((usage.wrong, usage.limited_for), (10, HOUR - late(120)));
    let error = refused(admit(store, &third).await);
    assert_eq!((error.code, error.retry_after), (ErrorCode::RateLimited, Some(3_480)));
    // The first five leave the hour together.
    store.at(START.plus(HOUR));
    granted(admit(store, &ask(13, "hour-4")).await);

    // A code that is locked itself says what another one does not help against.
    for (at, challenge, request) in [(0, 223, "both-0"), (40, 224, "both-1")] {
        store.at(START.plus(late(at)));
        granted_and_sent(store, &Ask { challenge, ..ask(93, request) }).await;
        for check_id in 0..5 {
            verify(store, 93, at + check_id, 0).await;
        }
    }
    let locked = Verdict::Locked { retry_after: Some(HOUR - late(40)) };
    assert_eq!(verify(store, 93, 99, 143).await, locked);
}

async fn a_try_whose_answer_was_lost_is_counted_once(store: &dyn TimedStore) {
    store.at(START);
    granted(admit(store, &ask(14, "lost")).await);
    assert_eq!(verify(store, 14, 1, 0).await, Verdict::Wrong { attempts_left: 4 });
    assert_eq!(verify(store, 14, 1, 0).await, Verdict::Wrong { attempts_left: 4 });
    assert_eq!(verify(store, 14, 2, 0).await, Verdict::Wrong { attempts_left: 3 });
}

async fn an_unknown_key_counts_nothing(store: &dyn TimedStore) {
    store.at(START);
    granted(admit(store, &ask(15, "key")).await);
    assert_eq!(verify_under(store, 15, 1, &[("k9", named(65))]).await, Verdict::KeyUnavailable);
    assert_eq!(verify_under(store, 15, 2, &[("k9", named(0)), ("k1", named(65))]).await, Verdict::Verified);
}

async fn a_users_limit_holds_over_recipients(store: &dyn TimedStore) {
    store.at(START);
    for recipient in 16..19 {
        granted(admit(store, &Ask { user: Some(named(240)), ..ask(recipient, "user") }).await);
    }
    let fourth = Ask { user: Some(named(240)), ..ask(19, "user") };
    assert_eq!(refused(admit(store, &fourth).await).code, ErrorCode::RateLimited);
    granted(admit(store, &Ask { user: Some(named(241)), ..ask(19, "other-user") }).await);
}

async fn the_first_end_stays(store: &dyn TimedStore) {
    store.at(START);
    let request = ask(20, "end");
    granted(admit(store, &request).await);
    let other = request.owned_by(2);
    let outcome = sent(START);
    let said = settle(request.handling(), &outcome, Refund::None);
    let outcome = failed(START);
    let against = settle(other.handling(), &outcome, Refund::Counted);
    assert_eq!(store.complete(&said).await.expect("answers"), CompleteResult::Recorded);
    assert_eq!(store.complete(&said).await.expect("answers"), CompleteResult::Recorded);
    assert_eq!(
        store.complete(&against).await.expect("answers"),
        CompleteResult::AlreadyCompleted(sent(START))
    );
    let usage = store.usage(&request.handling().subject, None, &limits()).await.expect("the store answers");
    assert_eq!(usage.used, 1, "an end that does not stay gives nothing back");
}

#[tokio::test]
async fn memory_keeps_its_promises() {
    keeps_its_promises(&MemoryStore::new(Clock::System)).await;
}

#[tokio::test]
async fn redis_keeps_its_promises() {
    let redis = real::Redis::fresh();
    keeps_its_promises(&redis.store()).await;
    redis.expect_only_these_without_a_ttl(&[
        ":kill",
        ":suppressed",
        ":suppressed",
        ":suppression",
        ":suppression",
        ":suppressions",
    ]);
}
