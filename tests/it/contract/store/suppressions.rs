//! Manual suppressions: added, listed and removed. And admission while sending is paused.

use std::time::Duration;

use otpost::domain::outcome::ErrorCode;
use otpost::domain::suppression::{ManualSuppression, NewSuppression, SuppressionEntry, SuppressionTarget};
use otpost::domain::time::UnixMillis;
use otpost::store::{Admission, AdmissionInput, CompletionInput, Progress, Refund};

use super::{
    HOUR, LEASE, START, TimedStore, admit, completion, failed, granted, named, rejected, request_to, sent,
};

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    while_paused_nothing_starts_but_outcomes_are_replayed(store).await;
    a_manual_suppression_rejects_until_it_is_removed(store).await;
    a_list_is_bounded_and_starts_with_those_without_end(store).await;
    a_reason_stays_until_another_is_given(store).await;
    a_manual_suppression_never_shortens_another(store).await;
}

async fn while_paused_nothing_starts_but_outcomes_are_replayed(store: &dyn TimedStore) {
    store.at(START);
    let (completed, live, new) =
        (request_to(70, "paused-1"), request_to(71, "paused-2"), request_to(72, "paused-3"));
    granted(admit(store, &completed).await);
    store.complete(&completion(completed.lease(), &sent(START), Refund::None)).await.expect("answers");
    granted(admit(store, &live).await);
    let requeued = Progress::Requeued { retry_in: Duration::ZERO, in_doubt: false };
    store.update_progress(&live.lease(), Some(0), requeued, None).await.expect("answers");
    let paused = async |request: &super::TestRequest| {
        let other = request.owned_by(2);
        store.admit(&AdmissionInput { gate_closed: true, ..other.admit() }).await.expect("answers")
    };
    assert_eq!(paused(&completed).await, Admission::Completed { outcome: sent(START), ours: false });
    assert_eq!(paused(&live).await, Admission::GateClosed);
    assert_eq!(paused(&new).await, Admission::GateClosed);
    assert_eq!(store.request_record(&new.request, None).await.expect("answers"), None);
    let usage = store.usage(&new.lease().subject, Some(&new.request), &new.limits).await;
    let usage = usage.expect("answers");
    assert_eq!(
        (usage.used, usage.cooldown_left, usage.has_record),
        (0, Duration::ZERO, false),
        "nothing is charged"
    );
    let taken_over = granted(admit(store, &live.owned_by(3)).await);
    assert_eq!((taken_over.attempt, taken_over.unfinished_leases), (1, 1), "as it was requeued");
    granted(admit(store, &new).await);
}

fn manual<'a>(masked: &'a str, reason: &'a str, hours: Option<u32>) -> ManualSuppression<'a> {
    ManualSuppression { masked, reason, duration: hours.map(|hours| hours * HOUR) }
}

async fn a_manual_suppression_rejects_until_it_is_removed(store: &dyn TimedStore) {
    store.at(START);
    let name = named(73);
    let in_force =
        store.add_suppression(name, &manual("+57**73", "asked for it", None)).await.expect("answers");
    let expected = SuppressionEntry {
        to: Some("+57**73".to_owned()),
        provider_code: None,
        reason: Some("asked for it".to_owned()),
        since: Some(START),
        until: None,
    };
    assert_eq!(in_force, expected);
    store.at(START.plus(1_000 * HOUR));
    let error = rejected(admit(store, &request_to(73, "manual-1")).await);
    assert_eq!((error.code, error.provider_code, error.retry_after), (ErrorCode::Suppressed, None, None));
    assert_eq!(store.remove_suppression(name).await.expect("answers"), Some(expected));
    assert_eq!(store.remove_suppression(name).await.expect("answers"), None);
    granted(admit(store, &request_to(73, "manual-2")).await);

    let now = START.plus(1_000 * HOUR);
    let short = store.add_suppression(name, &manual("+57**73", "", Some(1))).await.expect("answers");
    assert_eq!((short.reason, short.since, short.until), (None, Some(now), Some(now.plus(HOUR))));
    let error = rejected(admit(store, &request_to(73, "manual-3")).await);
    assert_eq!((error.provider_code, error.retry_after), (None, Some(3_600)));
    store.at(now.plus(HOUR));
    assert_eq!(store.remove_suppression(name).await.expect("answers"), None, "it has ended");
}

