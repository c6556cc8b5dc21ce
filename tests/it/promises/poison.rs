//! Poison messages and unreadable bodies are dead-lettered, and delay no other message.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use otpost::broker::Properties;
use otpost::broker::memory::StoredDeadLetter;
use otpost::domain::dead_letter::DeadLetterBody;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::store::{Damaged, LimitSubject, Store as _};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::harness::{ALICE, BOB, Embedded, Options, RECIPIENT_KEY, World, request, with, within};
use crate::scripted::{LookupScript, Script};

#[tokio::test(start_paused = true)]
async fn a_message_without_a_request_id_is_dead_lettered_with_its_reason() {
    let mut gateway = Embedded::start();
    for body in [
        b"not json".as_slice(),
        b"",
        b"{}",
        br#"{"to":"+573001234567","code":"123456"}"#,
        br#"{"request_id":7,"to":"+573001234567"}"#,
        b"\xff\xfe",
    ] {
        gateway.publish(body);
    }
    gateway.request("r1", ALICE).await.expect_sent();
    gateway.expect_no_result();
    let dead = gateway.world.dead_letters();
    assert_eq!(dead.len(), 6);
    for dead_letter in dead {
        let body = String::from_utf8(dead_letter.body).expect("JSON");
        assert_eq!(dead_letter.reason, "unattributable");
        assert!(
            !dead_letter.error.is_empty() && !dead_letter.error.contains("57300"),
            "{}",
            dead_letter.error
        );
        assert!(!body.contains("573001234567") && !body.contains("123456"), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_malformed_request_does_not_delay_its_neighbours() {
    let mut gateway = Embedded::with(Options { concurrency: 1, ..Options::default() });
    let started = tokio::time::Instant::now();
    gateway.publish(&request("r1", ALICE));
    gateway.publish(b"{\"request_id\":\"bad\",\"to\":");
    gateway.publish(&[b'['; 100_000]);
    gateway.publish(&request("r2", BOB));
    gateway.result().await.expect_sent();
    gateway.result().await.expect("rejected", Some("invalid_request"));
    gateway.result().await.expect_sent();
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_panic_frees_its_slot_and_affects_no_other_request() {
    let mut gateway = Embedded::with(Options { concurrency: 1, ..Options::default() });
    gateway.world.provider.panic_next(1);
    gateway.publish(&request("r1", ALICE));
    gateway.world.provider.until_posted(1).await;
    gateway.request("r2", BOB).await.expect_sent();
    let panicked = gateway.result().await;
    panicked.expect_sent();
    assert_eq!(gateway.posted().len(), 3, "the message may have been sent, so it was looked up first");
    assert!(gateway.world.provider.lookups().len() >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_panics_five_handlers_gets_a_result_and_is_dead_lettered() {
    let mut gateway = Embedded::with(Options { concurrency: 1, ..Options::default() });
    gateway.world.store.panics.store(5, Ordering::SeqCst);
    gateway.request("r1", ALICE).await.expect("failed", Some("internal"));
    gateway.request("r2", BOB).await.expect_sent();
    let dead = gateway.world.dead_letters();
    assert_eq!((dead.len(), dead[0].reason.as_str(), dead[0].delivery_count), (1, "panic", 4));
    assert_eq!(result_of(&dead[0]), (Some("r1"), Some("failed")));
    assert!(!String::from_utf8_lossy(&dead[0].body).contains("3001234567"));
}

#[tokio::test(start_paused = true)]
async fn a_poison_message_that_may_have_been_sent_never_gets_two_outcomes() {
    let mut gateway = Embedded::with(Options { concurrency: 1, ..Options::default() });
    gateway.world.store.panics.store(4, Ordering::SeqCst);
    gateway.world.provider.panic_next(1);
    gateway.publish(&request("r1", ALICE));
    gateway.result().await.expect("unknown", Some("in_doubt"));
    gateway.request("r1", ALICE).await.expect("unknown", Some("in_doubt")).expect_replayed(true);
    assert_eq!(gateway.posted().len(), 1);
    let dead = gateway.world.dead_letters();
    assert_eq!(
        result_of(&dead[0]),
        (Some("r1"), Some("unknown")),
        "the dead letter names the outcome, as a warning before a replay"
    );
}

/// It panics while it waits for its sender, so its handler knows that it sent nothing.
#[tokio::test(start_paused = true)]
async fn a_poison_message_that_was_not_sent_ends_as_failed_and_costs_nothing() {
    let mut gateway =
        Embedded::with(Options { sender_rate: Some(0.05), maintained: true, ..Options::default() });
    gateway.request("r1", ALICE).await.expect_sent();
    gateway.world.store.panics_of_progress.store(5, Ordering::SeqCst);
    gateway.request("r2", BOB).await.expect("failed", Some("internal"));
    assert_eq!((gateway.posted().len(), gateway.world.provider.lookups().len()), (1, 0));
    assert_eq!(result_of(&gateway.world.dead_letters()[0]), (Some("r2"), Some("failed")));
    let subject = LimitSubject {
        recipient: gateway.world.recipient(BOB),
        purpose: "verification",
        user: None,
        ip: None,
        network: None,
    };
    let usage = gateway.world.store.usage(&subject, None, &Options::default().limits).await;
    assert_eq!(usage.expect("the store answers").used, 0, "its charge is refunded");
}

#[tokio::test(start_paused = true)]
async fn requeues_without_a_panic_make_no_message_poison() {
    let mut gateway = Embedded::with(Options { concurrency: 1, ..Options::default() });
    gateway.world.store.panics.store(4, Ordering::SeqCst);
    let properties = Properties { delivery_count: 40, redelivered: true, ..Properties::default() };
    gateway.publish_with(&request("r1", ALICE), properties);
    gateway.result().await.expect_sent();
    assert!(gateway.world.dead_letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_panic_that_cannot_be_counted_in_the_store_goes_by_the_count_of_the_broker() {
    let mut gateway = Embedded::with(Options { concurrency: 1, ..Options::default() });
    gateway.world.store.panics.store(5, Ordering::SeqCst);
    gateway.world.store.panics_of_counts.store(5, Ordering::SeqCst);
    gateway.request("r1", ALICE).await.expect("failed", Some("internal"));
    let dead = gateway.world.dead_letters();
    assert_eq!((dead.len(), dead[0].reason.as_str(), dead[0].delivery_count), (1, "panic", 4));
}

#[tokio::test(start_paused = true)]
async fn panics_are_counted_over_workers_and_crashes() {
    let world = World::new();
    world.store.panics.store(4, Ordering::SeqCst);
    world.provider.close_gate();
    let worker = Embedded::in_world(world.clone(), Options::default());
    worker.publish(&request("r1", ALICE));
    world.provider.until_posted(1).await;
    worker.crash().await;
    world.store.panics.store(1, Ordering::SeqCst);
    let mut next = Embedded::in_world(world.clone(), Options::default());
    next.result().await.expect("unknown", Some("in_doubt"));
    let dead = world.dead_letters();
    assert_eq!((dead.len(), dead[0].reason.as_str(), world.provider.posted().len()), (1, "panic", 1));
}

fn result_of(dead_letter: &StoredDeadLetter) -> (Option<&str>, Option<&str>) {
    (dead_letter.request_id.as_deref(), dead_letter.status.as_deref())
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_opens_with_the_recipient_key_and_holds_no_code() {
    let mut gateway = Embedded::start();
    let bodies = [with("r1", ALICE, json!({"n": 1})), with("r2", BOB, json!({"code": "98761234"}))];
    for body in &bodies {
        gateway.world.store.panics.store(5, Ordering::SeqCst);
        gateway.publish(body);
        gateway.result().await.expect("failed", Some("internal"));
    }
    gateway.request("last", "+573001234560").await.expect_sent();
    let dead = gateway.world.dead_letters();
    let opened: Vec<Value> = dead
        .iter()
        .map(|dead_letter| {
            let contents: DeadLetterBody = serde_json::from_slice(&dead_letter.body).expect("ours");
            let sealed = contents.sealed.expect("sealed");
            let key = RecipientKeyring::new(&RECIPIENT_KEY);
            let body = key.dead_letter_key().open(&dead_letter.message_id, &sealed).expect("the key");
            serde_json::from_slice(&body).expect("JSON")
        })
        .collect();
    let expected = [json!({"request_id": "r1", "to": ALICE, "n": 1}), json!({"request_id": "r2", "to": BOB})];
    assert_eq!(opened, expected);
}

/// Each worker crashes as soon as it takes over one of the four requests that were in flight at the first crash.
#[tokio::test(start_paused = true)]
async fn a_request_that_crashes_workers_spares_the_requests_in_flight_beside_it() {
    const KILLER: &str = "+573001000000";
    fastrand::seed(7);
    let world = World::new();
    let mut results = world.broker.subscribe_results();
    world.provider.close_gate();
    let mut worker = Embedded::in_world(world.clone(), Options::default());
    for nth in 0..4 {
        worker.publish(&request(&format!("r{nth}"), &format!("+573001{nth:06}")));
    }
    world.provider.until_posted(4).await;
    for _ in 0..5 {
        let lookups = world.provider.lookups_of(KILLER);
        worker.crash().await;
        world.provider.open_gate(100);
        worker = Embedded::in_world(world.clone(), Options::default());
        within(async {
            while world.provider.lookups_of(KILLER) == lookups && world.dead_letters().is_empty() {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
    let mut ended = BTreeMap::new();
    while ended.len() < 4 {
        let result = within(results.recv()).await.expect("a result");
        let body: Value = serde_json::from_slice(&result.body).expect("JSON");
        ended.insert(body["request_id"].to_string(), body["status"].to_string());
    }
    let statuses: Vec<&str> = ended.values().map(String::as_str).collect();
    assert_eq!(statuses, ["\"unknown\"", "\"sent\"", "\"sent\"", "\"sent\""], "{ended:?}");
    let dead = world.dead_letters();
    assert_eq!((dead.len(), dead[0].request_id.as_deref()), (1, Some("r0")));
}

/// Crashes one worker after another until the request has a result. Returns the result and the worker that published it.
async fn crash_until_completed(world: &World) -> (serde_json::Value, Embedded) {
    world.provider.script_default(Script::AcceptAndHang);
    world.provider.script_default_lookup(LookupScript::Unanswered);
    let mut results = world.broker.subscribe_results();
    let mut worker = Embedded::in_world(world.clone(), Options::default());
    worker.publish(&request("r1", ALICE));
    // The lease of a crashed worker, and from the third crash on the longest wait of a suspect.
    for wait in [60, 60, 70, 90, 130].map(Duration::from_secs) {
        sleep(wait).await;
        assert!(results.try_recv().is_err(), "the request gets five handlers");
        worker.crash().await;
        worker = Embedded::in_world(world.clone(), Options::default());
    }
    sleep(Duration::from_secs(60)).await;
    let result = results.try_recv().expect("a result");
    assert!(results.try_recv().is_err(), "there is one");
    (serde_json::from_slice(&result.body).expect("JSON"), worker)
}

#[tokio::test(start_paused = true)]
async fn a_request_that_crashes_five_workers_gets_a_result_and_is_dead_lettered() {
    let world = World::new();
    let (result, _worker) = crash_until_completed(&world).await;
    assert_eq!(result["status"], "unknown", "the message may have been sent");
    let dead = world.dead_letters();
    assert_eq!((dead.len(), dead[0].reason.as_str()), (1, "crash"));
    assert_eq!(world.provider.posted().len(), 1);
}

/// After four crashes the request waits for up to 80 s, so that few others are in flight beside it.
#[tokio::test(start_paused = true)]
async fn a_request_that_crashed_workers_does_not_wait_past_its_deadline() {
    for seed in 0..8 {
        fastrand::seed(seed);
        let world = World::new();
        world.provider.script_default(Script::AcceptAndHang);
        world.provider.script_default_lookup(LookupScript::Unanswered);
        let mut results = world.broker.subscribe_results();
        let mut worker = Embedded::in_world(world.clone(), Options::default());
        let deadline = world.clock.now().plus(Duration::from_secs(330));
        worker.publish(&with("r1", ALICE, json!({"not_after": deadline.to_string()})));
        for wait in [60, 60, 70, 90].map(Duration::from_secs) {
            sleep(wait).await;
            worker.crash().await;
            worker = Embedded::in_world(world.clone(), Options::default());
        }
        let result = within(results.recv()).await.expect("a result");
        let late = world.clock.now().since(deadline);
        let body: Value = serde_json::from_slice(&result.body).expect("JSON");
        assert_eq!(body["status"], "unknown", "{body}");
        assert!(late <= Duration::from_secs(2), "seed {seed}: {late:?} after its deadline");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_crashes_before_the_dead_letter_leaves_it_to_another() {
    let world = World::new();
    world.broker.fail_next_dead_letters(usize::MAX);
    let (_, dying) = crash_until_completed(&world).await;
    expect_dead_letter_of_another(&world, dying, "crash").await;

    let world = World::new();
    world.broker.fail_next_dead_letters(usize::MAX);
    world.store.panics.store(5, Ordering::SeqCst);
    let mut dying = Embedded::in_world(world.clone(), Options::default());
    dying.request("r1", ALICE).await.expect("failed", Some("internal"));
    expect_dead_letter_of_another(&world, dying, "panic").await;
}

async fn expect_dead_letter_of_another(world: &World, dying: Embedded, reason: &str) {
    assert!(world.dead_letters().is_empty());
    dying.crash().await;
    world.broker.fail_next_dead_letters(0);
    let mut next = Embedded::in_world(world.clone(), Options::default());
    next.result().await.expect_replayed(true);
    // A repeat from the publisher gets a result, but no second dead letter.
    next.request("r1", ALICE).await.expect_replayed(true);
    let dead = world.dead_letters();
    assert_eq!((dead.len(), dead[0].reason.as_str()), (1, reason));
    assert_eq!(result_of(&dead[0]).0, Some("r1"));
}

#[tokio::test(start_paused = true)]
async fn a_request_with_an_unreadable_record_is_dead_lettered_and_not_retried() {
    let mut gateway = Embedded::start();
    gateway.world.store.damage(Some(Damaged::Request));
    let started = tokio::time::Instant::now();
    gateway.request("r1", ALICE).await.expect("unknown", Some("internal"));
    let dead = within(async {
        loop {
            let dead = gateway.world.dead_letters();
            if !dead.is_empty() {
                return dead;
            }
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!((dead.len(), dead[0].reason.as_str()), (1, "record"));
    assert!(!String::from_utf8_lossy(&dead[0].body).contains("573001234567"));
    assert!(gateway.posted().is_empty() && started.elapsed() < Duration::from_secs(5));
    gateway.world.store.damage(None);
    gateway.request("r2", BOB).await.expect_sent();
    assert_eq!(gateway.world.dead_letters().len(), 1, "the message was acknowledged");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_becomes_unreadable_after_the_send_is_dead_lettered_too() {
    let mut gateway = Embedded::start();
    gateway.world.provider.close_gate();
    gateway.publish(&request("r1", ALICE));
    gateway.world.provider.until_posted(1).await;
    gateway.world.store.damage(Some(Damaged::Request));
    gateway.world.provider.open_gate(1);
    gateway.result().await.expect("unknown", Some("internal"));
    assert_eq!(gateway.posted().len(), 1);
}
