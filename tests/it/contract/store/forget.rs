//! Forgetting a recipient: histories, codes and masked numbers go; limits, marks against repeats and suppressions stay.

use std::time::Duration;

use otpost::domain::history::{Attempt, HistoryEvent, PoisonCause, RequestHistory};
use otpost::domain::limit::{Limit, Limits};
use otpost::domain::opt_status::{OptMessage, OptStatus};
use otpost::domain::outcome::{ErrorCode, Outcome};
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::suppression::ManualSuppression;
use otpost::domain::trace_context::TraceContext;
use otpost::domain::verdict::Verdict;
use otpost::store::forget::{ForgetAnswer, Forgotten, KeptSuppression, SentMessage, forgotten_mark};
use otpost::store::memory::MemoryStore;
use otpost::store::{Admission, NewReceipt, Progress, ReceiptAnswer, Refund, RequestState};

use super::{
    HOUR, LEASE, LIFE, START, TestRequest, TimedStore, admit, completion, failed, granted, named, rejected,
    request_to, sent, verify_under,
};
use crate::real::Redis;

const MASKED: &str = "+57******9917";
const CORRELATION: &str = "correlation-of-ana";
const USER: u8 = 0xe3;
const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    a_forgotten_request_keeps_its_outcome_and_nothing_of_the_person(store).await;
    limits_and_wrong_attempts_count_on(store).await;
    a_forgotten_code_is_no_longer_pending(store).await;
    while_a_request_is_in_progress_nothing_changes(store).await;
    an_abandoned_request_does_not_stand_in_the_way(store).await;
    an_opt_out_stays_and_its_note_loses_the_number(store).await;
    a_receipt_after_forgetting_is_still_published_once(store).await;
    for recipient in [229, 230] {
        store.remove_suppression(named(recipient)).await.expect("answers");
        store.remove_suppression(named(recipient)).await.expect("answers");
    }
}

fn of(recipient: u8, id: &str) -> TestRequest {
    let limits = super::limits().with(Limit::User, 0);
    let mut request = TestRequest { recipient, user: Some(named(USER)), limits, ..request_to(1, id) };
    request.history = history();
    request
}

fn history() -> RequestHistory {
    let trace = TraceContext { trace_id: [0xa7; 16], span_id: [0xb7; 8], sampled: true, state: None };
    let mut history = RequestHistory {
        to: MASKED.to_owned(),
        correlation_id: Some(CORRELATION.to_owned()),
        trace: Some(trace),
        user: Some(named(USER)),
        ..RequestHistory::default()
    };
    let attempt = Attempt { answer: "accepted-of-ana".to_owned(), ..Attempt::accepted(1, None, 7) };
    history.add(START, HistoryEvent::Attempted(attempt));
    history
}

fn sent_by_twilio() -> Outcome {
    Outcome { provider: Some("twilio".to_owned()), history: history(), ..sent(START) }
}

async fn complete(store: &dyn TimedStore, request: &TestRequest, outcome: &Outcome, refund: Refund) {
    granted(admit(store, request).await);
    store.complete(&completion(request.lease(), outcome, refund)).await.expect("answers");
}

#[track_caller]
fn forgotten(answer: ForgetAnswer) -> Forgotten {
    match answer {
        ForgetAnswer::Forgotten(forgotten) => forgotten,
        ForgetAnswer::InProgress(left) => panic!("in progress for {left:?}"),
    }
}

async fn forget(store: &dyn TimedStore, recipient: u8) -> Forgotten {
    forgotten(store.forget(named(recipient)).await.expect("answers"))
}

async fn outcome_of(store: &dyn TimedStore, request: &TestRequest) -> Outcome {
    match admit(store, &request.owned_by(9)).await {
        Admission::Completed { outcome, .. } => outcome,
        other => panic!("it was completed, not {other:?}"),
    }
}

