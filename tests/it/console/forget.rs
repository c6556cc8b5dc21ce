//! Forgetting a person by the console's endpoint.

use std::sync::Arc;
use std::time::Duration;

use otpost::domain::outcome::Status;
use otpost::provider::twilio::messages::TwilioMessages;
use otpost::store::Store as _;
use serde_json::{Value, json};

use super::{audit, get};
use crate::fake_twilio::{Answer, FakeTwilio};
use crate::harness::{RECIPIENT_KEY, within};
use crate::http::broken::{Broken, Fails};
use crate::http::{TestServer, service};
use crate::promises::secrets::{captured_log, has_run, start_capturing};
use crate::{twilio, why};

const FORGET: &str = "/api/v1/ops/forget";
const ALICE: &str = "+573001234567";
const MASKED: &str = "+57******4567";
const NUMBER: &str = "3001234567";

fn ana() -> Value {
    json!({"to": ALICE, "reason": "asked by letter"})
}

/// With Twilio's account, and with the keys of the seed.
fn server(twilio: Option<&FakeTwilio>) -> TestServer {
    TestServer::with(|api| {
        let keyring = otpost::domain::recipient_keyring::RecipientKeyring::new(&RECIPIENT_KEY);
        api.recipient_keyring = Arc::new(keyring);
        if let Some(twilio) = twilio {
            let account = TwilioMessages::new(twilio::settings(twilio)).expect("the settings should do");
            api.inspector.provider = Some(Arc::new(account));
        }
    })
}

async fn jobs(server: &TestServer) -> Value {
    server.ask(get(FORGET, &service())).await.expect(200)["jobs"].clone()
}

#[tokio::test]
async fn a_person_is_forgotten_and_older_messages_are_listed_after_the_answer() {
    start_capturing();
    let twilio = FakeTwilio::start();
    for text in ["tu codigo es 123456", "tu codigo es 654321", ""] {
        twilio.add(ALICE, "+15005550006", text, |message| message["status"] = "delivered".into());
    }
    let server = server(Some(&twilio));
    why::seed(server.store.as_ref(), ALICE, "r1", Status::Sent, None).await;
    assert_eq!(jobs(&server).await, json!([]));
    let report = server.post(FORGET, &service(), &ana()).await.expect(200);
    assert_eq!(report["to"], MASKED);
    assert_eq!(report["removed"], json!({"histories": 1, "codes": 1, "suppression_note": false}));
    let mark = report["redaction"]["job"].clone();
    assert_eq!(report["redaction"]["messages"], 1);
    let shown = within(async {
        loop {
            let shown = jobs(&server).await;
            if shown[0]["older_messages"] != "pending" {
                break shown;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!((&shown[0]["job"], &shown[0]["older_messages"]), (&mark, &json!("complete")));
    assert_eq!((&shown[0]["total"], &shown[0]["left"]), (&json!(3), &json!(3)), "two of them are older");
    let again = server.post(FORGET, &service(), &ana()).await.expect(200);
    assert_eq!(again["removed"]["histories"], 0);
    assert_eq!(again["redaction"]["job"], mark);
    let log = captured_log();
    let acts: Vec<Value> = audit(&log).into_iter().filter(|line| line["action"] == "forget").collect();
    assert_eq!(acts.len(), 2);
    assert_eq!((&acts[0]["to"], &acts[0]["reason"]), (&json!(MASKED), &json!("asked by letter")));
    assert!(!has_run(&log, NUMBER) && !has_run(&report.to_string(), NUMBER));
}

#[tokio::test]
async fn a_listing_that_twilio_does_not_answer_is_shown_with_the_job() {
    let twilio = FakeTwilio::start();
    twilio.next([Answer::error(503, 20503)]);
    let server = server(Some(&twilio));
    server.post(FORGET, &service(), &ana()).await.expect(200);
    within(async {
        while jobs(&server).await[0]["older_messages"] != "failed" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn without_an_account_only_the_known_messages_are_in_the_job() {
    let server = server(None);
    let nothing = server.post(FORGET, &service(), &ana()).await.expect(200);
    assert_eq!((nothing.get("redaction"), &nothing["kept"]), (None, &json!([])));
    why::seed(server.store.as_ref(), ALICE, "r1", Status::Sent, None).await;
    server.post(FORGET, &service(), &ana()).await.expect(200);
    let shown = jobs(&server).await;
    assert_eq!((&shown[0]["total"], &shown[0]["older_messages"]), (&json!(1), &json!("not_possible")));
    let email = json!({"to": "ana@shop.example", "reason": "asked"});
    let report = server.post(FORGET, &service(), &email).await.expect(200);
    assert_eq!(report.get("redaction"), None);
}

#[tokio::test]
async fn while_a_request_is_in_progress_the_answer_is_a_conflict() {
    let server = server(None);
    let request = crate::contract::store::request_to(1, "in-flight");
    let mut input = request.admit();
    let keyring = otpost::domain::recipient_keyring::RecipientKeyring::new(&RECIPIENT_KEY);
    input.lease.subject.recipient = keyring.address(otpost::domain::channel::Channel::Sms, ALICE);
    server.store.admit(&input).await.expect("answers");
    let problem = server.post(FORGET, &service(), &ana()).await.expect_problem(409, "request_in_progress");
    assert_eq!(problem["retry_after"], 600);
    assert!(problem["detail"].as_str().expect("a detail").starts_with("nothing was changed"), "{problem}");
}

#[tokio::test]
async fn the_reason_is_required_and_bad_bodies_and_a_silent_store_change_nothing() {
    let server = server(None);
    for body in [
        json!({"to": ALICE}),
        json!({"reason": "x"}),
        json!({"to": "12", "reason": "x"}),
        json!({"to": ALICE, "reason": ""}),
    ] {
        server.post(FORGET, &service(), &body).await.expect_problem(422, "invalid_request");
    }
    let unknown = json!({"to": ALICE, "reason": "x", "hours": 1});
    server.post(FORGET, &service(), &unknown).await.expect_problem(400, "invalid_request");
    let silent = TestServer::with(|api| api.store = Arc::new(Broken(Fails::WithAnError)));
    silent.post(FORGET, &service(), &ana()).await.expect_problem(503, "store_unavailable");
    silent.ask(get(FORGET, &service())).await.expect_problem(503, "store_unavailable");
}
