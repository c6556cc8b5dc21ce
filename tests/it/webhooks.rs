//! Twilio's status callbacks to the embedded gateway.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use otpost::http::Webhooks;
use otpost::provider::Callbacks;
use otpost::provider::twilio::callback::TwilioCallbacks;

use crate::fake_twilio::{ACCOUNT_SID, AUTH_TOKEN, signature};
use crate::harness::{ALICE, BOB, Embedded};
use crate::http::{Answer, TestServer};

const URL: &str = "https://otp.example.co/webhooks/twilio/status";
const SID: &str = "SM00000000000000000000000000000001";

fn server(gateway: &Embedded) -> TestServer {
    let callbacks =
        TwilioCallbacks::new(URL, ACCOUNT_SID, vec![AUTH_TOKEN.to_owned().into()]).expect("valid");
    let webhooks = Webhooks {
        callbacks: vec![Arc::new(callbacks)],
        receipts: gateway.tracker.clone(),
        opt_statuses: None,
    };
    TestServer::with_webhooks(webhooks)
}

/// A callback about the first attempt of a request, signed with a token.
fn call(token: &str, request: &str, fields: &[(&str, &str)]) -> Request<Body> {
    call_to("/webhooks/twilio/status", token, request, fields)
}

fn call_to(path: &str, token: &str, request: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let query = format!("r={request}&a=1");
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let url = format!("https://otp.example.co{path}?{query}");
    Request::post(format!("{path}?{query}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-twilio-signature", signature(token, &url, fields))
        .body(Body::from(body))
        .expect("a request")
}

fn fields<'a>(status: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let base = [("AccountSid", ACCOUNT_SID), ("MessageSid", SID), ("MessageStatus", status), ("To", ALICE)];
    base.into_iter().chain(more.iter().copied()).collect()
}

async fn report(server: &TestServer, status: &str, more: &[(&str, &str)]) -> Answer {
    server.ask(call(AUTH_TOKEN, "r1", &fields(status, more))).await
}

#[tokio::test(start_paused = true)]
async fn a_signed_callback_publishes_an_event_and_its_repeat_does_not() {
    let mut gateway = Embedded::start();
    let server = server(&gateway);
    gateway.request("r1", ALICE).await.expect_sent();
    for status in ["sent", "undelivered", "undelivered", "sent"] {
        assert_eq!(report(&server, status, &[("ErrorCode", "30003")]).await.status, 204, "{status}");
    }
    let event = gateway.result().await;
    event.expect("undelivered", Some("provider_rejected"));
    assert_eq!(
        (event.body["provider"].as_str(), event.body["provider_message_id"].as_str()),
        (Some("twilio"), Some(SID))
    );
    gateway.expect_no_result();
}

#[tokio::test(start_paused = true)]
async fn an_unsigned_or_wrongly_signed_callback_is_refused_and_changes_nothing() {
    let mut gateway = Embedded::start();
    let server = server(&gateway);
    gateway.request("r1", ALICE).await.expect_sent();
    let mut unsigned = call(AUTH_TOKEN, "r1", &fields("delivered", &[]));
    unsigned.headers_mut().remove("x-twilio-signature");
    let forged = call("another-token", "r1", &fields("delivered", &[]));
    for bad in [unsigned, forged] {
        let answer = server.ask(bad).await;
        assert_eq!(answer.status, 403);
        assert!(
            answer.text.contains("signature_refused") && !answer.text.contains("57300"),
            "{}",
            answer.text
        );
    }
    gateway.expect_no_result();
}

