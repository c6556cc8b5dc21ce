//! E-mail codes: the same flow on a channel of its own.

use std::sync::Arc;
use std::time::Duration;

use otpost::domain::channel::Channel;
use otpost::domain::limit::Limit;
use otpost::domain::recipient_rules::RecipientRules;
use otpost::domain::send_failure::{Scope, SendFailure};
use otpost::domain::verdict::Verdict;
use serde_json::json;

use crate::harness::{ALICE, Embedded, HOUR, Options, World, request, with};
use crate::promises::secrets::{captured_log, start_capturing};
use crate::scripted::ScriptedProvider;

const ANA: &str = "ana@shop.example";

fn by_email() -> Options {
    Options { channel: Channel::Email, ..Options::default() }
}

#[tokio::test(start_paused = true)]
async fn a_code_by_email_gets_a_result_of_its_channel_and_verifies_only_there() {
    let mut gateway = Embedded::with(by_email());
    let ended = gateway.request("r1", "Ana@Shop.example").await;
    ended.expect_sent();
    assert_eq!(ended.message.routing_key, "email.sent");
    assert_eq!((&ended.body["channel"], &ended.body["to"]), (&json!("email"), &json!("a***@s***.example")));
    assert_eq!(ended.body.get("segments"), None);
    let code = gateway.posted()[0].code.clone();
    assert_eq!(gateway.posted()[0].to, ANA);
    assert_eq!(gateway.verify(ANA, &code).await, Verdict::Verified);
    assert_eq!(gateway.verify(ANA, &code).await, Verdict::AlreadyUsed);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_could_inject_a_header_or_a_recipient_is_refused_by_its_rule() {
    let mut gateway = Embedded::with(by_email());
    let long = format!("{}@shop.example", "a".repeat(65));
    let cases = [
        ("ana@shop.example\r\nBcc: bob@shop.example", "control character"),
        ("ana@shop.example,bob@shop.example", "more than one @"),
        ("Ana <ana@shop.example>", "before the @"),
        ("añá@shop.example", "beyond ASCII"),
        (long.as_str(), "1 to 64 characters"),
        ("ana@localhost", "a domain name"),
        (ALICE, "no @"),
    ];
    for (nth, (to, rule)) in cases.into_iter().enumerate() {
        let ended = gateway.request(&format!("r{nth}"), to).await;
        ended.expect("rejected", Some("invalid_recipient"));
        let message = ended.body["error"]["message"].as_str().expect("a sentence");
        assert!(message.contains(rule) && !message.contains("ana") && !message.contains("bob"), "{message}");
        assert_eq!(ended.body["to"], "***");
    }
    assert!(gateway.posted().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_disabled_channel_rejects_requests() {
    let rules = RecipientRules { email_enabled: false, ..Options::default().rules };
    let mut gateway = Embedded::with(Options { rules, ..by_email() });
    gateway.request("r1", ANA).await.expect("rejected", Some("channel_disabled"));
    assert!(gateway.posted().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_template_of_text_messages_does_not_exist_for_emails() {
    let mut gateway = Embedded::with(by_email());
    gateway.publish(&with("r1", ANA, json!({"template": "login"})));
    gateway.result().await.expect("rejected", Some("invalid_request"));
    gateway.publish(&with("r2", ANA, json!({"template": "default"})));
    gateway.result().await.expect_sent();
}

#[tokio::test(start_paused = true)]
async fn an_address_has_the_limits_of_a_number_however_it_is_written() {
    let limits = Options::default().limits.with(Limit::Recipient, 2);
    let mut gateway = Embedded::with(Options { limits, ..by_email() });
    gateway.request("r1", "ana@shop.example").await.expect_sent();
    gateway.request("r2", "ANA@shop.EXAMPLE").await.expect_sent();
    gateway.request("r3", "Ana@shop.example").await.expect("rejected", Some("rate_limited"));
}

#[tokio::test(start_paused = true)]
async fn no_provider_is_polled_for_the_receipt_of_an_email() {
    let world = World::new();
    let by_mail = World { provider: Arc::new(ScriptedProvider::new(world.clock)), ..world.clone() };
    let (texts_by, mails_by) = (world.provider.clone(), by_mail.provider.clone());
    let mut emails = Embedded::in_world(by_mail, Options { maintained: true, ..by_email() });
    let mut texts = Embedded::in_world(world, Options { maintained: true, ..Options::default() });
    emails.request("e1", ANA).await.expect_sent();
    tokio::time::sleep(5 * HOUR).await;
    assert_eq!((texts_by.fetches(), mails_by.fetches()), (0, 0));
    texts.result().await;
    texts.request("s1", ALICE).await.expect_sent();
    tokio::time::sleep(5 * HOUR).await;
    assert!(texts_by.fetches() > 0, "receipts of text messages are polled");
    assert_eq!(mails_by.fetches(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_provider_of_emails_that_hangs_delays_no_text_message() {
    let world = World::new();
    let hanging = World { provider: Arc::new(ScriptedProvider::new(world.clock)), ..world.clone() };
    let provider = hanging.provider.clone();
    provider.close_gate();
    let options = || Options { concurrency: 2, ..by_email() };
    let emails = Embedded::in_world(hanging, options());
    let mut texts = Embedded::in_world(world, Options { concurrency: 2, ..Options::default() });
    for nth in 0..20 {
        emails.publish(&request(&format!("e{nth}"), &format!("ana{nth}@shop.example")));
    }
    while provider.posted().len() < 2 {
        tokio::task::yield_now().await;
    }
    for nth in 0..20 {
        let started = tokio::time::Instant::now();
        texts.request(&format!("s{nth}"), &format!("+5730012345{nth:02}")).await.expect_sent();
        assert!(started.elapsed() < Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_does_not_lower_the_concurrency_for_others() {
    let mut gateway = Embedded::with(Options { concurrency: 8, ..by_email() });
    let provider = gateway.world.provider.clone();
    provider.fail_next(std::iter::repeat_n(SendFailure::Deferred { provider_code: Some(452) }, 5));
    let ended = gateway.request("full", ANA).await;
    ended.expect_sent();
    assert_eq!(ended.body["attempts"], 6);
    provider.close_gate();
    for nth in 0..8 {
        gateway.publish(&request(&format!("r{nth}"), &format!("bob{nth}@shop.example")));
    }
    provider.until_posted(6 + 8).await;
    provider.open_gate(8);
    for _ in 0..8 {
        gateway.result().await.expect_sent();
    }
}

#[tokio::test(start_paused = true)]
async fn paused_sends_and_probes_are_logged_with_their_channel() {
    start_capturing();
    let mut gateway = Embedded::with(Options { maintained: true, ..by_email() });
    gateway.world.provider.fail_next([SendFailure::refused(Scope::Account, Some(535))]);
    gateway.request("r1", ANA).await.expect_sent();
    let log = captured_log();
    for message in ["send waiting", "provider account probed"] {
        let line = log.lines().find(|line| line.contains(message)).unwrap_or_else(|| panic!("{log}"));
        let line: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
        assert_eq!(line["fields"]["channel"], "email", "{line}");
    }
}
