//! Leases, doubts, and the history that one lease leaves to the next.

use std::time::Duration;

use otpost::domain::history::{HistoryEvent, RequestHistory};
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::limit::Limit;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::time::UnixMillis;
use otpost::store::{
    Admission, CompletionAnswer, CompletionInput, Grant, NewReceipt, Progress, ProgressAnswer,
};

use super::{
    LEASE, START, TestRequest, TimedStore, admit, grant_and_complete, granted, limits, named, request_to,
    sent,
};

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    a_lost_admission_is_answered_again(store).await;
    a_doubt_is_counted_once(store).await;
    a_resend_can_be_in_doubt_again(store).await;
    unfinished_leases_exclude_requeued_ones(store).await;
    a_request_requeued_in_doubt_stays_in_doubt(store).await;
    the_next_lease_gets_the_history(store).await;
    a_receipt_proves_that_a_message_was_sent(store).await;
    an_unrecorded_doubt_can_be_requeued(store).await;
    a_message_found_by_lookup_belongs_to_one_request(store).await;
}

fn requeued(seconds: u64, in_doubt: bool) -> Progress {
    Progress::Requeued { retry_in: Duration::from_secs(seconds), in_doubt }
}

#[track_caller]
pub(super) fn in_doubt(admission: Admission) -> Grant {
    match admission {
        Admission::InDoubt(grant) => grant,
        other => panic!("expected doubt, got {other:?}"),
    }
}

async fn update(
    store: &dyn TimedStore,
    request: &TestRequest,
    attempts_made: u32,
    progress: Progress,
) -> ProgressAnswer {
    store.update_progress(&request.lease(), Some(attempts_made), progress, None).await.expect("answers")
}

async fn a_lost_admission_is_answered_again(store: &dyn TimedStore) {
    store.at(START);
    grant_and_complete(store, &request_to(30, "before")).await;
    store.at(START.plus(Duration::from_secs(31)));
    let request = TestRequest { history: history_of("again"), ..request_to(30, "again") };
    let first = granted(admit(store, &request).await);
    assert_eq!(
        (first.sends, first.unfinished_leases, first.attempts_in_doubt, &first.history),
        (2, 1, 0, &None)
    );
    assert_eq!(granted(admit(store, &request).await), first);
    update(store, &request, 0, requeued(0, false)).await;
    let second = request.owned_by(2);
    let next = granted(admit(store, &second).await);
    store
        .complete(&super::completion(second.lease(), &sent(START), super::Refund::None))
        .await
        .expect("answers");
    assert_eq!((next.sends, next.history), (0, Some(history_of("again"))));
    let limits = limits().with(Limit::Recipient, 0).with(Limit::RecipientDay, 0);
    store.at(START.plus(Duration::from_secs(62)));
    let third = granted(admit(store, &TestRequest { limits, ..request_to(30, "unlimited") }).await);
    assert_eq!(third.sends, 3, "counted without a limit too");
}

async fn a_doubt_is_counted_once(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(31, "doubt");
    granted(admit(store, &request).await);
    store.at(START.plus(LEASE));
    let second = request.owned_by(2);
    let doubt = in_doubt(admit(store, &second).await);
    assert_eq!(
        (doubt.attempts_in_doubt, doubt.unfinished_leases, doubt.attempt, doubt.attempt_started_at),
        (1, 2, 1, START)
    );
    assert_eq!(in_doubt(admit(store, &second).await), doubt, "the same answer again");
    for _ in 0..2 {
        assert_eq!(update(store, &second, 1, Progress::InDoubt(LEASE)).await, ProgressAnswer::Applied);
    }
    assert_eq!(admit(store, &request.owned_by(3)).await, Admission::Busy(LEASE));
    store.at(START.plus(2 * LEASE));
    let third = in_doubt(admit(store, &request.owned_by(3)).await);
    assert_eq!((third.attempts_in_doubt, third.unfinished_leases, third.attempt_started_at), (1, 3, START));
}

async fn a_resend_can_be_in_doubt_again(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(32, "resend");
    granted(admit(store, &request).await);
    assert_eq!(update(store, &request, 1, Progress::InDoubt(LEASE)).await, ProgressAnswer::Applied);
    let resent = START.plus(Duration::from_secs(10));
    store.at(resent);
    assert_eq!(update(store, &request, 1, Progress::Sending(LEASE)).await, ProgressAnswer::Applied);
    store.at(resent.plus(LEASE));
    let doubt = in_doubt(admit(store, &request.owned_by(2)).await);
    assert_eq!((doubt.attempts_in_doubt, doubt.attempt, doubt.attempt_started_at), (2, 2, resent));
}

async fn unfinished_leases_exclude_requeued_ones(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(33, "starts");
    let requeued = requeued(0, false);
    for owner in 1..4 {
        let ours = request.owned_by(owner);
        assert_eq!(granted(admit(store, &ours).await).unfinished_leases, 1);
        assert_eq!(update(store, &ours, 0, requeued).await, ProgressAnswer::Applied);
        assert_eq!(update(store, &ours, 0, requeued).await, ProgressAnswer::LeaseNotHeld, "it has no owner");
    }
    granted(admit(store, &request.owned_by(4)).await);
    for crashes in 1..3 {
        store.at(START.plus(LEASE * crashes));
        let grant = in_doubt(admit(store, &request.owned_by(4 + u64::from(crashes))).await);
        assert_eq!(grant.unfinished_leases, 1 + crashes);
    }
}

