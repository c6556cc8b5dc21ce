//! What concerns more than one request: blocks, the kill switch, the pulse, and what is told of the past.

use std::time::Duration;

use otpost::domain::history::RequestHistory;
use otpost::domain::limit::Limits;
use otpost::domain::outcome::{ErrorCode, OutcomeError};
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::suppression::{NewSuppression, SuppressionTarget};
use otpost::domain::time::UnixMillis;
use otpost::domain::verdict::Verdict;
use otpost::store::bounds::RECENT_MAX;
use otpost::store::{
    Admit, CodeState, CompleteRequest, KillSwitch, Progress, RecordReceipt, Refund, RequestState, SharedState,
};

use super::{
    Ask, HOUR, LEASE, LIFE, START, TimedStore, admit, ask, failed, granted, limits, named, refused, settle,
    verify,
};

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    an_opt_out_lasts_until_it_is_taken_away(store).await;
    a_blocked_country_refuses_its_numbers_for_a_while(store).await;
    a_block_is_never_shortened(store).await;
    the_kill_switch_keeps_its_first_time(store).await;
    busy_workers_are_counted(store).await;
    a_story_is_found_by_its_name_alone(store).await;
    the_last_requests_are_told_refused_ones_too(store).await;
}

async fn end(store: &dyn TimedStore, ask: &Ask, block: Option<NewSuppression<'_>>) {
    let outcome = failed(START);
    let end = CompleteRequest { suppression: block, ..settle(ask.handling(), &outcome, Refund::Counted) };
    store.complete(&end).await.expect("answers");
}

fn told(error: &OutcomeError) -> (ErrorCode, Option<u32>, Option<u64>) {
    (error.code, error.provider_code, error.retry_after)
}

async fn an_opt_out_lasts_until_it_is_taken_away(store: &dyn TimedStore) {
    store.at(START);
    let request = ask(60, "opt-out");
    granted(admit(store, &request).await);
    end(
        store,
        &request,
        Some(NewSuppression {
            target: SuppressionTarget::Recipient,
            code: 21_610,
            duration: None,
            masked: "+57**60",
        }),
    )
    .await;
    for (number, after) in [(1, Duration::ZERO), (2, 1_000 * HOUR)] {
        store.at(START.plus(after));
        let error = refused(admit(store, &ask(60, &format!("opt-out-{number}"))).await);
        assert_eq!(told(&error), (ErrorCode::Suppressed, Some(21_610), None));
    }
    granted(admit(store, &ask(61, "neighbour")).await);
}

async fn a_blocked_country_refuses_its_numbers_for_a_while(store: &dyn TimedStore) {
    store.at(START);
    let request = ask(62, "country");
    granted(admit(store, &request).await);
    let block = NewSuppression {
        target: SuppressionTarget::Country("NL"),
        code: 60_410,
        duration: Some(12 * HOUR),
        masked: "+31*",
    };
    let report = RecordReceipt {
        recipient: named(62),
        request: &request.request,
        message_id: "SM1",
        status: DeliveryStatus::Failed,
        code: Some(60_410),
        published: false,
        suppression: Some(block),
    };
    store.record_receipt(&report).await.expect("answers");
    let other = Ask {
        notes: RequestHistory { to: "+31*".to_owned(), ..RequestHistory::default() },
        ..ask(63, "dutch")
    };
    let dutch = Admit { country: Some("NL"), ..other.admit() };
    let error = refused(store.admit(&dutch).await.expect("answers"));
    assert_eq!(told(&error), (ErrorCode::Blocked, Some(60_410), Some(12 * 3_600)));
    let story = store.request_record(&other.request, Some(named(63))).await.expect("answers").expect("known");
    assert!(
        matches!(story.state, RequestState::Ended(outcome) if outcome.history == other.notes),
        "a refusal's notes"
    );
    let belgian = ask(64, "belgian");
    granted(store.admit(&Admit { country: Some("BE"), ..belgian.admit() }).await.expect("answers"));
    store.at(START.plus(12 * HOUR));
    granted(store.admit(&dutch).await.expect("answers"));
}

async fn a_block_is_never_shortened(store: &dyn TimedStore) {
    store.at(START);
    for (number, hours, stands) in [(0, Some(2), Some(2)), (1, Some(1), Some(2)), (2, Some(3), Some(3))] {
        let request = ask(65, &format!("block-{number}"));
        let lasts = hours.map(|hours| hours * HOUR);
        end(
            store,
            &request,
            Some(NewSuppression {
                target: SuppressionTarget::Recipient,
                code: 30_005,
                duration: lasts,
                masked: "+57**65",
            }),
        )
        .await;
        let error = refused(admit(store, &ask(65, &format!("blocked-{number}"))).await);
        assert_eq!(error.retry_after, stands.map(|hours: u64| hours * 3_600), "block {number}");
    }
    for lasts in [None, Some(HOUR)] {
        end(
            store,
            &ask(65, &format!("{lasts:?}")),
            Some(NewSuppression {
                target: SuppressionTarget::Recipient,
                code: 1,
                duration: lasts,
                masked: "+57**65",
            }),
        )
        .await;
    }
    assert_eq!(refused(admit(store, &ask(65, "for-ever")).await).retry_after, None);
}

