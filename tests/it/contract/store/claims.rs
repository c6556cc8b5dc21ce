//! Claims of listed messages, beside other requests whose messages have no claim.

use std::time::Duration;

use otpost::domain::limit::Limit;
use otpost::domain::outcome::{Outcome, Status};
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::time::UnixMillis;
use otpost::store::{ClaimAnswer, ClaimInput, CompletionInput, NewReceipt, Progress, Refund};

use super::{LEASE, START, TestRequest, TimedStore, admit, granted, limits, named, request_to, sent};

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    a_listed_message_is_claimed_by_one_request(store).await;
    an_unnamed_message_is_counted_until_a_receipt_names_it(store).await;
    only_messages_of_the_same_time_and_code_are_counted(store).await;
    a_request_in_progress_may_have_made_any_message(store).await;
    a_claim_needs_the_lease(store).await;
    beside_too_many_requests_to_read_no_message_is_claimed(store).await;
}

fn of(recipient: u8, id: &str) -> TestRequest {
    let limits = otpost::domain::limit::Limits { cooldown: Duration::ZERO, ..limits() };
    TestRequest { limits, ..request_to(recipient, id) }
}

async fn complete(store: &dyn TimedStore, request: &TestRequest, message_id: Option<&str>) {
    let outcome = Outcome { provider_message_id: message_id.map(str::to_owned), ..sent(START) };
    let completion: CompletionInput<'_> = super::completion(request.lease(), &outcome, Refund::None);
    store.complete(&completion).await.expect("answers");
}

/// Admits a request and completes it as sent, without an id.
async fn send_unnamed(store: &dyn TimedStore, request: &TestRequest) {
    granted(admit(store, request).await);
    complete(store, request, None).await;
}

/// Admits a request and marks its first attempt as in doubt.
async fn be_in_doubt(store: &dyn TimedStore, request: &TestRequest) {
    granted(admit(store, request).await);
    store.update_progress(&request.lease(), Some(1), Progress::InDoubt(LEASE), None).await.expect("answers");
}

async fn claim(store: &dyn TimedStore, request: &TestRequest, listed: &[&str]) -> ClaimAnswer {
    let claim = ClaimInput { lease: request.lease(), listed, a_text_is_missing: false };
    store.claim_message(&claim).await.expect("answers")
}

fn claimed(message_id: &str) -> ClaimAnswer {
    ClaimAnswer::Claimed(message_id.to_owned())
}

async fn a_listed_message_is_claimed_by_one_request(store: &dyn TimedStore) {
    store.at(START);
    let (first, second) = (of(100, "claim-1"), of(100, "claim-2"));
    be_in_doubt(store, &first).await;
    assert_eq!(claim(store, &first, &["SM1"]).await, claimed("SM1"));
    assert_eq!(claim(store, &first, &["SM0", "SM1"]).await, claimed("SM1"), "repeated after a lost answer");
    complete(store, &first, Some("SM1")).await;
    be_in_doubt(store, &second).await;
    assert_eq!(claim(store, &second, &["SM1"]).await, ClaimAnswer::AllClaimed);
    assert_eq!(claim(store, &second, &["SM1", "SM2"]).await, claimed("SM2"));
}

async fn an_unnamed_message_is_counted_until_a_receipt_names_it(store: &dyn TimedStore) {
    store.at(START);
    let [first, second, third] = ["unnamed-1", "unnamed-2", "unnamed-3"].map(|id| of(101, id));
    send_unnamed(store, &first).await;
    send_unnamed(store, &second).await;
    store.at(START.plus(Duration::from_secs(1)));
    be_in_doubt(store, &third).await;
    assert_eq!(claim(store, &third, &["SM1"]).await, ClaimAnswer::Ambiguous);
    assert_eq!(claim(store, &third, &["SM1", "SM2"]).await, ClaimAnswer::Ambiguous);
    let receipt = NewReceipt {
        recipient: named(101),
        request_id: &first.request,
        message_id: "SM1",
        status: DeliveryStatus::Queued,
        provider_code: None,
        published: false,
        suppression: None,
    };
    store.record_receipt(&receipt).await.expect("answers");
    assert_eq!(claim(store, &third, &["SM1"]).await, ClaimAnswer::AllClaimed);
    assert_eq!(claim(store, &third, &["SM1", "SM2"]).await, ClaimAnswer::Ambiguous);
    assert_eq!(claim(store, &third, &["SM1", "SM2", "SM3"]).await, claimed("SM3"));
}