#[tokio::test(start_paused = true)]
async fn a_callback_with_a_repeated_or_unreadable_header_is_refused() {
    let mut gateway = Embedded::start();
    let server = server(&gateway);
    gateway.request("r1", ALICE).await.expect_sent();
    let good = || call(AUTH_TOKEN, "r1", &fields("delivered", &[]));
    for name in ["x-twilio-signature", "content-type"] {
        let given = good().headers()[name].clone();
        let others: [&[u8]; 4] = [given.as_bytes(), b"other", b"", b"\xff"];
        for other in others.map(|other| HeaderValue::from_bytes(other).expect("a header value")) {
            for [first, second] in [[&given, &other], [&other, &given]] {
                let mut repeated = good();
                repeated.headers_mut().insert(name, first.clone());
                repeated.headers_mut().append(name, second.clone());
                assert_eq!(server.ask(repeated).await.status, 403, "{name}: {first:?}, {second:?}");
            }
        }
        let mut unreadable = good();
        unreadable.headers_mut().insert(name, HeaderValue::from_bytes(b"\xff").expect("a header value"));
        assert_eq!(server.ask(unreadable).await.status, 403, "{name}");
    }
    gateway.expect_no_result();
    assert_eq!(server.ask(good()).await.status, 204);
}

#[tokio::test(start_paused = true)]
async fn an_unconfirmed_event_makes_the_provider_repeat_the_callback() {
    let mut gateway = Embedded::start();
    let server = server(&gateway);
    gateway.request("r1", ALICE).await.expect_sent();
    gateway.world.broker.fail_next_publishes(1);
    assert_eq!(report(&server, "delivered", &[]).await.status, 503);
    assert_eq!(report(&server, "delivered", &[]).await.status, 204);
    gateway.result().await.expect("delivered", None);
    gateway.world.store.gone.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(
        report(&server, "delivered", &[]).await.status,
        503,
        "the store cannot show whether it was published"
    );
}

#[tokio::test(start_paused = true)]
async fn a_callback_about_another_account_or_step_is_accepted_and_one_without_a_field_is_not() {
    let gateway = Embedded::start();
    let server = server(&gateway);
    let other = [("AccountSid", "AC99999999999999999999999999999999"), ("MessageSid", SID), ("To", ALICE)];
    assert_eq!(server.ask(call(AUTH_TOKEN, "r1", &other)).await.status, 204);
    let answer = server
        .ask(call(
            AUTH_TOKEN,
            "r1",
            &[("AccountSid", ACCOUNT_SID), ("MessageSid", SID), ("MessageStatus", "sent")],
        ))
        .await;
    assert_eq!(answer.status, 400);
    assert!(answer.text.contains("`To`"), "{}", answer.text);
}

#[tokio::test(start_paused = true)]
async fn without_a_public_url_there_is_no_webhook() {
    let server = TestServer::start();
    assert_eq!(server.ask(call(AUTH_TOKEN, "r1", &fields("delivered", &[]))).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn the_callbacks_of_two_accounts_are_served_side_by_side() {
    let mut gateway = Embedded::start();
    let of = |name: &'static str, path: &'static str, token: &str| {
        let url = format!("https://otp.example.co{path}");
        let callbacks = TwilioCallbacks::new(&url, ACCOUNT_SID, vec![token.to_owned().into()]);
        Arc::new(callbacks.expect("valid").named(name, path)) as Arc<dyn Callbacks>
    };
    let callbacks =
        vec![of("twilio", "/webhooks/twilio", AUTH_TOKEN), of("twiliobr", "/webhooks/twiliobr", "two")];
    let server = TestServer::with_webhooks(Webhooks {
        callbacks,
        receipts: gateway.tracker.clone(),
        opt_statuses: None,
    });
    let other_sid = "SM00000000000000000000000000000002";
    for (request, to, sid, path, token, other_token) in [
        ("r1", ALICE, SID, "/webhooks/twilio", AUTH_TOKEN, "two"),
        ("r2", BOB, other_sid, "/webhooks/twiliobr", "two", AUTH_TOKEN),
    ] {
        gateway.request(request, to).await.expect_sent();
        let status = ("MessageStatus", "delivered");
        let fields = [("AccountSid", ACCOUNT_SID), ("MessageSid", sid), status, ("To", to)];
        let forged = server.ask(call_to(path, other_token, request, &fields)).await;
        assert_eq!(forged.status, 403, "{path}");
        assert_eq!(server.ask(call_to(path, token, request, &fields)).await.status, 204, "{path}");
        let event = gateway.result().await;
        event.expect("delivered", None);
        assert_eq!(event.body["provider"], path.trim_start_matches("/webhooks/"));
    }
}
