//! Codes that a provider made: the store counts the checks, and decides which one verifies.

use std::time::Duration;

use otpost::domain::challenge::{ChallengeId, PROVIDER_MADE, PROVIDER_MADE_KIDS};
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::limit::Limits;
use otpost::domain::outcome::ErrorCode;
use otpost::domain::verdict::Verdict;
use otpost::store::code_check::{CodeCheck, ProviderCheckEnd, ProviderCheckStart};
use otpost::store::{AdmissionInput, Grant, ProposedChallenge, Refund};

use super::{
    HOUR, LIFE, START, TestRequest, TimedStore, admit, completion, grant_and_complete, granted, limits,
    named, rejected, request_to, sent, verdict, verify,
};

const NAME: &str = "VE00000000000000000000000000000001";

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    a_right_code_is_right_once(store).await;
    of_two_right_codes_at_once_one_is_verified(store).await;
    checks_are_counted_before_the_provider_is_asked(store).await;
    a_check_that_was_not_compared_is_uncounted_once(store).await;
    a_right_code_found_later_needs_a_single_possible_check(store).await;
    a_code_right_for_one_purpose_is_not_found_for_another(store).await;
    a_code_right_for_a_replaced_challenge_is_not_found_for_the_next(store).await;
    a_check_that_was_not_wrong_is_no_wrong_attempt(store).await;
    a_verification_name_stays_with_its_challenge(store).await;
    a_challenge_is_continued_only_by_the_maker_of_its_code(store).await;
    the_provider_is_not_asked_about_our_codes(store).await;
    the_provider_is_not_asked_about_expired_codes(store).await;
}

/// Admits a request whose code the provider makes.
pub(super) async fn grant_provider_made(store: &dyn TimedStore, request: &TestRequest) -> Grant {
    let id = ChallengeId::from_digest(named(request.challenge));
    let proposal = ProposedChallenge { id, kid: PROVIDER_MADE, digest: Digest16::NONE, callers_code: false };
    let admit = AdmissionInput { proposal, code_key_ids: PROVIDER_MADE_KIDS, ..request.admit() };
    granted(store.admit(&admit).await.expect("the store answers"))
}

/// And completes it as sent.
async fn admit_provider_made(store: &dyn TimedStore, request: &TestRequest) -> Grant {
    let grant = grant_provider_made(store, request).await;
    let outcome = sent(grant.now);
    store.complete(&completion(request.lease(), &outcome, Refund::None)).await.expect("the store answers");
    grant
}

async fn begin(store: &dyn TimedStore, recipient: u8, check_id: u64) -> ProviderCheckStart {
    let limits = limits();
    store.begin_provider_check(&check(recipient, check_id, &limits)).await.expect("the store answers")
}

async fn finish(store: &dyn TimedStore, recipient: u8, check_id: u64, result: ProviderCheckEnd) -> Verdict {
    let limits = limits();
    let answer = store.finish_provider_check(&check(recipient, check_id, &limits), result).await;
    verdict(answer.expect("the store answers"))
}

fn check(recipient: u8, check_id: u64, limits: &Limits) -> CodeCheck<'_> {
    CodeCheck { recipient: named(recipient), purpose: "verification", check_id, digests: &[], limits }
}

async fn link(store: &dyn TimedStore, request: &TestRequest, challenge: u8, name: &str) {
    let (lease, challenge) = (request.lease(), ChallengeId::from_digest(named(challenge)));
    store.link_verification(&lease.subject, &challenge, name).await.expect("the store answers");
}

async fn a_right_code_is_right_once(store: &dyn TimedStore) {
    store.at(START);
    assert_eq!(begin(store, 120, 1).await, ProviderCheckStart::Decided(Verdict::NonePending));
    let grant = admit_provider_made(store, &request_to(120, "once")).await;
    assert_eq!((grant.kid.as_str(), grant.digest), (PROVIDER_MADE, Digest16::NONE));
    assert_eq!(verify(store, 120, 1, 0).await, Verdict::KeyUnavailable, "no digest is right");
    assert_eq!(begin(store, 120, 1).await, ProviderCheckStart::Ask(None));
    for _ in 0..2 {
        assert_eq!(
            finish(store, 120, 1, ProviderCheckEnd::Right).await,
            Verdict::Verified,
            "and again when repeated"
        );
    }
    assert_eq!(begin(store, 120, 2).await, ProviderCheckStart::Decided(Verdict::AlreadyUsed));
    assert_eq!(verify(store, 120, 2, 0).await, Verdict::AlreadyUsed);
}

