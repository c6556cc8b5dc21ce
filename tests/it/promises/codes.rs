//! A code works once, for its recipient and purpose, within its life, and cannot be guessed.

use std::time::Duration;

use otpost::domain::send_failure::SendFailure;
use otpost::domain::verdict::Verdict;
use serde_json::json;

use crate::harness::{ALICE, BOB, Embedded, Options, PublishedResult, World, with};

#[tokio::test(start_paused = true)]
async fn a_code_works_once_for_its_recipient() {
    let mut gateway = Embedded::start();
    assert_eq!(gateway.verify(ALICE, "123456").await, Verdict::NonePending);
    gateway.request("r1", ALICE).await.expect_sent();
    let code = gateway.posted()[0].code.clone();
    assert_eq!(gateway.verify(BOB, &code).await, Verdict::NonePending);
    assert_eq!(gateway.verify(ALICE, &code).await, Verdict::Verified);
    assert_eq!(gateway.verify(ALICE, &code).await, Verdict::AlreadyUsed);
}

#[tokio::test(start_paused = true)]
async fn a_code_for_one_purpose_does_not_verify_another() {
    let mut gateway = Embedded::start();
    gateway.publish(&with("r1", ALICE, json!({"purpose": "login"})));
    gateway.result().await.expect_sent();
    let code = gateway.posted()[0].code.clone();
    assert_eq!(gateway.verify(ALICE, &code).await, Verdict::NonePending);
}

