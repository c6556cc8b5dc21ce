//! Runs of the real binary on the real RabbitMQ and Redis: request, send, event, delivery event.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use otpost::broker::Names;
use serde_json::{Value, json};

use super::ANA;
use crate::contract::broker::World as _;
use crate::contract::broker::rabbit::{self, RabbitWorld, in_world};
use crate::documents::messages::check_result;
use crate::fake_sendgrid::{API_KEY, Answer, EventKey, FakeSendGrid, MESSAGE_ID};
use crate::fake_twilio::{ACCOUNT_SID, AUTH_TOKEN, FakeTwilio};
use crate::real::{Redis, redis_url};

/// The binary with its event webhook. It is killed when dropped.
struct Otpost {
    child: Child,
    http: String,
    key: EventKey,
    client: reqwest::Client,
}

impl Drop for Otpost {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Otpost {
    fn serve(names: &Names, redis: &Redis, fake: &FakeSendGrid) -> Otpost {
        let (key, http) = (EventKey::fresh(), format!("127.0.0.1:{}", free_port()));
        let requests = names.requests();
        let child = Command::new(env!("CARGO_BIN_EXE_otpost"))
            .arg("serve")
            .env_clear()
            .env("ENVIRONMENT", "development")
            .env("AMQP_URL", rabbit::url())
            .env("AMQP_PREFIX", requests.strip_suffix(".requests").expect("a prefix"))
            .env("REDIS_URL", redis_url())
            .env("REDIS_PREFIX", &redis.prefix)
            .env("HTTP_ADDR", &http)
            .env("OPS_ADDR", format!("127.0.0.1:{}", free_port()))
            .env("PROVIDER_TIMEOUT_SECONDS", "4")
            .env("EMAIL_FROM", "MeStore <codes@shop.example>")
            .env("SENDGRID_API_KEY", API_KEY)
            .env("SENDGRID_API_BASE_URL", fake.base_url())
            .env("SENDGRID_WEBHOOK_PUBLIC_KEY", key.public())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build();
        Otpost { child: child.expect("the binary starts"), http, key, client: client.expect("a client") }
    }