async fn a_forgotten_request_keeps_its_outcome_and_nothing_of_the_person(store: &dyn TimedStore) {
    store.at(START);
    let (good, bad, poison) = (of(225, "forgotten-1"), of(225, "forgotten-2"), of(225, "forgotten-3"));
    complete(store, &good, &sent_by_twilio(), Refund::None).await;
    store.at(START.plus(31 * SECOND));
    complete(store, &bad, &Outcome { history: history(), ..failed(START) }, Refund::Full).await;
    let limited = rejected(admit(store, &of(225, "forgotten-4")).await);
    store.at(START.plus(70 * SECOND));
    let mut dead_lettered = history();
    dead_lettered.add(START, HistoryEvent::TestNumber);
    dead_lettered.add(START, HistoryEvent::DeadLettered(PoisonCause::Crash));
    let dead = Outcome { history: dead_lettered, ..failed(START) };
    complete(store, &poison, &dead, Refund::None).await;
    let before = [outcome_of(store, &good).await, outcome_of(store, &bad).await];

    let forgotten = forget(store, 225).await;
    let message = SentMessage { provider: "twilio".to_owned(), message_id: "SM1".to_owned() };
    assert_eq!((forgotten.histories, forgotten.codes, forgotten.note), (4, 1, false));
    assert_eq!(forgotten.messages, std::slice::from_ref(&message));
    let end = START.plus(70 * SECOND + 24 * HOUR);
    assert_eq!(forgotten.kept.requests, Some((4, end)));
    assert!(forgotten.kept.limits_until.is_some_and(|until| until >= end), "{:?}", forgotten.kept);
    assert_eq!((forgotten.kept.suppression, forgotten.kept.opt_status_until), (None, None));

    for (request, before) in [&good, &bad].into_iter().zip(before) {
        let reduced = Outcome { history: RequestHistory::default(), ..before };
        assert_eq!(outcome_of(store, request).await, reduced);
    }
    let error = rejected(admit(store, &of(225, "forgotten-4").owned_by(9)).await);
    assert_eq!(error, limited, "with the limit that refused it");
    let dead = outcome_of(store, &poison).await.history;
    assert!(dead.is_test() && dead.dead_lettered() == Some(PoisonCause::Crash), "a repeat needs both");
    assert_eq!((dead.entries.len(), dead.to.as_str(), dead.user), (2, "", None));
    let record = store.request_record(&good.request, Some(named(225))).await.expect("answers");
    let RequestState::Completed(shown) = record.expect("it is kept").state else { panic!("it has ended") };
    assert_eq!(shown.history, RequestHistory::default());
    assert!(store.requests_of_user(named(USER), 100).await.expect("answers").is_empty());

    let again = forget(store, 225).await;
    assert_eq!((again.histories, again.codes, again.messages), (0, 0, vec![message]));
    assert_eq!(again.kept.requests, forgotten.kept.requests);
    assert_eq!(forget(store, 232).await, Forgotten::default(), "of a recipient that nothing is known of");
}

async fn limits_and_wrong_attempts_count_on(store: &dyn TimedStore) {
    store.at(START);
    let request = of(226, "limits-1");
    complete(store, &request, &sent_by_twilio(), Refund::None).await;
    for check in 0..3 {
        verify_under(store, 226, check, &[("k1", named(7))]).await;
    }
    let subject = request.lease().subject;
    let limits = super::limits();
    let usage = async || store.usage(&subject, Some(&request.request), &limits).await.expect("answers");
    let before = usage().await;
    assert_eq!((before.used_day, before.wrong_attempts), (1, 3));
    forget(store, 226).await;
    assert_eq!(usage().await, before);
    assert_eq!(rejected(admit(store, &of(226, "limits-2")).await).code, ErrorCode::Cooldown);
    let repeat = outcome_of(store, &request).await;
    assert_eq!(repeat.provider_message_id.as_deref(), Some("SM1"), "and it is not sent again");
}

async fn a_forgotten_code_is_no_longer_pending(store: &dyn TimedStore) {
    store.at(START);
    let request = of(227, "code-1");
    complete(store, &request, &sent_by_twilio(), Refund::None).await;
    assert_eq!(forget(store, 227).await.codes, 1);
    let right = [("k1", named(request.digest))];
    assert_eq!(verify_under(store, 227, 1, &right).await, Verdict::NonePending);
    store.at(START.plus(31 * SECOND));
    let new = TestRequest { challenge: 103, digest: 53, ..of(227, "code-2") };
    complete(store, &new, &sent_by_twilio(), Refund::None).await;
    assert_eq!(verify_under(store, 227, 2, &[("k1", named(53))]).await, Verdict::Verified);
}

