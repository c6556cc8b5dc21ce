//! The check of histories finds each kind of violation, and no other.

use crate::history::{History, Limit, Post, PublishedResult, Report, Request, check};

const DEADLINE: u64 = 10_000;
const TO: &str = "+573001234567";

fn request(id: &str) -> Request {
    Request { id: id.to_owned(), to: TO.to_owned(), deadline: DEADLINE, confirmed: true }
}

fn result(id: &str, status: &str, sid: Option<&str>) -> PublishedResult {
    PublishedResult {
        message_id: format!("{id}:{status}"),
        request: id.to_owned(),
        status: status.to_owned(),
        replayed: false,
        error: None,
        sid: sid.map(str::to_owned),
        at: 2_000,
    }
}

fn post(id: &str, at: u64, sid: Option<&str>) -> Post {
    Post {
        provider: "one",
        request: Some(id.to_owned()),
        to: TO.to_owned(),
        code: "123456".to_owned(),
        at,
        accepted: sid.is_some(),
        in_doubt: false,
        sid: sid.map(str::to_owned),
    }
}

fn in_doubt(post: Post) -> Post {
    Post { in_doubt: true, ..post }
}

/// One request, with these results and POSTs.
fn one(results: Vec<PublishedResult>, posts: Vec<Post>) -> History {
    History { requests: vec![request("a")], results, posts, limit: None }
}

#[track_caller]
fn holds(history: &History) -> Report {
    let report = check(history);
    assert!(report.holds() && report.broken.is_empty(), "{report}");
    report
}

/// Exactly this rule is broken, once, and the table shows it.
#[track_caller]
fn breaks(rule: &str, history: &History) {
    let report = check(history);
    for (name, count) in report.violations() {
        assert_eq!(count, usize::from(name == rule), "{name}: {report}");
    }
    assert!(report.broken.len() == 1 && report.broken[0].starts_with(rule), "{report}");
    assert!(report.line("x").contains(&format!("{rule}=1")), "{report}");
}

#[test]
fn a_request_with_one_message_and_two_equal_results_breaks_nothing() {
    let again = PublishedResult { replayed: true, ..result("a", "sent", Some("SM1")) };
    let history = one(vec![result("a", "sent", Some("SM1")), again], vec![post("a", 1, Some("SM1"))]);
    let report = holds(&history);
    assert_eq!((report.sent, report.repeats, report.replayed, report.accepted), (1, 1, 1, 1));
}

#[test]
fn every_true_outcome_breaks_nothing() {
    for status in ["unknown", "failed", "rejected"] {
        holds(&one(vec![result("a", status, None)], vec![]));
    }
    holds(&one(vec![result("a", "failed", None)], vec![post("a", 1, None), post("a", 2, None)]));
    holds(&one(vec![result("a", "unknown", None)], vec![in_doubt(post("a", 1, Some("SM1")))]));
    let report = holds(&one(vec![result("a", "sent", None)], vec![post("a", 1, Some("SM1"))]));
    assert_eq!(report.nameless, 1);
    let mut unconfirmed = one(vec![], vec![]);
    unconfirmed.requests[0].confirmed = false;
    holds(&unconfirmed);
}

#[test]
fn a_delivery_event_is_no_second_outcome() {
    let delivered = result("a", "delivered", Some("SM1"));
    holds(&one(vec![delivered, result("a", "sent", Some("SM1"))], vec![post("a", 1, Some("SM1"))]));
}

#[test]
fn a_confirmed_request_without_a_result_is_lost() {
    breaks("lost", &one(vec![], vec![]));
    breaks("lost", &one(vec![result("a", "delivered", Some("SM1"))], vec![post("a", 1, Some("SM1"))]));
}

#[test]
fn two_outcomes_of_one_request_contradict() {
    let posts = || vec![post("a", 1, Some("SM1"))];
    breaks(
        "contradicting",
        &one(vec![result("a", "sent", Some("SM1")), result("a", "unknown", None)], posts()),
    );
    let renamed = vec![result("a", "sent", Some("SM1")), result("a", "sent", Some("SM2"))];
    breaks("contradicting", &one(renamed, posts()));
}

#[test]
fn a_result_without_a_request_is_reported() {
    let results = vec![result("a", "unknown", None), result("b", "unknown", None)];
    breaks("unasked", &one(results, vec![]));
}

