//! Receipts that the provider reports, and overdue ones.

use std::time::Duration;

use otpost::domain::history::RequestHistory;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::request_id::RequestId;
use otpost::domain::suppression::{NewSuppression, SuppressionTarget};
use otpost::domain::trace_context::TraceContext;
use otpost::store::{
    CompletionInput, NewReceipt, OverdueReceipt, Progress, ProgressAnswer, ReceiptAnswer, Refund,
    RequestState,
};

use super::{
    HOUR, LEASE, START, TestRequest, TimedStore, admit, completion, granted, named, request_to, sent,
};

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    a_final_receipt_is_to_be_published_until_it_was(store).await;
    a_late_receipt_changes_nothing(store).await;
    a_receipt_can_come_before_completion(store).await;
    a_receipt_of_an_unknown_request_is_ignored(store).await;
    an_overdue_receipt_is_polled_at_growing_intervals(store).await;
    a_final_receipt_that_was_not_published_never_lapses(store).await;
    a_published_receipt_is_not_polled(store).await;
    a_repeated_receipt_does_not_restore_a_removed_suppression(store).await;
    a_receipt_of_a_request_without_a_record_suppresses_no_recipient(store).await;
    the_other_of_two_messages_counts_only_if_it_arrived(store).await;
}

/// The first attempt stayed in doubt; the outcome names the message of the second.
async fn the_other_of_two_messages_counts_only_if_it_arrived(store: &dyn TimedStore) {
    use DeliveryStatus::{Delivered, Failed, Sent, Undelivered};
    for (recipient, suppresses) in [(116, false), (117, true)] {
        store.at(START);
        let request = completed_after_doubt(store, recipient, "two").await;
        let suppression = suppresses.then_some(NewSuppression {
            target: SuppressionTarget::Recipient,
            provider_code: 30_005,
            duration: Some(HOUR),
            masked: "+57*",
        });
        let of = |message_id, status| NewReceipt { message_id, suppression, ..receipt(&request, status) };
        for status in [Sent, Failed, Undelivered] {
            assert_eq!(record(store, of("SM0", status)).await, ReceiptAnswer::NothingToPublish, "{status:?}");
        }
        assert_eq!(record(store, of("SM1", Undelivered)).await, publish());
        let published = NewReceipt { published: true, ..of("SM1", Undelivered) };
        assert_eq!(record(store, published).await, ReceiptAnswer::NothingToPublish);
        assert_eq!(record(store, of("SM0", Failed)).await, ReceiptAnswer::NothingToPublish);
        assert_eq!(record(store, of("SM0", Delivered)).await, publish(), "it arrived");
        assert_eq!(record(store, of("SM1", Undelivered)).await, ReceiptAnswer::NothingToPublish);
        let stored = store
            .request_record(&request.request, Some(named(recipient)))
            .await
            .expect("answers")
            .expect("known");
        let recorded = stored.receipt.expect("reported");
        assert_eq!((recorded.message_id.as_str(), recorded.status), ("SM0", Delivered));
    }
}

async fn completed_after_doubt(store: &dyn TimedStore, recipient: u8, request: &str) -> TestRequest {
    let history = history();
    let request = TestRequest { history: history.clone(), ..request_to(recipient, request) };
    granted(admit(store, &request).await);
    for progress in [Progress::InDoubt(LEASE), Progress::Sending(LEASE)] {
        let answer = store.update_progress(&request.lease(), Some(1), progress, None).await;
        assert_eq!(answer.expect("answers"), ProgressAnswer::Applied);
    }
    let mut outcome = sent(START);
    (outcome.history, outcome.attempts) = (history, 2);
    store.complete(&completion(request.lease(), &outcome, Refund::None)).await.expect("answers");
    request
}

fn receipt<'a>(request: &'a TestRequest, status: DeliveryStatus) -> NewReceipt<'a> {
    NewReceipt {
        recipient: named(request.recipient),
        request_id: &request.request,
        message_id: "SM1",
        status,
        provider_code: None,
        published: false,
        suppression: None,
    }
}

/// Messages are due at the beginning of a minute.
const MINUTE: Duration = Duration::from_secs(60);