async fn the_kill_switch_keeps_its_first_time(store: &dyn TimedStore) {
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
    store.set_kill_switch(Some("for the test of what has no time to live")).await.expect("answers");
}

async fn busy_workers_are_counted(store: &dyn TimedStore) {
    let pulse = async |after: u64, worker: u64, busy: bool| -> u32 {
        store.at(START.plus(Duration::from_millis(after)));
        let SharedState { active_workers, .. } = store.heartbeat(worker, busy).await.expect("answers");
        active_workers
    };
    assert_eq!(pulse(0, 1, false).await, 0);
    assert_eq!(pulse(0, 1, true).await, 1);
    assert_eq!(pulse(0, 1, true).await, 1);
    assert_eq!(pulse(999, 2, true).await, 2);
    assert_eq!(pulse(1_000, 3, false).await, 1, "one second is too long ago");
    assert_eq!(pulse(1_001, 2, false).await, 0);
}

async fn a_story_is_found_by_its_name_alone(store: &dyn TimedStore) {
    store.at(START);
    let request = ask(66, "story");
    let story = async || store.request_record(&request.request, None).await.expect("answers");
    assert_eq!(story().await, None);
    granted(admit(store, &request).await);
    assert_eq!(verify(store, 66, 1, 0).await, Verdict::Wrong { attempts_left: 4 });
    let notes = RequestHistory { challenge: Some(named(166).to_string()), ..RequestHistory::default() };
    store
        .update_progress(&request.handling(), Some(1), Progress::Waiting(LEASE), Some(&notes))
        .await
        .expect("answers");
    let live = story().await.expect("known");
    let chapter = RequestState::Live {
        state: "waiting",
        leased: true,
        attempt: 1,
        purpose: "verification".to_owned(),
        deadline: START.plus(LIFE),
        history: notes.clone(),
    };
    assert_eq!((live.state, live.receipt), (chapter, None));
    let code = |checks, used| Some(CodeState { expires: START.plus(LIFE), checks, used });
    assert_eq!(live.code, code(1, false));
    verify(store, 66, 2, 116).await;
    let mut outcome = failed(START);
    (outcome.history, outcome.attempts) = (notes, 1);
    store.complete(&settle(request.handling(), &outcome, Refund::None)).await.expect("answers");
    let ended = story().await.expect("known");
    assert_eq!((ended.state, ended.code), (RequestState::Ended(outcome), code(2, true)));
    assert_eq!(
        store.request_record(&request.request, Some(named(67))).await.expect("answers"),
        None,
        "not theirs"
    );
    store.at(START.plus(LIFE + HOUR));
    assert_eq!(story().await.expect("known").code, None, "the code is forgotten");
    store.at(START.plus(24 * HOUR));
    assert_eq!(story().await, None);
}

async fn the_last_requests_are_told_refused_ones_too(store: &dyn TimedStore) {
    let recent = async || {
        let recent = store.recent_requests(named(68)).await.expect("answers");
        recent.into_iter().map(|recent| recent.request.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(recent().await, [""; 0]);
    store.at(START);
    let limits = Limits { cooldown: Duration::ZERO, ..limits() };
    let ask = |request: &str| Ask { limits, ..ask(68, request) };
    let too_late = |request: &str| Ask { not_after: Some(START), ..ask(request) };
    let first = ask("recent-1");
    granted(admit(store, &first).await);
    store.at(START.plus(Duration::from_secs(1)));
    refused(admit(store, &too_late("recent-2")).await);
    store.at(START.plus(Duration::from_secs(40)));
    granted(admit(store, &ask("recent-3")).await);
    assert_eq!(recent().await, ["recent-3", "recent-2", "recent-1"]);
    store.at(START.plus(Duration::from_secs(41)));
    end(store, &first, None).await;
    assert_eq!(recent().await, ["recent-1", "recent-3", "recent-2"], "given back, and still told");
    for number in 0..RECENT_MAX {
        store.at(START.plus(Duration::from_millis(42_000 + u64::from(number))));
        refused(admit(store, &too_late(&format!("many-{number:02}"))).await);
    }
    let told = recent().await;
    assert_eq!((told.len(), told[0].as_str()), (20, "many-19"));
    assert!(!told.contains(&"recent-3".to_owned()));
    store.at(START.plus(25 * HOUR));
    assert_eq!(recent().await, [""; 0]);
}
