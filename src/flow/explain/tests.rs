use super::*;
use crate::domain::history::PoisonCause;
use crate::domain::receipt::DeliveryStatus;
use crate::domain::send_failure::{Scope, SendFailure};
use crate::flow::context::RequeueReason;
use crate::flow::send_gate::ClosedBy;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn at(second: u64) -> UnixMillis {
    UnixMillis(NOW.0 + second * 1_000)
}

fn noted(steps: impl IntoIterator<Item = HistoryEvent>) -> RequestHistory {
    let mut notes = RequestHistory { to: "+57******4567".to_owned(), ..RequestHistory::default() };
    (0..).zip(steps).for_each(|(second, what)| notes.add(at(second), what));
    notes
}

fn ended(status: Status, error: Option<OutcomeError>, notes: RequestHistory) -> RequestRecord {
    let refused = Outcome::refused(status, at(60), "login", OutcomeError::of(ErrorCode::Internal));
    let outcome = Outcome { error, history: notes, attempts: 2, ..refused };
    RequestRecord { state: RequestState::Ended(outcome), receipt: None, code: None }
}

fn waiting(notes: RequestHistory, leased: bool) -> RequestRecord {
    let chapter = RequestState::Live {
        state: "waiting",
        leased,
        attempt: 1,
        purpose: "login".to_owned(),
        deadline: at(600),
        history: notes,
    };
    RequestRecord { state: chapter, receipt: None, code: None }
}

fn receipt(status: DeliveryStatus, told: bool, second: u64) -> RecordedReceipt {
    RecordedReceipt { message_id: "SM1".to_owned(), status, code: None, published: told, at: at(second) }
}

fn told(story: &RequestRecord) -> Explanation {
    explain(&RequestId::parse("r1").expect("an id"), story, 5, at(100))
}

fn words(story: &RequestRecord) -> Vec<String> {
    told(story).timeline.into_iter().map(|line| line.text).collect()
}

fn tried(failure: &SendFailure) -> HistoryEvent {
    HistoryEvent::Attempted(Attempt::failed(1, None, failure, 120))
}

#[test]
fn every_step_is_told_in_words() {
    let steps = [
        (HistoryEvent::Admitted(2), "admitted as the 2nd send to this recipient within a day"),
        (HistoryEvent::Admitted(0), "admitted"),
        (
            tried(&SendFailure::rejected(Scope::Recipient, Some(21610))),
            "try 1: the provider refused it (21610), after 120 ms",
        ),
        (
            tried(&SendFailure::Throttled { code: Some(20429), retry_after: None }),
            "try 1: the provider asked to wait (20429), after 120 ms",
        ),
        (
            tried(&SendFailure::Unreachable { detail: "a detail".to_owned() }),
            "try 1: the provider could not be reached, after 120 ms",
        ),
        (
            tried(&SendFailure::InDoubt { detail: "a detail".to_owned() }),
            "try 1: no answer tells whether it was sent, after 120 ms",
        ),
        (
            HistoryEvent::Attempted(Attempt::failed(
                2,
                Some(3),
                &SendFailure::rejected(Scope::Sender, Some(21606)),
                5,
            )),
            "try 2 by sender 3: the provider refused the sender (21606), after 5 ms",
        ),
        (
            HistoryEvent::Paused("senders_rest".to_owned()),
            "held: every sender of ours rests after a refusal, or has refused it",
        ),
        (HistoryEvent::TakenOver(false), "taken up by another handling, nothing in doubt"),
        (
            HistoryEvent::TakenOver(true),
            "taken up by another handling: whether the last try was sent is in doubt",
        ),
        (
            HistoryEvent::LookedUp("found".to_owned()),
            "looked up at the provider: it is there, so it was sent",
        ),
        (HistoryEvent::Resent(2), "to be sent once more, as try 2, with the same code"),
        (HistoryEvent::Paused("kill_switch".to_owned()), "held: the kill switch is on"),
        (HistoryEvent::Requeued("stopping".to_owned()), "back to the queue: the worker stopped"),
        (HistoryEvent::DeadLettered(PoisonCause::Crash), "to be set aside: the message crashed its worker"),
    ];
    for (event, expected) in steps {
        assert_eq!(words(&waiting(noted([event]), true)), [expected]);
    }
}