async fn record(store: &dyn TimedStore, receipt: NewReceipt<'_>) -> ReceiptAnswer {
    store.record_receipt(&receipt).await.expect("answers")
}

fn trace() -> TraceContext {
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    TraceContext::parse(traceparent, Some("vendor=a")).expect("valid")
}

fn history() -> RequestHistory {
    let (correlation_id, trace) = (Some("c 1".to_owned()), Some(trace()));
    RequestHistory { correlation_id, trace, ..RequestHistory::default() }
}

fn publish() -> ReceiptAnswer {
    let (purpose, correlation_id) = ("verification".to_owned(), Some("c 1".to_owned()));
    ReceiptAnswer::Publish { purpose, correlation_id, trace: Some(trace()) }
}

/// A request that was completed as sent, with a receipt due after some time.
async fn completed(
    store: &dyn TimedStore,
    recipient: u8,
    request: &str,
    due: Option<Duration>,
) -> TestRequest {
    let history = history();
    let request = TestRequest { history: history.clone(), ..request_to(recipient, request) };
    granted(admit(store, &request).await);
    let mut outcome = sent(START);
    outcome.history = history;
    let completion =
        CompletionInput { poll_receipt_after: due, ..completion(request.lease(), &outcome, Refund::None) };
    store.complete(&completion).await.expect("answers");
    request
}

async fn a_final_receipt_is_to_be_published_until_it_was(store: &dyn TimedStore) {
    store.at(START);
    let request = completed(store, 40, "news", None).await;
    assert_eq!(record(store, receipt(&request, DeliveryStatus::Sent)).await, ReceiptAnswer::NothingToPublish);
    let failed = NewReceipt { provider_code: Some(30_003), ..receipt(&request, DeliveryStatus::Undelivered) };
    for _ in 0..2 {
        assert_eq!(record(store, failed).await, publish());
    }
    assert_eq!(
        record(store, NewReceipt { published: true, ..failed }).await,
        ReceiptAnswer::NothingToPublish
    );
    assert_eq!(record(store, failed).await, ReceiptAnswer::NothingToPublish);
    let stored = store.request_record(&request.request, None).await.expect("answers").expect("known");
    let recorded = stored.receipt.expect("reported");
    assert_eq!(
        (recorded.status, recorded.provider_code, recorded.published),
        (failed.status, Some(30_003), true)
    );
    assert!(matches!(stored.state, RequestState::Completed(_)));
}

async fn a_late_receipt_changes_nothing(store: &dyn TimedStore) {
    store.at(START);
    let request = completed(store, 41, "late", None).await;
    assert_eq!(record(store, receipt(&request, DeliveryStatus::Delivered)).await, publish());
    for late in [DeliveryStatus::Queued, DeliveryStatus::Sent, DeliveryStatus::Failed] {
        assert_eq!(record(store, receipt(&request, late)).await, ReceiptAnswer::NothingToPublish, "{late:?}");
    }
    let wrong = NewReceipt { published: true, ..receipt(&request, DeliveryStatus::Failed) };
    assert_eq!(record(store, wrong).await, ReceiptAnswer::NothingToPublish);
    assert_eq!(
        record(store, receipt(&request, DeliveryStatus::Delivered)).await,
        publish(),
        "not published yet"
    );
}

async fn a_receipt_can_come_before_completion(store: &dyn TimedStore) {
    store.at(START);
    let history = history();
    let request = TestRequest { history, ..request_to(42, "early") };
    granted(admit(store, &request).await);
    assert_eq!(record(store, receipt(&request, DeliveryStatus::Delivered)).await, publish());
    let outcome = sent(START);
    store.complete(&completion(request.lease(), &outcome, Refund::None)).await.expect("answers");
    let stored = store.request_record(&request.request, None).await.expect("answers").expect("known");
    assert_eq!(stored.receipt.expect("it is kept").status, DeliveryStatus::Delivered);
}

