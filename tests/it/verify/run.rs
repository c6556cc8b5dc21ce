//! Runs of the real binary on the real RabbitMQ and Redis: request, send, verify.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use otpost::broker::Names;
use serde_json::{Value, json};

use super::ALICE;
use crate::contract::broker::World as _;
use crate::contract::broker::rabbit::{self, RabbitWorld, in_world};
use crate::fake_twilio::{ACCOUNT_SID, AUTH_TOKEN};
use crate::fake_verify::{Answer, FakeVerify, SERVICE_SID};
use crate::real::{Redis, redis_url};

/// The binary and its API. It is killed when dropped.
struct Otpost {
    child: Child,
    http: String,
    token: String,
    client: reqwest::Client,
}

impl Drop for Otpost {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Otpost {
    fn serve(names: &Names, redis: &Redis, fake: &FakeVerify) -> Otpost {
        let http = format!("127.0.0.1:{}", free_port());
        let requests = names.requests();
        let child = otpost("serve")
            .env("ENVIRONMENT", "development")
            .env("AMQP_URL", rabbit::url())
            .env("AMQP_PREFIX", requests.strip_suffix(".requests").expect("a prefix"))
            .env("REDIS_URL", redis_url())
            .env("REDIS_PREFIX", &redis.prefix)
            .env("HTTP_ADDR", &http)
            .env("OPS_ADDR", format!("127.0.0.1:{}", free_port()))
            .env("PROVIDER_TIMEOUT_SECONDS", "4")
            .env("OTP_RESEND_COOLDOWN_SECONDS", "0")
            .env("TWILIO_VERIFY_BASE_URL", fake.base_url())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let token = otpost("token").env("ENVIRONMENT", "development").output().expect("the binary starts");
        let token = String::from_utf8(token.stdout).expect("a token is text").trim().to_owned();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(12)).build();
        Otpost { child: child.expect("the binary starts"), http, token, client: client.expect("a client") }
    }

    /// Verifies a code: the status, the problem code and the whole answer.
    async fn check(&self, code: &str) -> (u16, Value) {
        let answer = self
            .client
            .post(format!("http://{}/api/v1/auth/verify-phone-otp", self.http))
            .bearer_auth(&self.token)
            .header("content-type", "application/json")
            .body(json!({"otp_code": code}).to_string())
            .send()
            .await
            .expect("an answer");
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON"))
    }

    async fn expect(&self, code: &str, status: u16, word: &str) -> Value {
        let (got, body) = self.check(code).await;
        assert_eq!((got, body["code"].as_str().unwrap_or("verified")), (status, word), "{body}");
        body
    }
}

fn otpost(command: &str) -> Command {
    let mut otpost = Command::new(env!("CARGO_BIN_EXE_otpost"));
    otpost
        .arg(command)
        .env_clear()
        .env("SMS_PROVIDER", "verify")
        .env("TWILIO_VERIFY_SERVICE_SID", SERVICE_SID)
        .env("TWILIO_ACCOUNT_SID", ACCOUNT_SID)
        .env("TWILIO_AUTH_TOKEN", AUTH_TOKEN);
    otpost
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("an address").port()
}

async fn ask(world: &RabbitWorld, request: &str, more: Value) {
    let mut body = json!({"request_id": request, "to": ALICE});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let body = body.to_string();
    let channel = world.open_channel().await;
    let sent = channel.basic_publish(
        world.names.requests().into(),
        "send-sms".into(),
        BasicPublishOptions::default(),
        body.as_bytes(),
        BasicProperties::default().with_content_type("application/json".into()),
    );
    drop(sent.await.expect("sent"));
}