async fn only_messages_of_the_same_time_and_code_are_counted(store: &dyn TimedStore) {
    let other_code = TestRequest { challenge: 90, digest: 90, callers_code: true, ..of(102, "code-1") };
    let ours = TestRequest { challenge: 91, digest: 91, callers_code: true, ..of(102, "code-2") };
    store.at(START);
    send_unnamed(store, &other_code).await;
    be_in_doubt(store, &ours).await;
    let without_text = ClaimInput { lease: ours.lease(), listed: &["SM1"], a_text_is_missing: true };
    let answer = store.claim_message(&without_text).await.expect("answers");
    assert_eq!(answer, ClaimAnswer::Ambiguous, "a message without a text may be anybody's");
    assert_eq!(claim(store, &ours, &["SM1"]).await, claimed("SM1"));

    for (recipient, apart, expected) in [(103, 9, ClaimAnswer::Ambiguous), (104, 11, claimed("SM1"))] {
        store.at(START);
        send_unnamed(store, &of(recipient, "time-1")).await;
        store.at(START.plus(Duration::from_secs(apart)));
        let later = of(recipient, "time-2");
        be_in_doubt(store, &later).await;
        assert_eq!(claim(store, &later, &["SM1"]).await, expected, "{apart} s");
    }
}

async fn a_request_in_progress_may_have_made_any_message(store: &dyn TimedStore) {
    store.at(START);
    let (first, second) = (of(105, "open-1"), of(105, "open-2"));
    be_in_doubt(store, &first).await;
    granted(admit(store, &second).await);
    assert_eq!(claim(store, &first, &["SM1"]).await, ClaimAnswer::Ambiguous);
    assert_eq!(claim(store, &first, &["SM1", "SM2"]).await, ClaimAnswer::SentUnnamed);
    complete(store, &second, Some("SM2")).await;
    assert_eq!(claim(store, &first, &["SM1", "SM2"]).await, claimed("SM1"));

    // A request that ended as unknown may have, too.
    let (first, second) = (of(106, "open-3"), of(106, "open-4"));
    be_in_doubt(store, &first).await;
    let outcome = Outcome { status: Status::Unknown, provider_message_id: None, ..sent(UnixMillis(START.0)) };
    let completion = super::completion(first.lease(), &outcome, Refund::None);
    store.complete(&completion).await.expect("answers");
    be_in_doubt(store, &second).await;
    assert_eq!(claim(store, &second, &["SM1"]).await, ClaimAnswer::Ambiguous);
}

async fn a_claim_needs_the_lease(store: &dyn TimedStore) {
    store.at(START);
    let request = of(107, "lease");
    be_in_doubt(store, &request).await;
    assert_eq!(claim(store, &request.owned_by(2), &["SM1"]).await, ClaimAnswer::LeaseNotHeld);
    assert_eq!(claim(store, &of(107, "no-record"), &["SM1"]).await, ClaimAnswer::LeaseNotHeld);
    complete(store, &request, None).await;
    assert_eq!(claim(store, &request, &["SM1"]).await, ClaimAnswer::LeaseNotHeld);
}

/// The first of them may have made the listed message.
async fn beside_too_many_requests_to_read_no_message_is_claimed(store: &dyn TimedStore) {
    store.at(START);
    let unlimited = |id: &str| {
        let request = of(109, id);
        let limits = request.limits.with(Limit::Recipient, 0).with(Limit::RecipientDay, 0);
        TestRequest { limits, ..request }
    };
    be_in_doubt(store, &unlimited("crowd-first")).await;
    for number in 0..199 {
        let request = unlimited(&format!("crowd-{number}"));
        granted(admit(store, &request).await);
        complete(store, &request, Some(&format!("SMcrowd{number}"))).await;
    }
    let last = unlimited("crowd-last");
    be_in_doubt(store, &last).await;
    assert_eq!(claim(store, &last, &["SM1"]).await, ClaimAnswer::Ambiguous);
}
