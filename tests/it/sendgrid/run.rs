//! A whole run of the real binary on the real RabbitMQ and Redis: asked for, handed over, reported, told.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use serde_json::{Value, json};

use super::ANA;
use crate::contract::broker::World as _;
use crate::contract::broker::rabbit::{self, in_world};
use crate::fake_sendgrid::{API_KEY, EventKey, FakeSendGrid, MESSAGE_ID};
use crate::real::{Redis, redis_url};

/// The binary; it ends with its owner.
struct Otpost(Child);

impl Drop for Otpost {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("an address").port()
}

#[tokio::test]
async fn an_email_that_was_asked_for_is_sent_and_its_event_is_told() {
    let (fake, key, redis) = (FakeSendGrid::start(), EventKey::fresh(), Redis::fresh());
    in_world(async |world| {
        let requests = world.names.requests();
        let prefix = requests.strip_suffix(".requests").expect("a prefix");
        let mut results = world.results().await;
        let http = format!("127.0.0.1:{}", free_port());
        let otpost = Command::new(env!("CARGO_BIN_EXE_otpost"))
            .arg("serve")
            .env_clear()
            .env("ENVIRONMENT", "development")
            .env("AMQP_URL", rabbit::url())
            .env("AMQP_PREFIX", prefix)
            .env("REDIS_URL", redis_url())
            .env("REDIS_PREFIX", &redis.prefix)
            .env("HTTP_ADDR", &http)
            .env("OPS_ADDR", format!("127.0.0.1:{}", free_port()))
            .env("EMAIL_FROM", "MeStore <codes@shop.example>")
            .env("SENDGRID_API_KEY", API_KEY)
            .env("SENDGRID_API_BASE_URL", fake.base_url())
            .env("SENDGRID_WEBHOOK_PUBLIC_KEY", key.public())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let _otpost = Otpost(otpost.expect("the binary starts"));
        let body = json!({"request_id": "r1", "to": ANA}).to_string();
        let channel = world.open_channel().await;
        let sent = channel.basic_publish(
            requests.clone().into(),
            "send-email".into(),
            BasicPublishOptions::default(),
            body.as_bytes(),
            BasicProperties::default().with_content_type("application/json".into()),
        );
        drop(sent.await.expect("sent"));

        let sent = results.next().await;
        assert_eq!(sent.routing_key, "email.sent");
        let told: Value = serde_json::from_slice(&sent.body).expect("JSON");
        assert_eq!(
            (&told["provider"], &told["provider_message_id"]),
            (&json!("sendgrid"), &json!(MESSAGE_ID))
        );
        let [mail] = fake.mails().try_into().expect("one e-mail");
        let arguments = &mail.json()["personalizations"][0]["custom_args"];
        assert_eq!(arguments, &json!({"otpost_request": "r1", "otpost_attempt": "1"}));
        let text = mail.json()["content"][0]["value"].as_str().expect("a text").to_owned();
        let code: String =
            text.split(|c: char| !c.is_ascii_digit()).find(|run| run.len() == 6).expect("a code").to_owned();
        assert!(!mail.json()["subject"].to_string().contains(&code), "the code is in the text alone");

        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs().to_string();
        let events = json!([{
            "event": "delivered", "email": ANA, "timestamp": 1, "sg_event_id": "e1", "response": "250 OK",
            "sg_message_id": format!("{MESSAGE_ID}.recvd-1-0"), "otpost_request": arguments["otpost_request"],
            "otpost_attempt": arguments["otpost_attempt"],
        }])
        .to_string()
            + "\r\n";
        let client =
            reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("a client");
        for _ in 0..2 {
            let answer = client
                .post(format!("http://{http}/webhooks/sendgrid/events"))
                .header("x-twilio-email-event-webhook-signature", key.sign(&seconds, events.as_bytes()))
                .header("x-twilio-email-event-webhook-timestamp", &seconds)
                .body(events.clone())
                .send()
                .await;
            assert_eq!(answer.expect("an answer").status().as_u16(), 204);
        }
        let delivered = results.next().await;
        assert_eq!(
            (delivered.routing_key.as_str(), delivered.message_id.as_str()),
            ("email.delivered", "r1:delivered")
        );
        for (_, _, kept) in redis.dump() {
            assert!(!kept.contains(&code) && !kept.contains(ANA), "{kept}");
        }
    })
    .await;
}
