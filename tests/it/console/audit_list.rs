//! The last acts of operators, and their acts on the pumping defence, by the console's endpoints.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use otpost::broker::audit::{AuditFrom, AuditStream, AuditStreamError, AuditStreamSource};
use otpost::clock::Clock;
use otpost::domain::audit::{AuditAct, AuditActor, AuditRecord};
use otpost::domain::time::UnixMillis;
use otpost::flow::operate::dead_letters::desk::DeadLetterDesk;
use otpost::http::Console;
use serde_json::{Value, json};

use super::{NoQueue, audit, get, replayer};
use crate::harness::ALICE;
use crate::http::{TestServer, service, token};
use crate::promises::secrets::{captured_log, has_run, start_capturing};

const ACTS: &str = "/api/v1/ops/audit";
const EXPLAIN: &str = "/api/v1/ops/defence/explain";
const OVERRIDES: &str = "/api/v1/ops/defence/overrides";
const REMOVE: &str = "/api/v1/ops/defence/overrides/remove";
const MASKED: &str = "+57******4567";

/// A stream with these records, or none that can be opened.
struct Stream(Option<Mutex<VecDeque<Vec<u8>>>>);

struct Reader(VecDeque<Vec<u8>>);

#[async_trait]
impl AuditStreamSource for Stream {
    async fn open(&self, _: AuditFrom) -> Result<Option<Box<dyn AuditStream>>, AuditStreamError> {
        let Some(records) = &self.0 else { return Err(AuditStreamError("RabbitMQ is away".to_owned())) };
        Ok(Some(Box::new(Reader(records.lock().expect("no panic").clone()))))
    }
}

#[async_trait]
impl AuditStream for Reader {
    async fn next(&mut self, _: Duration) -> Result<Option<Vec<u8>>, AuditStreamError> {
        Ok(self.0.pop_front())
    }

    async fn close(self: Box<Self>) {}
}

fn server(stream: Stream) -> TestServer {
    TestServer::with(|api| {
        api.clock = Clock::System;
        let desk = DeadLetterDesk::new(Arc::new(NoQueue), replayer(None));
        api.console = Some(Console::new(desk, Some(Arc::new(stream)), 100));
    })
}

fn operator() -> String {
    token(&json!({"sub": "ana@shop", "jti": "t-1", "scope": "otp:admin", "phone_number": null}))
}

#[tokio::test]
async fn the_last_acts_are_shown_newest_first_published_or_not() {
    let record = |act, random| {
        let actor = AuditActor::Command { user: "ana".to_owned() };
        // Acts of one millisecond are in the order of their random ids.
        let at = UnixMillis(Clock::System.now().0 - 60_000 + 1_000 * random);
        AuditRecord::new(act, actor, at, random).because(Some("a test")).to_json().into_bytes()
    };
    let published =
        [record(AuditAct::KillSwitchOn, 1), record(AuditAct::KillSwitchOff, 2), b"no record".to_vec()];
    let server = server(Stream(Some(Mutex::new(published.into()))));
    server.post("/api/v1/ops/suppressions", &operator(), &json!({"to": ALICE})).await.expect(200);
    let body = server.ask(get(ACTS, &operator())).await.expect(200);
    let rows = body["acts"].as_array().expect("a list");
    let shown: Vec<Value> = rows.iter().map(|row| json!([row["act"], row["pending"]])).collect();
    assert_eq!(
        json!(shown),
        json!([["suppress", true], ["kill_switch_off", false], ["kill_switch_on", false]])
    );
    assert_eq!((&rows[0]["by"], &rows[0]["subject"]), (&json!("t-1"), &json!(MASKED)));
    assert_eq!((&rows[1]["by"], &rows[1]["reason"]), (&json!("ana"), &json!("a test")));
    assert!(body.get("missing").is_none(), "{body}");
    for query in ["?since=1y", "?limit=7", "?since=1d&since=1d"] {
        server.ask(get(&format!("{ACTS}{query}"), &operator())).await.expect_problem(422, "invalid_request");
    }
}

