//! Opt-in and opt-out by a recipient's own messages, which come late and out of order.

use std::time::Duration;

use otpost::domain::opt_status::{OptAnswer, OptMessage, OptStatus};
use otpost::domain::outcome::ErrorCode;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::suppression::{ManualSuppression, NewSuppression, SuppressionTarget};
use otpost::domain::time::UnixMillis;
use otpost::store::{Admission, CompletionInput, NewReceipt, Refund};

use super::{HOUR, TimedStore, admit, completion, failed, granted, named, rejected, request_to, sent};

use OptAnswer::{Outdated, Recorded};
use OptStatus::{OptedIn, OptedOut};

/// A whole second.
const NOW: UnixMillis = UnixMillis(1_900_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    an_opt_out_suppresses_until_an_opt_in(store).await;
    messages_count_by_their_time_and_not_by_their_order(store).await;
    of_two_messages_in_one_second_the_opt_out_counts(store).await;
    a_message_of_yesterday_decides_nothing(store).await;
    an_opt_in_ends_an_opt_out_and_no_other_suppression(store).await;
    an_operators_removal_is_later_than_messages_before_it(store).await;
    an_opt_in_restores_the_suppression_that_the_opt_out_replaced(store).await;
    a_suppression_after_an_opt_out_outlasts_the_opt_in(store).await;
    an_operators_removal_of_his_own_suppression_leaves_an_opt_out(store).await;
    an_opt_in_just_after_an_operators_removal_restores_nothing(store).await;
    a_refusal_of_a_message_from_before_an_opt_in_suppresses_nothing(store).await;
    a_receipt_of_a_message_from_before_an_opt_in_suppresses_nothing(store).await;
    // A suppression without an end has no time to live.
    for recipient in (80..96).chain([53, 54, 55, 58, 97, 98, 108, 109]) {
        store.remove_suppression(named(recipient)).await.expect("answers");
    }
}

async fn tell(store: &dyn TimedStore, recipient: u8, status: OptStatus, sent_at: UnixMillis) -> OptAnswer {
    let message = OptMessage { status, sent_at, provider_code: 21_610, masked: "+57**80" };
    store.record_opt_status(named(recipient), &message).await.expect("answers")
}

/// The beginning of the suppression in force.
async fn opted_out_since(store: &dyn TimedStore, recipient: u8) -> Option<UnixMillis> {
    let list = store.suppressions(1_000).await.expect("answers");
    let masked = format!("+57**{recipient}");
    let found = list.into_iter().find(|one| one.to.as_deref() == Some(masked.as_str()));
    found.and_then(|one| one.since)
}

async fn an_opt_out_suppresses_until_an_opt_in(store: &dyn TimedStore) {
    store.at(NOW);
    assert_eq!(tell(store, 80, OptedOut, NOW).await, Recorded);
    assert_eq!(tell(store, 80, OptedOut, NOW).await, Recorded, "a repeat");
    let error = rejected(admit(store, &request_to(80, "opt-1")).await);
    assert_eq!(
        (error.code, error.provider_code, error.retry_after),
        (ErrorCode::Suppressed, Some(21_610), None)
    );
    assert_eq!(opted_out_since(store, 80).await, Some(NOW));
    store.at(NOW.plus(500 * HOUR));
    rejected(admit(store, &request_to(80, "opt-2")).await);
    assert_eq!(tell(store, 80, OptedIn, NOW.plus(500 * HOUR)).await, Recorded);
    assert_eq!(tell(store, 80, OptedIn, NOW.plus(500 * HOUR)).await, Recorded, "a repeat");
    assert_eq!(opted_out_since(store, 80).await, None);
    granted(admit(store, &request_to(80, "opt-3")).await);
}

