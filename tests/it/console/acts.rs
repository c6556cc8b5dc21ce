//! The kill switch and suppressions by the console's endpoints.

use otpost::store::Store as _;
use serde_json::{Value, json};

use super::{audit, get};
use crate::http::{TestServer, service, token};
use crate::promises::secrets::{captured_log, has_run, start_capturing};

const ON: &str = "/api/v1/ops/kill-switch/on";
const OFF: &str = "/api/v1/ops/kill-switch/off";
const SUPPRESSIONS: &str = "/api/v1/ops/suppressions";
const REMOVE: &str = "/api/v1/ops/suppressions/remove";
const ALICE: &str = "+573001234567";
const MASKED: &str = "+57******4567";

fn operator() -> String {
    token(&json!({"sub": "ana@shop", "jti": "t-1", "scope": "otp:admin", "phone_number": null}))
}

/// A line of the audit log without its constant parts.
fn without_caller(mut line: Value) -> Value {
    assert_eq!(
        (&line["sub"], &line["jti"], &line["client_ip"]),
        (&json!("ana@shop"), &json!("t-1"), &json!("192.0.2.1"))
    );
    let fields = line.as_object_mut().expect("fields");
    fields.retain(|name, value| {
        !["sub", "jti", "client_ip", "audit"].contains(&name.as_str()) && !value.is_null()
    });
    line
}

#[tokio::test]
async fn the_kill_switch_goes_on_with_a_reason_and_off_and_both_are_audited() {
    start_capturing();
    let server = TestServer::start();
    let on =
        server.post(ON, &operator(), &json!({"reason": " pumping, see +57 300 123 4567 "})).await.expect(200);
    assert_eq!(on, json!({"on": true, "reason": "pumping, see +## ### ### ####", "before": {"on": false}}));
    let stored = server.store.kill_switch().await.expect("answers").expect("it is on");
    assert_eq!(stored.reason, "pumping, see +## ### ### ####");
    let again = server.post(ON, &operator(), &json!({"reason": "still"})).await.expect(200);
    assert_eq!((&again["since"], &again["before"]["on"]), (&json!(stored.since.to_string()), &json!(true)));
    let off = server.post(OFF, &operator(), &json!({})).await.expect(200);
    assert_eq!((&off["on"], &off["before"]["reason"]), (&json!(false), &json!("still")));
    assert!(server.store.kill_switch().await.expect("answers").is_none());
    let log = captured_log();
    let lines: Vec<Value> = audit(&log).into_iter().map(without_caller).collect();
    assert_eq!(
        lines,
        [
            json!({"message": "operator act", "action": "kill_switch_on", "reason": "pumping, see +## ### ### ####"}),
            json!({"message": "operator act", "action": "kill_switch_on", "reason": "still"}),
            json!({"message": "operator act", "action": "kill_switch_off"}),
        ]
    );
    assert!(!log.contains(&operator()), "no token");
}

#[tokio::test]
async fn the_kill_switch_needs_a_reason_within_its_bounds() {
    let server = TestServer::start();
    for (body, detail) in [
        (
            json!({}),
            "`reason` must be 1 to 200 characters on one line, none of them a control character; got nothing",
        ),
        (json!({"reason": ""}), "got a string of 0 characters"),
        (json!({"reason": "x".repeat(201)}), "got a string of 201 characters"),
        (json!({"reason": "a\nb"}), "got a string of 3 characters"),
        (json!({"reason": 7}), "got a number"),
    ] {
        let problem = server.post(ON, &operator(), &body).await.expect_problem(422, "invalid_request");
        assert!(problem["detail"].as_str().expect("a detail").ends_with(detail), "{problem}");
    }
    server
        .post(ON, &operator(), &json!({"reason": "x", "until": 7}))
        .await
        .expect_problem(400, "invalid_request");
    assert!(server.store.kill_switch().await.expect("answers").is_none());
}

#[tokio::test]
async fn a_suppression_is_added_listed_and_removed() {
    start_capturing();
    let server = TestServer::start();
    let body = json!({"to": "300 123 4567", "reason": "asked for it", "hours": 24});
    let added = server.post(SUPPRESSIONS, &operator(), &body).await.expect(200);
    assert_eq!((&added["to"], &added["reason"]), (&json!(MASKED), &json!("asked for it")));
    assert!(added["until"].is_string(), "{added}");
    server.post(SUPPRESSIONS, &operator(), &json!({"to": "ana@shop.example"})).await.expect(200);
    let list = server.ask(get(SUPPRESSIONS, &operator())).await.expect(200);
    let shown: Vec<&Value> =
        list["suppressions"].as_array().expect("a list").iter().map(|row| &row["to"]).collect();
    assert_eq!(shown, ["a***@s***.example", MASKED], "first those without an end");
    assert_eq!(list["more"], false);
    let removed = server.post(REMOVE, &operator(), &json!({"to": ALICE})).await.expect(200);
    assert_eq!(removed["to"], MASKED);
    server.post(REMOVE, &operator(), &json!({"to": ALICE})).await.expect_problem(404, "not_suppressed");
    let log = captured_log();
    let lines: Vec<Value> = audit(&log).into_iter().map(without_caller).collect();
    assert_eq!(
        lines,
        [
            json!({"message": "operator act", "action": "suppress", "to": MASKED, "reason": "asked for it", "hours": 24}),
            json!({"message": "operator act", "action": "suppress", "to": "a***@s***.example"}),
            json!({"message": "operator query", "action": "suppressions"}),
            json!({"message": "operator act", "action": "end_suppression", "to": MASKED}),
            json!({"message": "operator act", "action": "end_suppression", "to": MASKED}),
        ]
    );
    assert!(!has_run(&log, "3001234567"), "{log}");
}

#[tokio::test]
async fn a_suppression_is_bounded() {
    let server = TestServer::start();
    let rule = "`hours` must be a whole number from 1 to 87600; got a number";
    for hours in [json!(0), json!(87_601), json!(1.5), json!(-1), json!(1e30)] {
        let body = json!({"to": ALICE, "hours": hours});
        let problem =
            server.post(SUPPRESSIONS, &operator(), &body).await.expect_problem(422, "invalid_request");
        assert_eq!(problem["detail"], rule, "{hours}");
    }
    let text = json!({"to": ALICE, "hours": "24"});
    let problem = server.post(SUPPRESSIONS, &operator(), &text).await.expect_problem(422, "invalid_request");
    assert_eq!(problem["detail"], rule.replace("a number", "a string of 2 characters"));
    server
        .post(SUPPRESSIONS, &operator(), &json!({"to": "123"}))
        .await
        .expect_problem(422, "invalid_request");
    server
        .post(SUPPRESSIONS, &operator(), &json!({"to": ALICE, "hour": 1}))
        .await
        .expect_problem(400, "invalid_request");
    let list = server.ask(get(SUPPRESSIONS, &service())).await.expect(200);
    assert_eq!(list["suppressions"], json!([]));
    for nth in 0..201 {
        let to = format!("+5730012{nth:05}");
        server.post(SUPPRESSIONS, &operator(), &json!({ "to": to })).await.expect(200);
    }
    let list = server.ask(get(SUPPRESSIONS, &service())).await.expect(200);
    assert_eq!((list["suppressions"].as_array().expect("a list").len(), &list["more"]), (200, &json!(true)));
}
