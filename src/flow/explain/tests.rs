use std::time::Duration;

use super::*;
use crate::domain::history::PoisonCause;
use crate::domain::receipt::DeliveryStatus;
use crate::domain::send_failure::{Scope, SendFailure};
use crate::flow::context::StopReason;
use crate::flow::pause_log::ClosedBy;
use crate::flow::provider_gate::NO_SENDER_AVAILABLE;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn at(second: u64) -> UnixMillis {
    UnixMillis(NOW.0 + second * 1_000)
}

fn history_of(events: impl IntoIterator<Item = HistoryEvent>) -> RequestHistory {
    let mut history = RequestHistory { to: "+57******4567".to_owned(), ..RequestHistory::default() };
    (0..).zip(events).for_each(|(second, event)| history.add(at(second), event));
    history
}

fn ended(status: Status, error: Option<OutcomeError>, history: RequestHistory) -> RequestRecord {
    let refused = Outcome::with_error(status, at(60), "login", OutcomeError::of(ErrorCode::Internal));
    let outcome = Outcome { error, history, attempts: 2, provider: Some("twilio".to_owned()), ..refused };
    RequestRecord { state: RequestState::Completed(outcome), receipt: None, code: None }
}

fn waiting(history: RequestHistory, leased: bool) -> RequestRecord {
    let state = RequestState::InProgress {
        stage: "waiting",
        leased,
        attempt: 1,
        purpose: "login".to_owned(),
        deadline: at(600),
        history,
    };
    RequestRecord { state, receipt: None, code: None }
}

fn receipt(status: DeliveryStatus, published: bool, second: u64) -> RecordedReceipt {
    RecordedReceipt { message_id: "SM1".to_owned(), status, provider_code: None, published, at: at(second) }
}

fn explanation(record: &RequestRecord) -> RequestExplanation {
    explain_request(&RequestId::parse("r1").expect("an id"), record, 5, at(100))
}

fn texts(record: &RequestRecord) -> Vec<String> {
    explanation(record).timeline.into_iter().map(|entry| entry.text).collect()
}

fn attempted(failure: &SendFailure) -> HistoryEvent {
    HistoryEvent::Attempted(Attempt::failed(1, None, failure, 120))
}

#[test]
fn every_history_event_has_a_sentence() {
    let events = [
        (HistoryEvent::Admitted(2), "admitted as the 2nd send to this recipient within a day"),
        (HistoryEvent::Admitted(0), "admitted"),
        (
            attempted(&SendFailure::refused(Scope::Recipient, Some(21610))),
            "attempt 1: the provider refused it (21610: opted out), after 120 ms",
        ),
        (
            attempted(&SendFailure::Throttled { provider_code: Some(20429), retry_after: None }),
            "attempt 1: the provider asked to wait (20429: too many requests), after 120 ms",
        ),
        (
            attempted(&SendFailure::NotConnected { detail: "a detail".to_owned() }),
            "attempt 1: the provider could not be reached, after 120 ms",
        ),
        (
            attempted(&SendFailure::InDoubt { detail: "a detail".to_owned() }),
            "attempt 1: in doubt, as the answer was lost, after 120 ms",
        ),
        (
            HistoryEvent::Attempted(Attempt::failed(
                2,
                Some(3),
                &SendFailure::refused(Scope::Sender, Some(21606)),
                5,
            )),
            "attempt 2 by sender 3: the provider refused the sender (21606: sender not ours, or sends no texts), after 5 ms",
        ),
        (
            HistoryEvent::WaitsAtGate("senders_rest".to_owned()),
            "waits at the gate: every sender is cooling down or was refused for this message",
        ),
        (HistoryEvent::TookOver(false), "taken over by another handler; nothing is in doubt"),
        (HistoryEvent::TookOver(true), "taken over by another handler; the last attempt is in doubt"),
        (HistoryEvent::LookedUp("found".to_owned()), "message lookup: found, so it was sent"),
        (HistoryEvent::ToBeResent(2), "to be sent once more, as attempt 2, with the same code"),
        (HistoryEvent::WaitsAtGate("kill_switch".to_owned()), "waits at the gate: the kill switch is on"),
        (HistoryEvent::Requeued("stopping".to_owned()), "requeued: the worker shut down"),
        (HistoryEvent::DeadLettered(PoisonCause::Crash), "dead-lettered: the message crashed its worker"),
    ];
    for (event, expected) in events {
        assert_eq!(texts(&ended(Status::Sent, None, history_of([event])))[0], expected);
    }
}

