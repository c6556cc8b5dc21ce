//! Recipients that nothing is sent to: listed, added by hand, lifted. And what is held: nothing is begun.

use std::time::Duration;

use otpost::domain::outcome::ErrorCode;
use otpost::domain::suppression::{ManualSuppression, NewSuppression, SuppressionEntry, SuppressionTarget};
use otpost::domain::time::UnixMillis;
use otpost::store::{Admission, Admit, CompleteRequest, Progress, Refund};

use super::{HOUR, LEASE, START, TimedStore, admit, ask, failed, granted, named, refused, sent, settle};

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    what_is_held_is_not_begun_but_what_has_ended_is_told(store).await;
    a_suppression_by_hand_refuses_until_it_is_lifted(store).await;
    a_list_is_bounded_and_tells_those_without_an_end_first(store).await;
    a_reason_stays_until_another_is_given(store).await;
    what_a_person_says_never_shortens_what_stands(store).await;
}

async fn what_is_held_is_not_begun_but_what_has_ended_is_told(store: &dyn TimedStore) {
    store.at(START);
    let (ended, live, new) = (ask(70, "held-1"), ask(71, "held-2"), ask(72, "held-3"));
    granted(admit(store, &ended).await);
    store.complete(&settle(ended.handling(), &sent(START), Refund::None)).await.expect("answers");
    granted(admit(store, &live).await);
    let back = Progress::Requeued { due: Duration::ZERO, in_doubt: false };
    store.update_progress(&live.handling(), Some(0), back, None).await.expect("answers");
    let held = async |ask: &super::Ask| {
        let other = ask.owned_by(2);
        store.admit(&Admit { paused: true, ..other.admit() }).await.expect("answers")
    };
    assert_eq!(held(&ended).await, Admission::Completed { outcome: sent(START), ours: false });
    assert_eq!(held(&live).await, Admission::Paused);
    assert_eq!(held(&new).await, Admission::Paused);
    assert_eq!(store.request_record(&new.request, None).await.expect("answers"), None);
    let usage = store.usage(&new.handling().subject, Some(&new.request), &new.limits).await;
    let usage = usage.expect("answers");
    assert_eq!((usage.used, usage.cooldown, usage.known), (0, Duration::ZERO, false), "nothing is charged");
    let taken_up = granted(admit(store, &live.owned_by(3)).await);
    assert_eq!((taken_up.attempt, taken_up.unfinished_leases), (1, 1), "as it was given back");
    granted(admit(store, &new).await);
}

fn by_hand<'a>(shown: &'a str, reason: &'a str, hours: Option<u32>) -> ManualSuppression<'a> {
    ManualSuppression { masked: shown, reason, duration: hours.map(|hours| hours * HOUR) }
}

async fn a_suppression_by_hand_refuses_until_it_is_lifted(store: &dyn TimedStore) {
    store.at(START);
    let name = named(73);
    let stands =
        store.add_suppression(name, &by_hand("+57**73", "asked for it", None)).await.expect("answers");
    let expected = SuppressionEntry {
        to: Some("+57**73".to_owned()),
        code: None,
        reason: Some("asked for it".to_owned()),
        since: Some(START),
        until: None,
    };
    assert_eq!(stands, expected);
    store.at(START.plus(1_000 * HOUR));
    let error = refused(admit(store, &ask(73, "by-hand-1")).await);
    assert_eq!((error.code, error.provider_code, error.retry_after), (ErrorCode::Suppressed, None, None));
    assert_eq!(store.remove_suppression(name).await.expect("answers"), Some(expected));
    assert_eq!(store.remove_suppression(name).await.expect("answers"), None);
    granted(admit(store, &ask(73, "by-hand-2")).await);

    let now = START.plus(1_000 * HOUR);
    let short = store.add_suppression(name, &by_hand("+57**73", "", Some(1))).await.expect("answers");
    assert_eq!((short.reason, short.since, short.until), (None, Some(now), Some(now.plus(HOUR))));
    let error = refused(admit(store, &ask(73, "by-hand-3")).await);
    assert_eq!((error.provider_code, error.retry_after), (None, Some(3_600)));
    store.at(now.plus(HOUR));
    assert_eq!(store.remove_suppression(name).await.expect("answers"), None, "it is over by itself");
}

async fn a_reason_stays_until_another_is_given(store: &dyn TimedStore) {
    let now = START.plus(30_000 * HOUR);
    store.at(now);
    let add = async |reason: &str, lasts: Option<Duration>| {
        let by_hand = ManualSuppression { masked: "+57**79", reason, duration: lasts };
        let stands = store.add_suppression(named(79), &by_hand).await.expect("answers");
        (stands.reason.unwrap_or_default(), stands.since, stands.until)
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
    let stood = store.remove_suppression(named(79)).await.expect("answers").expect("it stood");
    assert_eq!(stood.reason.as_deref(), Some("another one"));
    assert_eq!(add("", Some(HOUR)).await.0, "", "what was lifted is forgotten");
    store.remove_suppression(named(79)).await.expect("answers");
    // No time at all is the shortest there is.
    let moment = Duration::from_millis(1);
    assert_eq!(add("", Some(Duration::ZERO)).await, (String::new(), Some(now), Some(now.plus(moment))));
    store.at(now.plus(moment));
    assert_eq!(store.remove_suppression(named(79)).await.expect("answers"), None);
}

async fn a_list_is_bounded_and_tells_those_without_an_end_first(store: &dyn TimedStore) {
    let now = START.plus(10_000 * HOUR);
    store.at(now);
    for (recipient, hours) in [(74, Some(2)), (75, None), (76, Some(3)), (77, Some(1))] {
        let shown = format!("+57**{recipient}");
        store.add_suppression(named(recipient), &by_hand(&shown, "list", hours)).await.expect("answers");
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

async fn what_a_person_says_never_shortens_what_stands(store: &dyn TimedStore) {
    let block = async |request: &str, code: u32, lasts: Option<Duration>| {
        let request = ask(78, request);
        let outcome = failed(START);
        let block = Some(NewSuppression {
            target: SuppressionTarget::Recipient,
            code,
            duration: lasts,
            masked: "+57**78",
        });
        let end =
            CompleteRequest { suppression: block, ..settle(request.handling(), &outcome, Refund::Counted) };
        store.complete(&end).await.expect("answers");
    };
    let (now, later) = (START.plus(20_000 * HOUR), START.plus(20_001 * HOUR));
    store.at(now);
    block("shorten-1", 21_614, Some(24 * HOUR)).await;
    store.at(later);
    let stands = store.add_suppression(named(78), &by_hand("+57**78", "no", Some(2))).await.expect("answers");
    let told = |one: &SuppressionEntry| (one.code, one.since, one.until);
    assert_eq!(told(&stands), (Some(21_614), Some(now), Some(now.plus(24 * HOUR))));
    let longer =
        store.add_suppression(named(78), &by_hand("+57**78", "no", Some(48))).await.expect("answers");
    assert_eq!(told(&longer), (None, Some(now), Some(later.plus(48 * HOUR))));
    block("shorten-2", 21_610, None).await;
    let opted_out = store.remove_suppression(named(78)).await.expect("answers").expect("it stood");
    assert_eq!((told(&opted_out), opted_out.reason), ((Some(21_610), Some(now), None), None));
    store.at(UnixMillis(later.0).plus(LEASE));
    granted(admit(store, &ask(78, "shorten-3")).await);
}
