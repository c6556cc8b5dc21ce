//! Runs of the real binary: request, send by a file, receipt, delivery event; and the command that checks a file.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Vendor, now, reference_in};
use crate::contract::broker::World as _;
use crate::contract::broker::rabbit::{self, in_world};
use crate::documents::messages::check_result;
use crate::real::{self, Redis, redis_url};

const SECRET: &str = "webhook-secret-88cd";
const NUMBER: &str = "+573001234567";

/// A file of providers, deleted when dropped.
struct File(PathBuf);

impl File {
    fn of(text: &str) -> File {
        let path = std::env::temp_dir().join(real::unique("providers"));
        std::fs::write(&path, text).expect("a writable folder for temporary files");
        File(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// The process is killed when dropped.
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
async fn a_code_is_sent_by_a_vendor_of_a_file_and_its_receipt_is_published() {
    let vendor = Vendor::named("webhook");
    let (fake, redis) = (vendor.fake(), Redis::fresh());
    let file = File::of(&vendor.text(&fake));
    let http = format!("127.0.0.1:{}", free_port());
    in_world(async |world| {
        let mut results = world.results().await;
        let requests = world.names.requests();
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
            .env("PROVIDERS_FILE", &file.0)
            .env("WEBHOOK_SECRET", SECRET)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let _otpost = Otpost(child.expect("the binary starts"));
        let body = json!({"request_id": "r1", "to": NUMBER}).to_string();
        let channel = world.open_channel().await;
        let sent = channel.basic_publish(
            world.names.requests().into(),
            "send-sms".into(),
            BasicPublishOptions::default(),
            body.as_bytes(),
            BasicProperties::default().with_content_type("application/json".into()),
        );
        drop(sent.await.expect("sent"));
        let sent = results.next().await;
        assert_eq!(sent.routing_key, "sms.sent");
        check_result(&sent.message_id, &sent.body);
        let result: Value = serde_json::from_slice(&sent.body).expect("JSON");
        let named = (&result["provider"], &result["provider_message_id"]);
        assert_eq!(named, (&json!("webhook"), &json!("m-1")));
        let [_, request] = fake.requests().try_into().expect("the check and one request");
        let signed = format!("{}.{}", request.headers["x-timestamp"], String::from_utf8_lossy(&request.body));
        assert_eq!(request.headers["x-signature"], hmac(&signed));

        let receipt = json!({"ref": reference_in(&request), "id": "m-1", "status": "delivered"}).to_string();
        let timestamp = now();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build();
        let post = |signature: String| {
            client
                .as_ref()
                .expect("a client")
                .post(format!("http://{http}/webhooks/webhook"))
                .header("x-timestamp", &timestamp)
                .header("x-signature", signature)
                .body(receipt.clone())
                .send()
        };
        assert_eq!(post(hmac(&format!("{timestamp}.{{}}"))).await.expect("an answer").status().as_u16(), 403);
        assert_eq!(
            post(hmac(&format!("{timestamp}.{receipt}"))).await.expect("an answer").status().as_u16(),
            204
        );
        let delivered = results.next().await;
        let named = (delivered.routing_key.as_str(), delivered.message_id.as_str());
        assert_eq!(named, ("sms.delivered", "r1:delivered"));
        check_result(&delivered.message_id, &delivered.body);
    })
    .await;
}

fn hmac(text: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any key").chain_update(text);
    hex::encode(mac.finalize().into_bytes())
}

fn check(file: &File, more: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_otpost"))
        .args(["providers", "check", "--to", "+573009999999"])
        .env_clear()
        .env("PROVIDERS_FILE", &file.0)
        .envs(more.iter().copied())
        .output()
        .expect("the binary starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_file_is_checked_and_its_request_shown_without_code_and_secrets() {
    for vendor in super::VENDORS {
        let path = format!("{}/providers/{}.toml", env!("CARGO_MANIFEST_DIR"), vendor.name);
        let file = File::of(&std::fs::read_to_string(path).expect("a file of text"));
        let secrets: Vec<(&str, &str)> = [
            "INFOBIP_API_KEY",
            "TELNYX_API_KEY",
            "VONAGE_API_KEY",
            "VONAGE_API_SECRET",
            "JASMIN_USER",
            "JASMIN_PASSWORD",
            "WEBHOOK_SECRET",
        ]
        .into_iter()
        .map(|name| (name, "hunter2"))
        .chain([("TELNYX_PUBLIC_KEY", super::NO_ONES_KEY)])
        .collect();
        let (code, said) = check(&file, &secrets);
        assert_eq!(code, Some(0), "{}: {said}", vendor.name);
        assert!(said.contains(vendor.origin) && said.contains("573009999999"), "{said}");
        assert!(said.contains("******") && said.contains("***"), "{said}");
        let has_check = said.contains("\ncheck\n  GET ");
        assert!(has_check && said.contains(&format!("route     1: {}\n", vendor.name)), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        let (code, said) = check(&file, &[]);
        assert_eq!(code, Some(2), "{}: {said}", vendor.name);
        assert!(said.contains("PROVIDERS_FILE line ") && said.contains("must name a variable"), "{said}");
    }
}

#[test]
fn a_file_beside_twilio_is_a_fault_that_names_both() {
    let vendor = Vendor::named("webhook");
    let file = File::of(&vendor.text(&vendor.fake()));
    let given = [("WEBHOOK_SECRET", "hunter2"), ("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000001")];
    let (code, said) = check(&file, &given);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("PROVIDERS_FILE is set beside TWILIO_ACCOUNT_SID"), "{said}");
    let url = ("TWILIO_INBOUND_URL", "https://otp.example.com/webhooks/twilio/inbound");
    let (code, said) = check(&file, &[("WEBHOOK_SECRET", "hunter2"), url]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("PROVIDERS_FILE is set beside TWILIO_INBOUND_URL"), "{said}");
    // A setting of otpost is no secret of a vendor.
    let text = vendor.text(&vendor.fake()).replace("env:WEBHOOK_SECRET", "env:JWT_SECRET");
    let (code, said) = check(&File::of(&text), &[("JWT_SECRET", "hunter2")]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no setting of otpost") && !said.contains("hunter2"), "{said}");
}
