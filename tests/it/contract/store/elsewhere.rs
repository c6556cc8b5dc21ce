//! Codes that a provider made: the store counts who asks for them, and decides who is verified.

use std::time::Duration;

use otpost::domain::challenge::{ChallengeId, PROVIDER_MADE, PROVIDER_MADE_KIDS};
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::limit::Limits;
use otpost::domain::outcome::ErrorCode;
use otpost::domain::verdict::Verdict;
use otpost::store::code_check::{CodeCheck, ProviderCheckResult, ProviderCheckStart};
use otpost::store::{Admit, Grant, ProposedChallenge, Refund};

use super::{
    Ask, HOUR, LIFE, START, TimedStore, admit, ask, granted, granted_and_sent, limits, named, refused, sent,
    settle, verify,
};

const NAME: &str = "VE00000000000000000000000000000001";

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    a_right_code_is_right_once(store).await;
    of_two_right_codes_at_once_one_is_verified(store).await;
    tries_are_counted_before_anybody_is_asked(store).await;
    what_was_not_compared_is_given_back_once(store).await;
    what_is_found_later_is_somebodys_only_if_nobody_elses(store).await;
    what_was_right_for_one_purpose_is_not_found_for_another(store).await;
    what_was_right_for_a_replaced_challenge_is_not_found_for_the_next(store).await;
    what_was_not_wrong_is_no_wrong_try(store).await;
    a_name_stays_with_its_challenge(store).await;
    a_challenge_goes_on_with_its_own_kind(store).await;
    a_code_of_ours_is_not_asked_about(store).await;
    what_is_over_is_not_asked_about(store).await;
}

/// Admits a request, and ends it as sent at once.
async fn admit_elsewhere(store: &dyn TimedStore, ask: &Ask) -> Grant {
    let id = ChallengeId::from_digest(named(ask.challenge));
    let proposal = ProposedChallenge { id, kid: PROVIDER_MADE, digest: Digest16::NONE, callers_code: false };
    let admit = Admit { proposal, known_kids: PROVIDER_MADE_KIDS, ..ask.admit() };
    let grant = granted(store.admit(&admit).await.expect("the store answers"));
    let outcome = sent(grant.now);
    store.complete(&settle(ask.handling(), &outcome, Refund::None)).await.expect("the store answers");
    grant
}

async fn begin(store: &dyn TimedStore, recipient: u8, check_id: u64) -> ProviderCheckStart {
    let limits = limits();
    store.begin_provider_check(&check(recipient, check_id, &limits)).await.expect("the store answers")
}

async fn end(store: &dyn TimedStore, recipient: u8, check_id: u64, end: ProviderCheckResult) -> Verdict {
    let limits = limits();
    store.finish_provider_check(&check(recipient, check_id, &limits), end).await.expect("the store answers")
}

fn check(recipient: u8, check_id: u64, limits: &Limits) -> CodeCheck<'_> {
    CodeCheck { recipient: named(recipient), purpose: "verification", check_id, digests: &[], limits }
}

async fn name(store: &dyn TimedStore, ask: &Ask, challenge: u8, name: &str) {
    let (handling, challenge) = (ask.handling(), ChallengeId::from_digest(named(challenge)));
    store.link_verification(&handling.subject, &challenge, name).await.expect("the store answers");
}

async fn a_right_code_is_right_once(store: &dyn TimedStore) {
    store.at(START);
    assert_eq!(begin(store, 120, 1).await, ProviderCheckStart::Decided(Verdict::NonePending));
    let grant = admit_elsewhere(store, &ask(120, "once")).await;
    assert_eq!((grant.kid.as_str(), grant.digest), (PROVIDER_MADE, Digest16::NONE));
    assert_eq!(verify(store, 120, 1, 0).await, Verdict::KeyUnavailable, "no digest is right");
    assert_eq!(begin(store, 120, 1).await, ProviderCheckStart::Ask(None));
    for _ in 0..2 {
        assert_eq!(
            end(store, 120, 1, ProviderCheckResult::Right).await,
            Verdict::Verified,
            "asked again, too"
        );
    }
    assert_eq!(begin(store, 120, 2).await, ProviderCheckStart::Decided(Verdict::AlreadyUsed));
    assert_eq!(verify(store, 120, 2, 0).await, Verdict::AlreadyUsed);
}

