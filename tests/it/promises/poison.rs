//! What cannot be handled is set aside, and delays nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use otpost::broker::Properties;
use otpost::broker::memory::StoredDeadLetter;
use otpost::domain::dead_letter::DeadLetterBody;
use otpost::domain::recipient_keyring::RecipientKeyring;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::harness::{ALICE, BOB, Embedded, Options, World, request, with, within};
use crate::scripted::{Look, Script};

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_attributed_is_set_aside_with_its_reason() {
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
    for letter in dead {
        let body = String::from_utf8(letter.body).expect("JSON");
        assert_eq!(letter.reason, "unattributable");
        assert!(!letter.error.is_empty() && !letter.error.contains("57300"), "{}", letter.error);
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
async fn a_panic_gives_its_slot_back_and_costs_nobody_else() {
    let mut gateway = Embedded::with(Options { concurrency: 1, ..Options::default() });
    gateway.world.provider.panic_next(1);
    gateway.publish(&request("r1", ALICE));
    gateway.world.provider.until_posted(1).await;
    gateway.request("r2", BOB).await.expect_sent();
    let panicked = gateway.result().await;
    panicked.expect_sent();
    assert_eq!(gateway.posted().len(), 3, "it may have been sent, so it was looked for first");
    assert!(gateway.world.provider.looked().len() >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_panics_again_and_again_is_answered_and_set_aside() {
    let mut gateway = Embedded::with(Options { concurrency: 1, ..Options::default() });
    gateway.world.store.panics.store(5, std::sync::atomic::Ordering::SeqCst);
    gateway.request("r1", ALICE).await.expect("failed", Some("internal"));
    gateway.request("r2", BOB).await.expect_sent();
    let dead = gateway.world.dead_letters();
    assert_eq!((dead.len(), dead[0].reason.as_str(), dead[0].delivery_count), (1, "panic", 4));
    assert_eq!(told_of(&dead[0]), (Some("r1"), Some("failed")));
    assert!(!String::from_utf8_lossy(&dead[0].body).contains("3001234567"));
}

#[tokio::test(start_paused = true)]
async fn a_poison_message_that_may_have_been_sent_never_gets_two_different_ends() {
    let mut gateway = Embedded::with(Options { concurrency: 1, ..Options::default() });
    gateway.world.provider.panic_next(1);
    let properties = Properties { delivery_count: 4, ..Default::default() };
    gateway.publish_with(&request("r1", ALICE), properties);
    gateway.result().await.expect("unknown", Some("in_doubt"));
    gateway.request("r1", ALICE).await.expect("unknown", Some("in_doubt")).expect_replayed(true);
    assert_eq!(gateway.posted().len(), 1);
    let dead = gateway.world.dead_letters();
    assert_eq!(told_of(&dead[0]), (Some("r1"), Some("unknown")), "whoever replays it is warned");
}

fn told_of(letter: &StoredDeadLetter) -> (Option<&str>, Option<&str>) {
    (letter.request_id.as_deref(), letter.status.as_deref())
}

#[tokio::test(start_paused = true)]
async fn what_is_set_aside_can_be_opened_with_the_key_of_recipients_and_holds_no_code() {
    let mut gateway = Embedded::start();
    let bodies = [with("r1", ALICE, json!({"n": 1})), with("r2", BOB, json!({"code": "98761234"}))];
    for body in &bodies {
        gateway.world.store.panics.store(1, std::sync::atomic::Ordering::SeqCst);
        gateway.publish_with(body, Properties { delivery_count: 4, ..Properties::default() });
        gateway.result().await.expect("failed", Some("internal"));
    }
    gateway.request("last", "+573001234560").await.expect_sent();
    let dead = gateway.world.dead_letters();
    let opened: Vec<Value> = dead
        .iter()
        .map(|letter| {
            let contents: DeadLetterBody = serde_json::from_slice(&letter.body).expect("ours");
            let sealed = contents.sealed.expect("sealed");
            let key = RecipientKeyring::new(&[9; 32]);
            let body = key.dead_letter_key().open(&letter.message_id, &sealed).expect("the key");
            serde_json::from_slice(&body).expect("JSON")
        })
        .collect();
    let expected = [json!({"request_id": "r1", "to": ALICE, "n": 1}), json!({"request_id": "r2", "to": BOB})];
    assert_eq!(opened, expected);
}

/// Each worker dies as soon as it takes up one of four requests that were in flight when the first one died.
#[tokio::test(start_paused = true)]
async fn a_request_that_kills_workers_takes_none_along_that_stand_beside_it() {
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
        let sought = world.provider.sought(KILLER);
        worker.crash().await;
        world.provider.open_gate(100);
        worker = Embedded::in_world(world.clone(), Options::default());
        within(async {
            while world.provider.sought(KILLER) == sought && world.dead_letters().is_empty() {
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

/// Workers die of a request, one after the other, until it is answered. Answers the result and the worker that gave it.
async fn crash_until_answered(world: &World) -> (serde_json::Value, Embedded) {
    world.provider.otherwise(Script::AcceptAndHang);
    world.provider.shows_otherwise(Look::Unanswered);
    let mut results = world.broker.subscribe_results();
    let mut worker = Embedded::in_world(world.clone(), Options::default());
    worker.publish(&request("r1", ALICE));
    // The lease of one that died, and from the third on as long as a suspect may wait.
    for wait in [60, 60, 70, 90, 130].map(Duration::from_secs) {
        sleep(wait).await;
        assert!(results.try_recv().is_err(), "it is given five handlings");
        worker.crash().await;
        worker = Embedded::in_world(world.clone(), Options::default());
    }
    sleep(Duration::from_secs(60)).await;
    let result = results.try_recv().expect("a result");
    assert!(results.try_recv().is_err(), "there is one");
    (serde_json::from_slice(&result.body).expect("JSON"), worker)
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_handling_ends_the_worker_again_and_again_is_answered_and_set_aside() {
    let world = World::new();
    let (result, _worker) = crash_until_answered(&world).await;
    assert_eq!(result["status"], "unknown", "it may have been sent");
    let dead = world.dead_letters();
    assert_eq!((dead.len(), dead[0].reason.as_str()), (1, "crash"));
    assert_eq!(world.provider.posted().len(), 1);
}

/// One that four workers died of waits for up to 80 s, so that it is alone with the next one.
#[tokio::test(start_paused = true)]
async fn a_request_that_workers_died_of_does_not_wait_past_its_deadline() {
    for seed in 0..8 {
        fastrand::seed(seed);
        let world = World::new();
        world.provider.otherwise(Script::AcceptAndHang);
        world.provider.shows_otherwise(Look::Unanswered);
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
async fn a_worker_that_dies_between_the_result_and_the_letter_leaves_the_letter_to_another() {
    let world = World::new();
    world.broker.fail_next_dead_letters(usize::MAX);
    let (_, dying) = crash_until_answered(&world).await;
    expect_the_letter_of_another(&world, dying, "crash").await;

    let world = World::new();
    world.broker.fail_next_dead_letters(usize::MAX);
    world.store.panics.store(5, std::sync::atomic::Ordering::SeqCst);
    let mut dying = Embedded::in_world(world.clone(), Options::default());
    dying.request("r1", ALICE).await.expect("failed", Some("internal"));
    expect_the_letter_of_another(&world, dying, "panic").await;
}

async fn expect_the_letter_of_another(world: &World, dying: Embedded, reason: &str) {
    assert!(world.dead_letters().is_empty());
    dying.crash().await;
    world.broker.fail_next_dead_letters(0);
    let mut next = Embedded::in_world(world.clone(), Options::default());
    next.result().await.expect_replayed(true);
    // A repeat by its publisher is answered, and is no reason for a second letter.
    next.request("r1", ALICE).await.expect_replayed(true);
    let dead = world.dead_letters();
    assert_eq!((dead.len(), dead[0].reason.as_str()), (1, reason));
    assert_eq!(told_of(&dead[0]).0, Some("r1"));
}
