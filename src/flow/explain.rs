//! Why did a request end as it did? Its record as a timeline, in fields and in words.
//!
//! All of it comes from what the handlings noted and the store keeps: no code, no full number and no address is there
//! to be told. A provider's numbers are repeated, its sentences are not.

use serde::Serialize;

use super::admit::UNREADABLE;
use crate::domain::outcome::{ErrorCode, Outcome, OutcomeError, ResultError, Status, optional_rfc3339};
use crate::domain::recipient::Digest16;
use crate::domain::request::RequestId;
use crate::domain::time::{UnixMillis, serialize_rfc3339};
use crate::domain::trail::{Event, Notes, STEPS_MAX, Step, Try};
use crate::store::{Chapter, CodeState, Receipt, Recent, Store, StoreError, Story};

/// What is known of a request, to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Which.
    pub request_id: String,
    /// The recipient, masked.
    pub to: String,
    /// What the code is good for.
    pub purpose: String,
    /// How far it is: `sending`, `waiting`, `doubt` or `ended`.
    pub state: &'static str,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Why it did not end as sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<ErrorCode>,
    /// All that in a sentence.
    pub text: String,
    /// How often the provider was asked to send it.
    pub attempts: u32,
    /// Who was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The provider's name for the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_message_id: Option<String>,
    /// When a message would be too late, of a request under way.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_rfc3339")]
    pub deadline: Option<UnixMillis>,
    /// What became of the code, while that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<CodeVerdict>,
    /// What happened, in order.
    pub timeline: Vec<Line>,
    /// There were so many steps that some in the middle were not kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shortened: bool,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub at: UnixMillis,
    /// `admitted`, `tried`, `held`, `given_back`, `taken_up`, `looked_up`, `resent`, `ended` or `receipt`.
    pub what: &'static str,
    /// In words.
    pub text: String,
    /// The number of the try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The machine word of the answer, of what holds it, of why, or of the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The provider's own error number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_code: Option<u32>,
    /// How long the answer took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
    /// Seconds until a new request could succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

/// What became of a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CodeVerdict {
    /// `open`, `used`, `locked` or `expired`.
    pub state: &'static str,
    /// In words.
    pub text: String,
    /// How often it was checked, right ones included.
    pub tries: u32,
    /// When its life ends.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub expires_at: UnixMillis,
}

/// One of the last requests of a recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Glimpse {
    /// When it was admitted, or ended without a send.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub at: UnixMillis,
    /// Which.
    pub request_id: String,
    /// How far it is: `sending`, `waiting`, `doubt`, `ended`, or `forgotten` when its record is no longer kept.
    pub state: &'static str,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Why it did not end as sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<ErrorCode>,
    /// The provider's last word on what became of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<&'static str>,
}

/// Tells a story. A code is locked after `tries_max` tries.
pub fn explain(request: &RequestId, story: &Story, tries_max: u32, now: UnixMillis) -> Explanation {
    let notes = notes(&story.chapter);
    let mut timeline: Vec<Line> = notes.trail.iter().map(step).collect();
    if let Chapter::Ended(outcome) = &story.chapter {
        timeline.push(end(outcome));
    }
    if let Some(receipt) = &story.receipt {
        // What the provider says it says at any time; the others stand as they were noted, whatever their clocks say.
        let before = timeline.iter().rposition(|line| line.at <= receipt.at);
        timeline.insert(before.map_or(0, |before| before + 1), reported(receipt, &story.chapter));
    }
    let reported_id = story.receipt.as_ref().map(|receipt| receipt.message_id.clone());
    let told = Explanation {
        request_id: request.to_string(),
        to: if notes.to.is_empty() { UNREADABLE.to_owned() } else { notes.to.clone() },
        purpose: String::new(),
        state: state(&story.chapter),
        status: None,
        reason: None,
        text: String::new(),
        attempts: 0,
        provider: None,
        provider_message_id: reported_id,
        deadline: None,
        code: story.code.map(|code| verdict(&code, tries_max, now)),
        timeline,
        shortened: notes.trail.len() >= STEPS_MAX,
    };
    match &story.chapter {
        Chapter::Live { state, held, attempt, purpose, deadline, .. } => Explanation {
            purpose: purpose.clone(),
            text: under_way(state, *held),
            attempts: *attempt,
            deadline: Some(*deadline),
            ..told
        },
        Chapter::Ended(outcome) => Explanation {
            purpose: outcome.purpose.clone(),
            status: Some(outcome.status),
            reason: outcome.error.as_ref().map(|error| error.code),
            text: outcome_in_words(outcome, story.receipt.as_ref()),
            attempts: outcome.attempts,
            provider: outcome.provider.clone(),
            provider_message_id: outcome.provider_message_id.clone().or(told.provider_message_id),
            ..told
        },
    }
}

