//! Codes by e-mail over HTTP: the differences from text messages, and the separation of the channels.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use otpost::domain::channel::Channel;
use otpost::domain::limit::{Limit, Limits};
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::domain::time_zone::Zone;
use serde_json::{Value, json};

use super::send::decoded;
use super::{
    ALICE, ANA, Answer, CODE, PURPOSE, SEND_EMAIL, SEND_SMS, TestServer, VERIFY_EMAIL, VERIFY_PHONE,
    VERIFY_SERVICE, alice, post, service, token,
};
use crate::harness::{BOB, Embedded, Options, RECIPIENT_KEY, World};

const MASKED: &str = "a***@s***.example";

async fn ask(server: &TestServer, token: &str) -> Answer {
    server.post(SEND_EMAIL, token, &json!({"otp_type": "EMAIL"})).await
}

async fn ask_with_key(server: &TestServer, path: &str, token: &str, kind: &str, key: &str) -> Answer {
    let mut request = post(path, token, json!({ "otp_type": kind }).to_string());
    request.headers_mut().insert("idempotency-key", key.parse().expect("a header value"));
    server.ask(request).await
}

async fn status(server: &TestServer, token: &str, id: &str) -> Answer {
    let request = Request::get(format!("/api/v1/auth/otp-status/{id}"));
    let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    server.ask(request.body(Body::empty()).expect("a request")).await
}

#[tokio::test]
async fn a_request_for_an_email_is_queued_for_the_workers_of_emails() {
    let server = TestServer::start();
    let response =
        ask(&server, &token(&json!({"locale": "tlh", "zoneinfo": "Mars/Olympus"}))).await.expect(202);
    let id = response["request_id"].as_str().expect("an id");
    let expected = json!({
        "request_id": id, "status": "queued", "channel": "email", "to": MASKED,
        "resend_after": 30, "code_length": 6,
    });
    assert_eq!(response, expected);
    assert!(server.queued().await.is_empty());
    let queued = server.queued_by(Channel::Email).await;
    assert_eq!(queued.len(), 1);
    let request = decoded(&queued[0]);
    assert_eq!((request.id.as_str(), request.to.as_ref()), (id, ANA));
    assert_eq!(request.user_id.as_deref(), Some("user-1"));
    // A language without texts is left to the worker. An invalid time zone is omitted.
    assert_eq!((request.locale.as_deref(), request.timezone.as_ref().map(Zone::name)), (Some("tlh"), None));
}

#[tokio::test]
async fn an_issuer_need_not_have_verified_the_address() {
    for verified in [json!(true), json!(false), json!("false"), Value::Null] {
        ask(&TestServer::start(), &token(&json!({ "email_verified": verified }))).await.expect(202);
    }
}

#[tokio::test]
async fn a_disabled_channel_rejects_requests_and_the_other_works() {
    let ask_text =
        async |server: &TestServer| server.post(SEND_SMS, &alice(), &json!({"otp_type": "SMS"})).await;
    let no_email = TestServer::with(|api| api.rules.email_enabled = false);
    ask(&no_email, &alice()).await.expect_problem(422, "channel_disabled");
    ask_text(&no_email).await.expect(202);
    let no_text = TestServer::with(|api| api.rules.sms_enabled = false);
    ask_text(&no_text).await.expect_problem(422, "channel_disabled");
    ask(&no_text, &alice()).await.expect(202);
    // A code sent earlier can still be verified.
    no_email.send_code_for("r1", CODE, ANA, PURPOSE, "k1").await;
    no_email.post(VERIFY_EMAIL, &alice(), &json!({ "otp_code": CODE })).await.expect(200);
}

