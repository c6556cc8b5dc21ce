//! The checker of histories catches each kind of break, and blames nothing that is allowed.

use crate::history::{History, Limit, Post, Report, Request, Told, check};

const DEADLINE: u64 = 10_000;
const TO: &str = "+573001234567";

fn request(id: &str) -> Request {
    Request { id: id.to_owned(), to: TO.to_owned(), deadline: DEADLINE, confirmed: true }
}

fn told(id: &str, status: &str, sid: Option<&str>) -> Told {
    Told {
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
        request: Some(id.to_owned()),
        to: TO.to_owned(),
        code: "123456".to_owned(),
        at,
        accepted: sid.is_some(),
        in_doubt: false,
        sid: sid.map(str::to_owned),
    }
}

fn doubtful(post: Post) -> Post {
    Post { in_doubt: true, ..post }
}

/// One request, with these results and POSTs.
fn one(results: Vec<Told>, posts: Vec<Post>) -> History {
    History { requests: vec![request("a")], results, posts, limit: None }
}

#[track_caller]
fn holds(history: &History) -> Report {
    let report = check(history);
    assert!(report.holds() && report.broken.is_empty(), "{report}");
    report
}

/// Exactly this rule is broken, once, and the table says so.
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
fn a_request_that_was_sent_once_and_told_twice_breaks_nothing() {
    let again = Told { replayed: true, ..told("a", "sent", Some("SM1")) };
    let history = one(vec![told("a", "sent", Some("SM1")), again], vec![post("a", 1, Some("SM1"))]);
    let report = holds(&history);
    assert_eq!((report.sent, report.repeats, report.replayed, report.accepted), (1, 1, 1, 1));
}

#[test]
fn every_honest_end_breaks_nothing() {
    for status in ["unknown", "failed", "rejected"] {
        holds(&one(vec![told("a", status, None)], vec![]));
    }
    holds(&one(vec![told("a", "failed", None)], vec![post("a", 1, None), post("a", 2, None)]));
    holds(&one(vec![told("a", "unknown", None)], vec![doubtful(post("a", 1, Some("SM1")))]));
    let report = holds(&one(vec![told("a", "sent", None)], vec![post("a", 1, Some("SM1"))]));
    assert_eq!(report.nameless, 1);
    let mut unconfirmed = one(vec![], vec![]);
    unconfirmed.requests[0].confirmed = false;
    holds(&unconfirmed);
}

#[test]
fn a_later_fact_is_no_second_end() {
    let delivered = told("a", "delivered", Some("SM1"));
    holds(&one(vec![delivered, told("a", "sent", Some("SM1"))], vec![post("a", 1, Some("SM1"))]));
}

#[test]
fn a_confirmed_request_without_a_result_is_lost() {
    breaks("lost", &one(vec![], vec![]));
    breaks("lost", &one(vec![told("a", "delivered", Some("SM1"))], vec![post("a", 1, Some("SM1"))]));
}

#[test]
fn two_ends_of_one_request_contradict() {
    let posts = || vec![post("a", 1, Some("SM1"))];
    breaks("contradicting", &one(vec![told("a", "sent", Some("SM1")), told("a", "unknown", None)], posts()));
    let renamed = vec![told("a", "sent", Some("SM1")), told("a", "sent", Some("SM2"))];
    breaks("contradicting", &one(renamed, posts()));
}

#[test]
fn a_result_that_nobody_asked_for_is_told() {
    let results = vec![told("a", "unknown", None), told("b", "unknown", None)];
    breaks("unasked", &one(results, vec![]));
}

#[test]
fn a_second_message_needs_a_doubt_before_it() {
    let results = || vec![told("a", "sent", Some("SM1"))];
    let second = || post("a", 2, Some("SM2"));
    breaks("sms_beyond", &one(results(), vec![post("a", 1, Some("SM1")), second()]));
    breaks("sms_beyond", &one(results(), vec![post("a", 1, Some("SM1")), doubtful(second())]));
    let report = holds(&one(results(), vec![doubtful(post("a", 1, Some("SM1"))), second()]));
    assert_eq!(report.twice, 1);
    // The order in which they are told of is no order of time.
    holds(&one(results(), vec![second(), doubtful(post("a", 1, Some("SM1")))]));
}

#[test]
fn a_third_message_is_never_allowed() {
    let posts = ["SM1", "SM2", "SM3"].into_iter().zip(1..);
    let posts = posts.map(|(sid, at)| doubtful(post("a", at, Some(sid)))).collect();
    breaks("sms_beyond", &one(vec![told("a", "unknown", None)], posts));
}

#[test]
fn a_request_with_two_codes_is_told_even_if_one_was_refused() {
    let other = Post { code: "654321".to_owned(), ..post("a", 1, None) };
    breaks(
        "codes_differ",
        &one(vec![told("a", "sent", Some("SM1"))], vec![other, post("a", 2, Some("SM1"))]),
    );
}

#[test]
fn a_post_after_the_deadline_is_late() {
    let posted = |at| one(vec![told("a", "sent", Some("SM1"))], vec![post("a", at, Some("SM1"))]);
    holds(&posted(DEADLINE));
    breaks("late", &posted(DEADLINE + 1));
    breaks("late", &one(vec![told("a", "failed", None)], vec![post("a", DEADLINE + 1, None)]));
}

#[test]
fn what_is_told_as_sent_was_sent_under_that_name() {
    let sent = || vec![told("a", "sent", Some("SM9"))];
    breaks("wrong_sid", &one(sent(), vec![post("a", 1, Some("SM1"))]));
    breaks("sent_without_sms", &one(sent(), vec![]));
    breaks("sent_without_sms", &one(sent(), vec![doubtful(post("a", 1, None))]));
}

#[test]
fn what_is_told_as_not_sent_was_not_sent() {
    for status in ["failed", "rejected"] {
        breaks("sms_without_sent", &one(vec![told("a", status, None)], vec![post("a", 1, Some("SM1"))]));
    }
    breaks("rejected_after_post", &one(vec![told("a", "rejected", None)], vec![post("a", 1, None)]));
}

#[test]
fn a_number_gets_no_more_than_its_limit_in_any_window() {
    let ids = ["a", "b", "c"];
    let history = |gap| History {
        requests: ids.map(request).to_vec(),
        results: ids.map(|id| told(id, "sent", Some(id))).to_vec(),
        posts: ids.iter().zip(1_u64..).map(|(id, nth)| post(id, nth * gap, Some(id))).collect(),
        limit: Some(Limit { count: 2, window: 1_000 }),
    };
    breaks("over_limit", &history(499));
    holds(&history(500));
}

#[test]
fn a_request_that_was_sent_twice_counts_once_against_the_limit() {
    let posts = vec![doubtful(post("a", 1, Some("SM1"))), post("a", 2, Some("SM2"))];
    let history = one(vec![told("a", "sent", Some("SM2"))], posts);
    holds(&History { limit: Some(Limit { count: 1, window: 1_000 }), ..history });
}

#[test]
fn a_post_that_no_request_explains_is_told() {
    let strange = [
        Post { request: None, ..post("a", 1, None) },
        Post { request: Some("b".to_owned()), ..post("a", 1, None) },
        Post { to: "+573007654321".to_owned(), ..post("a", 1, None) },
    ];
    for post in strange {
        breaks("unattributed", &one(vec![told("a", "unknown", None)], vec![post]));
    }
}