async fn of_two_right_codes_at_once_one_is_verified(store: &dyn TimedStore) {
    store.at(START);
    admit_provider_made(store, &request_to(121, "two")).await;
    for check_id in [1, 2] {
        assert_eq!(begin(store, 121, check_id).await, ProviderCheckStart::Ask(None));
    }
    assert_eq!(finish(store, 121, 2, ProviderCheckEnd::Right).await, Verdict::Verified);
    assert_eq!(finish(store, 121, 1, ProviderCheckEnd::Right).await, Verdict::AlreadyUsed);
}

async fn checks_are_counted_before_the_provider_is_asked(store: &dyn TimedStore) {
    store.at(START);
    admit_provider_made(store, &request_to(122, "count")).await;
    for check_id in 1..=5 {
        for _ in 0..2 {
            assert_eq!(begin(store, 122, check_id).await, ProviderCheckStart::Ask(None), "counted once");
        }
    }
    let locked = ProviderCheckStart::Decided(Verdict::Locked { retry_after: None });
    assert_eq!(begin(store, 122, 6).await, locked, "none of the five has finished");
    for _ in 0..2 {
        assert_eq!(finish(store, 122, 1, ProviderCheckEnd::Wrong).await, Verdict::Wrong { attempts_left: 0 });
    }
    assert_eq!(begin(store, 122, 6).await, locked);

    // A locked challenge is replaced. Five more make ten within the hour.
    store.at(START.plus(Duration::from_secs(40)));
    admit_provider_made(store, &TestRequest { challenge: 230, ..request_to(122, "count-2") }).await;
    for check_id in 11..=15 {
        assert_eq!(begin(store, 122, check_id).await, ProviderCheckStart::Ask(None));
    }
    // One of them is right, so that there can be another code.
    assert_eq!(finish(store, 122, 15, ProviderCheckEnd::Right).await, Verdict::Verified);
    store.at(START.plus(Duration::from_secs(80)));
    admit_provider_made(store, &TestRequest { challenge: 231, ..request_to(122, "count-3") }).await;
    assert_eq!(begin(store, 122, 20).await, ProviderCheckStart::Ask(None));
    let retry_after = Some(HOUR - Duration::from_secs(80));
    assert_eq!(begin(store, 122, 21).await, ProviderCheckStart::Decided(Verdict::Locked { retry_after }));
}

async fn a_check_that_was_not_compared_is_uncounted_once(store: &dyn TimedStore) {
    store.at(START);
    admit_provider_made(store, &request_to(123, "back")).await;
    begin(store, 123, 1).await;
    begin(store, 123, 2).await;
    for _ in 0..3 {
        assert_eq!(
            finish(store, 123, 1, ProviderCheckEnd::NotCompared).await,
            Verdict::Unanswered { counted: false }
        );
    }
    assert_eq!(finish(store, 123, 2, ProviderCheckEnd::Wrong).await, Verdict::Wrong { attempts_left: 4 });
}

async fn a_right_code_found_later_needs_a_single_possible_check(store: &dyn TimedStore) {
    store.at(START);
    let found = request_to(124, "found");
    admit_provider_made(store, &found).await;
    begin(store, 124, 9).await;
    let unnamed = Verdict::Unanswered { counted: true };
    assert_eq!(
        finish(store, 124, 9, ProviderCheckEnd::ApprovedAfterLostAnswer).await,
        unnamed,
        "without a name, nothing can have been found"
    );
    finish(store, 124, 9, ProviderCheckEnd::Wrong).await;
    link(store, &found, found.challenge, NAME).await;
    begin(store, 124, 1).await;
    begin(store, 124, 2).await;
    let unsure = Verdict::Unanswered { counted: true };
    assert_eq!(
        finish(store, 124, 1, ProviderCheckEnd::ApprovedAfterLostAnswer).await,
        unsure,
        "it may be the other check"
    );
    finish(store, 124, 2, ProviderCheckEnd::Wrong).await;
    assert_eq!(finish(store, 124, 1, ProviderCheckEnd::ApprovedAfterLostAnswer).await, Verdict::Verified);
    assert_eq!(
        finish(store, 124, 1, ProviderCheckEnd::ApprovedAfterLostAnswer).await,
        Verdict::Verified,
        "repeated"
    );
    assert_eq!(finish(store, 124, 2, ProviderCheckEnd::ApprovedAfterLostAnswer).await, Verdict::AlreadyUsed);
}

