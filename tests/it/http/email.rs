//! Codes by e-mail over HTTP: what differs from text messages, and what must not meet.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use otpost::domain::channel::Channel;
use otpost::domain::quota::Quota;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::domain::zone::Zone;
use otpost::store::Limits;
use serde_json::{Value, json};

use super::send::decoded;
use super::{
    ALICE, ANA, Answer, CODE, Door, PURPOSE, SEND_EMAIL, SEND_SMS, VERIFY_EMAIL, VERIFY_PHONE,
    VERIFY_SERVICE, alice, post, service, token,
};
use crate::harness::{BOB, Embedded, HOUR, Options, World};

const MASKED: &str = "a***@s***.example";

async fn ask(door: &Door, token: &str) -> Answer {
    door.post(SEND_EMAIL, token, &json!({"otp_type": "EMAIL"})).await
}

async fn ask_with_key(door: &Door, path: &str, token: &str, kind: &str, key: &str) -> Answer {
    let mut request = post(path, token, json!({ "otp_type": kind }).to_string());
    request.headers_mut().insert("idempotency-key", key.parse().expect("a header value"));
    door.ask(request).await
}

async fn status(door: &Door, token: &str, id: &str) -> Answer {
    let request = Request::get(format!("/api/v1/auth/otp-status/{id}"));
    let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    door.ask(request.body(Body::empty()).expect("a request")).await
}

#[tokio::test]
async fn a_request_for_an_email_is_queued_for_the_workers_of_emails() {
    let door = Door::open();
    let told = ask(&door, &token(&json!({"locale": "tlh", "zoneinfo": "Mars/Olympus"}))).await.expect(202);
    let id = told["request_id"].as_str().expect("an id");
    let expected = json!({
        "request_id": id, "status": "queued", "channel": "email", "to": MASKED,
        "resend_after": 30, "code_length": 6,
    });
    assert_eq!(told, expected);
    assert!(door.queued().await.is_empty());
    let queued = door.queued_by(Channel::Email).await;
    assert_eq!(queued.len(), 1);
    let request = decoded(&queued[0]);
    assert_eq!((request.id.as_str(), request.to.as_ref()), (id, ANA));
    assert_eq!(request.user_id.as_deref(), Some("user-1"));
    // A language that nobody has a text for is for the worker to replace; a time zone that is none is left out.
    assert_eq!((request.locale.as_deref(), request.timezone.as_ref().map(Zone::name)), (Some("tlh"), None));
}

#[tokio::test]
async fn an_issuer_need_not_have_verified_the_address() {
    for verified in [json!(true), json!(false), json!("false"), Value::Null] {
        ask(&Door::open(), &token(&json!({ "email_verified": verified }))).await.expect(202);
    }
}

#[tokio::test]
async fn a_channel_that_is_turned_off_refuses_and_leaves_the_other_alone() {
    let ask_text = async |door: &Door| door.post(SEND_SMS, &alice(), &json!({"otp_type": "SMS"})).await;
    let no_email = Door::with(|api| api.rules.email_enabled = false);
    ask(&no_email, &alice()).await.expect_problem(422, "channel_disabled");
    ask_text(&no_email).await.expect(202);
    let no_text = Door::with(|api| api.rules.sms_enabled = false);
    ask_text(&no_text).await.expect_problem(422, "channel_disabled");
    ask(&no_text, &alice()).await.expect(202);
    // What was sent before is checked all the same.
    no_email.send_code_for("r1", CODE, ANA, PURPOSE, "k1").await;
    no_email.post(VERIFY_EMAIL, &alice(), &json!({ "otp_code": CODE })).await.expect(200);
}