#[test]
fn every_machine_word_that_is_noted_has_words_of_its_own() {
    let shut = [ClosedBy::KillSwitch, ClosedBy::StoreSilent, ClosedBy::Breaker].map(ClosedBy::as_str);
    for holder in shut.into_iter().chain([SENDERS_COOLING_DOWN]) {
        assert_ne!(holder_in_words(holder), holder);
    }
    for why in [
        RequeueReason::Stopping,
        RequeueReason::DeliveryLost,
        RequeueReason::TakenOver,
        RequeueReason::HeldTooLong,
    ] {
        assert_ne!(give_back_in_words(why.as_str()), why.as_str());
    }
    for answer in ["found", "absent", "unanswered", "refused"] {
        assert!(!lookup_in_words(answer).ends_with(&format!(": {answer}")), "{answer}");
    }
    for answer in
        ["accepted", "rejected", "sender_refused", "throttled", "deferred", "unreachable", "in_doubt"]
    {
        let answer = answer.to_owned();
        let tried = Attempt { attempt: 1, sender: None, answer, code: None, ms: 1 };
        assert!(!try_in_words(&tried).contains(&tried.answer), "{tried:?}");
    }
    assert_eq!(holder_in_words("a word of a newer version"), "a word of a newer version");
}

#[test]
fn an_end_says_why_and_when_it_could_go_better() {
    let limited = OutcomeError { retry_after: Some(30), ..OutcomeError::of(ErrorCode::RateLimited) };
    let story = ended(Status::Rejected, Some(limited), noted([]));
    let told = told(&story);
    assert_eq!(
        told.timeline[0].text,
        "ended as rejected, rate_limited: a limit of sends or of wrong tries is reached; a new request could succeed after 30 s"
    );
    assert_eq!((told.timeline[0].what, told.timeline[0].retry_after), ("ended", Some(30)));
    assert_eq!((told.status, told.reason), (Some(Status::Rejected), Some(ErrorCode::RateLimited)));
    assert_eq!((told.text.as_str(), told.purpose.as_str()), ("rejected, rate_limited", "login"));

    let refused =
        OutcomeError { provider_code: Some(21610), ..OutcomeError::of(ErrorCode::ProviderRejected) };
    assert_eq!(
        words(&ended(Status::Failed, Some(refused), noted([]))),
        ["ended as failed, provider_rejected: the provider refused the message (21610)"]
    );
    assert_eq!(words(&ended(Status::Sent, None, noted([]))), ["ended as sent"]);
}

#[test]
fn a_request_under_way_says_who_has_it() {
    let held = told(&waiting(noted([]), true));
    assert_eq!(held.text, "it waits to be sent; a worker has it");
    assert_eq!((held.state, held.attempts, held.deadline), ("waiting", 1, Some(at(600))));
    assert_eq!(told(&waiting(noted([]), false)).text, "it waits to be sent; it is back in the queue");
}

