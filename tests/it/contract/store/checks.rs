//! Checks of typed codes: single use, and the limits of wrong attempts.

use otpost::domain::reached_limit::ReachedLimit;

use super::*;

pub(super) async fn a_code_works_once(store: &dyn TimedStore) {
    store.at(START);
    assert_eq!(verify(store, 11, 1, 61).await, Verdict::NonePending);
    granted(admit(store, &request_to(11, "works")).await);
    assert_eq!(verify(store, 11, 2, 0).await, Verdict::Wrong { attempts_left: 4 });
    assert_eq!(verify(store, 11, 3, 61).await, Verdict::Verified);
    assert_eq!(verify(store, 11, 3, 61).await, Verdict::Verified, "repeated after a lost answer");
    assert_eq!(verify(store, 11, 4, 61).await, Verdict::AlreadyUsed);
    store.at(START.plus(LIFE + HOUR));
    assert_eq!(verify(store, 11, 5, 61).await, Verdict::NonePending);
}

pub(super) async fn five_wrong_attempts_lock_a_challenge(store: &dyn TimedStore) {
    store.at(START);
    granted(admit(store, &request_to(12, "lock")).await);
    for (check_id, attempts_left) in (1..).zip([4, 3, 2, 1, 0]) {
        assert_eq!(verify(store, 12, check_id, 0).await, Verdict::Wrong { attempts_left });
    }
    assert_eq!(verify(store, 12, 6, 62).await, Verdict::Locked { retry_after: None });
    store.at(START.plus(LIFE));
    assert_eq!(verify(store, 12, 7, 62).await, Verdict::Expired { at: START.plus(LIFE) });
}

/// While no code can be checked, none is sent.
pub(super) async fn ten_wrong_attempts_in_an_hour_lock_a_recipient(store: &dyn TimedStore) {
    let late = |seconds| Duration::from_secs(seconds);
    store.at(START);
    grant_and_complete(store, &TestRequest { challenge: 220, ..request_to(13, "hour-0") }).await;
    for check_id in 0..5 {
        verify(store, 13, check_id, 0).await;
    }
    store.at(START.plus(late(40)));
    grant_and_complete(store, &TestRequest { challenge: 221, ..request_to(13, "hour-1") }).await;
    for check_id in 5..9 {
        verify(store, 13, check_id, 0).await;
    }
    assert_eq!(verify(store, 13, 9, 63).await, Verdict::Verified);
    store.at(START.plus(late(80)));
    grant_and_complete(store, &TestRequest { challenge: 222, ..request_to(13, "hour-2") }).await;
    assert_eq!(verify(store, 13, 10, 0).await, Verdict::Wrong { attempts_left: 4 });
    let locked = Verdict::Locked { retry_after: Some(HOUR - late(80)) };
    assert_eq!(verify(store, 13, 99, 63).await, locked);
    store.at(START.plus(late(120)));
    let third = request_to(13, "hour-3");
    let usage = store.usage(&third.lease().subject, None, &limits()).await.expect("the store answers");
    assert_eq!((usage.wrong_attempts, usage.limited_for), (10, HOUR - late(120)));
    let error = rejected(admit(store, &third).await);
    assert_eq!((error.code, error.retry_after), (ErrorCode::RateLimited, Some(3_480)));
    assert_eq!(error.limit, Some(ReachedLimit::WrongCodes));
    // The first five have left the hour.
    store.at(START.plus(HOUR));
    granted(admit(store, &request_to(13, "hour-4")).await);

    // The lock of the recipient is reported before the lock of the challenge.
    for (at, challenge, request) in [(0, 223, "both-0"), (40, 224, "both-1")] {
        store.at(START.plus(late(at)));
        grant_and_complete(store, &TestRequest { challenge, ..request_to(93, request) }).await;
        for check_id in 0..5 {
            verify(store, 93, at + check_id, 0).await;
        }
    }
    let locked = Verdict::Locked { retry_after: Some(HOUR - late(40)) };
    assert_eq!(verify(store, 93, 99, 143).await, locked);
}

pub(super) async fn a_check_whose_answer_was_lost_is_counted_once(store: &dyn TimedStore) {
    store.at(START);
    granted(admit(store, &request_to(14, "lost")).await);
    assert_eq!(verify(store, 14, 1, 0).await, Verdict::Wrong { attempts_left: 4 });
    assert_eq!(verify(store, 14, 1, 0).await, Verdict::Wrong { attempts_left: 4 });
    assert_eq!(verify(store, 14, 2, 0).await, Verdict::Wrong { attempts_left: 3 });
    store.at(START.plus(LIFE));
    assert_eq!(
        verify(store, 14, 2, 0).await,
        Verdict::Wrong { attempts_left: 3 },
        "the code expired meanwhile"
    );
    assert_eq!(verify(store, 14, 3, 0).await, Verdict::Expired { at: START.plus(LIFE) });
}

pub(super) async fn a_check_without_the_key_is_not_counted(store: &dyn TimedStore) {
    store.at(START);
    granted(admit(store, &request_to(15, "key")).await);
    assert_eq!(verify_under(store, 15, 1, &[("k9", named(65))]).await, Verdict::KeyUnavailable);
    assert_eq!(verify_under(store, 15, 2, &[("k9", named(0)), ("k1", named(65))]).await, Verdict::Verified);
}

pub(super) async fn an_undone_check_leaves_its_code_to_the_next_one(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(112, "undone");
    grant_and_complete(store, &request).await;
    let right = named(request.digest);
    let undo = async |check_id: u64| {
        let (digests, limits) = ([("k1", right)], limits());
        let purpose = "verification";
        let check =
            CodeCheck { recipient: named(112), purpose, check_id, digests: &digests, limits: &limits };
        store.reopen_challenge(&check).await.expect("the store answers");
    };
    // More often than a code may be checked.
    for check_id in 1..=7 {
        assert_eq!(verify(store, 112, check_id, request.digest).await, Verdict::Verified);
        undo(check_id + 100).await;
        assert_eq!(verify(store, 112, 99, request.digest).await, Verdict::AlreadyUsed, "not its own check");
        undo(check_id).await;
        undo(check_id).await;
    }
    assert_eq!(verify(store, 112, 50, 0).await, Verdict::Wrong { attempts_left: 4 });
    assert_eq!(verify(store, 112, 51, request.digest).await, Verdict::Verified);
    undo(7).await;
    assert_eq!(verify(store, 112, 52, request.digest).await, Verdict::AlreadyUsed);
}