async fn messages_count_by_their_time_and_not_by_their_order(store: &dyn TimedStore) {
    let (stop, start) = (NOW, NOW.plus(60 * SECOND));
    store.at(NOW.plus(HOUR));
    // In order, with a late repeat of the first.
    assert_eq!(tell(store, 81, OptedOut, stop).await, Recorded);
    assert_eq!(tell(store, 81, OptedIn, start).await, Recorded);
    assert_eq!(tell(store, 81, OptedOut, stop).await, Outdated);
    granted(admit(store, &request_to(81, "order-1")).await);
    // START arrives before the STOP that it follows.
    assert_eq!(tell(store, 82, OptedIn, start).await, Recorded);
    assert_eq!(tell(store, 82, OptedOut, stop).await, Outdated);
    granted(admit(store, &request_to(82, "order-2")).await);
    // STOP arrives before the START that it follows.
    assert_eq!(tell(store, 83, OptedOut, start).await, Recorded);
    assert_eq!(tell(store, 83, OptedIn, stop).await, Outdated);
    rejected(admit(store, &request_to(83, "order-3")).await);
    // STOP, START, STOP; the middle one comes last.
    assert_eq!(tell(store, 84, OptedOut, stop).await, Recorded);
    assert_eq!(tell(store, 84, OptedOut, start).await, Recorded);
    assert_eq!(tell(store, 84, OptedIn, NOW.plus(30 * SECOND)).await, Outdated);
    rejected(admit(store, &request_to(84, "order-4")).await);
}

async fn of_two_messages_in_one_second_the_opt_out_counts(store: &dyn TimedStore) {
    store.at(NOW);
    for (recipient, order) in [(85, [OptedIn, OptedOut]), (86, [OptedOut, OptedIn])] {
        for status in order {
            tell(store, recipient, status, NOW).await;
        }
        rejected(admit(store, &request_to(recipient, "tie")).await);
    }
}

async fn a_message_of_yesterday_decides_nothing(store: &dyn TimedStore) {
    store.at(NOW);
    let day_ago = UnixMillis(NOW.0 - 24 * 3_600_000);
    assert_eq!(tell(store, 87, OptedOut, UnixMillis(day_ago.0 - 1_000)).await, Outdated);
    granted(admit(store, &request_to(87, "old-1")).await);
    assert_eq!(tell(store, 87, OptedOut, day_ago).await, Recorded);
    rejected(admit(store, &request_to(87, "old-2")).await);
}

async fn an_opt_in_ends_an_opt_out_and_no_other_suppression(store: &dyn TimedStore) {
    store.at(NOW);
    let manual = ManualSuppression { masked: "+57**88", reason: "asked", duration: None };
    store.add_suppression(named(88), &manual).await.expect("answers");
    assert_eq!(tell(store, 88, OptedIn, NOW).await, Recorded);
    rejected(admit(store, &request_to(88, "manual")).await);
    // A refusal for a day, which no message ends.
    refuse(store, 89, "unreachable", 21_614, Some(24 * HOUR)).await;
    assert_eq!(tell(store, 89, OptedIn, NOW.plus(SECOND)).await, Recorded);
    rejected(admit(store, &request_to(89, "day")).await);
    // A refusal for an opt-out began after a START that is older.
    store.at(NOW.plus(10 * SECOND));
    refuse(store, 90, "opted-out", 21_610, None).await;
    assert_eq!(tell(store, 90, OptedIn, NOW).await, Outdated);
    rejected(admit(store, &request_to(90, "older")).await);
    // After the cooldown.
    store.at(NOW.plus(60 * SECOND));
    assert_eq!(tell(store, 90, OptedIn, NOW.plus(10 * SECOND)).await, Recorded);
    granted(admit(store, &request_to(90, "later")).await);
}

async fn an_operators_removal_is_later_than_messages_before_it(store: &dyn TimedStore) {
    store.at(NOW);
    tell(store, 91, OptedOut, NOW).await;
    store.at(NOW.plus(HOUR));
    store.remove_suppression(named(91)).await.expect("answers").expect("there was one");
    assert_eq!(tell(store, 91, OptedOut, NOW.plus(60 * SECOND)).await, Outdated);
    granted(admit(store, &request_to(91, "removed")).await);
    assert_eq!(tell(store, 91, OptedOut, NOW.plus(HOUR)).await, Recorded);
}

/// The suppression in force: code, reason, and its end.
async fn in_force(
    store: &dyn TimedStore,
    recipient: u8,
) -> Option<(Option<u32>, Option<String>, Option<UnixMillis>)> {
    let masked = format!("+57**{recipient}");
    let list = store.suppressions(1_000).await.expect("answers").into_iter();
    let mut found = list.filter(|one| one.to.as_deref() == Some(masked.as_str()));
    let found = found.next().map(|one| (one.provider_code, one.reason, one.until));
    let rejected =
        match admit(store, &request_to(recipient, &format!("in-force-{}", fastrand::u64(..)))).await {
            Admission::Completed { outcome, .. } => outcome.error.map(|error| error.code),
            _ => None,
        };
    assert_eq!(found.is_some(), rejected == Some(ErrorCode::Suppressed), "{recipient}: {found:?}");
    found
}

