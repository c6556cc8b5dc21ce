//! The request that a verified code belongs to, which its event names.

use std::time::Duration;

use otpost::domain::conversion::{CodeSend, ProviderSender, ProviderWord};
use otpost::domain::history::HistoryEvent;
use otpost::domain::limit::Limits;
use otpost::domain::outcome::{ErrorCode, Outcome, Status};
use otpost::store::code_check::{CheckAnswer, CodeCheck, CodeRequest, ProviderCheckEnd};
use otpost::store::{Grant, Refund};

use super::provider_check::grant_provider_made;
use super::{
    START, TestRequest, TimedStore, admit, completion, failed, granted, limits, named, rejected, request_to,
    sent,
};

const MINUTE: Duration = Duration::from_secs(60);

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    a_code_belongs_to_the_newest_request_that_sent_it(store).await;
    a_request_in_progress_may_have_sent_its_code(store).await;
    a_code_that_none_sent_belongs_to_the_newest_request_that_tried(store).await;
    a_request_of_another_code_or_purpose_is_not_meant(store).await;
    rejected_requests_hide_no_request(store).await;
    a_code_of_the_provider_belongs_to_its_request(store).await;
    the_first_send_of_a_code_is_that_of_its_oldest_request(store).await;
    a_code_whose_oldest_request_sent_nothing_has_no_first_send(store).await;
    the_first_send_of_a_request_in_progress_has_no_provider_yet(store).await;
    one_request_whose_code_its_caller_or_a_test_chose_marks_the_code(store).await;
}

/// Completes a request with this outcome, its own challenge in its history.
async fn complete(store: &dyn TimedStore, request: &TestRequest, grant: &Grant, outcome: Outcome) {
    let mut outcome = Outcome { purpose: request.purpose.to_owned(), ..outcome };
    outcome.history.challenge = Some(grant.challenge.as_str().to_owned());
    outcome.history.correlation_id = Some(format!("for {}", request.request));
    let refund = if outcome.status == Status::Failed { Refund::FullAndCounted } else { Refund::None };
    store.complete(&completion(request.lease(), &outcome, refund)).await.expect("the store answers");
}

async fn send(store: &dyn TimedStore, request: &TestRequest) {
    let grant = granted(admit(store, request).await);
    complete(store, request, &grant, sent(grant.now)).await;
}

async fn fail(store: &dyn TimedStore, request: &TestRequest) {
    let grant = granted(admit(store, request).await);
    complete(store, request, &grant, failed(grant.now)).await;
}

#[track_caller]
fn request_of(answer: CheckAnswer) -> Option<CodeRequest> {
    match answer {
        CheckAnswer::Verified { request, unreadable: None } => request,
        other => panic!("expected a verified code, got {other:?}"),
    }
}

async fn check(store: &dyn TimedStore, request: &TestRequest) -> Option<CodeRequest> {
    let (digests, limits) = ([(request.kid, named(request.digest))], limits());
    let check = CodeCheck {
        recipient: named(request.recipient),
        purpose: request.purpose,
        check_id: 1,
        digests: &digests,
        limits: &limits,
    };
    request_of(store.verify(&check).await.expect("the store answers"))
}

#[track_caller]
fn expect(request: Option<CodeRequest>, id: &str, correlation_id: Option<&str>) {
    let request = request.expect("it has a record");
    assert_eq!((request.id.as_str(), request.correlation_id.as_deref()), (id, correlation_id));
}

async fn a_code_belongs_to_the_newest_request_that_sent_it(store: &dyn TimedStore) {
    let first = request_to(149, "f81d4fae-7dec-11d0-a765-00a0c91e6bf6");
    store.at(START);
    send(store, &first).await;
    store.at(START.plus(MINUTE));
    send(store, &request_to(149, "second")).await;
    store.at(START.plus(2 * MINUTE));
    fail(store, &request_to(149, "third")).await;
    for _ in 0..2 {
        // The second time, the check is repeated after a lost answer.
        expect(check(store, &first).await, "second", Some("for second"));
    }

    let uuid = TestRequest { recipient: 150, ..first };
    store.at(START);
    send(store, &uuid).await;
    expect(check(store, &uuid).await, uuid.request.as_str(), Some(&format!("for {}", uuid.request)));
}

async fn a_request_in_progress_may_have_sent_its_code(store: &dyn TimedStore) {
    store.at(START);
    send(store, &request_to(151, "sent")).await;
    store.at(START.plus(MINUTE));
    let mut current = request_to(151, "current");
    current.history.correlation_id = Some("for current".to_owned());
    granted(admit(store, &current).await);
    expect(check(store, &current).await, "current", Some("for current"));
}

async fn a_code_that_none_sent_belongs_to_the_newest_request_that_tried(store: &dyn TimedStore) {
    let callers = TestRequest { callers_code: true, ..request_to(152, "tried-1") };
    store.at(START);
    fail(store, &callers).await;
    store.at(START.plus(MINUTE));
    fail(store, &TestRequest { request: request_to(152, "tried-2").request, ..callers.clone() }).await;
    expect(check(store, &callers).await, "tried-2", Some("for tried-2"));
}