#[tokio::test]
async fn without_the_stream_pending_acts_are_shown_and_what_is_missing_is_said() {
    let server = server(Stream(None));
    server.post("/api/v1/ops/suppressions", &operator(), &json!({"to": ALICE})).await.expect(200);
    let body = server.ask(get(ACTS, &service())).await.expect(200);
    assert_eq!(body["acts"].as_array().map(Vec::len), Some(1));
    assert_eq!(body["missing"], "the audit stream cannot be read: RabbitMQ is away");
}

#[tokio::test]
async fn overrides_are_set_explained_and_removed_and_each_act_is_recorded_masked() {
    start_capturing();
    let server = server(Stream(Some(Mutex::default())));
    let before =
        server.post(EXPLAIN, &operator(), &json!({"to": ALICE, "client_ip": "192.0.2.9"})).await.expect(200);
    assert_eq!((&before["decision"], &before["to"]), (&json!("free"), &json!(MASKED)));
    let scopes: Vec<&Value> =
        before["scopes"].as_array().expect("a list").iter().map(|row| &row["scope"]).collect();
    assert_eq!(scopes, ["block", "prefix", "network"]);
    let deny = json!({"to": ALICE, "action": "deny", "for": "12h", "reason": "pumping by +57 300 765 4321"});
    let set = server.post(OVERRIDES, &operator(), &deny).await.expect(200);
    assert_eq!(
        (&set["target"], &set["action"], &set["reason"]),
        (&json!(MASKED), &json!("deny"), &json!("pumping by +## ### ### ####"))
    );
    let denied = server.post(EXPLAIN, &operator(), &json!({"to": ALICE})).await.expect(200);
    assert_eq!(denied["decision"], "denied", "{denied}");
    let allow = json!({"target": "+57300", "action": "allow", "for": "1d", "reason": "a campaign"});
    server.post(OVERRIDES, &operator(), &allow).await.expect(200);
    let removed = server.post(REMOVE, &operator(), &json!({"to": ALICE})).await.expect(200);
    assert_eq!(removed["target"], MASKED);
    server.post(REMOVE, &operator(), &json!({"to": ALICE})).await.expect_problem(404, "no_override");
    let acts = server.ask(get(ACTS, &operator())).await.expect(200);
    let acts: Vec<&str> =
        acts["acts"].as_array().expect("a list").iter().filter_map(|row| row["act"].as_str()).collect();
    // Acts of one millisecond are in the order of their random ids.
    let mut acts = acts;
    acts.sort_unstable();
    let expected =
        ["defence_allow", "defence_deny", "defence_remove", "defence_remove", "look_limits", "look_limits"];
    assert_eq!(acts, expected);
    let log = captured_log();
    let logged: Vec<Value> =
        audit(&log).iter().map(|line| json!([line["action"], line["numbers"]])).collect();
    assert!(
        logged.contains(&json!(["defence_deny", MASKED]))
            && logged.contains(&json!(["defence_allow", "+57300"])),
        "{logged:?}"
    );
    assert!(!has_run(&log, &ALICE[3..]), "{log}");
}

#[tokio::test]
async fn an_override_has_bounds() {
    let server = server(Stream(Some(Mutex::default())));
    let good = json!({"target": "LV", "action": "deny", "for": "1h", "reason": "a test"});
    for (field, value) in [
        ("target", json!("+573001234567")),
        ("target", json!("Latvia")),
        ("action", json!("hold")),
        ("for", json!("91d")),
        ("reason", json!("")),
    ] {
        let mut body = good.clone();
        body[field] = value;
        server.post(OVERRIDES, &operator(), &body).await.expect_problem(422, "invalid_request");
    }
    let mut body = good.clone();
    body["scope"] = json!("block");
    server.post(OVERRIDES, &operator(), &body).await.expect_problem(400, "invalid_request");
    server
        .post(EXPLAIN, &operator(), &json!({"to": "ana@shop.example"}))
        .await
        .expect_problem(422, "invalid_request");
}
