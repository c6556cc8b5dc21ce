//! Test numbers: their code is fixed, and nothing is sent to them.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use otpost::clock::Clock;
use otpost::config::ProofSettings;
use otpost::domain::code::CodeLength;
use otpost::domain::limit::Limits;
use otpost::domain::test_number::TestNumbers;
use otpost::domain::verdict::Verdict;
use otpost::http::ProofSigner;
use otpost::telemetry::metrics;
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Embedded, HOUR, Options, request, with};
use crate::http::{TestServer, VERIFY_SERVICE, service};

const CODE: &str = "482913";

/// The day in so many days.
fn day(days: i64) -> String {
    let seconds = i64::try_from(Clock::System.now().as_seconds()).expect("seconds") + days * 86_400;
    Timestamp::from_second(seconds).expect("a time").strftime("%Y-%m-%d").to_string()
}

fn gateway(last_day: &str) -> Embedded {
    gateway_with(last_day, Options { limits: Limits::default(), ..Options::default() })
}

fn gateway_with(last_day: &str, options: Options) -> Embedded {
    let length = CodeLength::new(6).expect("valid");
    let numbers = TestNumbers::parse(&format!("{ALICE}:{CODE}:{last_day}"), length)
        .unwrap_or_else(|error| panic!("{error}"));
    Embedded::with(Options { test_numbers: Arc::new(numbers), ..options })
}

#[tokio::test(start_paused = true)]
async fn a_test_number_is_verified_with_its_code_and_gets_no_message() {
    let mut gateway = gateway(&day(30));
    let sent = gateway.request("r1", ALICE).await;
    sent.expect_sent();
    assert_eq!(sent.body["test"], true);
    for name in ["provider", "provider_message_id", "attempts", "segments", "error"] {
        assert!(sent.body.get(name).is_none(), "{name}: {}", sent.body);
    }
    assert!(sent.body["expires_at"].is_string() && sent.body["resend_after"] == 30, "{}", sent.body);
    assert!(gateway.posted().is_empty());
    assert!(matches!(gateway.verify(ALICE, "000000").await, Verdict::Wrong { attempts_left: 4 }));
    assert_eq!(gateway.verify(ALICE, CODE).await, Verdict::Verified);
    assert_eq!(gateway.verify(ALICE, CODE).await, Verdict::AlreadyUsed);
    let event = gateway.result().await;
    assert_eq!((&event.body["status"], &event.body["test"]), (&json!("verified"), &json!(true)));
    // Any other number is as before.
    let other = gateway.request("r2", BOB).await;
    assert!(other.expect_sent().body.get("test").is_none(), "{}", other.body);
    assert_eq!(gateway.posted().len(), 1);
    assert_ne!(gateway.verify(BOB, CODE).await, Verdict::Verified);
    let counted = metrics::render();
    let series = r#"otpost_test_requests_total{status="sent"} "#;
    let count = counted.lines().find_map(|line| line.strip_prefix(series));
    assert!(count.is_some_and(|count| count != "0"), "{count:?}");
}