/// The last requests of a recipient, the newest first.
pub async fn last_requests(store: &dyn Store, recipient: Digest16) -> Result<Vec<Glimpse>, StoreError> {
    let mut glimpses = Vec::new();
    for recent in store.recent(recipient).await? {
        let story = store.story(&recent.request, Some(recipient)).await?;
        glimpses.push(glimpse(&recent, story.as_ref()));
    }
    Ok(glimpses)
}

fn glimpse(recent: &Recent, story: Option<&Story>) -> Glimpse {
    let outcome = story.and_then(|story| match &story.chapter {
        Chapter::Ended(outcome) => Some(outcome),
        Chapter::Live { .. } => None,
    });
    Glimpse {
        at: recent.at,
        request_id: recent.request.to_string(),
        state: story.map_or("forgotten", |story| state(&story.chapter)),
        status: outcome.map(|outcome| outcome.status),
        reason: outcome.and_then(|outcome| outcome.error.as_ref()).map(|error| error.code),
        receipt: story.and_then(|story| story.receipt.as_ref()).map(|receipt| receipt.status.as_str()),
    }
}

fn notes(chapter: &Chapter) -> &Notes {
    match chapter {
        Chapter::Live { notes, .. } => notes,
        Chapter::Ended(outcome) => &outcome.notes,
    }
}

fn state(chapter: &Chapter) -> &'static str {
    match chapter {
        Chapter::Live { state, .. } => state,
        Chapter::Ended(_) => "ended",
    }
}

fn under_way(state: &str, held: bool) -> String {
    let how = match state {
        "sending" => "it is being sent",
        "waiting" => "it waits to be sent",
        _ => "whether it was sent is being found out",
    };
    let place = if held { "a worker has it" } else { "it is back in the queue" };
    format!("{how}; {place}")
}

fn outcome_in_words(outcome: &Outcome, receipt: Option<&Receipt>) -> String {
    let status = outcome.status.as_str();
    let end = match &outcome.error {
        None => status.to_owned(),
        Some(error) => format!("{status}, {}", error.code.as_str()),
    };
    match receipt {
        None => end,
        Some(receipt) => format!("{end}; the provider reports: {}", receipt.status.as_str()),
    }
}

fn line(at: UnixMillis, what: &'static str, text: impl Into<String>) -> Line {
    Line {
        at,
        what,
        text: text.into(),
        attempt: None,
        answer: None,
        provider_code: None,
        ms: None,
        retry_after: None,
    }
}

fn step(step: &Step) -> Line {
    let at = step.at;
    let answered =
        |what, text, answer: &String| Line { answer: Some(answer.clone()), ..line(at, what, text) };
    match &step.what {
        Event::Admitted(0) => line(at, "admitted", "admitted"),
        Event::Admitted(sends) => line(
            at,
            "admitted",
            format!("admitted as the {} send to this recipient within a day", nth(*sends)),
        ),
        Event::Tried(tried) => Line {
            attempt: Some(tried.attempt),
            provider_code: tried.code,
            ms: Some(tried.ms),
            ..answered("tried", try_in_words(tried), &tried.answer)
        },
        Event::TakenUp(false) => line(at, "taken_up", "taken up by another handling, nothing in doubt"),
        Event::TakenUp(true) => {
            let text = "taken up by another handling: whether the last try was sent is in doubt";
            Line { answer: Some("in_doubt".to_owned()), ..line(at, "taken_up", text) }
        }
        Event::LookedUp(found) => answered("looked_up", lookup_in_words(found), found),
        Event::Resent(attempt) => {
            let text = format!("to be sent once more, as try {attempt}, with the same code");
            Line { attempt: Some(*attempt), ..line(at, "resent", text) }
        }
        Event::Held(by) => answered("held", format!("held: {}", holder_in_words(by)), by),
        Event::GivenBack(why) => {
            answered("given_back", format!("back to the queue: {}", give_back_in_words(why)), why)
        }
    }
}

fn try_in_words(tried: &Try) -> String {
    let answer = match tried.answer.as_str() {
        "accepted" => "the provider took it",
        "rejected" => "the provider refused it",
        "throttled" => "the provider asked to wait",
        "unreachable" => "the provider could not be reached",
        "in_doubt" => "no answer tells whether it was sent",
        unknown => unknown,
    };
    let code = tried.code.map(|code| format!(" ({code})")).unwrap_or_default();
    format!("try {}: {answer}{code}, after {} ms", tried.attempt, tried.ms)
}

fn lookup_in_words(answer: &str) -> String {
    let words = match answer {
        "found" => "it is there, so it was sent",
        "absent" => "it is not there",
        "unanswered" => "no answer",
        "refused" => "it does not show its messages",
        unknown => unknown,
    };
    format!("looked up at the provider: {words}")
}