async fn a_request_requeued_in_doubt_stays_in_doubt(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(34, "back");
    granted(admit(store, &request).await);
    update(store, &request, 1, Progress::InDoubt(LEASE)).await;
    update(store, &request, 1, requeued(3, false)).await;
    assert_eq!(admit(store, &request.owned_by(2)).await, Admission::Busy(Duration::from_secs(3)));
    store.at(START.plus(Duration::from_secs(3)));
    let grant = in_doubt(admit(store, &request.owned_by(2)).await);
    assert_eq!((grant.attempt, grant.attempts_in_doubt, grant.unfinished_leases), (1, 1, 1));
}

async fn the_next_lease_gets_the_history(store: &dyn TimedStore) {
    store.at(START);
    let request = TestRequest { history: history_of("first"), ..request_to(35, "history") };
    granted(admit(store, &request).await);
    let mut history = history_of("with spaces, \"quotes\" and ünïcode\n");
    history.add(START, HistoryEvent::ToBeResent(2));
    let result = store
        .update_progress(&request.lease(), Some(1), Progress::InDoubt(LEASE), Some(&history))
        .await
        .expect("answers");
    assert_eq!(result, ProgressAnswer::Applied);
    update(store, &request, 1, Progress::InDoubt(LEASE)).await;
    store.at(START.plus(LEASE));
    assert_eq!(in_doubt(admit(store, &request.owned_by(2)).await).history, Some(history));
}

async fn a_receipt_proves_that_a_message_was_sent(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(36, "proof");
    granted(admit(store, &request).await);
    assert_eq!(update(store, &request, 1, Progress::InDoubt(LEASE)).await, ProgressAnswer::Applied);
    store.record_receipt(&queued_receipt(36, &request)).await.expect("answers");
    assert_eq!(
        update(store, &request, 1, Progress::InDoubt(LEASE)).await,
        ProgressAnswer::AlreadySent("SM9".to_owned())
    );
    assert_eq!(update(store, &request, 1, Progress::Waiting(LEASE)).await, ProgressAnswer::Applied);
    let resend = update(store, &request, 1, Progress::Sending(LEASE)).await;
    assert_eq!(resend, ProgressAnswer::AlreadySent("SM9".to_owned()), "nothing more may be sent");
    store.at(START.plus(LEASE));
    assert_eq!(granted(admit(store, &request.owned_by(2)).await).attempt, 2, "and nothing was updated");
}

async fn an_unrecorded_doubt_can_be_requeued(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(77, "unrecorded");
    granted(admit(store, &request).await);
    assert_eq!(update(store, &request, 1, requeued(0, true)).await, ProgressAnswer::Applied);
    let grant = in_doubt(admit(store, &request.owned_by(2)).await);
    assert_eq!((grant.attempt, grant.attempts_in_doubt, grant.unfinished_leases), (1, 1, 1));
}

async fn a_message_found_by_lookup_belongs_to_one_request(store: &dyn TimedStore) {
    let with_outcome = |request: &TestRequest, at: UnixMillis| (request.clone(), sent(at));
    let (first, outcome) = with_outcome(&request_to(37, "found-1"), START);
    let (second, _) = with_outcome(&request_to(37, "found-2"), START);
    store.at(START);
    granted(admit(store, &first).await);
    let complete = |request: &TestRequest, found: bool| {
        let (request, outcome) = (request.clone(), outcome.clone());
        async move {
            let completion = CompletionInput {
                found_by_lookup: found,
                ..super::completion(request.lease(), &outcome, super::Refund::None)
            };
            store.complete(&completion).await.expect("answers")
        }
    };
    assert_eq!(complete(&first, true).await, CompletionAnswer::Recorded);
    assert_eq!(complete(&first, true).await, CompletionAnswer::Recorded, "repeated after a lost answer");
    store.at(START.plus(Duration::from_secs(40)));
    granted(admit(store, &second).await);
    assert_eq!(complete(&second, true).await, CompletionAnswer::MessageClaimed);
    store.at(START.plus(Duration::from_secs(60)));
    in_doubt(admit(store, &second.owned_by(2)).await);
    assert_eq!(
        complete(&second.owned_by(2), false).await,
        CompletionAnswer::Recorded,
        "its own message, not found by lookup"
    );
    let other = request_to(38, "found-3");
    granted(admit(store, &other).await);
    assert_eq!(complete(&other, true).await, CompletionAnswer::Recorded, "another recipient's");
}

fn queued_receipt(recipient: u8, request: &TestRequest) -> NewReceipt<'_> {
    let recipient: Digest16 = named(recipient);
    let status = DeliveryStatus::Queued;
    NewReceipt {
        recipient,
        request_id: &request.request,
        message_id: "SM9",
        status,
        provider_code: None,
        published: false,
        suppression: None,
    }
}

fn history_of(word: &str) -> RequestHistory {
    RequestHistory {
        trace: None,
        user: None,
        network: None,
        counted: None,
        callers_code: false,
        handed_to: vec!["twilio".to_owned(), word.to_owned()],
        to: "+57******4567".to_owned(),
        correlation_id: Some(word.to_owned()),
        challenge: None,
        entries: Vec::new(),
    }
}
