//! The event of a verified code: published and confirmed before the check is answered.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use otpost::broker::memory::{MemoryPublisher, OwnedMessage};
use otpost::broker::rabbit::publish::RabbitPublisher;
use otpost::broker::{Delivery, Outgoing, PublishError, Publisher};
use otpost::domain::channel::Channel;
use otpost::domain::time::UnixMillis;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;

use super::{
    ALICE, ANA, Answer, CODE, HOUR, PURPOSE, START, TestServer, VERIFY_EMAIL, VERIFY_PHONE, VERIFY_SERVICE,
    alice, service,
};
use crate::contract::broker::rabbit::{RabbitWorld, in_world};
use crate::contract::broker::{World as _, patiently};
use crate::documents::messages::check_result;
use crate::real::Redis;

const WRONG: &str = "000000";

/// The event that was published already.
#[track_caller]
fn published(results: &mut Receiver<OwnedMessage>) -> (OwnedMessage, Value) {
    let message = results.try_recv().expect("it was published before the answer");
    check_result(&message.message_id, &message.body);
    let body = serde_json::from_slice(&message.body).expect("JSON");
    (message, body)
}

#[track_caller]
fn expect_none(results: &mut Receiver<OwnedMessage>) {
    assert_eq!(results.try_recv().ok(), None);
}

async fn check(server: &TestServer, code: &str) -> Answer {
    server.post(VERIFY_SERVICE, &service(), &json!({"to": ALICE, "otp_code": code})).await
}

/// Publishes with the permission of the test.
struct Held {
    inner: MemoryPublisher,
    permits: Arc<Semaphore>,
}

#[async_trait]
impl Publisher for Held {
    async fn publish(&self, message: Outgoing<'_>) -> Result<(), PublishError> {
        self.permits.acquire().await.expect("it stays open").forget();
        self.inner.publish(message).await
    }

    async fn delay(
        &self,
        channel: Channel,
        delivery: &Delivery,
        now: UnixMillis,
    ) -> Result<(), PublishError> {
        self.inner.delay(channel, delivery, now).await
    }
}

/// A server whose events wait for permits.
fn held() -> (TestServer, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(0));
    let broker = otpost::broker::memory::MemoryBroker::default();
    let publisher = Arc::new(Held { inner: broker.publisher(), permits: permits.clone() });
    let mut server = TestServer::with(|api| api.verifier.publisher = publisher);
    server.broker = broker;
    (server, permits)
}

#[tokio::test]
async fn a_verified_code_is_published_once_before_the_answer() {
    let own = json!({ "otp_code": CODE });
    let sms = json!({"to": ALICE, "otp_code": CODE});
    let email = json!({"to": ANA, "otp_code": CODE});
    for (path, token, body, to, key, masked) in [
        (VERIFY_PHONE, alice(), &own, ALICE, "sms.verified", "+57******4567"),
        (VERIFY_EMAIL, alice(), &own, ANA, "email.verified", "a***@s***.example"),
        (VERIFY_SERVICE, service(), &sms, ALICE, "sms.verified", "+57******4567"),
        (VERIFY_SERVICE, service(), &email, ANA, "email.verified", "a***@s***.example"),
    ] {
        let server = TestServer::start();
        let mut results = server.broker.subscribe_results();
        server.send_code_for("orders/7", CODE, to, PURPOSE, "k1").await;
        let wrong = json!({"to": to, "otp_code": WRONG});
        server.post(VERIFY_SERVICE, &service(), &wrong).await.expect_problem(422, "wrong_code");
        expect_none(&mut results);
        server.post(path, &token, body).await.expect(200);
        let (message, event) = published(&mut results);
        let expected = json!({"request_id": "orders/7", "channel": key.split('.').next(), "purpose": PURPOSE,
            "to": masked, "status": "verified", "at": event["at"]});
        assert_eq!(event, expected);
        assert_eq!((message.routing_key.as_str(), message.message_id.as_str()), (key, "orders/7:verified"));
        assert_eq!(message.correlation_id.as_deref(), Some("orders/7"));
        server.post(path, &token, body).await.expect_problem(409, "code_used");
        expect_none(&mut results);
    }
}

#[tokio::test]
async fn an_event_names_the_last_request_that_sent_the_code_for_this_purpose() {
    let server = TestServer::start();
    let mut results = server.broker.subscribe_results();
    server.send_code_for("first", CODE, ALICE, "login", "k1").await;
    server.pass(Duration::from_secs(60));
    server.send_code_for("second", CODE, ALICE, "login", "k1").await;
    server.pass(Duration::from_secs(120));
    server.send_code_for("other-purpose", CODE, ALICE, PURPOSE, "k1").await;
    check(&server, CODE).await.expect(200);
    assert_eq!(published(&mut results).1["request_id"], "other-purpose");
    let login = json!({"to": ALICE, "purpose": "login", "otp_code": CODE});
    server.post(VERIFY_SERVICE, &service(), &login).await.expect(200);
    let event = published(&mut results).1;
    assert_eq!((&event["request_id"], &event["purpose"]), (&json!("second"), &json!("login")));
    server.pass(HOUR);
    server.send_code_for("next-day", CODE, ALICE, "login", "k1").await;
    server.post(VERIFY_SERVICE, &service(), &login).await.expect(200);
    assert_eq!(published(&mut results).1["request_id"], "next-day");
}

