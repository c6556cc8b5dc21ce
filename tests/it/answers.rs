//! The answers to requests for a code: outcomes, repeats, pending limits and status.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use otpost::domain::limit::{Limit, Limits};
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::domain::send_failure::{Scope, SendFailure};
use otpost::domain::suppression::ManualSuppression;
use otpost::store::Store as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::harness::{Embedded, HOUR, Options, RECIPIENT_KEY, World};
use crate::http::services::{SEND, sender};
use crate::http::{Answer, SEND_SMS, TestServer, alice, post, token};
use crate::scripted::Script;
use crate::scripted::refused;

const WAIT: Duration = Duration::from_secs(3);

/// The HTTP interface of a gateway, with or without running workers.
fn server_of(world: &World) -> TestServer {
    let (broker, store, clock) = (world.broker.clone(), world.store.clone(), world.clock);
    TestServer::with(move |api| {
        // The same key as in the harness.
        let recipients = Arc::new(RecipientKeyring::new(&RECIPIENT_KEY));
        api.rpc_client = Arc::new(broker.rpc_client());
        api.send_wait = WAIT;
        api.limits = Options::default().limits;
        api.store = store.clone();
        api.verifier.store = store;
        api.verifier.recipient_keyring = recipients.clone();
        (api.recipient_keyring, api.clock) = (recipients, clock);
    })
}

fn keyed(token: &str, key: &str) -> Request<Body> {
    let mut request = post(SEND_SMS, token, json!({"otp_type": "SMS"}).to_string());
    request.headers_mut().insert("idempotency-key", key.parse().expect("a value"));
    request
}

fn bob() -> String {
    token(&json!({"sub": "user-2", "phone_number": "+573109876543"}))
}

async fn ask(server: &TestServer, token: &str) -> Answer {
    server.post(SEND_SMS, token, &json!({"otp_type": "SMS"})).await
}

async fn status(server: &TestServer, token: &str, request_id: &str) -> Answer {
    let request = Request::get(format!("/api/v1/auth/otp-status/{request_id}"))
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Body::empty());
    server.ask(request.expect("a request")).await
}

fn id(answer: &Value) -> &str {
    answer["request_id"].as_str().expect("an id")
}

#[tokio::test(start_paused = true)]
async fn a_sent_code_is_reported_with_its_expiry() {
    let world = World::new();
    let gateway = Embedded::in_world(world.clone(), Options::default());
    let server = server_of(&world);
    let answer = ask(&server, &alice()).await.expect(202);
    assert_eq!((&answer["status"], &answer["to"]), (&json!("sent"), &json!("+57******4567")));
    let expires = world.clock.now().plus(Duration::from_secs(600)).to_string();
    assert_eq!(answer["expires_at"].as_str().map(|at| &at[..19]), Some(&expires[..19]));
    assert_eq!(gateway.posted().len(), 1);
    let response = status(&server, &alice(), id(&answer)).await.expect(200);
    assert_eq!((&response["status"], &response["expires_at"]), (&json!("sent"), &answer["expires_at"]));
}

