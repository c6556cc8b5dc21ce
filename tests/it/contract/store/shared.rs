//! State beyond one request: suppressions, kill switch, heartbeats, and the records of past requests.

use std::time::Duration;

use otpost::domain::history::RequestHistory;
use otpost::domain::limit::Limits;
use otpost::domain::outcome::{ErrorCode, OutcomeError};
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::suppression::{NewSuppression, SuppressionTarget};
use otpost::domain::time::UnixMillis;
use otpost::domain::verdict::Verdict;
use otpost::domain::worker_state::{ReportedWorker, WorkerState};
use otpost::store::retention::RECENT_MAX;
use otpost::store::{
    AdmissionInput, CodeState, CompletionInput, KillSwitch, NewReceipt, Progress, Refund, RequestState,
    SharedState,
};

use super::{
    HOUR, LEASE, LIFE, START, TestRequest, TimedStore, admit, completion, failed, granted, limits, named,
    rejected, request_to, verify,
};

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    an_opt_out_lasts_until_it_is_removed(store).await;
    a_suppressed_country_rejects_its_numbers_for_a_while(store).await;
    a_suppression_is_never_shortened(store).await;
    the_kill_switch_keeps_its_start(store).await;
    active_workers_are_counted(store).await;
    the_last_report_of_a_worker_is_kept_for_a_minute(store).await;
    a_record_is_found_by_the_request_id_alone(store).await;
    the_last_requests_include_rejected_ones(store).await;
    an_idempotency_key_names_its_first_request_for_a_day(store).await;
}

async fn fail(store: &dyn TimedStore, request: &TestRequest, suppression: Option<NewSuppression<'_>>) {
    let outcome = failed(START);
    let completion =
        CompletionInput { suppression, ..completion(request.lease(), &outcome, Refund::FullAndCounted) };
    store.complete(&completion).await.expect("answers");
}

fn facts(error: &OutcomeError) -> (ErrorCode, Option<u32>, Option<u64>) {
    (error.code, error.provider_code, error.retry_after)
}

async fn an_opt_out_lasts_until_it_is_removed(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(60, "opt-out");
    granted(admit(store, &request).await);
    fail(
        store,
        &request,
        Some(NewSuppression {
            target: SuppressionTarget::Recipient,
            provider_code: 21_610,
            duration: None,
            masked: "+57**60",
        }),
    )
    .await;
    for (number, after) in [(1, Duration::ZERO), (2, 1_000 * HOUR)] {
        store.at(START.plus(after));
        let error = rejected(admit(store, &request_to(60, &format!("opt-out-{number}"))).await);
        assert_eq!(facts(&error), (ErrorCode::Suppressed, Some(21_610), None));
    }
    granted(admit(store, &request_to(61, "neighbour")).await);
}

async fn a_suppressed_country_rejects_its_numbers_for_a_while(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(62, "country");
    granted(admit(store, &request).await);
    let suppression = NewSuppression {
        target: SuppressionTarget::Country("NL"),
        provider_code: 60_410,
        duration: Some(12 * HOUR),
        masked: "+31*",
    };
    let receipt = NewReceipt {
        recipient: named(62),
        request_id: &request.request,
        message_id: "SM1",
        status: DeliveryStatus::Failed,
        provider_code: Some(60_410),
        published: false,
        suppression: Some(suppression),
    };
    store.record_receipt(&receipt).await.expect("answers");
    let other = TestRequest {
        history: RequestHistory { to: "+31*".to_owned(), ..RequestHistory::default() },
        ..request_to(63, "dutch")
    };
    let dutch = AdmissionInput { country: Some("NL"), ..other.admit() };
    let error = rejected(store.admit(&dutch).await.expect("answers"));
    assert_eq!(facts(&error), (ErrorCode::Blocked, Some(60_410), Some(12 * 3_600)));
    let stored =
        store.request_record(&other.request, Some(named(63))).await.expect("answers").expect("known");
    assert!(
        matches!(stored.state, RequestState::Completed(outcome) if outcome.history == other.history),
        "a rejection keeps its history"
    );
    let belgian = request_to(64, "belgian");
    granted(store.admit(&AdmissionInput { country: Some("BE"), ..belgian.admit() }).await.expect("answers"));
    store.at(START.plus(12 * HOUR));
    granted(store.admit(&dutch).await.expect("answers"));
}