/// A provider has one code for a number, whatever its purpose.
async fn a_code_right_for_one_purpose_is_not_found_for_another(store: &dyn TimedStore) {
    store.at(START);
    let first = request_to(129, "first");
    admit_provider_made(store, &first).await;
    link(store, &first, first.challenge, NAME).await;
    store.at(START.plus(Duration::from_secs(40)));
    let login = TestRequest { purpose: "login", challenge: 236, ..request_to(129, "login") };
    admit_provider_made(store, &login).await;
    link(store, &login, 236, NAME).await;
    let limits = limits();
    let for_login = |check_id| CodeCheck { purpose: "login", ..check(129, check_id, &limits) };
    store.begin_provider_check(&for_login(1)).await.expect("answers");
    let right = store.finish_provider_check(&for_login(1), ProviderCheckEnd::Right).await.expect("answers");
    assert_eq!(verdict(right), Verdict::Verified);
    assert_eq!(begin(store, 129, 2).await, ProviderCheckStart::Ask(Some(NAME.to_owned())));
    assert_eq!(
        finish(store, 129, 2, ProviderCheckEnd::ApprovedAfterLostAnswer).await,
        Verdict::Unanswered { counted: true }
    );
    // A new code of the provider's is independent of the old one.
    store.at(START.plus(Duration::from_secs(90)));
    let other = TestRequest { purpose: "payment", challenge: 237, ..request_to(129, "payment") };
    admit_provider_made(store, &other).await;
    link(store, &other, 237, "VE00000000000000000000000000000002").await;
    let for_payment = CodeCheck { purpose: "payment", ..check(129, 3, &limits) };
    store.begin_provider_check(&for_payment).await.expect("answers");
    let found = store
        .finish_provider_check(&for_payment, ProviderCheckEnd::ApprovedAfterLostAnswer)
        .await
        .expect("answers");
    assert_eq!(verdict(found), Verdict::Verified);
}

/// The provider's code outlives the replaced challenge.
async fn a_code_right_for_a_replaced_challenge_is_not_found_for_the_next(store: &dyn TimedStore) {
    store.at(START);
    let first = request_to(130, "old");
    admit_provider_made(store, &first).await;
    link(store, &first, first.challenge, NAME).await;
    begin(store, 130, 1).await;
    store.at(START.plus(LIFE - Duration::from_secs(40)));
    admit_provider_made(store, &TestRequest { challenge: 238, ..request_to(130, "new") }).await;
    link(store, &first, 238, NAME).await;
    assert_eq!(finish(store, 130, 1, ProviderCheckEnd::Right).await, Verdict::NonePending);
    begin(store, 130, 2).await;
    assert_eq!(
        finish(store, 130, 2, ProviderCheckEnd::ApprovedAfterLostAnswer).await,
        Verdict::Unanswered { counted: true }
    );
}

/// Ten wrong attempts an hour are allowed. These are none.
async fn a_check_that_was_not_wrong_is_no_wrong_attempt(store: &dyn TimedStore) {
    store.at(START);
    admit_provider_made(store, &request_to(131, "one")).await;
    for check_id in 1..=5 {
        begin(store, 131, check_id).await;
    }
    assert_eq!(finish(store, 131, 1, ProviderCheckEnd::Right).await, Verdict::Verified);
    assert_eq!(finish(store, 131, 2, ProviderCheckEnd::Right).await, Verdict::AlreadyUsed);
    store.at(START.plus(Duration::from_secs(40)));
    admit_provider_made(store, &TestRequest { challenge: 239, ..request_to(131, "two") }).await;
    for check_id in [3, 4, 5] {
        let uncounted = Verdict::Unanswered { counted: false };
        assert_eq!(
            finish(store, 131, check_id, ProviderCheckEnd::NotCompared).await,
            uncounted,
            "its challenge is gone"
        );
    }
    for round in [0_u8, 1] {
        for check_id in 11..=15 {
            let start = begin(store, 131, 10 * u64::from(round) + check_id).await;
            assert_eq!(start, ProviderCheckStart::Ask(None), "none of the first five counts");
        }
        store.at(START.plus(Duration::from_secs(80 + 40 * u64::from(round))));
        let more = TestRequest { challenge: 240 + round, ..request_to(131, &format!("more-{round}")) };
        match round {
            0 => drop(admit_provider_made(store, &more).await),
            _ => assert_eq!(rejected(admit(store, &more).await).code, ErrorCode::RateLimited, "ten do"),
        }
    }
}