#[tokio::test]
async fn a_code_made_by_verify_is_sent_and_accepted_once() {
    let (fake, redis) = (FakeVerify::start(), Redis::fresh());
    in_world(async |world| {
        let mut results = world.results().await;
        let otpost = Otpost::serve(&world.names, &redis, &fake);
        ask(world, "r1", json!({"locale": "es-CO"})).await;
        let sent = results.next().await;
        assert_eq!(sent.routing_key, "sms.sent");
        let response: Value = serde_json::from_slice(&sent.body).expect("JSON");
        assert_eq!((&response["provider"], &response["attempts"]), (&json!("verify"), &json!(1)));
        assert_eq!(response["provider_message_id"], "VL00000000000000000000000000000000");
        assert!(response.get("segments").is_none() && response.get("expires_at").is_some(), "{response}");
        let [send] = fake.requests_to("/Verifications").try_into().expect("one send");
        assert_eq!(send.field("Locale"), Some("es"));

        let code = fake.code(ALICE);
        let wrong = otpost.expect("000000", 422, "wrong_code").await;
        assert_eq!(wrong["attempts_remaining"], 4);
        let verified = otpost.expect(&code, 200, "verified").await;
        assert_eq!(verified["verified"], true);
        let event = results.next().await;
        assert_eq!((event.routing_key.as_str(), event.message_id.as_str()), ("sms.verified", "r1:verified"));
        otpost.expect(&code, 409, "code_used").await;
        let checks = fake.requests_to("/VerificationCheck");
        assert_eq!(checks.len(), 2, "a code that was used is not asked about");
        let sid = "VE00000000000000000000000000000000";
        assert!(checks.iter().all(|check| check.field("VerificationSid") == Some(sid)));

        let dump = redis.dump();
        let named = |(_, _, kept): &(String, i64, String)| kept.contains(sid) && kept.contains("@provider");
        assert!(dump.iter().any(named), "the challenge has the Verification's name");
        for (key, _, kept) in dump {
            assert!(!kept.contains(&code) && !kept.contains(ALICE), "{key}: {kept}");
        }

        ask(world, "r2", json!({"code": "123456"})).await;
        let refused = results.next().await;
        let response: Value = serde_json::from_slice(&refused.body).expect("JSON");
        assert_eq!(
            (refused.routing_key.as_str(), &response["error"]["code"]),
            ("sms.rejected", &json!("invalid_request"))
        );
        assert_eq!(fake.sent(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_send_whose_answer_was_lost_is_found_at_verify() {
    let (fake, redis) = (FakeVerify::start(), Redis::fresh());
    // The first request is the check of the credentials.
    fake.next([Answer::Normal, Answer::DoThenClose]);
    in_world(async |world| {
        let mut results = world.results().await;
        let otpost = Otpost::serve(&world.names, &redis, &fake);
        ask(world, "r1", json!({})).await;
        let sent = results.next().await;
        let response: Value = serde_json::from_slice(&sent.body).expect("JSON");
        assert_eq!((sent.routing_key.as_str(), fake.sent()), ("sms.sent", 1), "{response}");
        assert_eq!(response["provider_message_id"], "VL00000000000000000000000000000000");

        fake.next([Answer::Error(429, 60212)]);
        otpost.expect(&fake.code(ALICE), 503, "provider_unavailable").await;
        fake.next([Answer::DoThenClose]);
        let unknown = otpost.expect("000000", 503, "provider_unavailable").await;
        assert!(unknown.get("attempts_remaining").is_none(), "{unknown}");
        assert_eq!(otpost.expect("000000", 422, "wrong_code").await["attempts_remaining"], 3);
        fake.next([Answer::Error(429, 60202)]);
        otpost.expect("000000", 429, "too_many_attempts").await;
        // The check is made, and its answer is lost.
        fake.next([Answer::DoThenClose]);
        let code = fake.code(ALICE);
        let (status, body) = otpost.check(&code).await;
        assert_eq!(
            status, 503,
            "an earlier check has no verdict yet, and its code may have been right: {body}"
        );

        ask(world, "r2", json!({"purpose": "verification"})).await;
        assert_eq!(results.next().await.routing_key, "sms.sent");
        assert_ne!(fake.code(ALICE), code, "a used code is never sent again");
        fake.expire();
        otpost.expect(&fake.code(ALICE), 410, "code_expired").await;
    })
    .await;
}

#[tokio::test]
async fn a_deleted_service_does_not_make_codes_expired() {
    let (fake, redis) = (FakeVerify::start(), Redis::fresh());
    in_world(async |world| {
        let mut results = world.results().await;
        let otpost = Otpost::serve(&world.names, &redis, &fake);
        ask(world, "r1", json!({})).await;
        assert_eq!(results.next().await.routing_key, "sms.sent");
        fake.delete_service();
        // More checks than allowed attempts: none is counted.
        for _ in 0..6 {
            let refused = otpost.expect(&fake.code(ALICE), 503, "provider_unavailable").await;
            assert_eq!(refused["detail"], "the code could not be checked; no attempt was counted");
        }
    })
    .await;
}

#[test]
fn production_does_not_start_with_a_missing_service() {
    let fake = FakeVerify::start();
    fake.next([Answer::Error(404, 20404)]);
    let output = otpost("worker")
        // They are not needed to start.
        .env("AMQP_URL", "amqp://127.0.0.1:1")
        .env("REDIS_URL", "redis://127.0.0.1:1")
        .env("SMS_BRAND", "MeStore")
        .env("OTP_SECRET_KEYS", "k1:s5VoIedjng5FOfqCH0Nkq9hJTZT9qdQnvsnGkd+AyMc=")
        .env("OTP_RECIPIENT_KEY", "65U8x/WOwpfTdmrExkT5DBWiVDkcum1BCeqjaS3rM10=")
        .env("OPS_ADDR", format!("127.0.0.1:{}", free_port()))
        .env("EMAIL_OTP_ENABLED", "false")
        .env("TWILIO_VERIFY_BASE_URL", fake.base_url())
        .output()
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("TWILIO_VERIFY_SERVICE_SID") && !said.contains(AUTH_TOKEN), "{said}");
    assert!(said.contains("knows no such service") && !said.contains("credentials"), "{said}");
}