#[tokio::test]
async fn one_idempotency_key_names_another_request_by_another_channel_or_to_another_recipient() {
    let door = Door::open();
    let moved = token(&json!({"email": "bob@shop.example"}));
    let mut ids = Vec::new();
    for (path, token, kind) in
        [(SEND_SMS, &alice(), "SMS"), (SEND_EMAIL, &alice(), "EMAIL"), (SEND_EMAIL, &moved, "EMAIL")]
    {
        let told = ask_with_key(&door, path, token, kind, "order-77").await.expect(202);
        let again = ask_with_key(&door, path, token, kind, "order-77").await.expect(202);
        assert_eq!(told["request_id"], again["request_id"]);
        ids.push(told["request_id"].to_string());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
}

#[tokio::test]
async fn the_cooldown_of_one_channel_is_not_that_of_the_other() {
    let door = Door::open();
    door.send_code("r1", CODE).await;
    ask(&door, &alice()).await.expect(202);
    door.send_code_for("r2", CODE, ANA, PURPOSE, "k1").await;
    let answer = ask(&door, &alice()).await;
    assert_eq!(answer.expect_problem(429, "cooldown")["retry_after"], 30);
    answer.expect_nothing_of(&["shop", "Shop", "ana@", "Ana@"]);
}

#[tokio::test(start_paused = true)]
async fn the_bound_on_what_text_messages_cost_stops_no_email() {
    let world = World::new();
    let limits = Limits { all: Quota { count: 1, window: HOUR }, ..Options::default().limits };
    let _texts = Embedded::in_world(world.clone(), Options { limits, ..Options::default() });
    let door = door_to(&world, limits);
    let bob = token(&json!({"phone_number": BOB}));
    let text = async |token: &str| door.post(SEND_SMS, token, &json!({"otp_type": "SMS"})).await;
    text(&alice()).await.expect(202);
    text(&bob).await.expect_problem(429, "rate_limited");
    ask(&door, &bob).await.expect(202);
}

#[tokio::test]
async fn a_code_by_email_verifies_once_and_only_there() {
    for path in [VERIFY_EMAIL, VERIFY_SERVICE] {
        let door = Door::open();
        door.send_code_for("r1", CODE, ANA, PURPOSE, "k1").await;
        let check = async |code: &str| match path {
            VERIFY_EMAIL => door.post(path, &alice(), &json!({ "otp_code": code })).await,
            _ => door.post(path, &service(), &json!({"to": "ANA@shop.example", "otp_code": code})).await,
        };
        for left in [4, 3, 2] {
            let problem = check("000000").await.expect_problem(422, "wrong_code");
            assert_eq!(problem["attempts_remaining"], left);
        }
        let by_phone = door.post(VERIFY_PHONE, &alice(), &json!({ "otp_code": CODE })).await;
        by_phone.expect_problem(404, "no_pending_code");
        let expected = json!({"verified": true, "channel": "email", "purpose": PURPOSE, "to": MASKED});
        assert_eq!(check(CODE).await.expect(200), expected);
        check(CODE).await.expect_problem(409, "code_used");
    }
}

#[tokio::test]
async fn a_service_may_name_the_channel_and_need_not() {
    let door = Door::open();
    door.send_code_for("r1", CODE, ANA, PURPOSE, "k1").await;
    door.send_code("r2", CODE).await;
    let check = async |to: &str, channel: Value| {
        let body = json!({"to": to, "channel": channel, "otp_code": "000000"});
        door.post(VERIFY_SERVICE, &service(), &body).await
    };
    for (to, channel) in [(ANA, "email"), (ALICE, "sms")] {
        for channel in [json!(channel), Value::Null] {
            check(to, channel).await.expect_problem(422, "wrong_code");
        }
    }
    for (to, channel, rule) in [(ANA, "sms", "`to` contains"), (ALICE, "email", "`to` has no @")] {
        let answer = check(to, json!(channel)).await;
        let problem = answer.expect_problem(422, "invalid_request");
        assert!(problem["detail"].as_str().is_some_and(|told| told.starts_with(rule)), "{problem}");
    }
    for channel in [json!("EMAIL"), json!("Secreto"), json!(""), json!(7), json!(["email"])] {
        let answer = check(ANA, channel).await;
        let problem = answer.expect_problem(422, "invalid_request");
        let rule = "`channel` must be \"sms\" or \"email\"";
        assert!(problem["detail"].as_str().is_some_and(|told| told.starts_with(rule)), "{problem}");
        answer.expect_nothing_of(&["Secreto", "EMAIL"]);
    }
}

/// The doors of a gateway whose workers run beside them.
fn door_to(world: &World, limits: Limits) -> Door {
    let (broker, store, clock) = (world.broker.clone(), world.store.clone(), world.clock);
    Door::with(move |api| {
        // As the harness names them.
        let recipients = Arc::new(RecipientKeyring::new(&[9; 32]));
        api.rpc_client = Arc::new(broker.rpc_client());
        api.send_wait = Duration::from_secs(3);
        api.limits = limits;
        api.store = store.clone();
        api.verifier.store = store;
        api.verifier.recipients = recipients.clone();
        (api.recipients, api.clock) = (recipients, clock);
    })
}

#[tokio::test(start_paused = true)]
async fn a_person_is_told_what_became_of_either_request_and_nobody_else_is() {
    let world = World::new();
    let _emails =
        Embedded::in_world(world.clone(), Options { channel: Channel::Email, ..Options::default() });
    let _texts = Embedded::in_world(world.clone(), Options::default());
    let door = door_to(&world, Options::default().limits);
    let by_email = ask_with_key(&door, SEND_EMAIL, &alice(), "EMAIL", "one").await.expect(202);
    let by_text = ask_with_key(&door, SEND_SMS, &alice(), "SMS", "one").await.expect(202);
    let posted = world.provider.posted();
    let to: Vec<&str> = posted.iter().map(|posted| posted.to.as_str()).collect();
    assert_eq!(to, [ANA, ALICE]);
    for (told, channel, claim) in [(&by_email, "email", "phone_number"), (&by_text, "sms", "email")] {
        assert_eq!((&told["status"], &told["channel"]), (&json!("sent"), &json!(channel)));
        let id = told["request_id"].as_str().expect("an id");
        let answer = status(&door, &alice(), id).await.expect(200);
        assert_eq!((&answer["status"], &answer["channel"]), (&json!("sent"), &json!(channel)));
        // Whoever has no longer the other recipient still sees it, and whoever has lost this one does not.
        status(&door, &token(&json!({ claim: null })), id).await.expect(200);
        let other = if claim == "email" { "phone_number" } else { "email" };
        status(&door, &token(&json!({ other: null })), id).await.expect_problem(404, "unknown_request");
        status(&door, &token(&json!({"sub": "user-2"})), id).await.expect_problem(404, "unknown_request");
    }
    let nobody = token(&json!({"phone_number": "hello", "email": "hello"}));
    let answer = status(&door, &nobody, by_text["request_id"].as_str().expect("an id")).await;
    answer.expect_problem(422, "invalid_recipient");
    let repeat = ask_with_key(&door, SEND_EMAIL, &alice(), "EMAIL", "one").await.expect(202);
    assert_eq!((&repeat["replayed"], &repeat["request_id"]), (&json!(true), &by_email["request_id"]));
    assert_eq!(world.provider.posted().len(), 2);
    let code = &posted[0].code;
    let text = door.post(VERIFY_PHONE, &alice(), &json!({ "otp_code": code })).await;
    assert_eq!(text.status, 422, "{}", text.text);
}