fn holder_in_words(by: &str) -> &str {
    match by {
        "kill_switch" => "the kill switch is on",
        "store_silent" => "the store was silent, so nobody knew of the kill switch",
        "breaker" => "the provider failed everybody",
        unknown => unknown,
    }
}

fn give_back_in_words(why: &str) -> &str {
    match why {
        "stopping" => "the worker stopped",
        "delivery_lost" => "the broker had taken it back",
        "taken_over" => "another handling had it",
        "held_too_long" => "it was held for as long as the broker lets one",
        unknown => unknown,
    }
}

fn end(outcome: &Outcome) -> Line {
    let status = outcome.status.as_str();
    let ended = |text| Line { answer: Some(status.to_owned()), ..line(outcome.at, "ended", text) };
    let Some(error) = &outcome.error else {
        return ended(format!("ended as {status}"));
    };
    let OutcomeError { provider_code, retry_after, .. } = *error;
    Line { provider_code, retry_after, ..ended(format!("ended as {status}, {}", error_in_words(error))) }
}

fn error_in_words(error: &OutcomeError) -> String {
    let mut words = format!("{}: {}", error.code.as_str(), ResultError::from(error).message);
    if let Some(code) = error.provider_code {
        words += &format!(" ({code})");
    }
    if let Some(seconds) = error.retry_after {
        words += &format!("; a new request could succeed after {seconds} s");
    }
    words
}

fn reported(receipt: &Receipt, chapter: &Chapter) -> Line {
    let status = receipt.status.as_str();
    let code = receipt.code.map(|code| format!(" ({code})")).unwrap_or_default();
    let known = match chapter {
        Chapter::Ended(outcome) => outcome.provider_message_id.as_ref(),
        Chapter::Live { .. } => None,
    };
    // Two of them were made, then.
    let of_which = match known {
        Some(known) if *known != receipt.message_id => format!(" of another message, {}", receipt.message_id),
        _ => String::new(),
    };
    let told = match (receipt.status.is_final(), receipt.told) {
        (false, _) => "there is more to come",
        (true, true) => "told to the caller",
        (true, false) => "not told to the caller yet",
    };
    Line {
        answer: Some(status.to_owned()),
        provider_code: receipt.code,
        ..line(receipt.at, "receipt", format!("the provider reports{of_which}: {status}{code}; {told}"))
    }
}

fn verdict(code: &CodeState, tries_max: u32, now: UnixMillis) -> CodeVerdict {
    let CodeState { expires, tries, used } = *code;
    let (state, words) = match () {
        () if used => ("used", "the code was used".to_owned()),
        () if expires <= now => ("expired", format!("the code expired unused at {expires}")),
        () if tries >= tries_max => ("locked", "the code is locked: too many wrong tries".to_owned()),
        () => ("open", format!("the code was not used yet and is good until {expires}")),
    };
    let counted = match tries {
        0 => "never tried".to_owned(),
        1 => "tried once".to_owned(),
        tries => format!("tried {tries} times"),
    };
    CodeVerdict { state, text: format!("{words}; {counted}"), tries, expires_at: expires }
}

