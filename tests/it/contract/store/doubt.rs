//! Who handles a request, what is in doubt of it, and what its handlings leave each other.

use std::time::Duration;

use otpost::domain::history::{HistoryEvent, RequestHistory};
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::limit::Limit;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::time::UnixMillis;
use otpost::store::{
    Admission, CompleteRequest, CompleteResult, Grant, Progress, ProgressResult, RecordReceipt,
};

use super::{Ask, LEASE, START, TimedStore, admit, ask, granted, granted_and_sent, limits, named, sent};

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    a_lost_answer_is_given_again(store).await;
    a_doubt_is_counted_once(store).await;
    a_send_after_a_doubt_can_be_in_doubt_again(store).await;
    starts_count_what_was_not_given_back(store).await;
    what_is_given_back_in_doubt_stays_in_doubt(store).await;
    notes_are_left_for_the_next_handling(store).await;
    a_report_proves_that_a_message_was_accepted(store).await;
    a_doubt_that_was_not_told_is_given_back_as_one(store).await;
    a_message_that_was_found_is_one_requests_only(store).await;
}

fn back(seconds: u64, in_doubt: bool) -> Progress {
    Progress::Requeued { due: Duration::from_secs(seconds), in_doubt }
}

#[track_caller]
pub(super) fn in_doubt(admission: Admission) -> Grant {
    match admission {
        Admission::InDoubt(grant) => grant,
        other => panic!("expected doubt, got {other:?}"),
    }
}

async fn mark(store: &dyn TimedStore, ask: &Ask, made: u32, mark: Progress) -> ProgressResult {
    store.update_progress(&ask.handling(), Some(made), mark, None).await.expect("answers")
}

async fn a_lost_answer_is_given_again(store: &dyn TimedStore) {
    store.at(START);
    granted_and_sent(store, &ask(30, "before")).await;
    store.at(START.plus(Duration::from_secs(31)));
    let request = Ask { notes: noted("again"), ..ask(30, "again") };
    let first = granted(admit(store, &request).await);
    assert_eq!(
        (first.sends, first.unfinished_leases, first.attempts_in_doubt, &first.history),
        (2, 1, 0, &None)
    );
    assert_eq!(granted(admit(store, &request).await), first);
    mark(store, &request, 0, back(0, false)).await;
    let second = request.owned_by(2);
    let next = granted(admit(store, &second).await);
    store
        .complete(&super::settle(second.handling(), &sent(START), super::Refund::None))
        .await
        .expect("answers");
    assert_eq!((next.sends, next.history), (0, Some(noted("again"))));
    let limits = limits().with(Limit::Number, 0).with(Limit::NumberDay, 0);
    store.at(START.plus(Duration::from_secs(62)));
    let third = granted(admit(store, &Ask { limits, ..ask(30, "unlimited") }).await);
    assert_eq!(third.sends, 3, "counted without a limit too");
}

async fn a_doubt_is_counted_once(store: &dyn TimedStore) {
    store.at(START);
    let request = ask(31, "doubt");
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
        assert_eq!(mark(store, &second, 1, Progress::InDoubt(LEASE)).await, ProgressResult::Applied);
    }
    assert_eq!(admit(store, &request.owned_by(3)).await, Admission::Busy(LEASE));
    store.at(START.plus(2 * LEASE));
    let third = in_doubt(admit(store, &request.owned_by(3)).await);
    assert_eq!((third.attempts_in_doubt, third.unfinished_leases, third.attempt_started_at), (1, 3, START));
}

async fn a_send_after_a_doubt_can_be_in_doubt_again(store: &dyn TimedStore) {
    store.at(START);
    let request = ask(32, "resend");
    granted(admit(store, &request).await);
    assert_eq!(mark(store, &request, 1, Progress::InDoubt(LEASE)).await, ProgressResult::Applied);
    let resent = START.plus(Duration::from_secs(10));
    store.at(resent);
    assert_eq!(mark(store, &request, 1, Progress::Sending(LEASE)).await, ProgressResult::Applied);
    store.at(resent.plus(LEASE));
    let doubt = in_doubt(admit(store, &request.owned_by(2)).await);
    assert_eq!((doubt.attempts_in_doubt, doubt.attempt, doubt.attempt_started_at), (2, 2, resent));
}

async fn starts_count_what_was_not_given_back(store: &dyn TimedStore) {
    store.at(START);
    let request = ask(33, "starts");
    let back = back(0, false);
    for owner in 1..4 {
        let handling = request.owned_by(owner);
        assert_eq!(granted(admit(store, &handling).await).unfinished_leases, 1);
        assert_eq!(mark(store, &handling, 0, back).await, ProgressResult::Applied);
        assert_eq!(mark(store, &handling, 0, back).await, ProgressResult::NotOwner, "it is nobody's");
    }
    granted(admit(store, &request.owned_by(4)).await);
    for died in 1..3 {
        store.at(START.plus(LEASE * died));
        let grant = in_doubt(admit(store, &request.owned_by(4 + u64::from(died))).await);
        assert_eq!(grant.unfinished_leases, 1 + died);
    }
}