async fn suppress(store: &dyn TimedStore, recipient: u8, duration: Option<Duration>) {
    let masked = format!("+57**{recipient}");
    let manual = ManualSuppression { masked: &masked, reason: "asked", duration };
    store.add_suppression(named(recipient), &manual).await.expect("answers");
}

fn manual_until(until: Option<UnixMillis>) -> Option<(Option<u32>, Option<String>, Option<UnixMillis>)> {
    Some((None, Some("asked".to_owned()), until))
}

fn opted_out() -> Option<(Option<u32>, Option<String>, Option<UnixMillis>)> {
    Some((Some(21_610), None, None))
}

async fn opt_out_and_in(store: &dyn TimedStore, recipient: u8) {
    let masked = format!("+57**{recipient}");
    for (status, seconds) in [(OptedOut, 1), (OptedOut, 2), (OptedIn, 3)] {
        let sent_at = NOW.plus(seconds * SECOND);
        store.at(sent_at);
        let message = OptMessage { status, sent_at, provider_code: 21_610, masked: &masked };
        assert_eq!(store.record_opt_status(named(recipient), &message).await.expect("answers"), Recorded);
        if status == OptedOut {
            assert_eq!(in_force(store, recipient).await, opted_out());
        }
    }
}

async fn an_opt_in_restores_the_suppression_that_the_opt_out_replaced(store: &dyn TimedStore) {
    for (recipient, duration) in [(53, Some(48 * HOUR)), (54, None)] {
        store.at(NOW);
        suppress(store, recipient, duration).await;
        opt_out_and_in(store, recipient).await;
        let until = duration.map(|duration| NOW.plus(duration));
        assert_eq!(in_force(store, recipient).await, manual_until(until));
        assert_eq!(opted_out_since(store, recipient).await, Some(NOW));
    }
    // Fraud protection, and it ends by itself.
    store.at(NOW);
    refuse(store, 55, "fraud", 60_410, Some(12 * HOUR)).await;
    opt_out_and_in(store, 55).await;
    assert_eq!(in_force(store, 55).await, Some((Some(60_410), None, Some(NOW.plus(12 * HOUR)))));
    store.at(NOW.plus(12 * HOUR));
    assert_eq!(in_force(store, 55).await, None);
    // One that has ended is not restored.
    store.at(NOW);
    suppress(store, 58, Some(2 * SECOND)).await;
    opt_out_and_in(store, 58).await;
    assert_eq!(in_force(store, 58).await, None);
}

async fn a_suppression_after_an_opt_out_outlasts_the_opt_in(store: &dyn TimedStore) {
    store.at(NOW);
    tell_as(store, 97, OptedOut, NOW).await;
    suppress(store, 97, Some(48 * HOUR)).await;
    suppress(store, 97, Some(HOUR)).await;
    assert_eq!(in_force(store, 97).await, opted_out());
    tell_as(store, 97, OptedIn, NOW.plus(SECOND)).await;
    assert_eq!(in_force(store, 97).await, manual_until(Some(NOW.plus(48 * HOUR))));
}

async fn an_operators_removal_of_his_own_suppression_leaves_an_opt_out(store: &dyn TimedStore) {
    for (recipient, is_manual_first) in [(98, true), (108, false)] {
        store.at(NOW);
        if is_manual_first {
            suppress(store, recipient, None).await;
        }
        tell_as(store, recipient, OptedOut, NOW).await;
        if !is_manual_first {
            suppress(store, recipient, None).await;
        }
        // The second call repeats the first one, whose answer was lost.
        for until in [None, Some(NOW.plus(10 * SECOND))] {
            let removed = store.remove_suppression(named(recipient)).await.expect("answers");
            let removed = removed.map(|one| (one.provider_code, one.reason, one.until));
            assert_eq!(removed, manual_until(until));
        }
        store.at(NOW.plus(10 * SECOND));
        assert_eq!(in_force(store, recipient).await, opted_out());
    }
    let removed = store.remove_suppression(named(98)).await.expect("answers").expect("the opt-out");
    assert_eq!((removed.provider_code, removed.until), (Some(21_610), None));
    assert_eq!(in_force(store, 98).await, None);
    tell_as(store, 108, OptedIn, NOW.plus(10 * SECOND)).await;
    assert_eq!(in_force(store, 108).await, None);
}

