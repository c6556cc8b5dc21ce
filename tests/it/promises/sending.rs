//! Texts, attempts, deadlines, and refusals of the provider.

use std::time::Duration;

use otpost::domain::recipient_rules::RecipientRules;
use otpost::domain::send_failure::{Scope, SendFailure};
use serde_json::json;

use crate::harness::{ALICE, BOB, Embedded, Options, with};

fn rejected(scope: Scope) -> SendFailure {
    SendFailure::refused(scope, Some(21211))
}

fn throttled(seconds: Option<u64>) -> SendFailure {
    SendFailure::Throttled { provider_code: Some(20429), retry_after: seconds.map(Duration::from_secs) }
}

fn unreachable() -> SendFailure {
    SendFailure::NotConnected { detail: "connection refused".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_no_store_is_needed_to_reject_never_reaches_it() {
    let mut gateway = Embedded::start();
    for (to, error) in [
        ("6012345678", "landline"),
        ("+12025550143", "country_not_allowed"),
        ("12345678", "invalid_recipient"),
        ("0057 301 221 2345", "invalid_recipient"),
        ("+57 300 FLOWERS", "invalid_recipient"),
    ] {
        let ended = gateway.request("r1", to).await;
        ended.expect("rejected", Some(error)).expect_replayed(false);
        assert!(!ended.body.to_string().contains(to));
    }
    assert_eq!(gateway.world.store.calls.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert!(gateway.posted().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_disabled_channel_rejects_requests() {
    let rules = RecipientRules { sms_enabled: false, ..Options::default().rules };
    let mut gateway = Embedded::with(Options { rules, ..Options::default() });
    gateway.request("r1", ALICE).await.expect("rejected", Some("channel_disabled"));
}

#[tokio::test(start_paused = true)]
async fn a_bad_request_gets_a_result_that_names_the_field_and_not_the_value() {
    let mut gateway = Embedded::start();
    gateway.publish(&with("r1", ALICE, json!({"code": "98x765"})));
    let ended = gateway.result().await;
    ended.expect("rejected", Some("invalid_request"));
    let message = ended.body["error"]["message"].as_str().expect("a sentence");
    assert_eq!(message, "`code` must be 4 to 10 digits; got a string of 6 characters");
    for (field, value) in [
        ("template", json!("nobody-wrote-it")),
        ("autofill", json!({"webotp_domain": "not a domain"})),
        ("timezone", json!("Mars/Olympus")),
        ("client_ip", json!("1.2.3")),
    ] {
        gateway.publish(&with("r2", ALICE, json!({field: value})));
        let ended = gateway.result().await;
        ended.expect("rejected", Some("invalid_request"));
        let text = ended.body.to_string();
        assert!(
            text.contains(field) && !text.contains("nobody-wrote") && !text.contains("Olympus"),
            "{text}"
        );
    }
    assert!(gateway.posted().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_greets_in_the_callers_language_and_ends_as_asked() {
    let mut gateway = Embedded::start();
    gateway.publish(&with("r1", ALICE, json!({"user_name": "Ana", "locale": "en-US"})));
    gateway.result().await.expect_sent();
    gateway.publish(&with("r2", BOB, json!({"autofill": {"webotp_domain": "shop.example"}})));
    gateway.result().await.expect_sent();
    let posted = gateway.posted();
    assert!(posted[0].body.contains("Ana") && posted[0].body.contains(&posted[0].code), "{}", posted[0].body);
    assert!(posted[1].body.ends_with(&format!("@shop.example #{}", posted[1].code)), "{}", posted[1].body);
    assert_eq!(posted[1].to, BOB);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_too_late() {
    let mut gateway = Embedded::start();
    let now = gateway.world.clock.now();
    let soon = now.plus(Duration::from_secs(29)).to_string();
    gateway.publish(&with("r1", ALICE, json!({"not_after": soon})));
    gateway.result().await.expect("rejected", Some("expired"));
    let old = "2020-01-01T00:00:00Z";
    gateway.publish(&with("r2", ALICE, json!({"requested_at": old})));
    gateway.result().await.expect("rejected", Some("expired"));
    let in_a_minute = gateway.world.clock.now().plus(Duration::from_secs(60)).to_string();
    gateway.publish(&with("r3", ALICE, json!({"not_after": in_a_minute})));
    gateway.result().await.expect_sent();
    let validity = gateway.posted()[0].validity;
    assert!(validity <= Duration::from_secs(60) && validity > Duration::from_secs(58), "{validity:?}");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_send_waits_as_long_as_the_provider_asked() {
    let mut gateway = Embedded::start();
    gateway.world.provider.fail_next([throttled(Some(20))]);
    let ended = gateway.request("r1", ALICE).await;
    ended.expect_sent();
    assert_eq!(ended.body["attempts"], 2);
    let posted = gateway.posted();
    assert!(posted[1].at - posted[0].at >= Duration::from_secs(20));
    assert_eq!(posted[0].code, posted[1].code, "each attempt sends the same code");
    assert_eq!(posted[0].body, posted[1].body);
}

#[tokio::test(start_paused = true)]
async fn retries_end_before_the_code_expires() {
    let mut gateway = Embedded::start();
    let started = tokio::time::Instant::now();
    gateway.world.provider.fail_next((0..50).map(|_| throttled(Some(100))));
    let ended = gateway.request("r1", ALICE).await;
    ended.expect("failed", Some("provider_unavailable"));
    assert_eq!(ended.body["error"]["provider_code"], 20429);
    assert!(started.elapsed() < Duration::from_secs(571), "{:?}", started.elapsed());
    assert_eq!(gateway.posted().len(), 6, "at 0, 100, … 500 s: the next would come too late");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_never_made_is_attempted_again() {
    let mut gateway = Embedded::start();
    gateway.world.provider.fail_next([unreachable(), unreachable()]);
    let ended = gateway.request("r1", ALICE).await;
    ended.expect_sent();
    assert_eq!(ended.body["attempts"], 3);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_never_answers_is_not_waited_for() {
    let mut gateway = Embedded::start();
    gateway.world.provider.close_gate();
    let started = tokio::time::Instant::now();
    gateway.request("r1", ALICE).await.expect("unknown", Some("in_doubt"));
    assert_eq!(gateway.posted().len(), 2);
    assert!(started.elapsed() < Duration::from_secs(90), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ends_the_request_with_the_providers_number() {
    let mut gateway = Embedded::start();
    let scopes = [Scope::Recipient, Scope::Request, Scope::Unrecognised, Scope::Country];
    for (at, scope) in scopes.into_iter().enumerate() {
        gateway.world.provider.fail_next([rejected(scope)]);
        let ended = gateway.request("r", &format!("+57300123456{at}")).await;
        ended.expect("failed", Some("provider_rejected"));
        assert_eq!(ended.body["error"]["provider_code"], 21211);
        assert_eq!(ended.body["attempts"], 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_between_two_attempts_does_not_send_an_expired_code() {
    let mut gateway = Embedded::start();
    let store = gateway.world.store.clone();
    gateway.world.provider.fail_next([throttled(Some(300))]);
    gateway.publish(&with("r1", ALICE, json!({})));
    gateway.world.provider.until_posted(1).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    store.gone.store(true, std::sync::atomic::Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(650)).await;
    store.gone.store(false, std::sync::atomic::Ordering::SeqCst);
    gateway.result().await.expect("failed", Some("expired"));
    assert_eq!(gateway.posted().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_backoff_is_kept_when_its_delivery_is_requeued() {
    let mut gateway = Embedded::start();
    let store = gateway.world.store.clone();
    store.gone.store(true, std::sync::atomic::Ordering::SeqCst);
    gateway.publish(&with("r1", ALICE, json!({})));
    tokio::time::sleep(Duration::from_secs(600)).await;
    store.gone.store(false, std::sync::atomic::Ordering::SeqCst);
    gateway.world.provider.fail_next([throttled(Some(400))]);
    gateway.result().await.expect_sent();
    let posted = gateway.posted();
    assert_eq!(posted.len(), 2);
    assert!(posted[1].at - posted[0].at >= Duration::from_secs(400), "{:?}", posted[1].at - posted[0].at);
}

#[tokio::test(start_paused = true)]
async fn a_code_that_was_used_meanwhile_is_not_sent_again() {
    let mut gateway = Embedded::start();
    gateway.world.provider.fail_next([throttled(Some(60))]);
    gateway.publish(&with("r1", ALICE, json!({})));
    gateway.world.provider.until_posted(1).await;
    gateway.request("r2", ALICE).await.expect_sent();
    let code = gateway.posted()[1].code.clone();
    assert_eq!(gateway.verify(ALICE, &code).await, otpost::domain::verdict::Verdict::Verified);
    let event = gateway.result().await;
    assert_eq!((&event.body["status"], &event.body["request_id"]), (&json!("verified"), &json!("r2")));
    gateway.result().await.expect("failed", Some("expired"));
    assert_eq!(gateway.posted().len(), 2);
}