#[tokio::test(start_paused = true)]
async fn a_code_expires_after_its_life() {
    let mut gateway = Embedded::start();
    gateway.request("r1", ALICE).await.expect_sent();
    let code = gateway.posted()[0].code.clone();
    tokio::time::advance(Duration::from_secs(600)).await;
    assert!(matches!(gateway.verify(ALICE, &code).await, Verdict::Expired { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_guesses_gets_five_wrong_attempts() {
    let mut gateway = Embedded::start();
    gateway.request("r1", ALICE).await.expect_sent();
    let code = gateway.posted()[0].code.clone();
    let wrong = if code == "000000" { "000001" } else { "000000" };
    let guesses = futures_util::future::join_all((0..500).map(|_| gateway.verify(ALICE, wrong))).await;
    let counted = guesses.iter().filter(|verdict| matches!(verdict, Verdict::Wrong { .. })).count();
    assert_eq!(counted, 5);
    assert_eq!(gateway.verify(ALICE, &code).await, Verdict::Locked { retry_after: None });
}

#[tokio::test(start_paused = true)]
async fn a_resend_neither_resets_wrong_attempts_nor_prolongs_the_code() {
    let mut gateway = Embedded::start();
    gateway.request("r1", ALICE).await.expect_sent();
    let code = gateway.posted()[0].code.clone();
    let wrong = if code == "000000" { "000001" } else { "000000" };
    for attempts_left in [4, 3] {
        assert_eq!(gateway.verify(ALICE, wrong).await, Verdict::Wrong { attempts_left });
    }
    tokio::time::advance(Duration::from_secs(470)).await;
    let resent = gateway.request("r2", ALICE).await;
    assert_eq!(gateway.posted()[1].code, code);
    assert!(gateway.posted()[1].body.contains("2 minutos"), "{}", gateway.posted()[1].body);
    resent.expect_sent();
    assert_eq!(gateway.verify(ALICE, wrong).await, Verdict::Wrong { attempts_left: 2 });
    tokio::time::advance(Duration::from_secs(20)).await;
    gateway.request("r3", ALICE).await.expect_sent();
    assert_ne!(gateway.posted()[2].code, code, "a code with too little time left is replaced");
}

fn allowing() -> Options {
    Options { caller_codes_allowed: true, ..Options::default() }
}

/// The sentence of a request that is rejected as invalid.
fn invalid(ended: &PublishedResult) -> &str {
    ended.expect("rejected", Some("invalid_request"));
    ended.body["error"]["message"].as_str().expect("a sentence")
}

#[tokio::test(start_paused = true)]
async fn a_callers_code_is_refused_by_default_and_costs_nothing() {
    let mut gateway = Embedded::start();
    for number in 0..10 {
        gateway.publish(&with(&format!("own-{number}"), ALICE, json!({"code": "20261122"})));
        let ended = gateway.result().await;
        assert_eq!(invalid(&ended), "`code` is refused: OTP_CALLER_CODES is `refuse`");
    }
    gateway.publish(&with("own-0", ALICE, json!({"code": "20261122"})));
    let repeated = gateway.result().await;
    assert!(invalid(&repeated).contains("OTP_CALLER_CODES") && repeated.body["replayed"] == true);
    assert_eq!(gateway.verify(ALICE, "20261122").await, Verdict::NonePending);
    assert!(gateway.posted().is_empty());
    // All five sends of an hour are left.
    for number in 0..5 {
        gateway.request(&format!("ours-{number}"), ALICE).await.expect_sent();
    }
}

#[tokio::test(start_paused = true)]
async fn an_allowed_code_has_at_least_as_many_digits_as_ours() {
    let mut gateway = Embedded::with(allowing());
    for (id, code) in [("r4", "1234"), ("r5", "12345")] {
        gateway.publish(&with(id, ALICE, json!({"code": code})));
        let ended = gateway.result().await;
        let expected = format!("`code` must have at least 6 digits (OTP_CODE_LENGTH); got {}", code.len());
        assert_eq!(invalid(&ended), expected);
    }
    for (id, code) in [("r6", "123456"), ("r7", "1234567"), ("r10", "1234567890")] {
        gateway.publish(&with(id, ALICE, json!({"code": code})));
        gateway.result().await.expect_sent();
    }
    assert_eq!(gateway.posted().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_request_with_a_code_that_was_admitted_before_the_refusal_is_finished() {
    let world = World::new();
    let before = Embedded::in_world(world.clone(), allowing());
    let retry_after = Some(Duration::from_secs(60));
    world.provider.fail_next([SendFailure::Throttled { provider_code: None, retry_after }]);
    before.publish(&with("r1", ALICE, json!({"code": "20261122"})));
    world.provider.until_posted(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(before.stop().await, 0, "the waiting request is requeued");
    let mut after = Embedded::in_world(world.clone(), Options::default());
    after.result().await.expect_sent();
    assert!(world.provider.posted()[1].body.contains("20261122"));
    assert_eq!(after.verify(ALICE, "20261122").await, Verdict::Verified);
    assert_eq!(after.result().await.body["status"], "verified");
    after.publish(&with("r1", ALICE, json!({"code": "20261122"})));
    let repeated = after.result().await;
    repeated.expect("sent", None);
    assert_eq!(repeated.body["replayed"], true);
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_code_is_sent_and_verifies_where_the_setting_allows_it() {
    let mut gateway = Embedded::with(allowing());
    gateway.publish(&with("r1", ALICE, json!({"code": "20261122"})));
    let ended = gateway.result().await;
    ended.expect_sent();
    assert!(!ended.body.to_string().contains("20261122"));
    assert!(gateway.posted()[0].body.contains("20261122"));
    assert_eq!(gateway.verify(ALICE, "20261122").await, Verdict::Verified);
}

#[tokio::test(start_paused = true)]
async fn keys_rotate_without_losing_a_pending_code() {
    let world = World::new();
    let keys = |kids: &[&'static str]| {
        let key = |kid: &&'static str| (*kid, if *kid == "k1" { [1; 32] } else { [2; 32] });
        Options { keys: kids.iter().map(key).collect(), ..Options::default() }
    };
    let mut before = Embedded::in_world(world.clone(), keys(&["k1"]));
    before.request("r1", ALICE).await.expect_sent();
    before.request("r1", BOB).await.expect_sent();
    let code = world.provider.posted()[0].code.clone();
    before.stop().await;

    let mut promoted = Embedded::in_world(world.clone(), keys(&["k2", "k1"]));
    promoted.request("r2", ALICE).await.expect_sent();
    assert_eq!(world.provider.posted()[2].code, code, "a resend continues under the old key");
    assert_eq!(promoted.verify(ALICE, &code).await, Verdict::Verified);
    promoted.stop().await;

    let retired = Embedded::in_world(world.clone(), keys(&["k2"]));
    let bobs = world.provider.posted()[1].code.clone();
    assert_eq!(retired.verify(BOB, &bobs).await, Verdict::KeyUnavailable);
    retired.stop().await;
    let restored = Embedded::in_world(world.clone(), keys(&["k2", "k1"]));
    assert_eq!(
        restored.verify(BOB, &bobs).await,
        Verdict::Verified,
        "the check without a key was not counted"
    );
}