async fn a_receipt_of_an_unknown_request_is_ignored(store: &dyn TimedStore) {
    store.at(START);
    let never = request_to(43, "never");
    assert_eq!(record(store, receipt(&never, DeliveryStatus::Sent)).await, ReceiptAnswer::NoRequest);
    let request = completed(store, 43, "named", None).await;
    for message_id in ["", "two words", "a,b"] {
        let odd = NewReceipt { message_id, ..receipt(&request, DeliveryStatus::Sent) };
        assert_eq!(record(store, odd).await, ReceiptAnswer::NoRequest, "{message_id:?}");
    }
    store.at(START.plus(24 * HOUR));
    assert_eq!(record(store, receipt(&request, DeliveryStatus::Sent)).await, ReceiptAnswer::NoRequest);
}

async fn an_overdue_receipt_is_polled_at_growing_intervals(store: &dyn TimedStore) {
    let seconds = Duration::from_secs;
    let overdue = async |after: u64| {
        store.at(START.plus(seconds(after)));
        store.overdue_receipts(seconds(600), 10).await.expect("answers")
    };
    store.at(START);
    let request = completed(store, 44, "overdue_once", Some(seconds(30))).await;
    let polled = |lapsed| {
        let (message_id, request) = ("SM1".to_owned(), request.request.clone());
        let (recipient, completed_at) = (named(44), START);
        vec![OverdueReceipt { recipient, request_id: request, message_id, completed_at, lapsed }]
    };
    for (after, is_polled) in
        [(59, false), (60, true), (60, false), (119, false), (120, true), (239, false), (240, true)]
    {
        assert_eq!(overdue(after).await, if is_polled { polled(false) } else { vec![] }, "after {after} s");
    }
    for (after, is_handed_out) in [(600, true), (600, false), (659, false), (660, true), (6_000, true)] {
        let expected = if is_handed_out { polled(true) } else { vec![] };
        assert_eq!(overdue(after).await, expected, "it lapsed, after {after} s");
    }
    for _ in 0..2 {
        store.end_receipt_wait(&polled(true)[0]).await.expect("answers");
    }
    assert_eq!(overdue(80_000).await, []);
}

async fn a_final_receipt_that_was_not_published_never_lapses(store: &dyn TimedStore) {
    store.at(START);
    let request = completed(store, 145, "unconfirmed", Some(LEASE)).await;
    let is_lapsed = async |after: Duration| {
        store.at(START.plus(after));
        let overdue = store.overdue_receipts(HOUR, 10).await.expect("answers");
        overdue.iter().map(|overdue| overdue.lapsed).collect::<Vec<_>>()
    };
    record(store, receipt(&request, DeliveryStatus::Sent)).await;
    assert_eq!(is_lapsed(HOUR).await, [true]);
    record(store, receipt(&request, DeliveryStatus::Delivered)).await;
    for minute in 1..4_u32 {
        assert_eq!(is_lapsed(HOUR + minute * Duration::from_secs(60)).await, [false]);
    }
    record(store, NewReceipt { published: true, ..receipt(&request, DeliveryStatus::Delivered) }).await;
    assert_eq!(is_lapsed(2 * HOUR).await, [false; 0]);
}

async fn a_published_receipt_is_not_polled(store: &dyn TimedStore) {
    store.at(START);
    let published = completed(store, 45, "published", Some(LEASE)).await;
    let unpublished = completed(store, 46, "unpublished", Some(LEASE)).await;
    for number in 0..3_u8 {
        completed(store, 47 + number, "many", Some(LEASE + MINUTE)).await;
    }
    record(store, receipt(&published, DeliveryStatus::Delivered)).await;
    record(store, NewReceipt { published: true, ..receipt(&published, DeliveryStatus::Delivered) }).await;
    record(store, receipt(&unpublished, DeliveryStatus::Delivered)).await;
    store.at(START.plus(MINUTE));
    let overdue = store.overdue_receipts(HOUR, 10).await.expect("answers");
    let ids: Vec<&RequestId> = overdue.iter().map(|overdue| &overdue.request_id).collect();
    assert_eq!(ids, [&unpublished.request]);
    store.at(START.plus(2 * MINUTE));
    for due in [3, 1, 0] {
        assert_eq!(
            store.overdue_receipts(HOUR, 3).await.expect("answers").len(),
            due,
            "no more than `count_max`"
        );
    }
    store.at(START.plus(25 * HOUR));
    assert_eq!(store.overdue_receipts(HOUR, 10).await.expect("answers"), [], "their records have expired");
}