#[test]
fn a_number_of_another_vendor_has_no_words_of_twilio() {
    let event = || attempted(&SendFailure::refused(Scope::Recipient, Some(21610)));
    let bare = "attempt 1: the provider refused it (21610), after 120 ms";
    // A request in progress does not name its provider.
    assert_eq!(texts(&waiting(history_of([event()]), true)), [bare]);
    let mut record = ended(Status::Sent, None, history_of([event()]));
    let RequestState::Completed(outcome) = &mut record.state else { panic!("it has ended") };
    outcome.provider = Some("acme".to_owned());
    assert_eq!(texts(&record)[0], bare);
}

#[test]
fn every_stored_word_has_its_own_sentence() {
    let closed_by = [ClosedBy::KillSwitch, ClosedBy::StoreSilent, ClosedBy::StoreDamaged, ClosedBy::Breaker]
        .map(ClosedBy::as_str);
    for reason in closed_by.into_iter().chain([NO_SENDER_AVAILABLE]) {
        assert_ne!(gate_wait_in_words(reason), reason);
    }
    for reason in [
        StopReason::Shutdown,
        StopReason::DeliveryLost,
        StopReason::LeaseLost,
        StopReason::HeldTooLong,
        StopReason::RouteShut,
    ] {
        assert_ne!(requeue_reason_in_words(reason.as_str()), reason.as_str());
    }
    for answer in ["found", "absent", "unanswered", "refused"] {
        assert!(!lookup_in_words(answer).ends_with(&format!(": {answer}")), "{answer}");
    }
    for answer in
        ["accepted", "rejected", "sender_refused", "throttled", "deferred", "unreachable", "in_doubt"]
    {
        let answer = answer.to_owned();
        let attempt = Attempt { answer, ..Attempt::accepted(1, None, 1) };
        assert!(!attempt_in_words(&attempt, None).contains(&attempt.answer), "{attempt:?}");
    }
    assert_eq!(gate_wait_in_words("a word of a newer version"), "a word of a newer version");
}

#[test]
fn the_end_has_its_reason_and_the_time_of_a_possible_retry() {
    let limited = OutcomeError::limited(ReachedLimit::User, Duration::from_secs(30));
    let record = ended(Status::Rejected, Some(limited), history_of([]));
    let explanation = explanation(&record);
    assert_eq!(
        explanation.timeline[0].text,
        "ended as rejected, rate_limited: a limit of sends or of wrong attempts is reached (limit: user); a new request may succeed after 30 s"
    );
    assert_eq!((explanation.timeline[0].what, explanation.timeline[0].retry_after), ("ended", Some(30)));
    assert_eq!(explanation.timeline[0].limit, Some("user"));
    assert_eq!(
        (explanation.status, explanation.reason),
        (Some(Status::Rejected), Some(ErrorCode::RateLimited))
    );
    assert_eq!(
        (explanation.text.as_str(), explanation.purpose.as_str()),
        ("rejected, rate_limited", "login")
    );

    let refused =
        OutcomeError { provider_code: Some(21610), ..OutcomeError::of(ErrorCode::ProviderRejected) };
    assert_eq!(
        texts(&ended(Status::Failed, Some(refused), history_of([]))),
        ["ended as failed, provider_rejected: the provider refused the message (21610: opted out)"]
    );
    assert_eq!(texts(&ended(Status::Sent, None, history_of([]))), ["ended as sent"]);
}

#[test]
fn a_live_request_is_with_a_worker_or_in_the_queue() {
    let held = explanation(&waiting(history_of([]), true));
    assert_eq!(held.text, "it waits to be sent; a worker has it, or crashed with it");
    assert_eq!((held.state, held.attempts, held.deadline), ("waiting", 1, Some(at(600))));
    assert_eq!(
        explanation(&waiting(history_of([]), false)).text,
        "it waits to be sent; it is back in the queue"
    );
}