    /// Posts an event as SendGrid does, and expects a 204.
    async fn post_event(&self, kind: &str, request: &str, to: &str) {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs().to_string();
        let events = json!([{
            "event": kind, "email": to, "timestamp": 1, "sg_event_id": "e1", "response": "250 OK",
            "sg_message_id": format!("{MESSAGE_ID}.recvd-1-0"), "otpost_request": request, "otpost_attempt": "1",
        }]);
        let events = format!("{events}\r\n");
        let answer = self
            .client
            .post(format!("http://{}/webhooks/sendgrid/events", self.http))
            .header("x-twilio-email-event-webhook-signature", self.key.sign(&seconds, events.as_bytes()))
            .header("x-twilio-email-event-webhook-timestamp", &seconds)
            .body(events)
            .send()
            .await;
        assert_eq!(answer.expect("an answer").status().as_u16(), 204);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("an address").port()
}

async fn ask(world: &RabbitWorld, request: &str, to: &str) {
    let body = json!({"request_id": request, "to": to}).to_string();
    let channel = world.open_channel().await;
    let sent = channel.basic_publish(
        world.names.requests().into(),
        "send-email".into(),
        BasicPublishOptions::default(),
        body.as_bytes(),
        BasicProperties::default().with_content_type("application/json".into()),
    );
    drop(sent.await.expect("sent"));
}

async fn until_handed_over(fake: &FakeSendGrid, count: usize) {
    while fake.mails().len() < count {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_requested_email_is_sent_and_its_delivery_event_is_published() {
    let (fake, redis) = (FakeSendGrid::start(), Redis::fresh());
    in_world(async |world| {
        let mut results = world.results().await;
        let otpost = Otpost::serve(&world.names, &redis, &fake);
        ask(world, "r1", ANA).await;
        let sent = results.next().await;
        assert_eq!(sent.routing_key, "email.sent");
        check_result(&sent.message_id, &sent.body);
        let response: Value = serde_json::from_slice(&sent.body).expect("JSON");
        let named = (&response["provider"], &response["provider_message_id"]);
        assert_eq!(named, (&json!("sendgrid"), &json!(MESSAGE_ID)));
        let [mail] = fake.mails().try_into().expect("one e-mail");
        let mail = mail.json();
        let arguments = &mail["personalizations"][0]["custom_args"];
        assert_eq!(arguments, &json!({"otpost_request": "r1", "otpost_attempt": "1"}));
        let text = mail["content"][0]["value"].as_str().expect("a text");
        let code = text.split(|c: char| !c.is_ascii_digit()).find(|run| run.len() == 6).expect("a code");
        assert!(!mail["subject"].to_string().contains(code), "the code is in the text alone");

        otpost.post_event("delivered", "r1", ANA).await;
        otpost.post_event("delivered", "r1", ANA).await;
        otpost.post_event("processed", "r1", ANA).await;
        let delivered = results.next().await;
        assert_eq!(delivered.routing_key, "email.delivered");
        assert_eq!(delivered.message_id, "r1:delivered");
        check_result(&delivered.message_id, &delivered.body);
        for (_, _, kept) in redis.dump() {
            assert!(!kept.contains(code) && !kept.contains(ANA), "{kept}");
        }
        // The next result is that of another request: no delivery event was published twice.
        ask(world, "r2", "bob@shop.example").await;
        assert_eq!(results.next().await.message_id, "r2:sent");
    })
    .await;
}

#[tokio::test]
async fn a_lost_answer_waits_for_an_event_that_proves_the_email() {
    let (fake, redis) = (FakeSendGrid::start(), Redis::fresh());
    let scopes = Answer::Status(200, "", r#"{"scopes":["mail.send"]}"#.to_owned());
    fake.next([scopes, Answer::status(500), Answer::Hang]);
    in_world(async |world| {
        let mut results = world.results().await;
        let otpost = Otpost::serve(&world.names, &redis, &fake);
        ask(world, "r1", ANA).await;
        until_handed_over(&fake, 1).await;
        // The e-mail was sent, and its event arrives before the reconciliation ends.
        otpost.post_event("delivered", "r1", ANA).await;
        assert_eq!(results.next().await.routing_key, "email.delivered");
        let ended = results.next().await;
        assert_eq!(ended.routing_key, "email.sent");
        check_result(&ended.message_id, &ended.body);
        let response: Value = serde_json::from_slice(&ended.body).expect("JSON");
        assert_eq!(
            (&response["provider_message_id"], &response["attempts"]),
            (&json!(MESSAGE_ID), &json!(1))
        );

        ask(world, "r2", "bob@shop.example").await;
        until_handed_over(&fake, 2).await;
        otpost.post_event("processed", "r2", "bob@shop.example").await;
        let ended = results.next().await;
        assert_eq!((ended.routing_key.as_str(), ended.message_id.as_str()), ("email.sent", "r2:sent"));
        let response: Value = serde_json::from_slice(&ended.body).expect("JSON");
        assert_eq!(response["provider_message_id"], MESSAGE_ID);
        assert_eq!(fake.mails().len(), 2, "nothing was sent again");
    })
    .await;
}

#[test]
fn production_does_not_start_with_a_key_that_may_not_send() {
    let twilio = FakeTwilio::start();
    for (answer, says) in [
        (Answer::status(401), "refuses the credentials (answer 401"),
        (
            Answer::Status(200, "", r#"{"scopes":["alerts.read"]}"#.to_owned()),
            "does not let the credentials send",
        ),
    ] {
        let fake = FakeSendGrid::start();
        fake.next([answer]);
        let output = Command::new(env!("CARGO_BIN_EXE_otpost"))
            .arg("worker")
            .env_clear()
            // The check of the key needs no servers.
            .env("AMQP_URL", "amqp://127.0.0.1:1")
            .env("REDIS_URL", "redis://127.0.0.1:1")
            .env("SMS_BRAND", "MeStore")
            .env("OTP_SECRET_KEYS", "k1:s5VoIedjng5FOfqCH0Nkq9hJTZT9qdQnvsnGkd+AyMc=")
            .env("OTP_RECIPIENT_KEY", "65U8x/WOwpfTdmrExkT5DBWiVDkcum1BCeqjaS3rM10=")
            .env("OPS_ADDR", format!("127.0.0.1:{}", free_port()))
            .env("TWILIO_ACCOUNT_SID", ACCOUNT_SID)
            .env("TWILIO_AUTH_TOKEN", AUTH_TOKEN)
            .env("TWILIO_FROM_NUMBER", "+15005550006")
            .env("TWILIO_API_BASE_URL", twilio.base_url())
            .env("EMAIL_FROM", "codes@shop.example")
            .env("SENDGRID_API_KEY", API_KEY)
            .env("SENDGRID_API_BASE_URL", fake.base_url())
            .output()
            .expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(says) && said.contains("SENDGRID_API_KEY"), "{said}");
        assert!(!said.contains(API_KEY) && fake.mails().is_empty(), "{said}");
    }
}
