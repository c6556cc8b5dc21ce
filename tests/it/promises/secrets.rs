//! No code and no full number appears in logs, results, dead letters or metrics.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;
use std::time::Duration;

use crate::harness::{ALICE, Embedded, Options, with};
use otpost::domain::send_failure::{Scope, SendFailure};
use serde_json::json;
use tracing_subscriber::layer::SubscriberExt as _;

thread_local! {
    static CAPTURED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Keeps the log lines of each thread apart. One subscriber serves the whole process: `tracing` caches for the process
/// whether a line is enabled, so a subscriber of one thread could miss lines that another thread logged first.
struct PerThread;

impl Write for PerThread {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        CAPTURED
            .with_borrow_mut(|captured| captured.as_mut().map(|captured| captured.extend_from_slice(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Captures the log lines of this thread from now on.
pub fn start_capturing() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = otpost::telemetry::filter_of("trace").expect("a filter");
        let lines = tracing_subscriber::fmt::layer().json().with_writer(|| PerThread);
        let subscriber = tracing_subscriber::registry().with(filter).with(lines);
        tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");
    });
    CAPTURED.set(Some(Vec::new()));
}

pub fn captured_log() -> String {
    String::from_utf8(CAPTURED.take().unwrap_or_default()).expect("log lines are text")
}

/// Causes every kind of event: sends, refusals, failures, sends in doubt, checks, outages, unreadable bodies.
async fn drive(gateway: &mut Embedded, captured: &mut Vec<String>) -> Vec<String> {
    let scripted = [
        SendFailure::refused(Scope::Recipient, Some(21211)),
        SendFailure::InDoubt { detail: "timed out".to_owned() },
        SendFailure::Throttled { provider_code: None, retry_after: Some(Duration::from_secs(1)) },
        SendFailure::NotConnected { detail: "refused".to_owned() },
    ];
    for (at, failure) in scripted.into_iter().enumerate() {
        gateway.world.provider.fail_next([failure]);
        gateway.publish(&with(
            &format!("r{at}"),
            ALICE,
            json!({"user_name": "Ana", "client_ip": "10.1.2.3"}),
        ));
        captured.push(gateway.result().await.body.to_string());
    }
    gateway.publish(&with("own", ALICE, json!({"code": "98761234", "user_id": "user-7"})));
    captured.push(gateway.result().await.body.to_string());
    for number in ["+573001234567890", "3001234567x", "6012345678", "00573001234567"] {
        captured.push(gateway.request("bad", number).await.body.to_string());
    }
    gateway.publish(br#"{"to":"+573001234567","code":"98761234"}"#);
    gateway.publish(br#"{"request_id":"odd","to":573001234567,"code":98761234}"#);
    captured.push(gateway.result().await.body.to_string());
    gateway.world.broker.fail_next_publishes(1);
    captured.push(gateway.request("again", ALICE).await.body.to_string());
    let codes: Vec<String> = gateway.posted().into_iter().map(|post| post.code).collect();
    gateway.verify(ALICE, "11112222").await;
    gateway.verify(ALICE, codes.last().expect("something was sent")).await;
    codes
}

#[tokio::test(start_paused = true)]
async fn no_code_or_full_address_appears_in_anything_captured() {
    start_capturing();
    let mut gateway = Embedded::with(Options { caller_codes_allowed: true, ..Options::default() });
    let mut captured = Vec::new();
    let codes = drive(&mut gateway, &mut captured).await;
    let log = captured_log();
    let dead = gateway.world.dead_letters();
    captured.extend(
        dead.iter().map(|dead_letter| {
            format!("{} {}", dead_letter.error, String::from_utf8_lossy(&dead_letter.body))
        }),
    );
    captured.push(otpost::telemetry::metrics::render());
    assert!(log.lines().count() > 12, "an empty log proves nothing");
    captured.push(log);
    let secrets = codes.iter().map(String::as_str).chain([
        "98761234",
        "11112222",
        "3001234567",
        "6012345678",
        "user-7",
        "10.1.2.3",
    ]);
    for secret in secrets {
        for text in &captured {
            assert!(!has_run(text, secret), "{secret} is in: {text}");
        }
    }
}

/// True if a text has the secret, but not as a random part of a longer run of digits.
pub fn has_run(text: &str, secret: &str) -> bool {
    let is_part = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    text.match_indices(secret).any(|(at, found)| {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        secret.len() >= 10 || (!is_part(before) && !is_part(bytes.get(at + found.len())))
    })
}
