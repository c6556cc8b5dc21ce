//! Sends in doubt: looked up first, repeated once at most, with the same code.

use std::sync::atomic::Ordering;
use std::time::Duration;

use otpost::broker::Properties;
use otpost::domain::limit::Limits;
use otpost::domain::message_match::InDoubtPolicy;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::send_failure::RefusalReason;
use otpost::domain::send_failure::SendFailure;
use otpost::provider::DeliveryReceipt;
use otpost::store::Store as _;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::harness::{ALICE, BOB, Embedded, Options, PROVIDER_TIMEOUT, World, number, request, with};
use crate::scripted::{LookupScript, Script};

fn lost() -> SendFailure {
    SendFailure::InDoubt { detail: "timed out".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_answer_was_lost_is_found_and_not_sent_again() {
    let mut gateway = Embedded::start();
    gateway.world.provider.script_next([Script::AcceptAndLoseAnswer]);
    let started = Instant::now();
    let ended = gateway.request("r1", ALICE).await;
    ended.expect_sent().expect_replayed(false);
    assert_eq!(ended.body["provider_message_id"], format!("SM{:032x}", 1));
    assert_eq!((ended.body["attempts"].as_u64(), gateway.posted().len()), (Some(1), 1));
    assert!(started.elapsed() < Duration::from_secs(1), "a listed message is found at once");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_absent_twice_is_sent_once_more_with_the_same_code() {
    let mut gateway = Embedded::start();
    gateway.world.provider.fail_next([lost()]);
    let ended = gateway.request("r1", ALICE).await;
    ended.expect_sent();
    assert_eq!(ended.body["attempts"], 2);
    let posted = gateway.posted();
    assert_eq!((posted.len(), &posted[0].code), (2, &posted[1].code));
    let lookups = gateway.world.provider.lookups();
    let [.., first, second] = lookups.as_slice() else { panic!("there were two lookups") };
    assert!(
        *first - posted[0].at >= PROVIDER_TIMEOUT,
        "before that the message may still arrive at the provider"
    );
    assert!(*second - *first >= Duration::from_secs(10));
    assert!(posted[1].at >= *second);
}

#[tokio::test(start_paused = true)]
async fn a_message_in_doubt_twice_is_never_sent_a_third_time() {
    let mut gateway = Embedded::start();
    gateway.world.provider.script_default(Script::Fail(lost()));
    let ended = gateway.request("r1", ALICE).await;
    ended.expect("unknown", Some("in_doubt"));
    assert_eq!((ended.body["attempts"].as_u64(), gateway.posted().len()), (Some(2), 2));
    gateway.request("r1", ALICE).await.expect("unknown", Some("in_doubt")).expect_replayed(true);
}

#[tokio::test(start_paused = true)]
async fn the_second_attempt_in_doubt_is_looked_up_as_well() {
    let mut gateway = Embedded::start();
    gateway.world.provider.script_next([Script::Fail(lost()), Script::AcceptAndLoseAnswer]);
    let ended = gateway.request("r1", ALICE).await;
    ended.expect_sent();
    assert_eq!(ended.body["provider_message_id"], format!("SM{:032x}", 2));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_lags_does_not_cause_a_second_message() {
    let mut gateway = Embedded::start();
    gateway.world.provider.script_next([Script::AcceptAndLoseAnswer]);
    // All lookups before the attempt has certainly ended, and one after.
    gateway.world.provider.script_lookups([LookupScript::Hide; 5]);
    gateway.request("r1", ALICE).await.expect_sent();
    assert_eq!(gateway.posted().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_to_the_lookup_nothing_is_sent_again() {
    let mut gateway = Embedded::start();
    gateway.world.provider.script_next([Script::AcceptAndLoseAnswer]);
    gateway.world.provider.script_default_lookup(LookupScript::Unanswered);
    let started = Instant::now();
    gateway.request("r1", ALICE).await.expect("unknown", Some("in_doubt"));
    assert_eq!(gateway.posted().len(), 1);
    assert!(started.elapsed() >= Duration::from_secs(500), "lookups went on until the deadline");
    assert!(gateway.world.provider.lookups().len() < 100, "{}", gateway.world.provider.lookups().len());
}

#[tokio::test(start_paused = true)]
async fn credentials_that_may_not_list_messages_end_a_send_in_doubt_as_unknown() {
    let mut gateway = Embedded::start();
    gateway.world.provider.fail_next([lost()]);
    gateway.world.provider.script_default_lookup(LookupScript::Refused);
    gateway.request("r1", ALICE).await.expect("unknown", Some("in_doubt"));
    assert_eq!((gateway.posted().len(), gateway.world.provider.lookups().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_in_doubt_policy_may_forbid_or_hasten_the_second_message() {
    let never = Options { in_doubt: InDoubtPolicy::NeverResend, ..Options::default() };
    let mut gateway = Embedded::with(never);
    gateway.world.provider.script_next([Script::Fail(lost()), Script::AcceptAndLoseAnswer]);
    gateway.request("r1", ALICE).await.expect("unknown", Some("in_doubt"));
    gateway.request("r2", BOB).await.expect_sent();
    assert_eq!(gateway.posted().len(), 2);

    let mut gateway = Embedded::with(Options { in_doubt: InDoubtPolicy::Resend, ..Options::default() });
    gateway.world.provider.script_next([Script::AcceptAndLoseAnswer]);
    let started = Instant::now();
    gateway.request("r1", ALICE).await.expect_sent();
    assert_eq!((gateway.posted().len(), gateway.world.provider.lookups().len()), (2, 0));
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_between_the_answer_and_the_record_leaves_one_message_that_is_found() {
    let world = World::new();
    let dying = Embedded::in_world(world.clone(), Options::default());
    world.provider.script_next([Script::AcceptAndHang]);
    dying.publish(&request("r1", ALICE));
    world.provider.until_posted(1).await;
    dying.crash().await;

    let mut survivor = Embedded::in_world(world, Options::default());
    let ended = survivor.result().await;
    ended.expect_sent();
    assert_eq!(ended.body["provider_message_id"], format!("SM{:032x}", 1));
    assert_eq!(survivor.posted().len(), 1);
    survivor.request("r1", ALICE).await.expect_sent().expect_replayed(true);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_before_the_message_was_made_leaves_it_to_another() {
    let world = World::new();
    let dying = Embedded::in_world(world.clone(), Options::default());
    world.provider.close_gate();
    dying.publish(&request("r1", ALICE));
    world.provider.until_posted(1).await;
    dying.crash().await;
    world.provider.open_gate(10);

    let mut survivor = Embedded::in_world(world, Options::default());
    survivor.result().await.expect_sent();
    let posted = survivor.posted();
    assert_eq!((posted.len(), posted[1].made, &posted[0].code), (2, true, &posted[1].code));
    assert!(survivor.world.provider.lookups().len() >= 2, "the provider was asked first");
}

#[tokio::test(start_paused = true)]
async fn a_send_in_doubt_survives_the_shutdown_of_its_worker() {
    let world = World::new();
    let stopping = Embedded::in_world(world.clone(), Options::default());
    world.provider.fail_next([lost()]);
    stopping.publish(&request("r1", ALICE));
    world.provider.until_posted(1).await;
    sleep(Duration::from_secs(3)).await;
    let started = Instant::now();
    assert_eq!(stopping.stop().await, 0, "a send in doubt is requeued at once");
    assert!(started.elapsed() < Duration::from_secs(1));

    let mut next = Embedded::in_world(world.clone(), Options::default());
    next.result().await.expect_sent();
    let posted = next.posted();
    assert_eq!(posted.len(), 2);
    assert!(posted[1].at - posted[0].at >= PROVIDER_TIMEOUT + Duration::from_secs(10));
}

/// A receipt for a request's message.
fn receipt_for(request: &str) -> DeliveryReceipt {
    DeliveryReceipt {
        request_id: otpost::domain::request_id::RequestId::parse(request).expect("valid"),
        to: number(ALICE).into(),
        message_id: "SM-reported".to_owned(),
        status: DeliveryStatus::Queued,
        provider_code: None,
        reason: RefusalReason::Other,
    }
}

#[tokio::test(start_paused = true)]
async fn a_receipt_resolves_a_send_in_doubt() {
    let mut gateway = Embedded::start();
    gateway.world.provider.script_next([Script::AcceptAndLoseAnswer]);
    gateway.world.provider.script_default_lookup(LookupScript::Unanswered);
    gateway.publish(&request("r1", ALICE));
    gateway.world.provider.until_posted(1).await;
    sleep(Duration::from_secs(1)).await;
    gateway.tracker.process("scripted", &receipt_for("r1")).await.expect("the receipt is recorded");
    let ended = gateway.result().await;
    ended.expect_sent();
    assert_eq!(ended.body["provider_message_id"], "SM-reported");
}

#[tokio::test(start_paused = true)]
async fn without_message_lookups_a_send_in_doubt_waits_a_while_for_a_receipt() {
    let wait = Duration::from_secs(20);
    let mut gateway = Embedded::with(Options { doubt_report_wait: wait, ..Options::default() });
    gateway.world.provider.script_next([Script::AcceptAndLoseAnswer, Script::AcceptAndLoseAnswer]);
    gateway.world.provider.script_default_lookup(LookupScript::Refused);
    gateway.publish(&request("r1", ALICE));
    gateway.world.provider.until_posted(1).await;
    sleep(wait - Duration::from_secs(5)).await;
    gateway.expect_no_result();
    gateway.tracker.process("scripted", &receipt_for("r1")).await.expect("the receipt is recorded");
    gateway.result().await.expect_sent();

    let asked = tokio::time::Instant::now();
    gateway.request("r2", BOB).await.expect("unknown", Some("in_doubt"));
    let waited = asked.elapsed();
    assert!((wait..wait + Duration::from_secs(5)).contains(&waited), "{waited:?}");
    assert_eq!((gateway.posted().len(), gateway.world.provider.lookups().len()), (2, 2));
}

/// A lookup could not tell the two messages apart.
#[tokio::test(start_paused = true)]
async fn while_a_message_is_in_doubt_no_other_goes_to_its_number() {
    let limits = Limits { cooldown: Duration::from_secs(20), ..Options::default().limits };
    let mut gateway = Embedded::with(Options { limits, ..Options::default() });
    gateway.world.provider.script_next([Script::Fail(lost()), Script::AcceptAndLoseAnswer]);
    gateway.world.provider.script_lookups([LookupScript::Hide; 8]);
    gateway.publish(&request("r1", ALICE));
    gateway.world.provider.until_posted(1).await;
    sleep(Duration::from_secs(21)).await;
    let refused = gateway.request("r2", ALICE).await;
    refused.expect("rejected", Some("cooldown"));
    assert!(refused.retry_after().is_some_and(|wait| (1..=60).contains(&wait)), "{}", refused.body);
    gateway.request("r3", BOB).await.expect_sent();
    let first = gateway.result().await;
    first.expect_sent();
    assert_eq!(first.body["request_id"], "r1");
    gateway.request("r4", ALICE).await.expect_sent();
    let to_alice = gateway.posted().into_iter().filter(|posted| posted.to == ALICE).count();
    assert_eq!(to_alice, 3, "the first request was sent twice, because its first message was never made");
}

/// One of the two was made. With its text it is known which; without, neither is sent again.
#[tokio::test(start_paused = true)]
async fn two_messages_in_doubt_without_texts_are_ambiguous() {
    for (discards_texts, status, posted) in [(false, "sent", 3), (true, "unknown", 2)] {
        let mut gateway = Embedded::start();
        gateway.world.provider.discards_texts.store(discards_texts, Ordering::SeqCst);
        gateway.world.provider.script_next([Script::AcceptAndLoseAnswer, Script::Fail(lost())]);
        gateway.world.provider.close_gate();
        gateway.publish(&with("r1", ALICE, json!({"purpose": "login"})));
        gateway.publish(&with("r2", ALICE, json!({"purpose": "payment"})));
        gateway.world.provider.until_posted(2).await;
        gateway.world.provider.open_gate(10);
        for _ in 0..2 {
            let ended = gateway.result().await;
            assert_eq!(ended.body["status"], status, "{discards_texts}: {}", ended.body);
        }
        assert_eq!(gateway.posted().len(), posted, "{discards_texts}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_in_doubt_without_its_text_is_found_by_its_time() {
    let mut gateway = Embedded::start();
    gateway.world.provider.discards_texts.store(true, Ordering::SeqCst);
    gateway.world.provider.script_next([Script::AcceptAndLoseAnswer]);
    let ended = gateway.request("r1", ALICE).await;
    ended.expect_sent();
    assert_eq!(ended.body["provider_message_id"], format!("SM{:032x}", 1));
    assert_eq!(gateway.posted().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_redelivered_request_that_the_store_may_have_lost_is_looked_up_before_it_is_sent() {
    let mut gateway = Embedded::start();
    let known = gateway.world.clock.now().to_string();
    gateway.publish(&with("r1", ALICE, json!({ "requested_at": known })));
    gateway.result().await.expect_sent();
    gateway.world.store.inner.forget_requests();
    gateway.world.store.inner.set_may_have_lost_writes(true);
    let redelivered = Properties { delivery_count: 1, redelivered: true, ..Properties::default() };
    gateway.publish_with(&with("r1", ALICE, json!({ "requested_at": known })), redelivered);
    let ended = gateway.result().await;
    ended.expect_sent();
    assert_eq!(ended.body["provider_message_id"], format!("SM{:032x}", 1));
    assert_eq!(gateway.posted().len(), 1);

    // A first delivery needs no lookup. A redelivered request without a message is sent.
    gateway.request("r2", BOB).await.expect_sent();
    let lookups = gateway.world.provider.lookups().len();
    gateway.publish_with(&request("r3", BOB), Properties { redelivered: true, ..Properties::default() });
    gateway.result().await.expect_sent();
    assert_eq!(gateway.posted().len(), 3);
    assert!(gateway.world.provider.lookups().len() > lookups);
}

#[tokio::test(start_paused = true)]
async fn a_send_in_doubt_that_was_never_recorded_is_looked_up_as_well() {
    let world = World::new();
    let stopping = Embedded::in_world(world.clone(), Options::default());
    world.provider.script_next([Script::AcceptAndLoseAnswer]);
    world.provider.close_gate();
    stopping.publish(&request("r1", ALICE));
    world.provider.until_posted(1).await;
    world.store.gone.store(true, Ordering::SeqCst);
    world.provider.open_gate(10);
    sleep(Duration::from_millis(20)).await;
    world.store.gone.store(false, Ordering::SeqCst);
    stopping.stop().await;

    let mut next = Embedded::in_world(world.clone(), Options::default());
    next.result().await.expect_sent();
    assert_eq!(world.provider.made().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_that_arrives_before_the_second_message_prevents_it() {
    let mut gateway = Embedded::with(Options { maintained: true, ..Options::default() });
    gateway.world.provider.script_next([Script::AcceptAndLoseAnswer]);
    gateway.world.provider.script_default_lookup(LookupScript::Hide);
    gateway.publish(&request("r1", ALICE));
    gateway.world.provider.until_posted(1).await;
    sleep(Duration::from_secs(25)).await;
    gateway.world.store.inner.set_kill_switch(Some("test")).await.expect("answers");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(gateway.posted().len(), 1);
    let report = DeliveryReceipt {
        request_id: otpost::domain::request_id::RequestId::parse("r1").expect("valid"),
        to: number(ALICE).into(),
        message_id: "SM-reported".to_owned(),
        status: DeliveryStatus::Delivered,
        provider_code: None,
        reason: RefusalReason::Other,
    };
    gateway.tracker.process("scripted", &report).await.expect("the receipt is recorded");
    gateway.result().await.expect("delivered", None);
    gateway.world.store.inner.set_kill_switch(None).await.expect("answers");
    let ended = gateway.result().await;
    ended.expect_sent();
    assert_eq!(
        (ended.body["provider_message_id"].as_str(), gateway.posted().len()),
        (Some("SM-reported"), 1)
    );
}