/// An ordinal number: 1st, 2nd, 11th.
fn nth(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (1, tens) if tens != 11 => "st",
        (2, tens) if tens != 12 => "nd",
        (3, tens) if tens != 13 => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outcome::{Scope, SendFailure};
    use crate::domain::receipt::DeliveryStatus;
    use crate::flow::gate::Shut;
    use crate::flow::receive::GiveBack;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn at(second: u64) -> UnixMillis {
        UnixMillis(NOW.0 + second * 1_000)
    }

    fn noted(steps: impl IntoIterator<Item = Event>) -> Notes {
        let mut notes = Notes { to: "+57******4567".to_owned(), ..Notes::default() };
        (0..).zip(steps).for_each(|(second, what)| notes.add(at(second), what));
        notes
    }

    fn ended(status: Status, error: Option<OutcomeError>, notes: Notes) -> Story {
        let refused = Outcome::refused(status, at(60), "login", OutcomeError::of(ErrorCode::Internal));
        let outcome = Outcome { error, notes, attempts: 2, ..refused };
        Story { chapter: Chapter::Ended(outcome), receipt: None, code: None }
    }

    fn waiting(notes: Notes, held: bool) -> Story {
        let chapter = Chapter::Live {
            state: "waiting",
            held,
            attempt: 1,
            purpose: "login".to_owned(),
            deadline: at(600),
            notes,
        };
        Story { chapter, receipt: None, code: None }
    }

    fn receipt(status: DeliveryStatus, told: bool, second: u64) -> Receipt {
        Receipt { message_id: "SM1".to_owned(), status, code: None, told, at: at(second) }
    }

    fn told(story: &Story) -> Explanation {
        explain(&RequestId::parse("r1").expect("an id"), story, 5, at(100))
    }

    fn words(story: &Story) -> Vec<String> {
        told(story).timeline.into_iter().map(|line| line.text).collect()
    }

    fn tried(failure: &SendFailure) -> Event {
        Event::Tried(Try::failed(1, failure, 120))
    }

    #[test]
    fn every_step_is_told_in_words() {
        let steps = [
            (Event::Admitted(2), "admitted as the 2nd send to this recipient within a day"),
            (Event::Admitted(0), "admitted"),
            (
                tried(&SendFailure::Rejected { code: Some(21610), scope: Scope::Recipient }),
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
            (Event::TakenUp(false), "taken up by another handling, nothing in doubt"),
            (Event::TakenUp(true), "taken up by another handling: whether the last try was sent is in doubt"),
            (Event::LookedUp("found".to_owned()), "looked up at the provider: it is there, so it was sent"),
            (Event::Resent(2), "to be sent once more, as try 2, with the same code"),
            (Event::Held("kill_switch".to_owned()), "held: the kill switch is on"),
            (Event::GivenBack("stopping".to_owned()), "back to the queue: the worker stopped"),
        ];
        for (event, expected) in steps {
            assert_eq!(words(&waiting(noted([event]), true)), [expected]);
        }
    }

    #[test]
    fn every_machine_word_that_is_noted_has_words_of_its_own() {
        for shut in [Shut::KillSwitch, Shut::StoreSilent, Shut::Breaker] {
            assert_ne!(holder_in_words(shut.as_str()), shut.as_str());
        }
        for why in [GiveBack::Stopping, GiveBack::Lost, GiveBack::TakenOver, GiveBack::HeldTooLong] {
            assert_ne!(give_back_in_words(why.as_str()), why.as_str());
        }
        for answer in ["found", "absent", "unanswered", "refused"] {
            assert!(!lookup_in_words(answer).ends_with(&format!(": {answer}")), "{answer}");
        }
        for answer in ["accepted", "rejected", "throttled", "unreachable", "in_doubt"] {
            let tried = Try { attempt: 1, answer: answer.to_owned(), code: None, ms: 1 };
            assert!(!try_in_words(&tried).contains(answer), "{answer}");
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
            "ended as rejected, rate_limited: a sending limit is reached; a new request could succeed after 30 s"
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
        let mut story = ended(Status::Sent, None, noted([Event::Admitted(1)]));
        for (status, told_of, second, place, text) in [
            (DeliveryStatus::Delivered, true, 70, 2, "the provider reports: delivered; told to the caller"),
            (
                DeliveryStatus::Failed,
                false,
                70,
                2,
                "the provider reports: failed; not told to the caller yet",
            ),
            (DeliveryStatus::Sent, false, 30, 1, "the provider reports: sent; there is more to come"),
        ] {
            story.receipt = Some(receipt(status, told_of, second));
            let told = told(&story);
            assert_eq!((told.timeline[place].what, told.timeline[place].text.as_str()), ("receipt", text));
            assert_eq!(told.provider_message_id.as_deref(), Some("SM1"));
        }
        assert_eq!(told(&story).text, "sent; the provider reports: sent");

        let Chapter::Ended(outcome) = &mut story.chapter else { panic!("it has ended") };
        outcome.provider_message_id = Some("SM2".to_owned());
        assert_eq!(
            words(&story)[1],
            "the provider reports of another message, SM1: sent; there is more to come"
        );
        assert_eq!(told(&story).provider_message_id.as_deref(), Some("SM2"));
    }

    #[test]
    fn a_code_is_used_expired_locked_or_open() {
        let verdict = |expires, tries, used| {
            let code = Some(CodeState { expires: at(expires), tries, used });
            let story = Story { code, ..ended(Status::Sent, None, noted([])) };
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
        let long = noted((0..40).map(|_| Event::LookedUp("unanswered".to_owned())));
        assert!(told(&waiting(long, true)).shortened);
        assert!(!told(&waiting(noted([Event::Admitted(1)]), true)).shortened);
    }

    #[test]
    fn a_record_without_notes_is_told_all_the_same() {
        let told =
            told(&ended(Status::Unknown, Some(OutcomeError::of(ErrorCode::InDoubt)), Notes::default()));
        assert_eq!((told.to.as_str(), told.timeline.len()), (UNREADABLE, 1));
    }

    #[test]
    fn one_of_the_last_requests_says_how_it_stands() {
        let recent = Recent { at: at(1), request: RequestId::parse("r1").expect("an id") };
        assert_eq!(glimpse(&recent, None).state, "forgotten");
        assert_eq!(glimpse(&recent, Some(&waiting(noted([]), true))).state, "waiting");
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
}