async fn a_suppression_is_never_shortened(store: &dyn TimedStore) {
    store.at(START);
    for (number, hours, in_force) in [(0, Some(2), Some(2)), (1, Some(1), Some(2)), (2, Some(3), Some(3))] {
        let request = request_to(65, &format!("suppress-{number}"));
        let duration = hours.map(|hours| hours * HOUR);
        fail(
            store,
            &request,
            Some(NewSuppression {
                target: SuppressionTarget::Recipient,
                provider_code: 30_005,
                duration,
                masked: "+57**65",
            }),
        )
        .await;
        let error = rejected(admit(store, &request_to(65, &format!("suppressed-{number}"))).await);
        assert_eq!(error.retry_after, in_force.map(|hours: u64| hours * 3_600), "suppression {number}");
    }
    for duration in [None, Some(HOUR)] {
        fail(
            store,
            &request_to(65, &format!("{duration:?}")),
            Some(NewSuppression {
                target: SuppressionTarget::Recipient,
                provider_code: 1,
                duration,
                masked: "+57**65",
            }),
        )
        .await;
    }
    assert_eq!(rejected(admit(store, &request_to(65, "for-ever")).await).retry_after, None);
}

async fn the_kill_switch_keeps_its_start(store: &dyn TimedStore) {
    let on = |since: UnixMillis, reason: &str| Some(KillSwitch { since, reason: reason.to_owned() });
    let later = START.plus(HOUR);
    assert_eq!(store.kill_switch().await.expect("answers"), None);
    store.at(START);
    assert_eq!(store.set_kill_switch(Some("a bad text")).await.expect("answers"), None);
    store.at(later);
    assert_eq!(store.set_kill_switch(Some("")).await.expect("answers"), on(START, "a bad text"));
    assert_eq!(store.kill_switch().await.expect("answers"), on(START, ""));
    assert!(store.heartbeat(1, false).await.expect("answers").kill_switch_on);
    assert_eq!(store.set_kill_switch(None).await.expect("answers"), on(START, ""));
    assert_eq!(store.set_kill_switch(None).await.expect("answers"), None);
    assert!(!store.heartbeat(1, false).await.expect("answers").kill_switch_on);
    store.set_kill_switch(Some("for the test of keys without a time to live")).await.expect("answers");
}

async fn active_workers_are_counted(store: &dyn TimedStore) {
    let heartbeat = async |after: u64, worker: u64, is_active: bool| -> u32 {
        store.at(START.plus(Duration::from_millis(after)));
        let SharedState { active_workers, .. } = store.heartbeat(worker, is_active).await.expect("answers");
        active_workers
    };
    assert_eq!(heartbeat(0, 1, false).await, 0);
    assert_eq!(heartbeat(0, 1, true).await, 1);
    assert_eq!(heartbeat(0, 1, true).await, 1);
    assert_eq!(heartbeat(999, 2, true).await, 2);
    assert_eq!(heartbeat(1_000, 3, false).await, 1, "one second is too long ago");
    assert_eq!(heartbeat(1_001, 2, false).await, 0);
}

async fn the_last_report_of_a_worker_is_kept_for_a_minute(store: &dyn TimedStore) {
    let state = |in_flight| WorkerState { in_flight, version: "1.0.0".to_owned(), ..WorkerState::default() };
    let report = async |after: u64, worker: u64, in_flight: u32| {
        store.at(START.plus(Duration::from_millis(after)));
        store.report_worker(worker, Some(&state(in_flight))).await.expect("answers");
    };
    let reported = async |after: u64| {
        store.at(START.plus(Duration::from_millis(after)));
        let mut reported = store.reported_workers().await.expect("answers");
        reported.sort_by_key(|worker| worker.worker_id);
        let facts = |worker: ReportedWorker| {
            (
                worker.worker_id,
                worker.silent_for.as_millis(),
                worker.state == state(worker.state.in_flight),
                worker.state.in_flight,
            )
        };
        reported.into_iter().map(facts).collect::<Vec<_>>()
    };
    assert_eq!(reported(0).await, []);
    report(0, 1, 5).await;
    report(1_000, u64::MAX, 6).await;
    report(30_000, 1, 7).await;
    assert_eq!(reported(60_999).await, [(1, 30_999, true, 7), (u64::MAX, 59_999, true, 6)]);
    assert_eq!(reported(61_000).await, [(1, 31_000, true, 7)]);
    report(62_000, 2, 8).await;
    for worker in [1, 3] {
        store.report_worker(worker, None).await.expect("answers");
    }
    assert_eq!(reported(62_000).await, [(2, 0, true, 8)]);
    assert_eq!(reported(61_000).await, [(2, 0, true, 8)], "a clock that goes back makes no report older");
    store.report_worker(2, None).await.expect("answers");
    assert_eq!(reported(62_000).await, []);
}