#[tokio::test(start_paused = true)]
async fn each_rejection_is_reported_at_once_with_its_reason() {
    let world = World::new();
    let gateway = Embedded::in_world(world.clone(), Options::default());
    let server = server_of(&world);
    let started = Instant::now();
    let landline = token(&json!({"phone_number": "+576012345678"}));
    ask(&server, &landline).await.expect_problem(422, "landline");

    let opted_out = refused(Scope::Recipient, 21610);
    world.provider.script_next([Script::Fail(opted_out)]);
    let refused = ask(&server, &alice()).await.expect_problem(422, "provider_rejected");
    let response = status(&server, &alice(), id(&refused)).await.expect(200);
    assert_eq!(
        (&response["status"], &response["error"]["code"]),
        (&json!("failed"), &json!("provider_rejected"))
    );
    ask(&server, &alice()).await.expect_problem(422, "suppressed");

    for _ in 0..5 {
        assert_eq!(ask(&server, &bob()).await.expect(202)["status"], "sent");
    }
    let limited = ask(&server, &bob()).await;
    limited.expect_problem(429, "rate_limited");
    assert!(limited.header("retry-after").is_some());
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(gateway.posted().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_services_request_is_answered_like_a_persons() {
    let world = World::new();
    let gateway = Embedded::in_world(world.clone(), Options::default());
    let server = server_of(&world);
    let ask = async |body: Value| server.post(SEND, &sender(&json!({})), &body).await;
    let sent = ask(json!({"to": "+573001234567", "user_id": "user-1"})).await.expect(202);
    assert_eq!((&sent["status"], &sent["resend_after"]), (&json!("sent"), &json!(0)));
    assert!(sent["expires_at"].is_string());

    let unknown = ask(json!({"to": "+573001234567", "template": "unknown"})).await;
    let problem = unknown.expect_problem(422, "invalid_request");
    let detail = problem["detail"].to_string();
    assert!(detail.contains("`template` is not a known template") && problem["request_id"].is_string());

    world.provider.script_next([Script::Fail(refused(Scope::Recipient, 21610))]);
    ask(json!({"to": "+573109876543"})).await.expect_problem(422, "provider_rejected");
    ask(json!({"to": "+573109876543"})).await.expect_problem(422, "suppressed");
    // The person's own request counts against the same user, and so does the address that the service names.
    let limit = Options::default().limits[Limit::User].count;
    for nth in 1..limit {
        ask(json!({"to": format!("+57310987{nth:04}"), "user_id": "user-1"})).await.expect(202);
    }
    server.post(SEND_SMS, &alice(), &json!({"otp_type": "SMS"})).await.expect_problem(429, "rate_limited");
    for nth in 0..30 {
        ask(json!({"to": format!("+57311987{nth:04}"), "client_ip": "203.0.113.7"})).await.expect(202);
    }
    let limited = ask(json!({"to": "+573121234567", "client_ip": "203.0.113.7"})).await;
    limited.expect_problem(429, "rate_limited");
    assert_eq!(gateway.posted().len(), 1 + 1 + limit as usize - 1 + 30);
}

#[tokio::test(start_paused = true)]
async fn without_a_result_in_time_the_status_is_queued() {
    let world = World::new();
    let server = server_of(&world);
    let started = Instant::now();
    let answer = ask(&server, &alice()).await.expect(202);
    assert_eq!((&answer["status"], started.elapsed()), (&json!("queued"), WAIT));
    status(&server, &alice(), id(&answer)).await.expect_problem(404, "unknown_request");

    let _gateway = Embedded::in_world(world.clone(), Options::default());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(status(&server, &alice(), id(&answer)).await.expect(200)["status"], "sent");
}

#[tokio::test(start_paused = true)]
async fn a_repeat_with_its_key_gets_the_same_answer_and_publishes_nothing() {
    let world = World::new();
    let gateway = Embedded::in_world(world.clone(), Options::default());
    let server = server_of(&world);
    let mut results = world.broker.subscribe_results();
    let first = server.ask(keyed(&alice(), "order-77")).await.expect(202);
    for _ in 0..200 {
        let again = server.ask(keyed(&alice(), "order-77")).await.expect(202);
        assert_eq!((id(&first), &first["expires_at"]), (id(&again), &again["expires_at"]));
        assert_eq!((&again["status"], &again["to"]), (&first["status"], &first["to"]));
        assert_eq!((&first["replayed"], &again["replayed"]), (&Value::Null, &json!(true)));
    }
    // The same key of another user names another request.
    let other = token(&json!({"sub": "user-2"}));
    assert_ne!(id(&server.ask(keyed(&other, "order-77")).await.expect(202)), id(&first));
    assert_eq!(gateway.posted().len(), 2);
    assert_eq!(std::iter::from_fn(|| results.try_recv().ok()).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_during_its_first_copy_is_queued_and_does_not_wait() {
    let world = World::new();
    let gateway = Embedded::in_world(world.clone(), Options::default());
    let server = server_of(&world);
    let mut results = world.broker.subscribe_results();
    world.provider.close_gate();
    let first = server.ask(keyed(&alice(), "k")).await.expect(202);
    assert_eq!(first["status"], "queued");
    for _ in 0..200 {
        let again = server.ask(keyed(&alice(), "k")).await.expect(202);
        assert_eq!(
            (id(&again), &again["status"], &again["replayed"]),
            (id(&first), &json!("queued"), &Value::Null)
        );
    }
    assert_eq!(world.broker.waiting(), 0);
    world.provider.open_gate(100);
    assert_eq!(ask(&server, &bob()).await.expect(202)["status"], "sent");
    assert_eq!(server.ask(keyed(&alice(), "k")).await.expect(202)["status"], "sent");
    assert_eq!(gateway.posted().len(), 2);
    assert_eq!(std::iter::from_fn(|| results.try_recv().ok()).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_of_a_failed_request_gets_the_same_failure() {
    let world = World::new();
    let gateway = Embedded::in_world(world.clone(), Options::default());
    let server = server_of(&world);
    let refused = SendFailure::refused(Scope::Request, Some(21617));
    world.provider.script_next([Script::Fail(refused)]);
    let first = server.ask(keyed(&alice(), "k")).await.expect_problem(422, "provider_rejected");
    let mut again = server.ask(keyed(&alice(), "k")).await.expect_problem(422, "provider_rejected");
    assert_eq!(again["replayed"].take(), json!(true));
    again.as_object_mut().expect("an object").remove("replayed");
    assert_eq!(again, first);
    assert_eq!(gateway.posted().len(), 1);
}

/// Two simultaneous clicks pass the checks before a worker has either. The second one is rejected, and its key keeps
/// naming the rejected request.
#[tokio::test(start_paused = true)]
async fn a_rejection_whose_wait_is_over_asks_for_another_key() {
    let world = World::new();
    let limits = Limits { cooldown: Duration::from_secs(30), ..Options::default().limits };
    let gateway = Embedded::in_world(world.clone(), Options { limits, ..Options::default() });
    let server = server_of(&world);
    world.provider.close_gate();
    let (one, two) = (keyed(&alice(), "one"), keyed(&alice(), "two"));
    let (one, two, ()) =
        tokio::join!(server.ask(one), server.ask(two), async { world.provider.open_gate(100) });
    assert_eq!(one.expect(202)["status"], "sent");
    assert_eq!(two.expect_problem(429, "cooldown")["retry_after"], 30);

    sleep(Duration::from_secs(10)).await;
    let early = server.ask(keyed(&alice(), "two")).await.expect_problem(429, "cooldown");
    assert_eq!((&early["retry_after"], &early["replayed"]), (&json!(20), &json!(true)));
    sleep(Duration::from_secs(20)).await;
    for _ in 0..3 {
        let late = server.ask(keyed(&alice(), "two")).await.expect_problem(429, "cooldown");
        assert_eq!((&late["retry_after"], &late["replayed"]), (&Value::Null, &json!(true)));
        assert!(late["detail"].as_str().is_some_and(|detail| detail.contains("another `Idempotency-Key`")));
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(server.ask(keyed(&alice(), "three")).await.expect(202)["status"], "sent");
    assert_eq!(gateway.posted().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_worker_one_person_cannot_fill_the_queue() {
    let world = World::new();
    let server = server_of(&world);
    let limits = Options::default().limits;
    let queued = async |token: &str, presses: usize| {
        let before = world.broker.waiting();
        for nth in 0..presses {
            // With and without a key: both are in the queue.
            let answer = match nth % 2 {
                0 => server.ask(keyed(token, &format!("{}", nth % 4))).await,
                _ => ask(&server, token).await,
            };
            if answer.status == 429 {
                let refused = answer.expect_problem(429, "rate_limited");
                assert!((1..=3_600).contains(&refused["retry_after"].as_u64().expect("seconds")));
            } else {
                assert_eq!(answer.expect(202)["status"], "queued");
            }
        }
        world.broker.waiting() - before
    };
    let (by_user, by_ip) = (3 * limits[Limit::User].count as usize, 3 * limits[Limit::Ip].count as usize);
    assert_eq!(queued(&alice(), 500).await, by_user);
    assert_eq!(queued(&bob(), 500).await, by_user, "another person is not held by the first one");
    let carol = token(&json!({"sub": "user-3"}));
    assert_eq!(queued(&carol, 500).await, by_user);
    let dave = token(&json!({"sub": "user-4"}));
    assert_eq!(
        (queued(&dave, 10).await, world.broker.waiting()),
        (0, by_ip),
        "one address, for every person"
    );
    sleep(HOUR).await;
    assert_eq!(queued(&alice(), 3).await, 3);
}

#[tokio::test(start_paused = true)]
async fn answered_requests_are_bounded_by_the_limits_only() {
    let world = World::new();
    let _gateway = Embedded::in_world(world.clone(), Options::default());
    let server = server_of(&world);
    let refused = SendFailure::refused(Scope::Request, Some(21617));
    world.provider.script_next(vec![Script::Fail(refused); 100]);
    // Failures refund both the limits and the pending count: a hundred of one person in an hour are allowed.
    for nth in 0..100 {
        let number = token(&json!({"phone_number": format!("+57300{nth:07}")}));
        ask(&server, &number).await.expect_problem(422, "provider_rejected");
    }
    // A rejection by a worker costs one message and charges no limit.
    let opted_out = ManualSuppression { masked: "+57******6543", reason: "a test", duration: None };
    world
        .store
        .add_suppression(world.recipient("+573109876543"), &opted_out)
        .await
        .expect("the store answers");
    for _ in 0..30 {
        ask(&server, &bob()).await.expect_problem(422, "suppressed");
    }
    ask(&server, &bob()).await.expect_problem(429, "rate_limited");
    // The pending limit was that of the person, not of the address.
    let carol = token(&json!({"sub": "user-3", "phone_number": "+573201234567"}));
    assert_eq!(ask(&server, &carol).await.expect(202)["status"], "sent");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_not_queued_is_not_counted() {
    let world = World::new();
    let server = server_of(&world);
    world.broker.fail_next_publishes(200);
    for _ in 0..200 {
        ask(&server, &alice()).await.expect_problem(503, "queue_unavailable");
    }
    assert_eq!(ask(&server, &alice()).await.expect(202)["status"], "queued");
}

#[tokio::test(start_paused = true)]
async fn a_request_to_a_blocking_broker_is_not_counted_and_the_answer_says_why() {
    let world = World::new();
    let server = server_of(&world);
    world.broker.block_publishers(true);
    for _ in 0..200 {
        let problem = ask(&server, &alice()).await.expect_problem(503, "queue_unavailable");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.starts_with("the broker is short of memory or disk space"), "{detail}");
    }
    world.broker.block_publishers(false);
    assert_eq!(ask(&server, &alice()).await.expect(202)["status"], "queued");
}

#[tokio::test(start_paused = true)]
async fn an_unconfirmed_request_is_counted_because_it_may_be_queued() {
    let world = World::new();
    let server = server_of(&world);
    world.broker.lose_next_confirms(200);
    let by_user = 3 * Options::default().limits[Limit::User].count as usize;
    for _ in 0..by_user {
        ask(&server, &alice()).await.expect_problem(503, "queue_unavailable");
    }
    ask(&server, &alice()).await.expect_problem(429, "rate_limited");
    assert_eq!(world.broker.waiting(), by_user);
}

#[tokio::test(start_paused = true)]
async fn a_person_cannot_see_the_status_of_another_persons_request() {
    let world = World::new();
    let _gateway = Embedded::in_world(world.clone(), Options::default());
    let server = server_of(&world);
    let answer = ask(&server, &alice()).await.expect(202);
    let request_id = id(&answer);
    let unknown = status(&server, &alice(), "no-such-request").await.expect_problem(404, "unknown_request");
    for (what, changes) in [
        ("another user with the same number", json!({"sub": "user-2"})),
        ("the same user with another number", json!({"phone_number": "+573109876543"})),
    ] {
        let response = status(&server, &token(&changes), request_id).await;
        assert_eq!(response.expect_problem(404, "unknown_request"), unknown, "{what}");
    }
    let without_recipient = token(&json!({"phone_number": null, "email": null}));
    status(&server, &without_recipient, request_id).await.expect_problem(422, "invalid_recipient");
    assert_eq!(status(&server, "no token", request_id).await.status, 401);
}