#[tokio::test]
async fn a_code_whose_request_has_no_record_is_verified_without_an_event() {
    let server = TestServer::start();
    let mut results = server.broker.subscribe_results();
    server.send_code("r1", CODE).await;
    server.store.forget_requests();
    check(&server, CODE).await.expect(200);
    expect_none(&mut results);
    check(&server, CODE).await.expect_problem(409, "code_used");
}

/// The record of the newer request cannot be read.
#[tokio::test]
async fn a_damaged_record_keeps_no_right_code_from_being_verified_with_an_event() {
    let redis = Redis::fresh();
    let store = Arc::new(redis.store());
    let server = TestServer::with(|api| api.verifier.store = store.clone());
    let mut results = server.broker.subscribe_results();
    for (request, seconds) in [("r1", 0), ("r2", 60)] {
        store.set_time(START.plus(Duration::from_secs(seconds)));
        server.send_code_over(&*store, request, CODE, ALICE, PURPOSE, "k1").await;
    }
    redis.replace([b"qh", &Sha256::digest("r2")[..16]].concat(), "SET", &[b"x"]);
    check(&server, CODE).await.expect(200);
    assert_eq!(published(&mut results).0.message_id, "r1:verified");
}

#[tokio::test]
async fn a_check_whose_event_is_not_confirmed_is_undone_and_can_be_repeated() {
    let server = TestServer::start();
    let mut results = server.broker.subscribe_results();
    server.send_code("r1", CODE).await;
    // More often than a code may be checked.
    for _ in 0..7 {
        server.broker.fail_next_publishes(1);
        let answer = check(&server, CODE).await;
        assert_eq!(answer.expect_problem(503, "queue_unavailable")["retry_after"], 2);
        answer.expect_nothing_of(&[CODE, "300123"]);
        expect_none(&mut results);
    }
    check(&server, WRONG).await.expect_problem(422, "wrong_code");
    check(&server, CODE).await.expect(200);
    assert_eq!(published(&mut results).0.message_id, "r1:verified");
    check(&server, CODE).await.expect_problem(409, "code_used");
    expect_none(&mut results);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_confirm_in_time_answers_503_while_the_person_still_waits() {
    let (server, permits) = held();
    server.send_code("r1", CODE).await;
    let began = tokio::time::Instant::now();
    check(&server, CODE).await.expect_problem(503, "queue_unavailable");
    assert_eq!(began.elapsed(), Duration::from_secs(3));
    permits.add_permits(1);
    check(&server, CODE).await.expect(200);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_keeps_no_event_from_being_published() {
    let (server, permits) = held();
    let mut results = server.broker.subscribe_results();
    server.send_code("r1", CODE).await;
    let hung_up = tokio::time::timeout(Duration::from_millis(50), check(&server, CODE)).await;
    assert!(hung_up.is_err());
    permits.add_permits(1);
    let message = results.recv().await.expect("it is published");
    assert_eq!(message.message_id, "r1:verified");
    check(&server, CODE).await.expect_problem(409, "code_used");
}

#[tokio::test(start_paused = true)]
async fn of_many_right_checks_at_once_one_is_verified_and_one_event_published() {
    let (server, permits) = held();
    let mut results = server.broker.subscribe_results();
    server.send_code("r1", CODE).await;
    let all = futures_util::future::join_all((0..20).map(|_| check(&server, CODE)));
    let (all, ()) = tokio::join!(all, async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        permits.add_permits(20);
    });
    let answers = |status| all.iter().filter(|answer| answer.status == status).count();
    assert_eq!((answers(200), answers(409)), (1, 19));
    published(&mut results);
    expect_none(&mut results);
}

#[tokio::test]
async fn rabbitmq_confirms_the_event_of_a_verified_code_or_the_check_is_undone() {
    in_world(async |world: &RabbitWorld| {
        let mut reader = world.results().await;
        let publisher = Arc::new(RabbitPublisher::start("results", world.settings(1)));
        patiently(publisher.connected().wait_for(|connected| *connected)).await.expect("it is there");
        let server = TestServer::with(|api| api.verifier.publisher = publisher.clone());
        server.send_code("r1", CODE).await;
        check(&server, CODE).await.expect(200);
        let message = reader.next().await;
        check_result(&message.message_id, &message.body);
        assert_eq!(
            (message.routing_key.as_str(), message.message_id.as_str()),
            ("sms.verified", "r1:verified")
        );
        publisher.close().await;
        server.pass(HOUR);
        server.send_code("r2", CODE).await;
        check(&server, CODE).await.expect_problem(503, "queue_unavailable");
    })
    .await;
}