#[test]
fn a_receipt_stands_where_it_came_and_names_the_message() {
    let mut story = ended(Status::Sent, None, noted([HistoryEvent::Admitted(1)]));
    for (status, told_of, second, place, text) in [
        (DeliveryStatus::Delivered, true, 70, 2, "the provider reports: delivered; told to the caller"),
        (DeliveryStatus::Failed, false, 70, 2, "the provider reports: failed; not told to the caller yet"),
        (DeliveryStatus::Sent, false, 30, 1, "the provider reports: sent; there is more to come"),
    ] {
        story.receipt = Some(receipt(status, told_of, second));
        let told = told(&story);
        assert_eq!((told.timeline[place].what, told.timeline[place].text.as_str()), ("receipt", text));
        assert_eq!(told.provider_message_id.as_deref(), Some("SM1"));
    }
    assert_eq!(told(&story).text, "sent; the provider reports: sent");

    let RequestState::Ended(outcome) = &mut story.state else { panic!("it has ended") };
    outcome.provider_message_id = Some("SM2".to_owned());
    assert_eq!(words(&story)[1], "the provider reports of another message, SM1: sent; there is more to come");
    assert_eq!(told(&story).provider_message_id.as_deref(), Some("SM2"));
}

#[test]
fn a_code_is_used_expired_locked_or_open() {
    let verdict = |expires, checks, used| {
        let code = Some(CodeState { expires: at(expires), checks, used });
        let story = RequestRecord { code, ..ended(Status::Sent, None, noted([])) };
        told(&story).code.expect("its state is known")
    };
    assert_eq!(verdict(200, 5, true).text, "the code was used; tried 5 times");
    assert_eq!(verdict(50, 1, true).state, "used");
    assert_eq!(
        verdict(50, 5, false).text,
        "the code expired unused at 2027-01-15T08:00:50.000Z; tried 5 times"
    );
    assert_eq!(verdict(200, 5, false).text, "the code is locked: too many wrong tries; tried 5 times");
    assert_eq!(verdict(200, 1, false).state, "open");
    assert_eq!(verdict(100, 0, false).text.rsplit("; ").next(), Some("never tried"));
    assert_eq!(verdict(100, 0, false).state, "expired", "as for whoever types it");
}

#[test]
fn a_story_that_was_too_long_to_keep_says_so() {
    let long = noted((0..40).map(|_| HistoryEvent::LookedUp("unanswered".to_owned())));
    assert!(told(&waiting(long, true)).shortened);
    assert!(!told(&waiting(noted([HistoryEvent::Admitted(1)]), true)).shortened);
}

#[test]
fn a_record_without_notes_is_told_all_the_same() {
    let told =
        told(&ended(Status::Unknown, Some(OutcomeError::of(ErrorCode::InDoubt)), RequestHistory::default()));
    assert_eq!((told.to.as_str(), told.timeline.len()), (UNREADABLE, 1));
}

#[test]
fn one_of_the_last_requests_says_how_it_stands() {
    let recent = RequestSummary { at: at(1), request: RequestId::parse("r1").expect("an id") };
    assert_eq!(glimpse(&recent, None).state, "forgotten");
    let under_way = glimpse(&recent, Some(&waiting(noted([]), true)));
    assert_eq!(
        (under_way.state, under_way.text),
        ("waiting", Some("it waits to be sent; a worker has it".to_owned()))
    );
    let mut doubt = waiting(noted([]), false);
    if let RequestState::Live { state, .. } = &mut doubt.state {
        *state = "doubt";
    }
    assert_eq!(
        glimpse(&recent, Some(&doubt)).text.as_deref(),
        Some("the worker that takes it will find out whether it was sent; it is back in the queue")
    );
    let refused = ended(Status::Rejected, Some(OutcomeError::of(ErrorCode::Cooldown)), noted([]));
    let refused = glimpse(&recent, Some(&refused));
    assert_eq!((refused.state, refused.reason), ("ended", Some(ErrorCode::Cooldown)));
    let mut sent = ended(Status::Sent, None, noted([]));
    sent.receipt = Some(receipt(DeliveryStatus::Delivered, true, 70));
    assert_eq!(glimpse(&recent, Some(&sent)).receipt, Some("delivered"));
}

#[test]
fn ordinals_are_english() {
    let told: Vec<String> = [1, 2, 3, 4, 11, 12, 13, 21, 112].into_iter().map(nth).collect();
    assert_eq!(told, ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th"]);
}