#[tokio::test(start_paused = true)]
async fn the_limits_of_a_test_number_count() {
    let mut gateway = gateway(&day(30));
    gateway.request("r1", ALICE).await.expect_sent();
    let rejected = gateway.request("r2", ALICE).await;
    rejected.expect("rejected", Some("cooldown"));
    assert_eq!(rejected.body["test"], true);
    for at in 3..7 {
        tokio::time::advance(Duration::from_secs(31)).await;
        gateway.request(&format!("r{at}"), ALICE).await.expect_sent();
    }
    tokio::time::advance(Duration::from_secs(31)).await;
    gateway.request("r7", ALICE).await.expect("rejected", Some("rate_limited"));
    for _ in 0..4 {
        assert!(matches!(gateway.verify(ALICE, "000000").await, Verdict::Wrong { .. }));
    }
    gateway.verify(ALICE, "000000").await;
    assert!(matches!(gateway.verify(ALICE, CODE).await, Verdict::Locked { .. }));
    assert!(gateway.posted().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_repeat_gets_the_same_result_and_a_used_code_works_again_after_the_next_request() {
    let mut gateway = gateway(&day(30));
    gateway.request("r1", ALICE).await.expect_sent();
    let again = gateway.request("r1", ALICE).await;
    assert_eq!(again.expect_sent().expect_replayed(true).body["test"], true);
    assert_eq!(gateway.verify(ALICE, CODE).await, Verdict::Verified);
    gateway.result().await;
    tokio::time::advance(Duration::from_secs(31)).await;
    gateway.request("r2", ALICE).await.expect_sent();
    assert_eq!(gateway.verify(ALICE, CODE).await, Verdict::Verified);
}

/// The day is looked at when the request comes, however long the process runs.
#[tokio::test(start_paused = true)]
async fn after_its_last_day_a_test_number_is_like_any_other() {
    for (last_day, wait, is_test) in
        [(1, Duration::ZERO, true), (1, 48 * HOUR, false), (-1, Duration::ZERO, false)]
    {
        let mut gateway = gateway(&day(last_day));
        tokio::time::advance(wait).await;
        let result = gateway.request("r1", ALICE).await;
        result.expect_sent();
        assert_eq!(result.body.get("test").is_some(), is_test, "{}", result.body);
        assert_eq!(gateway.posted().len(), usize::from(!is_test));
        let verified = gateway.verify(ALICE, CODE).await == Verdict::Verified;
        assert_eq!(verified, is_test);
    }
}

#[tokio::test(start_paused = true)]
async fn a_last_day_that_is_too_far_does_not_count_either() {
    let mut gateway = gateway(&day(92));
    let result = gateway.request("r1", ALICE).await;
    assert!(result.expect_sent().body.get("test").is_none(), "{}", result.body);
    assert_eq!(gateway.posted().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_code_is_not_that_of_a_test_number() {
    let mut gateway = gateway_with(&day(30), Options { caller_codes_allowed: true, ..Options::default() });
    gateway.publish(&with("r1", ALICE, json!({"code": "111222"})));
    assert_eq!(gateway.result().await.expect_sent().body["test"], true);
    assert!(matches!(gateway.verify(ALICE, "111222").await, Verdict::Wrong { .. }));
    assert_eq!(gateway.verify(ALICE, CODE).await, Verdict::Verified);
}

/// The API does not know the setting: the record of the request tells it.
#[tokio::test(start_paused = true)]
async fn the_code_of_a_test_number_gives_no_proof() {
    for (to, is_test) in [(ALICE, true), (BOB, false)] {
        let mut gateway = gateway(&day(30));
        gateway.publish(&request("r1", to));
        gateway.result().await.expect_sent();
        let code = match is_test {
            true => CODE.to_owned(),
            false => gateway.posted()[0].code.clone(),
        };
        let answer = verified_over_http(&gateway, to, &code).await;
        assert_eq!(
            (answer.get("proof").is_none(), answer.get("test").is_some()),
            (is_test, is_test),
            "{answer}"
        );
    }
}

/// The chooser of a code knows it without a message, whether or not one was sent.
#[tokio::test(start_paused = true)]
async fn a_code_that_its_caller_chose_gives_no_proof() {
    let options = Options { caller_codes_allowed: true, ..Options::default() };
    let mut gateway = gateway_with(&day(30), options);
    gateway.publish(&with("r1", BOB, json!({"code": "735194"})));
    let result = gateway.result().await;
    result.expect_sent();
    let answer = verified_over_http(&gateway, BOB, "735194").await;
    assert!(answer.get("proof").is_none() && answer.get("test").is_none(), "{answer}");
}

async fn verified_over_http(gateway: &Embedded, to: &str, code: &str) -> Value {
    let (verifier, proofs) = (gateway.verifier.clone(), proofs());
    let server = TestServer::with(|api| {
        api.verifier = verifier;
        api.proofs = Some(proofs);
    });
    server.post(VERIFY_SERVICE, &service(), &json!({"to": to, "otp_code": code})).await.expect(200)
}

fn proofs() -> ProofSigner {
    let proofs = ProofSigner::new(&ProofSettings {
        keys: include_str!("../keys/ed25519.private.pem").into(),
        issuer: "otpost".to_owned(),
        audience: "shop".to_owned(),
    });
    proofs.expect("a key")
}
