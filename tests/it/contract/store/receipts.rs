//! What the provider reports of messages, and what is done about reports that do not come.

use std::time::Duration;

use otpost::domain::history::RequestHistory;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::request_id::RequestId;
use otpost::domain::suppression::{NewSuppression, SuppressionTarget};
use otpost::store::{CompleteRequest, OverdueReceipt, ReceiptResult, RecordReceipt, Refund, RequestState};

use super::{Ask, HOUR, LEASE, START, TimedStore, admit, ask, granted, named, sent, settle};

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    a_final_report_is_news_until_it_was_told(store).await;
    what_comes_late_changes_nothing(store).await;
    a_report_can_come_before_the_end(store).await;
    nothing_is_known_of_what_there_is_not(store).await;
    a_report_that_does_not_come_is_asked_for_ever_less(store).await;
    what_is_known_is_not_asked_for(store).await;
    a_report_that_comes_again_does_not_block_what_a_person_has_lifted(store).await;
}

fn report<'a>(ask: &'a Ask, status: DeliveryStatus) -> RecordReceipt<'a> {
    RecordReceipt {
        recipient: named(ask.recipient),
        request: &ask.request,
        message_id: "SM1",
        status,
        code: None,
        published: false,
        suppression: None,
    }
}

async fn track(store: &dyn TimedStore, track: RecordReceipt<'_>) -> ReceiptResult {
    store.record_receipt(&track).await.expect("answers")
}

fn news() -> ReceiptResult {
    ReceiptResult::Publish { purpose: "verification".to_owned(), correlation_id: Some("c 1".to_owned()) }
}

/// A request that ended as sent, and when its report is due.
async fn ended(store: &dyn TimedStore, recipient: u8, request: &str, due: Option<Duration>) -> Ask {
    let notes = RequestHistory { correlation_id: Some("c 1".to_owned()), ..RequestHistory::default() };
    let request = Ask { notes: notes.clone(), ..ask(recipient, request) };
    granted(admit(store, &request).await);
    let mut outcome = sent(START);
    outcome.history = notes;
    let end = CompleteRequest { receipt_due: due, ..settle(request.handling(), &outcome, Refund::None) };
    store.complete(&end).await.expect("answers");
    request
}

async fn a_final_report_is_news_until_it_was_told(store: &dyn TimedStore) {
    store.at(START);
    let request = ended(store, 40, "news", None).await;
    assert_eq!(track(store, report(&request, DeliveryStatus::Sent)).await, ReceiptResult::Unchanged);
    let failed = RecordReceipt { code: Some(30_003), ..report(&request, DeliveryStatus::Undelivered) };
    for _ in 0..2 {
        assert_eq!(track(store, failed).await, news());
    }
    assert_eq!(track(store, RecordReceipt { published: true, ..failed }).await, ReceiptResult::Unchanged);
    assert_eq!(track(store, failed).await, ReceiptResult::Unchanged);
    let story = store.request_record(&request.request, None).await.expect("answers").expect("known");
    let receipt = story.receipt.expect("reported");
    assert_eq!((receipt.status, receipt.code, receipt.published), (failed.status, Some(30_003), true));
    assert!(matches!(story.state, RequestState::Ended(_)));
}

async fn what_comes_late_changes_nothing(store: &dyn TimedStore) {
    store.at(START);
    let request = ended(store, 41, "late", None).await;
    assert_eq!(track(store, report(&request, DeliveryStatus::Delivered)).await, news());
    for late in [DeliveryStatus::Queued, DeliveryStatus::Sent, DeliveryStatus::Failed] {
        assert_eq!(track(store, report(&request, late)).await, ReceiptResult::Unchanged, "{late:?}");
    }
    let wrong = RecordReceipt { published: true, ..report(&request, DeliveryStatus::Failed) };
    assert_eq!(track(store, wrong).await, ReceiptResult::Unchanged);
    assert_eq!(track(store, report(&request, DeliveryStatus::Delivered)).await, news(), "not told yet");
}

async fn a_report_can_come_before_the_end(store: &dyn TimedStore) {
    store.at(START);
    let notes = RequestHistory { correlation_id: Some("c 1".to_owned()), ..RequestHistory::default() };
    let request = Ask { notes, ..ask(42, "early") };
    granted(admit(store, &request).await);
    assert_eq!(track(store, report(&request, DeliveryStatus::Delivered)).await, news());
    let outcome = sent(START);
    store.complete(&settle(request.handling(), &outcome, Refund::None)).await.expect("answers");
    let story = store.request_record(&request.request, None).await.expect("answers").expect("known");
    assert_eq!(story.receipt.expect("it is kept").status, DeliveryStatus::Delivered);
}

async fn nothing_is_known_of_what_there_is_not(store: &dyn TimedStore) {
    store.at(START);
    let never = ask(43, "never");
    assert_eq!(track(store, report(&never, DeliveryStatus::Sent)).await, ReceiptResult::NoRequest);
    let request = ended(store, 43, "named", None).await;
    for message_id in ["", "two words", "a,b"] {
        let odd = RecordReceipt { message_id, ..report(&request, DeliveryStatus::Sent) };
        assert_eq!(track(store, odd).await, ReceiptResult::NoRequest, "{message_id:?}");
    }
    store.at(START.plus(24 * HOUR));
    assert_eq!(track(store, report(&request, DeliveryStatus::Sent)).await, ReceiptResult::NoRequest);
}