async fn a_repeated_receipt_does_not_restore_a_removed_suppression(store: &dyn TimedStore) {
    use DeliveryStatus::{Delivered, Failed, Undelivered};
    let suppression = |duration| {
        Some(NewSuppression {
            target: SuppressionTarget::Recipient,
            provider_code: 550,
            duration,
            masked: "a***@b***.example",
        })
    };
    let (for_a_day, without_end) = (suppression(Some(24 * HOUR)), suppression(None));
    let removed = async |recipient| {
        store.remove_suppression(named(recipient)).await.expect("answers").map(|removed| removed.until)
    };
    store.at(START);
    let until = START.plus(24 * HOUR);
    let request = completed(store, 140, "again", None).await;
    let bounced = NewReceipt { suppression: for_a_day, ..receipt(&request, Undelivered) };
    record(store, bounced).await;
    assert_eq!(removed(140).await, Some(Some(until)));
    assert_eq!(record(store, bounced).await, publish(), "it was not published yet");
    assert_eq!(removed(140).await, None);
    record(store, NewReceipt { published: true, suppression: None, ..bounced }).await;
    record(store, bounced).await;
    record(store, NewReceipt { suppression: for_a_day, ..receipt(&request, Failed) }).await;
    assert_eq!(removed(140).await, None, "once published it suppresses no more");
    let opted_out = NewReceipt { suppression: without_end, ..receipt(&request, Failed) };
    record(store, opted_out).await;
    assert_eq!(removed(140).await, Some(None), "an opt-out is stronger");
    record(store, opted_out).await;
    record(store, bounced).await;
    assert_eq!(removed(140).await, None);

    // A receipt that changes nothing else is remembered, too, and beyond the completion of its request.
    let early = request_to(141, "early-again");
    granted(admit(store, &early).await);
    assert!(matches!(record(store, receipt(&early, Delivered)).await, ReceiptAnswer::Publish { .. }));
    let bounced_late = NewReceipt { suppression: for_a_day, ..receipt(&early, Undelivered) };
    assert_eq!(record(store, bounced_late).await, ReceiptAnswer::NothingToPublish);
    assert_eq!(removed(141).await, Some(Some(until)));
    store.complete(&completion(early.lease(), &sent(START), Refund::None)).await.expect("answers");
    record(store, bounced_late).await;
    assert_eq!(removed(141).await, None);
    let stored = store.request_record(&early.request, None).await.expect("answers").expect("known");
    assert_eq!(stored.receipt.expect("reported").status, Delivered);
}

/// Without a record a receipt cannot be recognised as a repeat.
async fn a_receipt_of_a_request_without_a_record_suppresses_no_recipient(store: &dyn TimedStore) {
    use DeliveryStatus::{Failed, Undelivered};
    let suppressions = [Some(24 * HOUR), None].map(|duration| {
        let (target, masked) = (SuppressionTarget::Recipient, "+57******4567");
        NewSuppression { target, provider_code: 21_610, duration, masked }
    });
    let suppresses = async |receipt: NewReceipt<'_>| {
        assert_eq!(record(store, receipt).await, ReceiptAnswer::NoRequest);
        store.remove_suppression(receipt.recipient).await.expect("answers").is_some()
    };
    store.at(START);
    let (unknown, elsewhere) = (request_to(142, "unknown"), request_to(143, "ended"));
    let ended = completed(store, 144, "ended", None).await;
    for suppression in suppressions {
        for status in [Failed, Undelivered, DeliveryStatus::Sent] {
            let of = |request| NewReceipt { suppression: Some(suppression), ..receipt(request, status) };
            assert!(!suppresses(of(&unknown)).await, "a request that never was");
            assert!(!suppresses(of(&elsewhere)).await, "another recipient's request");
            assert!(!suppresses(NewReceipt { message_id: "a,b", ..of(&ended) }).await, "no message id");
        }
    }
    let opted_out = NewReceipt { suppression: Some(suppressions[1]), ..receipt(&ended, Failed) };
    assert_eq!(record(store, opted_out).await, publish());
    assert!(store.remove_suppression(named(144)).await.expect("answers").is_some(), "its own request");
    store.at(START.plus(24 * HOUR));
    assert!(!suppresses(opted_out).await, "its record has expired");
}