async fn what_is_given_back_in_doubt_stays_in_doubt(store: &dyn TimedStore) {
    store.at(START);
    let request = ask(34, "back");
    granted(admit(store, &request).await);
    mark(store, &request, 1, Progress::InDoubt(LEASE)).await;
    mark(store, &request, 1, back(3, false)).await;
    assert_eq!(admit(store, &request.owned_by(2)).await, Admission::Busy(Duration::from_secs(3)));
    store.at(START.plus(Duration::from_secs(3)));
    let grant = in_doubt(admit(store, &request.owned_by(2)).await);
    assert_eq!((grant.attempt, grant.attempts_in_doubt, grant.unfinished_leases), (1, 1, 1));
}

async fn notes_are_left_for_the_next_handling(store: &dyn TimedStore) {
    store.at(START);
    let request = Ask { notes: noted("first"), ..ask(35, "notes") };
    granted(admit(store, &request).await);
    let mut notes = noted("with spaces, \"quotes\" and ünïcode\n");
    notes.add(START, HistoryEvent::Resent(2));
    let marked = store
        .update_progress(&request.handling(), Some(1), Progress::InDoubt(LEASE), Some(&notes))
        .await
        .expect("answers");
    assert_eq!(marked, ProgressResult::Applied);
    mark(store, &request, 1, Progress::InDoubt(LEASE)).await;
    store.at(START.plus(LEASE));
    assert_eq!(in_doubt(admit(store, &request.owned_by(2)).await).history, Some(notes));
}

async fn a_report_proves_that_a_message_was_accepted(store: &dyn TimedStore) {
    store.at(START);
    let request = ask(36, "proof");
    granted(admit(store, &request).await);
    assert_eq!(mark(store, &request, 1, Progress::InDoubt(LEASE)).await, ProgressResult::Applied);
    store.record_receipt(&queued(36, &request)).await.expect("answers");
    assert_eq!(
        mark(store, &request, 1, Progress::InDoubt(LEASE)).await,
        ProgressResult::AlreadySent("SM9".to_owned())
    );
    assert_eq!(mark(store, &request, 1, Progress::Waiting(LEASE)).await, ProgressResult::Applied);
    let resend = mark(store, &request, 1, Progress::Sending(LEASE)).await;
    assert_eq!(resend, ProgressResult::AlreadySent("SM9".to_owned()), "nothing more is to be sent");
    store.at(START.plus(LEASE));
    assert_eq!(granted(admit(store, &request.owned_by(2)).await).attempt, 2, "and nothing was marked");
}

async fn a_doubt_that_was_not_told_is_given_back_as_one(store: &dyn TimedStore) {
    store.at(START);
    let request = ask(77, "untold");
    granted(admit(store, &request).await);
    assert_eq!(mark(store, &request, 1, back(0, true)).await, ProgressResult::Applied);
    let grant = in_doubt(admit(store, &request.owned_by(2)).await);
    assert_eq!((grant.attempt, grant.attempts_in_doubt, grant.unfinished_leases), (1, 1, 1));
}

async fn a_message_that_was_found_is_one_requests_only(store: &dyn TimedStore) {
    let found = |ask: &Ask, at: UnixMillis| (ask.clone(), sent(at));
    let (first, outcome) = found(&ask(37, "found-1"), START);
    let (second, _) = found(&ask(37, "found-2"), START);
    store.at(START);
    granted(admit(store, &first).await);
    let end = |ask: &Ask, found: bool| {
        let (ask, outcome) = (ask.clone(), outcome.clone());
        async move {
            let settle = CompleteRequest {
                found_by_lookup: found,
                ..super::settle(ask.handling(), &outcome, super::Refund::None)
            };
            store.complete(&settle).await.expect("answers")
        }
    };
    assert_eq!(end(&first, true).await, CompleteResult::Recorded);
    assert_eq!(end(&first, true).await, CompleteResult::Recorded, "asked again after a lost answer");
    store.at(START.plus(Duration::from_secs(40)));
    granted(admit(store, &second).await);
    assert_eq!(end(&second, true).await, CompleteResult::MessageClaimed);
    store.at(START.plus(Duration::from_secs(60)));
    in_doubt(admit(store, &second.owned_by(2)).await);
    assert_eq!(end(&second.owned_by(2), false).await, CompleteResult::Recorded, "it knows its own message");
    let elsewhere = ask(38, "found-3");
    granted(admit(store, &elsewhere).await);
    assert_eq!(end(&elsewhere, true).await, CompleteResult::Recorded, "another recipient's");
}

fn queued(recipient: u8, ask: &Ask) -> RecordReceipt<'_> {
    let recipient: Digest16 = named(recipient);
    let status = DeliveryStatus::Queued;
    RecordReceipt {
        recipient,
        request: &ask.request,
        message_id: "SM9",
        status,
        code: None,
        published: false,
        suppression: None,
    }
}

fn noted(word: &str) -> RequestHistory {
    RequestHistory {
        to: "+57******4567".to_owned(),
        correlation_id: Some(word.to_owned()),
        challenge: None,
        entries: Vec::new(),
    }
}