async fn while_a_request_is_in_progress_nothing_changes(store: &dyn TimedStore) {
    store.at(START);
    let (ended, current) = (of(228, "flight-1"), of(228, "flight-2"));
    complete(store, &ended, &sent_by_twilio(), Refund::None).await;
    let before = outcome_of(store, &ended).await;
    let now = START.plus(31 * SECOND);
    store.at(now);
    granted(admit(store, &current).await);
    let answer = store.forget(named(228)).await.expect("answers");
    assert_eq!(answer, ForgetAnswer::InProgress(LIFE - 31 * SECOND), "until the code of both expires");
    assert_eq!(outcome_of(store, &ended).await, before);
    assert_eq!(verify_under(store, 228, 1, &[("k1", named(51))]).await, Verdict::Verified, "its code, too");
    store.complete(&completion(current.lease(), &sent_by_twilio(), Refund::None)).await.expect("answers");
    assert_eq!(forget(store, 228).await.histories, 2);
}

async fn an_abandoned_request_does_not_stand_in_the_way(store: &dyn TimedStore) {
    store.at(START);
    let request = of(231, "abandoned-1");
    granted(admit(store, &request).await);
    let waiting = Progress::Waiting(LEASE);
    store.update_progress(&request.lease(), Some(1), waiting, Some(&history())).await.expect("answers");
    store.at(START.plus(LIFE).plus(LEASE));
    let forgotten = forget(store, 231).await;
    assert_eq!((forgotten.histories, forgotten.kept.requests), (0, None));
    let record = store.request_record(&request.request, Some(named(231))).await.expect("answers");
    let RequestState::InProgress { history, .. } = record.expect("it is kept").state else {
        panic!("it did not end")
    };
    assert_eq!(history, RequestHistory::default());
}

async fn an_opt_out_stays_and_its_note_loses_the_number(store: &dyn TimedStore) {
    store.at(START);
    let manual = ManualSuppression { masked: MASKED, reason: "two words", duration: None };
    store.add_suppression(named(229), &manual).await.expect("answers");
    let stop =
        OptMessage { status: OptStatus::OptedOut, sent_at: START, provider_code: 21_610, masked: MASKED };
    store.record_opt_status(named(230), &stop).await.expect("answers");
    store.add_suppression(named(230), &manual).await.expect("answers");
    let kept = async |recipient| {
        let forgotten = forget(store, recipient).await;
        (forgotten.note, forgotten.kept.suppression, forgotten.kept.opt_status_until)
    };
    let in_force = |provider_code| Some(KeptSuppression { provider_code, until: None });
    assert_eq!(kept(229).await, (true, in_force(None), None));
    assert_eq!(kept(230).await, (true, in_force(Some(21_610)), Some(START.plus(25 * HOUR))));
    assert_eq!(kept(230).await, (false, in_force(Some(21_610)), Some(START.plus(25 * HOUR))));
    for recipient in [229, 230] {
        assert_eq!(rejected(admit(store, &of(recipient, "opted-out")).await).code, ErrorCode::Suppressed);
        let listed = store.suppressions(1_000).await.expect("answers");
        let mark = forgotten_mark(&named(recipient));
        let entry = listed.iter().find(|entry| entry.to.as_ref() == Some(&mark)).expect("it is listed");
        assert_eq!(entry.reason.as_deref(), (recipient == 229).then_some("two words"));
        assert_eq!(entry.since, Some(START));
    }
    let start = OptMessage { status: OptStatus::OptedIn, sent_at: START.plus(SECOND), ..stop };
    store.at(START.plus(2 * SECOND));
    store.record_opt_status(named(230), &start).await.expect("answers");
    let listed = store.suppressions(1_000).await.expect("answers");
    let mark = forgotten_mark(&named(230));
    let entry =
        listed.iter().find(|entry| entry.to.as_ref() == Some(&mark)).expect("the kept one is restored");
    assert_eq!((entry.provider_code, entry.reason.as_deref()), (None, Some("two words")));
}