async fn of_two_right_codes_at_once_one_is_verified(store: &dyn TimedStore) {
    store.at(START);
    admit_elsewhere(store, &ask(121, "two")).await;
    for check_id in [1, 2] {
        assert_eq!(begin(store, 121, check_id).await, ProviderCheckStart::Ask(None));
    }
    assert_eq!(end(store, 121, 2, ProviderCheckResult::Right).await, Verdict::Verified);
    assert_eq!(end(store, 121, 1, ProviderCheckResult::Right).await, Verdict::AlreadyUsed);
}

async fn tries_are_counted_before_anybody_is_asked(store: &dyn TimedStore) {
    store.at(START);
    admit_elsewhere(store, &ask(122, "count")).await;
    for check_id in 1..=5 {
        for _ in 0..2 {
            assert_eq!(begin(store, 122, check_id).await, ProviderCheckStart::Ask(None), "counted once");
        }
    }
    let locked = ProviderCheckStart::Decided(Verdict::Locked { retry_after: None });
    assert_eq!(begin(store, 122, 6).await, locked, "none of the five is over");
    for _ in 0..2 {
        assert_eq!(end(store, 122, 1, ProviderCheckResult::Wrong).await, Verdict::Wrong { attempts_left: 0 });
    }
    assert_eq!(begin(store, 122, 6).await, locked);

    // A locked challenge is replaced. Five more make ten within the hour.
    store.at(START.plus(Duration::from_secs(40)));
    admit_elsewhere(store, &Ask { challenge: 230, ..ask(122, "count-2") }).await;
    for check_id in 11..=15 {
        assert_eq!(begin(store, 122, check_id).await, ProviderCheckStart::Ask(None));
    }
    // One of them is right, so that there can be another code.
    assert_eq!(end(store, 122, 15, ProviderCheckResult::Right).await, Verdict::Verified);
    store.at(START.plus(Duration::from_secs(80)));
    admit_elsewhere(store, &Ask { challenge: 231, ..ask(122, "count-3") }).await;
    assert_eq!(begin(store, 122, 20).await, ProviderCheckStart::Ask(None));
    let retry_after = Some(HOUR - Duration::from_secs(80));
    assert_eq!(begin(store, 122, 21).await, ProviderCheckStart::Decided(Verdict::Locked { retry_after }));
}

async fn what_was_not_compared_is_given_back_once(store: &dyn TimedStore) {
    store.at(START);
    admit_elsewhere(store, &ask(123, "back")).await;
    begin(store, 123, 1).await;
    begin(store, 123, 2).await;
    for _ in 0..3 {
        assert_eq!(
            end(store, 123, 1, ProviderCheckResult::NotCompared).await,
            Verdict::Unanswered { counted: false }
        );
    }
    assert_eq!(end(store, 123, 2, ProviderCheckResult::Wrong).await, Verdict::Wrong { attempts_left: 4 });
}

async fn what_is_found_later_is_somebodys_only_if_nobody_elses(store: &dyn TimedStore) {
    store.at(START);
    let found = ask(124, "found");
    admit_elsewhere(store, &found).await;
    begin(store, 124, 9).await;
    let unnamed = Verdict::Unanswered { counted: true };
    assert_eq!(end(store, 124, 9, ProviderCheckResult::Found).await, unnamed, "nobody can have read of it");
    end(store, 124, 9, ProviderCheckResult::Wrong).await;
    name(store, &found, found.challenge, NAME).await;
    begin(store, 124, 1).await;
    begin(store, 124, 2).await;
    let unsure = Verdict::Unanswered { counted: true };
    assert_eq!(end(store, 124, 1, ProviderCheckResult::Found).await, unsure, "it may be the other one's");
    end(store, 124, 2, ProviderCheckResult::Wrong).await;
    assert_eq!(end(store, 124, 1, ProviderCheckResult::Found).await, Verdict::Verified);
    assert_eq!(end(store, 124, 1, ProviderCheckResult::Found).await, Verdict::Verified, "asked again");
    assert_eq!(end(store, 124, 2, ProviderCheckResult::Found).await, Verdict::AlreadyUsed);
}