#[test]
fn a_second_message_needs_an_earlier_attempt_in_doubt() {
    let results = || vec![result("a", "sent", Some("SM1"))];
    let second = || post("a", 2, Some("SM2"));
    breaks("sms_beyond", &one(results(), vec![post("a", 1, Some("SM1")), second()]));
    breaks("sms_beyond", &one(results(), vec![post("a", 1, Some("SM1")), in_doubt(second())]));
    let report = holds(&one(results(), vec![in_doubt(post("a", 1, Some("SM1"))), second()]));
    assert_eq!(report.twice, 1);
    // The order of the list is not the order of time.
    holds(&one(results(), vec![second(), in_doubt(post("a", 1, Some("SM1")))]));
}

#[test]
fn a_third_message_is_never_allowed() {
    let posts = ["SM1", "SM2", "SM3"].into_iter().zip(1..);
    let posts = posts.map(|(sid, at)| in_doubt(post("a", at, Some(sid)))).collect();
    breaks("sms_beyond", &one(vec![result("a", "unknown", None)], posts));
}

#[test]
fn another_provider_is_asked_only_after_a_refusal_or_a_doubt() {
    let results = || vec![result("a", "sent", Some("SM1"))];
    let other = |sid| Post { provider: "other", ..post("a", 2, sid) };
    breaks("posted_elsewhere", &one(results(), vec![post("a", 1, Some("SM1")), other(None)]));
    let refused = holds(&one(results(), vec![post("a", 1, None), other(Some("SM1"))]));
    assert_eq!((refused.at_two, refused.twice), (1, 0));
    let doubled = holds(&one(results(), vec![in_doubt(post("a", 1, Some("SM1"))), other(Some("SM2"))]));
    assert_eq!((doubled.at_two, doubled.twice), (1, 1));
    // A refused repeat at the same provider is no message.
    assert_eq!(holds(&one(results(), vec![post("a", 1, Some("SM1")), post("a", 2, None)])).at_two, 0);
}

#[test]
fn a_request_with_two_codes_is_reported_even_if_one_was_refused() {
    let other = Post { code: "654321".to_owned(), ..post("a", 1, None) };
    breaks(
        "codes_differ",
        &one(vec![result("a", "sent", Some("SM1"))], vec![other, post("a", 2, Some("SM1"))]),
    );
}

#[test]
fn a_post_after_the_deadline_is_late() {
    let posted = |at| one(vec![result("a", "sent", Some("SM1"))], vec![post("a", at, Some("SM1"))]);
    holds(&posted(DEADLINE));
    breaks("late", &posted(DEADLINE + 1));
    breaks("late", &one(vec![result("a", "failed", None)], vec![post("a", DEADLINE + 1, None)]));
}

#[test]
fn a_sent_result_names_a_message_of_the_request() {
    let sent = || vec![result("a", "sent", Some("SM9"))];
    breaks("wrong_sid", &one(sent(), vec![post("a", 1, Some("SM1"))]));
    breaks("sent_without_sms", &one(sent(), vec![]));
    breaks("sent_without_sms", &one(sent(), vec![in_doubt(post("a", 1, None))]));
}

#[test]
fn a_failed_or_rejected_request_has_no_message() {
    for status in ["failed", "rejected"] {
        breaks("sms_without_sent", &one(vec![result("a", status, None)], vec![post("a", 1, Some("SM1"))]));
    }
    breaks("rejected_after_post", &one(vec![result("a", "rejected", None)], vec![post("a", 1, None)]));
}

#[test]
fn a_number_gets_no_more_than_its_limit_in_any_window() {
    let ids = ["a", "b", "c"];
    let history = |gap| History {
        requests: ids.map(request).to_vec(),
        results: ids.map(|id| result(id, "sent", Some(id))).to_vec(),
        posts: ids.iter().zip(1_u64..).map(|(id, nth)| post(id, nth * gap, Some(id))).collect(),
        limit: Some(Limit { count: 2, window: 1_000 }),
    };
    breaks("over_limit", &history(499));
    holds(&history(500));
}

#[test]
fn a_request_that_was_sent_twice_counts_once_against_the_limit() {
    let posts = vec![in_doubt(post("a", 1, Some("SM1"))), post("a", 2, Some("SM2"))];
    let history = one(vec![result("a", "sent", Some("SM2"))], posts);
    holds(&History { limit: Some(Limit { count: 1, window: 1_000 }), ..history });
}

#[test]
fn a_post_that_no_request_explains_is_reported() {
    let strange = [
        Post { request: None, ..post("a", 1, None) },
        Post { request: Some("b".to_owned()), ..post("a", 1, None) },
        Post { to: "+573007654321".to_owned(), ..post("a", 1, None) },
    ];
    for post in strange {
        breaks("unattributed", &one(vec![result("a", "unknown", None)], vec![post]));
    }
}
