//! An outage of the store delays requests. It loses none and causes no busy loop.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::harness::{ALICE, Embedded, Options, World, request};

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