async fn a_receipt_after_forgetting_is_still_published_once(store: &dyn TimedStore) {
    store.at(START);
    let request = of(233, "receipt-1");
    complete(store, &request, &sent_by_twilio(), Refund::None).await;
    forget(store, 233).await;
    let receipt = NewReceipt {
        recipient: named(233),
        request_id: &request.request,
        message_id: "SM1",
        status: DeliveryStatus::Delivered,
        provider_code: None,
        published: false,
        suppression: None,
    };
    let publish =
        ReceiptAnswer::Publish { purpose: "verification".to_owned(), correlation_id: None, trace: None };
    assert_eq!(store.record_receipt(&receipt).await.expect("answers"), publish);
    let published = NewReceipt { published: true, ..receipt };
    store.record_receipt(&published).await.expect("answers");
    assert_eq!(store.record_receipt(&published).await.expect("answers"), ReceiptAnswer::NothingToPublish);
}

/// Every key with everything in it.
fn dump(redis: &Redis) -> String {
    redis.dump().into_iter().map(|(key, _, value)| format!("{key} {value}\n")).collect()
}

fn escaped(digest: u8) -> String {
    [digest; 16].escape_ascii().to_string()
}

/// Many more requests than the logs of a recipient name, and of another recipient with the same ids.
async fn seed(store: &dyn TimedStore) {
    let limits = Limits { cooldown: Duration::ZERO, ..Limits::default() };
    let limits = Limit::ALL.into_iter().fold(limits, |limits, limit| limits.with(limit, 0));
    for nth in 0..60 {
        store.at(START.plus(nth * SECOND));
        for recipient in [7, 9] {
            let mut request = TestRequest { limits, ..of(recipient, &format!("order-{nth}")) };
            request.history.to = if recipient == 7 { MASKED } else { "+57******0000" }.to_owned();
            let outcome = Outcome { history: request.history.clone(), ..failed(START) };
            complete(store, &request, &outcome, Refund::Full).await;
        }
    }
    let manual = ManualSuppression { masked: MASKED, reason: "asked", duration: None };
    store.add_suppression(named(7), &manual).await.expect("answers");
}

#[tokio::test]
async fn no_key_holds_anything_of_a_forgotten_person() {
    for shards in [1, 16] {
        let redis = Redis::fresh();
        let store = redis.sharded(shards);
        seed(&store).await;
        let before = dump(&redis);
        let user = format!("\\x02{}", escaped(USER));
        for part in [MASKED, CORRELATION, "accepted-of-ana", &user, &[0xa7_u8; 16].escape_ascii().to_string()]
        {
            assert!(before.contains(part), "{shards}: {part} proves nothing");
        }
        let forgotten = forget(&store, 7).await;
        assert_eq!((forgotten.histories, forgotten.note), (60, true), "{shards}");
        let after = dump(&redis);
        let of_ana: Vec<&str> = after.lines().filter(|line| line.contains(MASKED)).collect();
        assert!(of_ana.is_empty(), "{shards}: {of_ana:#?}");
        let other = after.matches("+57******0000").count();
        assert_eq!(other, before.matches("+57******0000").count(), "{shards}: of the other recipient");
        for part in [CORRELATION, "accepted-of-ana", &user] {
            let of_both = (before.matches(part).count(), after.matches(part).count());
            assert_eq!(of_both.0, 2 * of_both.1, "{shards}: {part}");
        }
        let again = forget(&store, 7).await;
        assert_eq!((again.histories, again.note), (0, false), "{shards}");
        assert_eq!(dump(&redis).len(), after.len(), "{shards}: a repeat changes nothing");
    }
}

#[tokio::test]
async fn the_store_in_memory_forgets_as_many() {
    let store = MemoryStore::new(otpost::clock::Clock::System);
    seed(&store).await;
    assert_eq!(forget(&store, 7).await.histories, 60);
    assert_eq!(forget(&store, 9).await.histories, 60);
}

#[tokio::test]
async fn a_user_is_named_by_no_charge_of_a_forgotten_request() {
    let redis = Redis::fresh();
    let store = redis.sharded(16);
    store.at(START);
    let request = TestRequest { limits: super::limits(), ..of(7, "charged") };
    complete(&store, &request, &sent_by_twilio(), Refund::None).await;
    let record = || redis.dump().into_iter().find(|(key, ..)| key.contains("}:qh")).expect("a record").2;
    let user = escaped(USER);
    assert!(record().contains(&user), "{}", record());
    forget(&store, 7).await;
    assert!(!record().contains(&user), "{}", record());
    let repeat = outcome_of(&store, &request).await;
    assert_eq!(repeat.provider_message_id.as_deref(), Some("SM1"));
}
