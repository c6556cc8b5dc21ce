//! What a person is told who asks for a code: how it ended, at once, and to nobody else.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use otpost::domain::outcome::{Scope, SendFailure};
use otpost::domain::recipient::RecipientKeyring;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::harness::{Embedded, Options, World};
use crate::http::{Answer, Door, SEND_SMS, alice, post, token};
use crate::scripted::Script;

const WAIT: Duration = Duration::from_secs(3);

/// The doors of a gateway whose workers run beside them, or do not.
fn door_to(world: &World) -> Door {
    let (broker, store, clock) = (world.broker.clone(), world.store.clone(), world.clock);
    Door::with(move |api| {
        // As the harness names them.
        let recipients = Arc::new(RecipientKeyring::new(&[9; 32]));
        api.requester = Arc::new(broker.requester());
        api.send_wait = WAIT;
        api.limits = Options::default().limits;
        api.store = store.clone();
        api.verifier.store = store;
        api.verifier.recipients = recipients.clone();
        (api.recipients, api.clock) = (recipients, clock);
    })
}

async fn ask(door: &Door, token: &str) -> Answer {
    door.post(SEND_SMS, token, &json!({"otp_type": "SMS"})).await
}

async fn status(door: &Door, token: &str, request_id: &str) -> Answer {
    let request = Request::get(format!("/api/v1/auth/otp-status/{request_id}"))
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Body::empty());
    door.ask(request.expect("a request")).await
}

fn id(answer: &Value) -> &str {
    answer["request_id"].as_str().expect("an id")
}

#[tokio::test(start_paused = true)]
async fn a_person_is_told_that_the_code_was_sent_and_until_when_it_is_good() {
    let world = World::new();
    let gateway = Embedded::in_world(world.clone(), Options::default());
    let door = door_to(&world);
    let answer = ask(&door, &alice()).await.expect(202);
    assert_eq!((&answer["status"], &answer["to"]), (&json!("sent"), &json!("+57******4567")));
    let expires = world.clock.now().plus(Duration::from_secs(600)).to_string();
    assert_eq!(answer["expires_at"].as_str().map(|at| &at[..19]), Some(&expires[..19]));
    assert_eq!(gateway.posted().len(), 1);
    let told = status(&door, &alice(), id(&answer)).await.expect(200);
    assert_eq!((&told["status"], &told["expires_at"]), (&json!("sent"), &answer["expires_at"]));
}

#[tokio::test(start_paused = true)]
async fn each_refusal_is_told_at_once_with_its_reason() {
    let world = World::new();
    let gateway = Embedded::in_world(world.clone(), Options::default());
    let door = door_to(&world);
    let started = Instant::now();
    let landline = token(&json!({"phone_number": "+576012345678"}));
    ask(&door, &landline).await.expect_problem(422, "landline");

    let opted_out = SendFailure::Rejected { code: Some(21610), scope: Scope::Recipient };
    world.provider.will([Script::Fail(opted_out)]);
    let refused = ask(&door, &alice()).await.expect_problem(422, "provider_rejected");
    let told = status(&door, &alice(), id(&refused)).await.expect(200);
    assert_eq!((&told["status"], &told["error"]["code"]), (&json!("failed"), &json!("provider_rejected")));
    ask(&door, &alice()).await.expect_problem(422, "suppressed");

    let bob = token(&json!({"sub": "user-2", "phone_number": "+573109876543"}));
    for _ in 0..5 {
        assert_eq!(ask(&door, &bob).await.expect(202)["status"], "sent");
    }
    let limited = ask(&door, &bob).await;
    limited.expect_problem(429, "rate_limited");
    assert!(limited.header("retry-after").is_some());
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(gateway.posted().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_told_in_time_is_told_that_it_is_queued() {
    let world = World::new();
    let door = door_to(&world);
    let started = Instant::now();
    let answer = ask(&door, &alice()).await.expect(202);
    assert_eq!((&answer["status"], started.elapsed()), (&json!("queued"), WAIT));
    status(&door, &alice(), id(&answer)).await.expect_problem(404, "unknown_request");

    let _gateway = Embedded::in_world(world.clone(), Options::default());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(status(&door, &alice(), id(&answer)).await.expect(200)["status"], "sent");
}

#[tokio::test(start_paused = true)]
async fn a_repeat_with_its_key_is_told_the_same_and_sends_nothing() {
    let world = World::new();
    let gateway = Embedded::in_world(world.clone(), Options::default());
    let door = door_to(&world);
    let keyed = |token: &str| {
        let mut request = post(SEND_SMS, token, json!({"otp_type": "SMS"}).to_string());
        request.headers_mut().insert("idempotency-key", "order-77".parse().expect("a value"));
        request
    };
    let first = door.ask(keyed(&alice())).await.expect(202);
    let again = door.ask(keyed(&alice())).await.expect(202);
    assert_eq!((id(&first), &first["expires_at"]), (id(&again), &again["expires_at"]));
    assert_eq!((&first["replayed"], &again["replayed"]), (&Value::Null, &json!(true)));
    // Another user's key is another one, whatever it says.
    let other = token(&json!({"sub": "user-2"}));
    assert_ne!(id(&door.ask(keyed(&other)).await.expect(202)), id(&first));
    assert_eq!(gateway.posted().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_learns_what_became_of_anothers_request() {
    let world = World::new();
    let _gateway = Embedded::in_world(world.clone(), Options::default());
    let door = door_to(&world);
    let answer = ask(&door, &alice()).await.expect(202);
    let request_id = id(&answer);
    let unknown = status(&door, &alice(), "no-such-request").await.expect_problem(404, "unknown_request");
    for (what, changes) in [
        ("another user with the same number", json!({"sub": "user-2"})),
        ("the same user with another number", json!({"phone_number": "+573109876543"})),
    ] {
        let told = status(&door, &token(&changes), request_id).await;
        assert_eq!(told.expect_problem(404, "unknown_request"), unknown, "{what}");
    }
    let nobody = token(&json!({"phone_number": null, "email": null}));
    status(&door, &nobody, request_id).await.expect_problem(422, "invalid_recipient");
    assert_eq!(status(&door, "no token", request_id).await.status, 401);
}
