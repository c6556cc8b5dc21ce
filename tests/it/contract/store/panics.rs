//! Panics are counted for each request, whatever becomes of its leases.

use std::time::Duration;

use otpost::domain::keyed_digest::Digest16;
use otpost::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use otpost::store::{
    Admission, CompletionAnswer, Damaged, PanicCount, PanicInput, Progress, ProgressAnswer, Refund, Store,
    StoreError,
};

use super::progress::in_doubt;
use super::{
    HOUR, LEASE, START, TestRequest, TimedStore, admit, completion, granted, limits, request_to, sent,
};
use crate::real;

const PANICS_MAX: u32 = 3;

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    a_panic_is_counted_once_for_each_handler(store).await;
    requeues_and_new_leases_keep_the_count(store).await;
    a_count_ends_with_the_life_of_a_record(store).await;
    a_count_belongs_to_one_recipient(store).await;
    an_attempt_that_may_have_been_sent_is_in_doubt(store).await;
    an_attempt_that_was_not_made_is_withdrawn(store).await;
    the_last_handler_keeps_its_lease_to_complete_the_request(store).await;
    a_completed_request_stays_completed(store).await;
}

async fn panic(store: &dyn TimedStore, request: &TestRequest, may_have_sent: bool) -> PanicCount {
    let input = PanicInput { lease: request.lease(), may_have_sent, panics_max: PANICS_MAX };
    store.count_panic(&input).await.expect("the store answers")
}

fn count(panics: u32) -> PanicCount {
    PanicCount { panics, unsent_attempts: None }
}

async fn a_panic_is_counted_once_for_each_handler(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(132, "counted");
    for (owner, panics) in [(1, 1), (1, 1), (2, 2), (1, 2), (3, 3), (4, 3), (4, 3)] {
        assert_eq!(panic(store, &request.owned_by(owner), false).await, count(panics), "without a record");
    }
    granted(admit(store, &request).await);
}

async fn requeues_and_new_leases_keep_the_count(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(133, "kept");
    let requeued = Progress::Requeued { retry_in: Duration::ZERO, in_doubt: false };
    for owner in 1..6 {
        let ours = request.owned_by(owner);
        let grant = granted(admit(store, &ours).await);
        assert_eq!(grant.unfinished_leases, 1, "neither a panic nor a requeue leaves one");
        if owner % 2 == 1 {
            assert_eq!(panic(store, &ours, false).await.panics, u32::try_from(owner).unwrap().div_ceil(2));
        } else {
            let answer = store.update_progress(&ours.lease(), Some(0), requeued, None).await;
            assert_eq!(answer.expect("answers"), ProgressAnswer::Applied);
        }
    }
}

async fn a_count_ends_with_the_life_of_a_record(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(134, "ends");
    panic(store, &request, false).await;
    store.at(START.plus(24 * HOUR - Duration::from_millis(1)));
    assert_eq!(panic(store, &request.owned_by(2), false).await, count(2));
    store.at(START.plus(48 * HOUR - Duration::from_millis(1)));
    assert_eq!(panic(store, &request.owned_by(3), false).await, count(1));
}

async fn a_count_belongs_to_one_recipient(store: &dyn TimedStore) {
    store.at(START);
    panic(store, &request_to(135, "same"), false).await;
    assert_eq!(panic(store, &request_to(136, "same").owned_by(2), false).await, count(1));
}

async fn an_attempt_that_may_have_been_sent_is_in_doubt(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(137, "doubt");
    granted(admit(store, &request).await);
    assert_eq!(panic(store, &request, true).await, count(1));
    assert_eq!(panic(store, &request, true).await, count(1), "the same answer again");
    let next = request.owned_by(2);
    let doubt = in_doubt(admit(store, &next).await);
    assert_eq!((doubt.attempt, doubt.attempts_in_doubt, doubt.unfinished_leases), (1, 1, 1));
    // A handler that sent nothing itself leaves the doubt of an earlier one.
    assert_eq!(panic(store, &next, false).await, count(2));
    assert_eq!(in_doubt(admit(store, &request.owned_by(3)).await).attempts_in_doubt, 1);
    assert_eq!(panic(store, &next, false).await, count(2), "another handler has the lease");
    assert_eq!(admit(store, &request.owned_by(4)).await, Admission::Busy(LEASE));
}

async fn an_attempt_that_was_not_made_is_withdrawn(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(138, "unsent");
    for owner in 1..3 {
        let ours = request.owned_by(owner);
        assert_eq!(granted(admit(store, &ours).await).attempt, 1);
        assert_eq!(panic(store, &ours, false).await.unsent_attempts, None, "its lease has ended");
    }
}

async fn the_last_handler_keeps_its_lease_to_complete_the_request(store: &dyn TimedStore) {
    for (recipient, may_have_sent) in [(139, false), (146, true)] {
        store.at(START);
        let request = TestRequest { limits: limits(), ..request_to(recipient, "last") };
        for owner in 1..3 {
            let ours = request.owned_by(owner);
            granted(admit(store, &ours).await);
            panic(store, &ours, false).await;
        }
        let last = request.owned_by(3);
        granted(admit(store, &last).await);
        let expected = PanicCount { panics: PANICS_MAX, unsent_attempts: (!may_have_sent).then_some(0) };
        for _ in 0..2 {
            assert_eq!(panic(store, &last, may_have_sent).await, expected);
        }
        assert_eq!(admit(store, &request.owned_by(4)).await, Admission::Busy(LEASE));
        let error = OutcomeError::of(ErrorCode::Internal);
        let failed = Outcome::with_error(Status::Failed, START, "verification", error);
        let answer = store.complete(&completion(last.lease(), &failed, Refund::Full)).await.expect("answers");
        let allowed =
            if may_have_sent { CompletionAnswer::MayHaveBeenSent } else { CompletionAnswer::Recorded };
        assert_eq!(answer, allowed);
        let usage = store.usage(&last.lease().subject, None, &limits()).await.expect("answers");
        assert_eq!(usage.used, u32::from(may_have_sent), "the charge is refunded if nothing was sent");
    }
}

async fn a_completed_request_stays_completed(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(118, "ended");
    granted(admit(store, &request).await);
    store.complete(&completion(request.lease(), &sent(START), Refund::None)).await.expect("answers");
    assert_eq!(panic(store, &request, true).await, count(1));
    let replay = Admission::Completed { outcome: sent(START), ours: false };
    assert_eq!(admit(store, &request.owned_by(2)).await, replay);
}

#[tokio::test]
async fn a_damaged_count_is_named_by_its_kind() {
    let redis = real::Redis::fresh();
    let store = redis.store();
    let request = request_to(1, "damaged");
    let input = PanicInput { lease: request.lease(), may_have_sent: false, panics_max: PANICS_MAX };
    store.count_panic(&input).await.expect("answers");
    let key = redis.key_names().into_iter().find(|key| is_count(key, &super::named(1))).expect("the count");
    redis.truncate(&key.escape_ascii().to_string());
    let error = store.count_panic(&input).await.expect_err("damaged");
    assert!(
        matches!(&error, StoreError::Unreadable { damaged: Damaged::Subject("panics"), .. }),
        "{error:?}"
    );
}

/// `p`, the request in 17 bytes and the recipient end the name.
fn is_count(key: &[u8], recipient: &Digest16) -> bool {
    key.ends_with(&recipient.bytes()) && key.len() > 34 && key[key.len() - 34] == b'p'
}