async fn an_opt_in_just_after_an_operators_removal_restores_nothing(store: &dyn TimedStore) {
    store.at(NOW);
    suppress(store, 109, None).await;
    tell_as(store, 109, OptedOut, NOW).await;
    let removed = store.remove_suppression(named(109)).await.expect("answers");
    assert_eq!(removed.and_then(|one| one.reason).as_deref(), Some("asked"));
    store.at(NOW.plus(SECOND));
    tell_as(store, 109, OptedIn, NOW.plus(SECOND)).await;
    assert_eq!(in_force(store, 109).await, None);
    // One that is added after the removal is kept, and restored.
    store.at(NOW.plus(HOUR));
    suppress(store, 109, None).await;
    tell_as(store, 109, OptedOut, NOW.plus(HOUR)).await;
    store.remove_suppression(named(109)).await.expect("answers").expect("the manual one");
    suppress(store, 109, Some(HOUR)).await;
    tell_as(store, 109, OptedIn, NOW.plus(HOUR + SECOND)).await;
    assert_eq!(in_force(store, 109).await, manual_until(Some(NOW.plus(2 * HOUR))));
}

async fn tell_as(store: &dyn TimedStore, recipient: u8, status: OptStatus, sent_at: UnixMillis) {
    let masked = format!("+57**{recipient}");
    let message = OptMessage { status, sent_at, provider_code: 21_610, masked: &masked };
    assert_eq!(store.record_opt_status(named(recipient), &message).await.expect("answers"), Recorded);
}

/// A request that the provider refuses: its attempt begins now.
async fn refuse(store: &dyn TimedStore, recipient: u8, id: &str, code: u32, duration: Option<Duration>) {
    let request = request_to(recipient, id);
    granted(admit(store, &request).await);
    complete_refused(store, recipient, id, code, duration).await;
}

async fn complete_refused(
    store: &dyn TimedStore,
    recipient: u8,
    id: &str,
    code: u32,
    duration: Option<Duration>,
) {
    let (request, outcome) = (request_to(recipient, id), failed(NOW));
    let masked = format!("+57**{recipient}");
    let target = SuppressionTarget::Recipient;
    let suppression = Some(NewSuppression { target, provider_code: code, duration, masked: &masked });
    let completed =
        CompletionInput { suppression, ..completion(request.lease(), &outcome, Refund::FullAndCounted) };
    store.complete(&completed).await.expect("answers");
}

async fn a_refusal_of_a_message_from_before_an_opt_in_suppresses_nothing(store: &dyn TimedStore) {
    for (recipient, opted_in_after) in [(92, true), (93, false)] {
        store.at(NOW);
        let request = request_to(recipient, "in-flight");
        granted(admit(store, &request).await);
        store.at(NOW.plus(2 * SECOND));
        let at = if opted_in_after { NOW.plus(SECOND) } else { NOW };
        assert_eq!(tell(store, recipient, OptedIn, at).await, Recorded);
        complete_refused(store, recipient, "in-flight", 21_610, None).await;
        store.at(NOW.plus(HOUR));
        let next = admit(store, &request_to(recipient, "next")).await;
        if opted_in_after { drop(granted(next)) } else { drop(rejected(next)) }
    }
}

async fn a_receipt_of_a_message_from_before_an_opt_in_suppresses_nothing(store: &dyn TimedStore) {
    for (recipient, opted_in_after) in [(94, true), (95, false)] {
        store.at(NOW);
        let (request, outcome) = (request_to(recipient, "reported"), sent(NOW));
        granted(admit(store, &request).await);
        store.complete(&completion(request.lease(), &outcome, Refund::None)).await.expect("answers");
        store.at(NOW.plus(2 * SECOND));
        let at = if opted_in_after { NOW.plus(SECOND) } else { NOW };
        assert_eq!(tell(store, recipient, OptedIn, at).await, Recorded);
        let masked = format!("+57**{recipient}");
        let target = SuppressionTarget::Recipient;
        let receipt = NewReceipt {
            recipient: named(recipient),
            request_id: &request.request,
            message_id: "SM1",
            status: DeliveryStatus::Undelivered,
            provider_code: Some(21_610),
            published: true,
            suppression: Some(NewSuppression {
                target,
                provider_code: 21_610,
                duration: None,
                masked: &masked,
            }),
        };
        store.record_receipt(&receipt).await.expect("answers");
        store.at(NOW.plus(HOUR));
        let next = admit(store, &request_to(recipient, "next")).await;
        if opted_in_after { drop(granted(next)) } else { drop(rejected(next)) }
    }
}