async fn a_record_is_found_by_the_request_id_alone(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(66, "record");
    let record = async || store.request_record(&request.request, None).await.expect("answers");
    assert_eq!(record().await, None);
    granted(admit(store, &request).await);
    assert_eq!(verify(store, 66, 1, 0).await, Verdict::Wrong { attempts_left: 4 });
    let history = RequestHistory { challenge: Some(named(166).to_string()), ..RequestHistory::default() };
    store
        .update_progress(&request.lease(), Some(1), Progress::Waiting(LEASE), Some(&history))
        .await
        .expect("answers");
    let live = record().await.expect("known");
    let state = RequestState::InProgress {
        stage: "waiting",
        leased: true,
        attempt: 1,
        purpose: "verification".to_owned(),
        deadline: START.plus(LIFE),
        history: history.clone(),
    };
    assert_eq!((live.state, live.receipt), (state, None));
    let code = |checks, used| Some(CodeState { expires: START.plus(LIFE), checks, used });
    assert_eq!(live.code, code(1, false));
    verify(store, 66, 2, 116).await;
    let mut outcome = failed(START);
    (outcome.history, outcome.attempts) = (history, 1);
    store.complete(&completion(request.lease(), &outcome, Refund::None)).await.expect("answers");
    let ended = record().await.expect("known");
    assert_eq!((ended.state, ended.code), (RequestState::Completed(outcome), code(2, true)));
    assert_eq!(
        store.request_record(&request.request, Some(named(67))).await.expect("answers"),
        None,
        "another recipient has no such request"
    );
    store.at(START.plus(LIFE + HOUR));
    assert_eq!(record().await.expect("known").code, None, "the challenge has expired");
    store.at(START.plus(24 * HOUR));
    assert_eq!(record().await, None);
}

async fn the_last_requests_include_rejected_ones(store: &dyn TimedStore) {
    let recent = async || {
        let recent = store.recent_requests(named(68)).await.expect("answers");
        recent.into_iter().map(|recent| recent.request_id.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(recent().await, [""; 0]);
    store.at(START);
    let limits = Limits { cooldown: Duration::ZERO, ..limits() };
    let request_to = |request: &str| TestRequest { limits, ..request_to(68, request) };
    let too_late = |request: &str| TestRequest { not_after: Some(START), ..request_to(request) };
    let first = request_to("recent-1");
    granted(admit(store, &first).await);
    store.at(START.plus(Duration::from_secs(1)));
    rejected(admit(store, &too_late("recent-2")).await);
    store.at(START.plus(Duration::from_secs(40)));
    granted(admit(store, &request_to("recent-3")).await);
    assert_eq!(recent().await, ["recent-3", "recent-2", "recent-1"]);
    store.at(START.plus(Duration::from_secs(41)));
    fail(store, &first, None).await;
    assert_eq!(recent().await, ["recent-1", "recent-3", "recent-2"], "refunded, and still listed");
    for number in 0..RECENT_MAX {
        store.at(START.plus(Duration::from_millis(42_000 + u64::from(number))));
        rejected(admit(store, &too_late(&format!("many-{number:02}"))).await);
    }
    let listed = recent().await;
    assert_eq!((listed.len(), listed[0].as_str()), (20, "many-19"));
    assert!(!listed.contains(&"recent-3".to_owned()));
    store.at(START.plus(25 * HOUR));
    assert_eq!(recent().await, [""; 0]);
}

async fn an_idempotency_key_names_its_first_request_for_a_day(store: &dyn TimedStore) {
    let [key, first, second] = [named(201), named(202), named(203)];
    let bound = async |request| store.bind_idempotency_key(key, request).await.expect("answers");
    store.at(START);
    assert_eq!(bound(None).await, None, "reading binds nothing");
    assert_eq!(bound(Some(first)).await, Some(first));
    store.at(START.plus(24 * HOUR - Duration::from_millis(1)));
    for asked in [Some(second), None, Some(first)] {
        assert_eq!(bound(asked).await, Some(first));
    }
    assert_eq!(store.bind_idempotency_key(named(204), None).await.expect("answers"), None);
    store.at(START.plus(24 * HOUR));
    assert_eq!(bound(None).await, None);
    assert_eq!(bound(Some(second)).await, Some(second));
}