async fn a_reason_stays_until_another_is_given(store: &dyn TimedStore) {
    let now = START.plus(30_000 * HOUR);
    store.at(now);
    let add = async |reason: &str, duration: Option<Duration>| {
        let manual = ManualSuppression { masked: "+57**79", reason, duration };
        let in_force = store.add_suppression(named(79), &manual).await.expect("answers");
        (in_force.reason.unwrap_or_default(), in_force.since, in_force.until)
    };
    let (hour, longer) = (Some(now.plus(HOUR)), Some(now.plus(3 * HOUR)));
    assert_eq!(add("", Some(HOUR)).await, (String::new(), Some(now), hour));
    assert_eq!(
        add("first", Some(HOUR)).await,
        ("first".to_owned(), Some(now), hour),
        "no longer than before"
    );
    assert_eq!(add("", Some(3 * HOUR)).await, ("first".to_owned(), Some(now), longer));
    assert_eq!(add("another one", Some(HOUR)).await, ("another one".to_owned(), Some(now), longer));
    assert_eq!(add("", None).await, ("another one".to_owned(), Some(now), None));
    let removed = store.remove_suppression(named(79)).await.expect("answers").expect("there was one");
    assert_eq!(removed.reason.as_deref(), Some("another one"));
    assert_eq!(add("", Some(HOUR)).await.0, "", "a removed one is forgotten");
    store.remove_suppression(named(79)).await.expect("answers");
    // The shortest duration is a millisecond.
    let moment = Duration::from_millis(1);
    assert_eq!(add("", Some(Duration::ZERO)).await, (String::new(), Some(now), Some(now.plus(moment))));
    store.at(now.plus(moment));
    assert_eq!(store.remove_suppression(named(79)).await.expect("answers"), None);
}

async fn a_list_is_bounded_and_starts_with_those_without_end(store: &dyn TimedStore) {
    let now = START.plus(10_000 * HOUR);
    store.at(now);
    for (recipient, hours) in [(74, Some(2)), (75, None), (76, Some(3)), (77, Some(1))] {
        let masked = format!("+57**{recipient}");
        store.add_suppression(named(recipient), &manual(&masked, "list", hours)).await.expect("answers");
    }
    let list = async |count_max: u32| -> Vec<String> {
        let all = store.suppressions(count_max).await.expect("answers");
        let ours = all.into_iter().filter(|one| one.reason.as_deref() == Some("list"));
        ours.filter_map(|one| one.to).collect()
    };
    assert_eq!(list(1_000).await, ["+57**75", "+57**76", "+57**74", "+57**77"]);
    assert_eq!(store.suppressions(2).await.expect("answers").len(), 2);
    store.at(now.plus(2 * HOUR));
    assert_eq!(list(1_000).await, ["+57**75", "+57**76"]);
    store.remove_suppression(named(75)).await.expect("answers");
    assert_eq!(list(1_000).await, ["+57**76"]);
}

async fn a_manual_suppression_never_shortens_another(store: &dyn TimedStore) {
    let suppress = async |request: &str, code: u32, duration: Option<Duration>| {
        let request = request_to(78, request);
        let outcome = failed(START);
        let suppression = Some(NewSuppression {
            target: SuppressionTarget::Recipient,
            provider_code: code,
            duration,
            masked: "+57**78",
        });
        let completion =
            CompletionInput { suppression, ..completion(request.lease(), &outcome, Refund::FullAndCounted) };
        store.complete(&completion).await.expect("answers");
    };
    let (now, later) = (START.plus(20_000 * HOUR), START.plus(20_001 * HOUR));
    store.at(now);
    suppress("shorten-1", 21_614, Some(24 * HOUR)).await;
    store.at(later);
    let in_force =
        store.add_suppression(named(78), &manual("+57**78", "no", Some(2))).await.expect("answers");
    let facts = |one: &SuppressionEntry| (one.provider_code, one.since, one.until);
    assert_eq!(facts(&in_force), (Some(21_614), Some(now), Some(now.plus(24 * HOUR))));
    let longer = store.add_suppression(named(78), &manual("+57**78", "no", Some(48))).await.expect("answers");
    assert_eq!(facts(&longer), (None, Some(now), Some(later.plus(48 * HOUR))));
    suppress("shorten-2", 21_610, None).await;
    // The opt-out keeps the manual one, which an operator removes first.
    let removed = store.remove_suppression(named(78)).await.expect("answers").expect("there was one");
    assert_eq!(facts(&removed), facts(&longer));
    let later = later.plus(Duration::from_secs(10));
    store.at(later);
    let opted_out = store.remove_suppression(named(78)).await.expect("answers").expect("there was one");
    assert_eq!((facts(&opted_out), opted_out.reason), ((Some(21_610), Some(now), None), None));
    store.at(UnixMillis(later.0).plus(LEASE));
    granted(admit(store, &request_to(78, "shorten-3")).await);
}