async fn a_verification_name_stays_with_its_challenge(store: &dyn TimedStore) {
    store.at(START);
    let first = request_to(125, "name");
    admit_provider_made(store, &first).await;
    link(store, &first, 99, "VE9").await;
    assert_eq!(begin(store, 125, 1).await, ProviderCheckStart::Ask(None), "another challenge's");
    link(store, &first, first.challenge, NAME).await;
    assert_eq!(begin(store, 125, 2).await, ProviderCheckStart::Ask(Some(NAME.to_owned())));
    // A check of a replaced challenge says nothing about the new one.
    store.at(START.plus(LIFE));
    admit_provider_made(store, &TestRequest { challenge: 232, ..request_to(125, "name-2") }).await;
    assert_eq!(finish(store, 125, 2, ProviderCheckEnd::Right).await, Verdict::NonePending);
    assert_eq!(begin(store, 125, 3).await, ProviderCheckStart::Ask(None));
    assert_eq!(finish(store, 125, 3, ProviderCheckEnd::Wrong).await, Verdict::Wrong { attempts_left: 4 });
}

async fn a_challenge_is_continued_only_by_the_maker_of_its_code(store: &dyn TimedStore) {
    store.at(START);
    let first = request_to(126, "kind");
    admit_provider_made(store, &first).await;
    link(store, &first, first.challenge, NAME).await;
    store.at(START.plus(Duration::from_secs(60)));
    let again =
        admit_provider_made(store, &TestRequest { challenge: 233, ..request_to(126, "kind-2") }).await;
    assert_eq!(again.challenge, ChallengeId::from_digest(named(first.challenge)));
    assert_eq!(begin(store, 126, 1).await, ProviderCheckStart::Ask(Some(NAME.to_owned())));
    store.at(START.plus(Duration::from_secs(120)));
    let ours = grant_and_complete(store, &TestRequest { challenge: 234, ..request_to(126, "kind-3") }).await;
    assert_eq!(ours.challenge, ChallengeId::from_digest(named(234)), "our own code starts a new challenge");
    store.at(START.plus(Duration::from_secs(180)));
    let theirs =
        admit_provider_made(store, &TestRequest { challenge: 235, ..request_to(126, "kind-4") }).await;
    assert_eq!(theirs.challenge, ChallengeId::from_digest(named(235)), "and so does one of the provider's");
}

async fn the_provider_is_not_asked_about_our_codes(store: &dyn TimedStore) {
    store.at(START);
    granted(admit(store, &request_to(127, "ours")).await);
    assert_eq!(begin(store, 127, 1).await, ProviderCheckStart::Decided(Verdict::KeyUnavailable));
    assert_eq!(verify(store, 127, 2, 0).await, Verdict::Wrong { attempts_left: 4 }, "nothing was counted");
}

async fn the_provider_is_not_asked_about_expired_codes(store: &dyn TimedStore) {
    store.at(START);
    admit_provider_made(store, &request_to(128, "over")).await;
    begin(store, 128, 1).await;
    store.at(START.plus(LIFE));
    assert_eq!(
        begin(store, 128, 2).await,
        ProviderCheckStart::Decided(Verdict::Expired { at: START.plus(LIFE) })
    );
    assert_eq!(finish(store, 128, 1, ProviderCheckEnd::Right).await, Verdict::Verified, "it began in time");
    store.at(START.plus(LIFE + HOUR));
    assert_eq!(begin(store, 128, 3).await, ProviderCheckStart::Decided(Verdict::NonePending));
}