async fn a_report_that_does_not_come_is_asked_for_ever_less(store: &dyn TimedStore) {
    let seconds = Duration::from_secs;
    let overdue = async |after: u64| {
        store.at(START.plus(seconds(after)));
        store.overdue_receipts(seconds(600), 10).await.expect("answers")
    };
    store.at(START);
    let request = ended(store, 44, "awaited", Some(seconds(30))).await;
    let awaited = |lapsed| {
        let (message_id, request) = ("SM1".to_owned(), request.request.clone());
        vec![OverdueReceipt { recipient: named(44), request, message_id, lapsed }]
    };
    for (after, asked) in
        [(29, false), (30, true), (30, false), (89, false), (90, true), (179, false), (180, true)]
    {
        assert_eq!(overdue(after).await, if asked { awaited(false) } else { vec![] }, "after {after} s");
    }
    assert_eq!(overdue(600).await, awaited(true));
    assert_eq!(overdue(6_000).await, []);
}

async fn what_is_known_is_not_asked_for(store: &dyn TimedStore) {
    store.at(START);
    let told = ended(store, 45, "told", Some(LEASE)).await;
    let untold = ended(store, 46, "untold", Some(LEASE)).await;
    for number in 0..3_u8 {
        ended(store, 47 + number, "many", Some(LEASE + Duration::from_secs(1))).await;
    }
    track(store, report(&told, DeliveryStatus::Delivered)).await;
    track(store, RecordReceipt { published: true, ..report(&told, DeliveryStatus::Delivered) }).await;
    track(store, report(&untold, DeliveryStatus::Delivered)).await;
    store.at(START.plus(LEASE));
    let overdue = store.overdue_receipts(HOUR, 10).await.expect("answers");
    let ids: Vec<&RequestId> = overdue.iter().map(|awaited| &awaited.request).collect();
    assert_eq!(ids, [&untold.request]);
    store.at(START.plus(2 * LEASE));
    assert_eq!(
        store.overdue_receipts(HOUR, 2).await.expect("answers").len(),
        2,
        "no more than was asked for"
    );
    assert_eq!(store.overdue_receipts(HOUR, 2).await.expect("answers").len(), 1);
    store.at(START.plus(25 * HOUR));
    assert_eq!(store.overdue_receipts(HOUR, 10).await.expect("answers"), [], "their requests are forgotten");
}

async fn a_report_that_comes_again_does_not_block_what_a_person_has_lifted(store: &dyn TimedStore) {
    use DeliveryStatus::{Delivered, Failed, Undelivered};
    let block = |lasts| {
        Some(NewSuppression {
            target: SuppressionTarget::Recipient,
            code: 550,
            duration: lasts,
            masked: "a***@b***.example",
        })
    };
    let (for_a_day, for_good) = (block(Some(24 * HOUR)), block(None));
    let lifted = async |recipient| {
        store.remove_suppression(named(recipient)).await.expect("answers").map(|stood| stood.until)
    };
    store.at(START);
    let until = START.plus(24 * HOUR);
    let request = ended(store, 140, "again", None).await;
    let bounced = RecordReceipt { suppression: for_a_day, ..report(&request, Undelivered) };
    track(store, bounced).await;
    assert_eq!(lifted(140).await, Some(Some(until)));
    assert_eq!(track(store, bounced).await, news(), "it was not told yet");
    assert_eq!(lifted(140).await, None);
    track(store, RecordReceipt { published: true, suppression: None, ..bounced }).await;
    track(store, bounced).await;
    track(store, RecordReceipt { suppression: for_a_day, ..report(&request, Failed) }).await;
    assert_eq!(lifted(140).await, None, "told and settled it blocks no more");
    let opted_out = RecordReceipt { suppression: for_good, ..report(&request, Failed) };
    track(store, opted_out).await;
    assert_eq!(lifted(140).await, Some(None), "that is worse than what was known");
    track(store, opted_out).await;
    track(store, bounced).await;
    assert_eq!(lifted(140).await, None);

    // What changes nothing else is remembered, too, and over the end of its request.
    let early = ask(141, "early-again");
    granted(admit(store, &early).await);
    assert!(matches!(track(store, report(&early, Delivered)).await, ReceiptResult::Publish { .. }));
    let bounced_late = RecordReceipt { suppression: for_a_day, ..report(&early, Undelivered) };
    assert_eq!(track(store, bounced_late).await, ReceiptResult::Unchanged);
    assert_eq!(lifted(141).await, Some(Some(until)));
    store.complete(&settle(early.handling(), &sent(START), Refund::None)).await.expect("answers");
    track(store, bounced_late).await;
    assert_eq!(lifted(141).await, None);
    let story = store.request_record(&early.request, None).await.expect("answers").expect("known");
    assert_eq!(story.receipt.expect("reported").status, Delivered);

    // Of what is not known nobody can say that it comes again.
    let never = ask(142, "never-again");
    for _ in 0..2 {
        track(store, RecordReceipt { suppression: for_a_day, ..report(&never, Undelivered) }).await;
        assert_eq!(lifted(142).await, Some(Some(until)));
    }
}