/// A provider has one code for a number, whatever it is for.
async fn what_was_right_for_one_purpose_is_not_found_for_another(store: &dyn TimedStore) {
    store.at(START);
    let first = ask(129, "first");
    admit_elsewhere(store, &first).await;
    name(store, &first, first.challenge, NAME).await;
    store.at(START.plus(Duration::from_secs(40)));
    let login = Ask { purpose: "login", challenge: 236, ..ask(129, "login") };
    admit_elsewhere(store, &login).await;
    name(store, &login, 236, NAME).await;
    let limits = limits();
    let for_login = |check_id| CodeCheck { purpose: "login", ..check(129, check_id, &limits) };
    store.begin_provider_check(&for_login(1)).await.expect("answers");
    let right =
        store.finish_provider_check(&for_login(1), ProviderCheckResult::Right).await.expect("answers");
    assert_eq!(right, Verdict::Verified);
    assert_eq!(begin(store, 129, 2).await, ProviderCheckStart::Ask(Some(NAME.to_owned())));
    assert_eq!(end(store, 129, 2, ProviderCheckResult::Found).await, Verdict::Unanswered { counted: true });
    // Nor is it a day's matter where the provider has another code by then.
    store.at(START.plus(Duration::from_secs(90)));
    let other = Ask { purpose: "payment", challenge: 237, ..ask(129, "payment") };
    admit_elsewhere(store, &other).await;
    name(store, &other, 237, "VE00000000000000000000000000000002").await;
    let for_payment = CodeCheck { purpose: "payment", ..check(129, 3, &limits) };
    store.begin_provider_check(&for_payment).await.expect("answers");
    let found = store.finish_provider_check(&for_payment, ProviderCheckResult::Found).await.expect("answers");
    assert_eq!(found, Verdict::Verified);
}

/// The provider's code lives on where a challenge is replaced.
async fn what_was_right_for_a_replaced_challenge_is_not_found_for_the_next(store: &dyn TimedStore) {
    store.at(START);
    let first = ask(130, "old");
    admit_elsewhere(store, &first).await;
    name(store, &first, first.challenge, NAME).await;
    begin(store, 130, 1).await;
    store.at(START.plus(LIFE - Duration::from_secs(40)));
    admit_elsewhere(store, &Ask { challenge: 238, ..ask(130, "new") }).await;
    name(store, &first, 238, NAME).await;
    assert_eq!(end(store, 130, 1, ProviderCheckResult::Right).await, Verdict::NonePending);
    begin(store, 130, 2).await;
    assert_eq!(end(store, 130, 2, ProviderCheckResult::Found).await, Verdict::Unanswered { counted: true });
}

/// Ten wrong tries an hour are allowed, and these are none.
async fn what_was_not_wrong_is_no_wrong_try(store: &dyn TimedStore) {
    store.at(START);
    admit_elsewhere(store, &ask(131, "one")).await;
    for check_id in 1..=5 {
        begin(store, 131, check_id).await;
    }
    assert_eq!(end(store, 131, 1, ProviderCheckResult::Right).await, Verdict::Verified);
    assert_eq!(end(store, 131, 2, ProviderCheckResult::Right).await, Verdict::AlreadyUsed);
    store.at(START.plus(Duration::from_secs(40)));
    admit_elsewhere(store, &Ask { challenge: 239, ..ask(131, "two") }).await;
    for check_id in [3, 4, 5] {
        let back = Verdict::Unanswered { counted: false };
        assert_eq!(
            end(store, 131, check_id, ProviderCheckResult::NotCompared).await,
            back,
            "its challenge is gone"
        );
    }
    for round in [0_u8, 1] {
        for check_id in 11..=15 {
            let asked = begin(store, 131, 10 * u64::from(round) + check_id).await;
            assert_eq!(asked, ProviderCheckStart::Ask(None), "none of the first five stands");
        }
        store.at(START.plus(Duration::from_secs(80 + 40 * u64::from(round))));
        let more = Ask { challenge: 240 + round, ..ask(131, &format!("more-{round}")) };
        match round {
            0 => drop(admit_elsewhere(store, &more).await),
            _ => assert_eq!(refused(admit(store, &more).await).code, ErrorCode::RateLimited, "ten do"),
        }
    }
}