#[test]
fn a_receipt_is_placed_by_its_time_and_names_its_message() {
    let mut record = ended(Status::Sent, None, history_of([HistoryEvent::Admitted(1)]));
    for (status, published, second, place, text) in [
        (DeliveryStatus::Delivered, true, 70, 2, "the provider reports: delivered; published"),
        (DeliveryStatus::Failed, false, 70, 2, "the provider reports: failed; not published yet"),
        (DeliveryStatus::Sent, false, 30, 1, "the provider reports: sent; not final"),
    ] {
        record.receipt = Some(receipt(status, published, second));
        let explanation = explanation(&record);
        assert_eq!(
            (explanation.timeline[place].what, explanation.timeline[place].text.as_str()),
            ("receipt", text)
        );
        assert_eq!(explanation.provider_message_id.as_deref(), Some("SM1"));
    }
    assert_eq!(explanation(&record).text, "sent; the provider reports: sent");

    let RequestState::Completed(outcome) = &mut record.state else { panic!("it has ended") };
    outcome.provider_message_id = Some("SM2".to_owned());
    assert_eq!(texts(&record)[1], "the provider reports of another message, SM1: sent; not final");
    assert_eq!(explanation(&record).provider_message_id.as_deref(), Some("SM2"));
}

#[test]
fn a_code_is_used_expired_locked_or_open() {
    let code_state = |expires, tries, used| {
        let code = Some(CodeState { expires: at(expires), checks: tries, used });
        let record = RequestRecord { code, ..ended(Status::Sent, None, history_of([])) };
        explanation(&record).code.expect("its state is known")
    };
    assert_eq!(code_state(200, 5, true).text, "the code was used; checked 5 times");
    assert_eq!(code_state(50, 1, true).state, "used");
    assert_eq!(
        code_state(50, 5, false).text,
        "the code expired unused at 2027-01-15T08:00:50.000Z; checked 5 times"
    );
    assert_eq!(
        code_state(200, 5, false).text,
        "the code is locked: too many wrong attempts; checked 5 times"
    );
    assert_eq!(code_state(200, 1, false).state, "open");
    assert_eq!(code_state(100, 0, false).text.rsplit("; ").next(), Some("never checked"));
    assert_eq!(code_state(100, 0, false).state, "expired", "as in verification");
}

#[test]
fn a_history_that_was_too_long_is_marked_as_shortened() {
    let long = history_of((0..40).map(|_| HistoryEvent::LookedUp("unanswered".to_owned())));
    assert!(explanation(&waiting(long, true)).shortened);
    assert!(!explanation(&waiting(history_of([HistoryEvent::Admitted(1)]), true)).shortened);
}

#[test]
fn a_record_without_history_is_explained() {
    let explanation = explanation(&ended(
        Status::Unknown,
        Some(OutcomeError::of(ErrorCode::InDoubt)),
        RequestHistory::default(),
    ));
    assert_eq!((explanation.to.as_str(), explanation.timeline.len()), (UNREADABLE_RECIPIENT, 1));
}

#[test]
fn a_recent_request_has_its_state() {
    let summary = RequestSummary { at: at(1), request_id: RequestId::parse("r1").expect("an id") };
    assert_eq!(recent_request(&summary, None).state, "forgotten");
    let live = recent_request(&summary, Some(&waiting(history_of([]), true)));
    assert_eq!(
        (live.state, live.text),
        ("waiting", Some("it waits to be sent; a worker has it, or crashed with it".to_owned()))
    );
    let mut doubt = waiting(history_of([]), false);
    if let RequestState::InProgress { stage, .. } = &mut doubt.state {
        *stage = "doubt";
    }
    assert_eq!(
        recent_request(&summary, Some(&doubt)).text.as_deref(),
        Some("it is in doubt and back in the queue; the next worker reconciles it")
    );
    let refused = ended(Status::Rejected, Some(OutcomeError::of(ErrorCode::Cooldown)), history_of([]));
    let refused = recent_request(&summary, Some(&refused));
    assert_eq!((refused.state, refused.reason), ("ended", Some(ErrorCode::Cooldown)));
    let mut sent = ended(Status::Sent, None, history_of([]));
    sent.receipt = Some(receipt(DeliveryStatus::Delivered, true, 70));
    assert_eq!(recent_request(&summary, Some(&sent)).receipt, Some("delivered"));
}

#[test]
fn ordinals_are_english() {
    let ordinals: Vec<String> = [1, 2, 3, 4, 11, 12, 13, 21, 112].into_iter().map(nth).collect();
    assert_eq!(ordinals, ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th"]);
}