#[tokio::test]
async fn one_idempotency_key_names_different_requests_on_different_channels_or_for_different_recipients() {
    let server = TestServer::start();
    let moved = token(&json!({"email": "bob@shop.example"}));
    let mut ids = Vec::new();
    for (path, token, kind) in
        [(SEND_SMS, &alice(), "SMS"), (SEND_EMAIL, &alice(), "EMAIL"), (SEND_EMAIL, &moved, "EMAIL")]
    {
        let response = ask_with_key(&server, path, token, kind, "order-77").await.expect(202);
        let again = ask_with_key(&server, path, token, kind, "order-77").await.expect(202);
        assert_eq!(response["request_id"], again["request_id"]);
        ids.push(response["request_id"].to_string());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
}

#[tokio::test]
async fn each_channel_has_its_own_cooldown() {
    let server = TestServer::start();
    server.send_code("r1", CODE).await;
    ask(&server, &alice()).await.expect(202);
    server.send_code_for("r2", CODE, ANA, PURPOSE, "k1").await;
    let answer = ask(&server, &alice()).await;
    assert_eq!(answer.expect_problem(429, "cooldown")["retry_after"], 30);
    answer.expect_nothing_of(&["shop", "Shop", "ana@", "Ana@"]);
}

#[tokio::test(start_paused = true)]
async fn the_total_limit_of_text_messages_does_not_apply_to_email() {
    let world = World::new();
    let limits = Options::default().limits.with(Limit::All, 1);
    let _texts = Embedded::in_world(world.clone(), Options { limits, ..Options::default() });
    let server = server_of(&world, limits);
    let bob = token(&json!({"phone_number": BOB}));
    let text = async |token: &str| server.post(SEND_SMS, token, &json!({"otp_type": "SMS"})).await;
    text(&alice()).await.expect(202);
    text(&bob).await.expect_problem(429, "rate_limited");
    ask(&server, &bob).await.expect(202);
}

#[tokio::test]
async fn a_code_by_email_verifies_once_and_on_its_channel_only() {
    for path in [VERIFY_EMAIL, VERIFY_SERVICE] {
        let server = TestServer::start();
        server.send_code_for("r1", CODE, ANA, PURPOSE, "k1").await;
        let check = async |code: &str| match path {
            VERIFY_EMAIL => server.post(path, &alice(), &json!({ "otp_code": code })).await,
            _ => server.post(path, &service(), &json!({"to": "ANA@shop.example", "otp_code": code})).await,
        };
        for left in [4, 3, 2] {
            let problem = check("000000").await.expect_problem(422, "wrong_code");
            assert_eq!(problem["attempts_remaining"], left);
        }
        let by_phone = server.post(VERIFY_PHONE, &alice(), &json!({ "otp_code": CODE })).await;
        by_phone.expect_problem(404, "no_pending_code");
        let expected = json!({"verified": true, "channel": "email", "purpose": PURPOSE, "to": MASKED});
        assert_eq!(check(CODE).await.expect(200), expected);
        check(CODE).await.expect_problem(409, "code_used");
    }
}

#[tokio::test]
async fn a_service_may_omit_the_channel() {
    let server = TestServer::start();
    server.send_code_for("r1", CODE, ANA, PURPOSE, "k1").await;
    server.send_code("r2", CODE).await;
    let check = async |to: &str, channel: Value| {
        let body = json!({"to": to, "channel": channel, "otp_code": "000000"});
        server.post(VERIFY_SERVICE, &service(), &body).await
    };
    for (to, channel) in [(ANA, "email"), (ALICE, "sms")] {
        for channel in [json!(channel), Value::Null] {
            check(to, channel).await.expect_problem(422, "wrong_code");
        }
    }
    for (to, channel, rule) in [(ANA, "sms", "`to` contains"), (ALICE, "email", "`to` has no @")] {
        let answer = check(to, json!(channel)).await;
        let problem = answer.expect_problem(422, "invalid_request");
        assert!(problem["detail"].as_str().is_some_and(|response| response.starts_with(rule)), "{problem}");
    }
    for channel in [json!("EMAIL"), json!("Secreto"), json!(""), json!(7), json!(["email"])] {
        let answer = check(ANA, channel).await;
        let problem = answer.expect_problem(422, "invalid_request");
        let rule = "`channel` must be \"sms\" or \"email\"";
        assert!(problem["detail"].as_str().is_some_and(|response| response.starts_with(rule)), "{problem}");
        answer.expect_nothing_of(&["Secreto", "EMAIL"]);
    }
}

/// The HTTP interface of a gateway with running workers.
fn server_of(world: &World, limits: Limits) -> TestServer {
    let (broker, store, clock) = (world.broker.clone(), world.store.clone(), world.clock);
    TestServer::with(move |api| {
        // The same key as in the harness.
        let recipients = Arc::new(RecipientKeyring::new(&RECIPIENT_KEY));
        api.rpc_client = Arc::new(broker.rpc_client());
        api.send_wait = Duration::from_secs(3);
        api.limits = limits;
        api.store = store.clone();
        api.verifier.store = store;
        api.verifier.recipient_keyring = recipients.clone();
        (api.recipient_keyring, api.clock) = (recipients, clock);
    })
}

#[tokio::test(start_paused = true)]
async fn a_person_sees_the_status_of_both_requests_and_another_person_sees_neither() {
    let world = World::new();
    let _emails =
        Embedded::in_world(world.clone(), Options { channel: Channel::Email, ..Options::default() });
    let _texts = Embedded::in_world(world.clone(), Options::default());
    let server = server_of(&world, Options::default().limits);
    let by_email = ask_with_key(&server, SEND_EMAIL, &alice(), "EMAIL", "one").await.expect(202);
    let by_text = ask_with_key(&server, SEND_SMS, &alice(), "SMS", "one").await.expect(202);
    let posted = world.provider.posted();
    let to: Vec<&str> = posted.iter().map(|posted| posted.to.as_str()).collect();
    assert_eq!(to, [ANA, ALICE]);
    for (response, channel, claim) in [(&by_email, "email", "phone_number"), (&by_text, "sms", "email")] {
        assert_eq!((&response["status"], &response["channel"]), (&json!("sent"), &json!(channel)));
        let id = response["request_id"].as_str().expect("an id");
        let answer = status(&server, &alice(), id).await.expect(200);
        assert_eq!((&answer["status"], &answer["channel"]), (&json!("sent"), &json!(channel)));
        // One matching recipient in the token is enough. Without it, the request is unknown.
        status(&server, &token(&json!({ claim: null })), id).await.expect(200);
        let other = if claim == "email" { "phone_number" } else { "email" };
        status(&server, &token(&json!({ other: null })), id).await.expect_problem(404, "unknown_request");
        status(&server, &token(&json!({"sub": "user-2"})), id).await.expect_problem(404, "unknown_request");
    }
    let without_recipient = token(&json!({"phone_number": "hello", "email": "hello"}));
    let answer = status(&server, &without_recipient, by_text["request_id"].as_str().expect("an id")).await;
    answer.expect_problem(422, "invalid_recipient");
    let repeat = ask_with_key(&server, SEND_EMAIL, &alice(), "EMAIL", "one").await.expect(202);
    assert_eq!((&repeat["replayed"], &repeat["request_id"]), (&json!(true), &by_email["request_id"]));
    assert_eq!(world.provider.posted().len(), 2);
    let code = &posted[0].code;
    let text = server.post(VERIFY_PHONE, &alice(), &json!({ "otp_code": code })).await;
    assert_eq!(text.status, 422, "{}", text.text);
}