async fn a_name_stays_with_its_challenge(store: &dyn TimedStore) {
    store.at(START);
    let first = ask(125, "name");
    admit_elsewhere(store, &first).await;
    name(store, &first, 99, "VE9").await;
    assert_eq!(begin(store, 125, 1).await, ProviderCheckStart::Ask(None), "another challenge's");
    name(store, &first, first.challenge, NAME).await;
    assert_eq!(begin(store, 125, 2).await, ProviderCheckStart::Ask(Some(NAME.to_owned())));
    // What asked about a challenge that was replaced meanwhile says nothing of the new one.
    store.at(START.plus(LIFE));
    admit_elsewhere(store, &Ask { challenge: 232, ..ask(125, "name-2") }).await;
    assert_eq!(end(store, 125, 2, ProviderCheckResult::Right).await, Verdict::NonePending);
    assert_eq!(begin(store, 125, 3).await, ProviderCheckStart::Ask(None));
    assert_eq!(end(store, 125, 3, ProviderCheckResult::Wrong).await, Verdict::Wrong { attempts_left: 4 });
}

async fn a_challenge_goes_on_with_its_own_kind(store: &dyn TimedStore) {
    store.at(START);
    let first = ask(126, "kind");
    admit_elsewhere(store, &first).await;
    name(store, &first, first.challenge, NAME).await;
    store.at(START.plus(Duration::from_secs(60)));
    let again = admit_elsewhere(store, &Ask { challenge: 233, ..ask(126, "kind-2") }).await;
    assert_eq!(again.challenge, ChallengeId::from_digest(named(first.challenge)));
    assert_eq!(begin(store, 126, 1).await, ProviderCheckStart::Ask(Some(NAME.to_owned())));
    store.at(START.plus(Duration::from_secs(120)));
    let ours = granted_and_sent(store, &Ask { challenge: 234, ..ask(126, "kind-3") }).await;
    assert_eq!(ours.challenge, ChallengeId::from_digest(named(234)), "one of ours begins anew");
    store.at(START.plus(Duration::from_secs(180)));
    let theirs = admit_elsewhere(store, &Ask { challenge: 235, ..ask(126, "kind-4") }).await;
    assert_eq!(theirs.challenge, ChallengeId::from_digest(named(235)), "and so does one of theirs");
}

async fn a_code_of_ours_is_not_asked_about(store: &dyn TimedStore) {
    store.at(START);
    granted(admit(store, &ask(127, "ours")).await);
    assert_eq!(begin(store, 127, 1).await, ProviderCheckStart::Decided(Verdict::KeyUnavailable));
    assert_eq!(verify(store, 127, 2, 0).await, Verdict::Wrong { attempts_left: 4 }, "nothing was counted");
}

async fn what_is_over_is_not_asked_about(store: &dyn TimedStore) {
    store.at(START);
    admit_elsewhere(store, &ask(128, "over")).await;
    begin(store, 128, 1).await;
    store.at(START.plus(LIFE));
    assert_eq!(
        begin(store, 128, 2).await,
        ProviderCheckStart::Decided(Verdict::Expired { at: START.plus(LIFE) })
    );
    assert_eq!(
        end(store, 128, 1, ProviderCheckResult::Right).await,
        Verdict::Verified,
        "it was asked in time"
    );
    store.at(START.plus(LIFE + HOUR));
    assert_eq!(begin(store, 128, 3).await, ProviderCheckStart::Decided(Verdict::NonePending));
}