async fn a_request_of_another_code_or_purpose_is_not_meant(store: &dyn TimedStore) {
    store.at(START);
    send(store, &TestRequest { challenge: 60, digest: 61, ..request_to(153, "replaced") }).await;
    store.at(START.plus(9 * MINUTE));
    let request = request_to(153, "meant");
    send(store, &request).await;
    store.at(START.plus(10 * MINUTE));
    // The same challenge id: the purpose alone tells them apart.
    send(store, &TestRequest { purpose: "login", ..request_to(153, "login") }).await;
    expect(check(store, &request).await, "meant", Some("for meant"));
}

/// As many as are listed for a recipient.
async fn rejected_requests_hide_no_request(store: &dyn TimedStore) {
    let request = request_to(154, "sent-before");
    store.at(START);
    send(store, &request).await;
    for number in 0..20 {
        let error = rejected(admit(store, &request_to(154, &format!("too-soon-{number}"))).await);
        assert_eq!(error.code, ErrorCode::Cooldown);
    }
    store.at(START.plus(MINUTE));
    let listed = store.recent_requests(named(154)).await.expect("the store answers");
    assert!(listed.iter().all(|listed| listed.request_id != request.request) && listed.len() == 20);
    expect(check(store, &request).await, "sent-before", Some("for sent-before"));
}

/// With the history of a worker, whose first step is the admission.
async fn send_by(store: &dyn TimedStore, request: &TestRequest, provider: &str) {
    let grant = granted(admit(store, request).await);
    let mut outcome = Outcome { provider: Some(provider.to_owned()), ..sent(grant.now.plus(MINUTE / 6)) };
    outcome.history.add(grant.now, HistoryEvent::Admitted(1));
    complete(store, request, &grant, outcome).await;
}

async fn the_first_send_of_a_code_is_that_of_its_oldest_request(store: &dyn TimedStore) {
    let first = request_to(113, "first-send");
    store.at(START);
    send_by(store, &first, "twilio").await;
    store.at(START.plus(MINUTE));
    send_by(store, &request_to(113, "second-send"), "smtp").await;
    let request = check(store, &first).await.expect("it has a record");
    assert_eq!(request.id.as_str(), "second-send");
    let sent_by = Some(ProviderSender { provider: ProviderWord::new("twilio"), sender: 1 });
    assert_eq!(request.first_send, Some(CodeSend { at: Some(START), sent_by }));
}

async fn a_code_whose_oldest_request_sent_nothing_has_no_first_send(store: &dyn TimedStore) {
    let first = request_to(114, "failed-first");
    store.at(START);
    fail(store, &first).await;
    store.at(START.plus(MINUTE));
    send_by(store, &request_to(114, "sent-second"), "twilio").await;
    let request = check(store, &first).await.expect("it has a record");
    assert_eq!((request.id.as_str(), request.first_send), ("sent-second", None));
}

async fn the_first_send_of_a_request_in_progress_has_no_provider_yet(store: &dyn TimedStore) {
    let current = request_to(115, "still-sending");
    store.at(START);
    granted(admit(store, &current).await);
    let request = check(store, &current).await.expect("it has a record");
    assert_eq!(request.first_send, Some(CodeSend { at: None, sent_by: None }));
}

/// The newest request that sent the code is not always the one whose caller knows it.
async fn one_request_whose_code_its_caller_or_a_test_chose_marks_the_code(store: &dyn TimedStore) {
    for (recipient, callers_code, test, is_sent) in [
        (110, false, false, true),
        (26, true, false, true),
        (27, true, false, false),
        (28, false, true, true),
        (39, false, true, false),
    ] {
        let mut first = request_to(recipient, "known-first");
        first.history.user = Some(named(176));
        first.history.callers_code = callers_code;
        if test {
            first.history.add(START, HistoryEvent::TestNumber);
        }
        store.at(START);
        let grant = granted(admit(store, &first).await);
        let outcome = if is_sent { sent(grant.now) } else { failed(grant.now) };
        complete(store, &first, &grant, Outcome { history: first.history.clone(), ..outcome }).await;
        store.at(START.plus(MINUTE));
        send(store, &request_to(recipient, "sent-later")).await;
        let request = check(store, &first).await.expect("it has a record");
        assert_eq!(
            (request.id.as_str(), request.callers_code, request.test),
            ("sent-later", callers_code, test)
        );
    }
    // In progress, its history is that of the admission.
    let mut current = request_to(111, "known-now");
    current.history.callers_code = true;
    store.at(START);
    granted(admit(store, &current).await);
    assert!(check(store, &current).await.expect("it has a record").callers_code);
}

async fn a_code_of_the_provider_belongs_to_its_request(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(155, "provider-made");
    let grant = grant_provider_made(store, &request).await;
    complete(store, &request, &grant, sent(grant.now)).await;
    let limits: Limits = limits();
    let check = CodeCheck {
        recipient: named(155),
        purpose: "verification",
        check_id: 1,
        digests: &[],
        limits: &limits,
    };
    store.begin_provider_check(&check).await.expect("the store answers");
    for _ in 0..2 {
        let answer = store.finish_provider_check(&check, ProviderCheckEnd::Right).await;
        let request = request_of(answer.expect("the store answers"));
        expect(request, "provider-made", Some("for provider-made"));
    }
}
