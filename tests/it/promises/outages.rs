//! An outage of the store delays requests. It loses none and causes no busy loop.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use otpost::flow::key_watch::KeyWatch;
use otpost::flow::store_watch::StoreWatch;
use otpost::store::{Damaged, Store as _, StoreFault};

use crate::harness::{ALICE, BOB, Embedded, Options, World, request};
use crate::promises::secrets::{captured_log, start_capturing};

#[tokio::test(start_paused = true)]
async fn a_store_outage_does_not_spin_and_loses_nothing() {
    let mut gateway = Embedded::start();
    let store = gateway.world.store.clone();
    store.gone.store(true, Ordering::SeqCst);
    for number in 0..8 {
        gateway.publish(&request("r1", &format!("+57300123456{number}")));
    }
    tokio::time::sleep(Duration::from_secs(120)).await;
    let calls = store.calls.load(Ordering::SeqCst);
    assert!((8..8 * 120).contains(&calls), "{calls} calls in two minutes");
    assert!(gateway.posted().is_empty());
    store.gone.store(false, Ordering::SeqCst);
    for _ in 0..8 {
        gateway.result().await.expect_sent();
    }
    assert_eq!(gateway.posted().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_store_lost_after_the_send_is_waited_for_and_nothing_is_sent_twice() {
    let mut gateway = Embedded::start();
    let store = gateway.world.store.clone();
    gateway.world.provider.close_gate();
    gateway.publish(&request("r1", ALICE));
    gateway.world.provider.until_posted(1).await;
    store.gone.store(true, Ordering::SeqCst);
    gateway.world.provider.open_gate(1);
    tokio::time::sleep(Duration::from_secs(10)).await;
    gateway.expect_no_result();
    store.gone.store(false, Ordering::SeqCst);
    gateway.result().await.expect_sent();
    assert_eq!(gateway.posted().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_held_too_long_by_an_outage_is_requeued_and_then_ends() {
    let world = World::new();
    let mut gateway = Embedded::in_world(world.clone(), Options::default());
    world.store.gone.store(true, Ordering::SeqCst);
    let requested_at = world.clock.now().to_string();
    gateway.publish(&crate::harness::with("r1", ALICE, serde_json::json!({"requested_at": requested_at})));
    tokio::time::sleep(Duration::from_secs(3_000)).await;
    world.store.gone.store(false, Ordering::SeqCst);
    gateway.result().await.expect("rejected", Some("expired"));
    assert!(world.provider.posted().is_empty());
}

#[tokio::test(start_paused = true)]
async fn shutdown_during_a_store_outage_requeues_everything_at_once() {
    let world = World::new();
    let gateway = Embedded::in_world(world.clone(), Options::default());
    world.store.gone.store(true, Ordering::SeqCst);
    gateway.publish(&request("r1", ALICE));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = tokio::time::Instant::now();
    assert_eq!(gateway.stop().await, 0);
    assert!(before.elapsed() < Duration::from_secs(1));
    assert_eq!(world.broker.waiting(), 1);
}

#[tokio::test(start_paused = true)]
async fn requests_of_a_silent_shard_leave_their_slots_to_others() {
    let mut gateway = Embedded::with(Options { concurrency: 1, ..Options::default() });
    let silent = Some(gateway.world.recipient(ALICE));
    *gateway.world.store.silent_for.lock().expect("no panic") = silent;
    gateway.publish(&request("waits", ALICE));
    tokio::time::sleep(Duration::from_secs(60)).await;
    gateway.publish(&request("goes-on", BOB));
    let begun = tokio::time::Instant::now();
    gateway.result().await.expect_sent();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(gateway.posted().len(), 1);
    *gateway.world.store.silent_for.lock().expect("no panic") = None;
    gateway.result().await.expect_sent();
    assert_eq!(gateway.posted().len(), 2, "the one that waited, too");
}

fn receipts() -> Option<Damaged> {
    Some(Damaged::Shared("receipts".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_damaged_key_that_all_requests_share_delays_them_and_is_logged_once() {
    let mut gateway = Embedded::with(Options { maintained: true, ..Options::default() });
    gateway.request("before", ALICE).await.expect_sent();
    gateway.world.store.damage(receipts());
    start_capturing();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for number in 0..20 {
        gateway.publish(&request(&format!("r{number}"), &format!("+5730012345{number:02}")));
    }
    tokio::time::sleep(Duration::from_secs(1_800)).await;
    gateway.expect_no_result();
    assert_eq!((gateway.posted().len(), gateway.world.dead_letters().len()), (1, 0));
    assert_eq!(gateway.world.broker.waiting(), 20, "nothing is consumed");
    let log = captured_log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("receipts")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains(r#""level":"ERROR""#) && lines[0].contains(r#""key":"receipts""#), "{log}");
    assert!(log.contains("store_damaged"), "{log}");

    gateway.world.store.damage(None);
    let mended = tokio::time::Instant::now();
    for _ in 0..20 {
        gateway.result().await.expect_sent();
    }
    assert!(mended.elapsed() < Duration::from_secs(1), "{:?}", mended.elapsed());
}

/// As beside a worker of an earlier version.
#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_every_step_pauses_sending_with_its_reason() {
    let reason = StoreFault::EarlierWorkers.to_string();
    let mut gateway = Embedded::with(Options { maintained: true, ..Options::default() });
    gateway.request("before", ALICE).await.expect_sent();
    gateway.world.store.refuse(Some(StoreFault::EarlierWorkers));
    start_capturing();
    tokio::time::sleep(Duration::from_secs(1_800)).await;
    let log = captured_log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(&reason)).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains(r#""level":"ERROR""#) && lines[0].contains("sending paused"), "{log}");
    gateway.world.store.refuse(None);
    gateway.request("after", BOB).await.expect_sent();
}

#[tokio::test(start_paused = true)]
async fn a_shared_key_that_is_damaged_after_the_send_is_waited_for_and_nothing_is_sent_twice() {
    let mut gateway = Embedded::with(Options { maintained: true, ..Options::default() });
    gateway.world.provider.close_gate();
    gateway.publish(&request("r1", ALICE));
    gateway.world.provider.until_posted(1).await;
    gateway.world.store.damage(receipts());
    gateway.world.provider.open_gate(1);
    tokio::time::sleep(Duration::from_secs(1_800)).await;
    gateway.expect_no_result();
    gateway.world.store.damage(None);
    gateway.result().await.expect_sent();
    assert_eq!((gateway.posted().len(), gateway.world.dead_letters().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_key_of_one_recipient_fails_its_checks_closed_and_is_logged_by_its_kind() {
    let mut gateway = Embedded::start();
    gateway.world.store.damage(Some(Damaged::Subject("sends")));
    start_capturing();
    gateway.request("r1", ALICE).await.expect("unknown", Some("internal"));
    let code = otpost::domain::code::Code::parse("123456").expect("a code");
    let (to, purpose) = (crate::harness::number(ALICE).into(), otpost::domain::purpose::Purpose::default());
    gateway.verifier.verify(&to, &purpose, &code).await.expect_err("it fails closed");
    gateway.world.store.damage(None);
    gateway.request("r2", BOB).await.expect_sent();
    let dead = gateway.world.dead_letters();
    assert_eq!((dead.len(), dead[0].reason.as_str()), (1, "record"));
    let log = captured_log();
    assert!(log.contains("a stored key of kind `sends` cannot be read"), "{log}");
    let recipient = gateway.world.recipient(ALICE);
    assert!(!log.contains("3001234567") && !log.contains(recipient.as_str()), "{log}");
}

#[tokio::test(start_paused = true)]
async fn an_api_whose_report_fails_repeats_it_before_it_shows_as_silent() {
    let store = World::new().store;
    store.failed_reports.store(1, Ordering::SeqCst);
    let watch = StoreWatch::new(store.clone(), Vec::new(), Arc::default());
    let _ = tokio::time::timeout(Duration::from_secs(2), watch.run()).await;
    assert_eq!(store.reported_workers().await.expect("it answers").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_no_fault_of_the_keys() {
    let store = World::new().store;
    store.gone.store(true, Ordering::SeqCst);
    start_capturing();
    let watch = KeyWatch::new(store.clone(), Vec::new());
    let _ = tokio::time::timeout(Duration::from_secs(60), watch.run()).await;
    assert!(store.calls.load(Ordering::SeqCst) > 5);
    assert!(!captured_log().contains("keys could not be compared"), "{}", captured_log());
}
