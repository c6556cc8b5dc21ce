//! While consumption is paused no delivery starts, and none is lost.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::harness::{ALICE, BOB, Embedded, Options, World, request};

const MINUTE: Duration = Duration::from_secs(60);

/// A gateway that processes two deliveries at once and prefetches four, and the switch that pauses it.
fn pausable(world: World) -> (Embedded, watch::Sender<bool>) {
    let pause = watch::Sender::new(false);
    let options = Options { concurrency: 2, paused: pause.subscribe(), ..Options::default() };
    (Embedded::in_world(world, options), pause)
}

fn publish_ten(gateway: &Embedded) {
    for number in 0..10 {
        gateway.publish(&request(&format!("r{number}"), &format!("+57300123456{number}")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_stops_consumption_and_loses_no_request() {
    let world = World::new();
    let (mut gateway, pause) = pausable(world.clone());
    world.provider.close_gate();
    publish_ten(&gateway);
    world.provider.until_posted(2).await;
    pause.send_replace(true);
    world.provider.open_gate(10);
    gateway.result().await.expect_sent();
    gateway.result().await.expect_sent();

    for _ in 0..3 {
        sleep(MINUTE).await;
        // A second pause changes nothing.
        pause.send_replace(true);
    }
    gateway.expect_no_result();
    assert_eq!(world.provider.posted().len(), 2, "messages in flight are finished, and no delivery starts");
    assert_eq!(world.broker.waiting(), 6, "the prefetched deliveries stay, one of them in the worker");

    let resumed = Instant::now();
    pause.send_replace(false);
    for _ in 2..10 {
        gateway.result().await.expect_sent().expect_replayed(false);
    }
    assert_eq!((world.provider.posted().len(), resumed.elapsed()), (10, Duration::ZERO));
    gateway.expect_no_result();
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_paused_while_idle_consumes_nothing() {
    let (mut gateway, pause) = pausable(World::new());
    gateway.request("r1", ALICE).await.expect_sent();
    pause.send_replace(true);
    sleep(MINUTE).await;
    gateway.publish(&request("r2", BOB));
    sleep(30 * MINUTE).await;
    assert_eq!(gateway.world.broker.waiting(), 1);
    gateway.expect_no_result();
    pause.send_replace(false);
    gateway.result().await.expect_sent();
}

#[tokio::test(start_paused = true)]
async fn a_long_pause_requeues_the_deliveries_it_holds() {
    let world = World::new();
    let (mut gateway, pause) = pausable(world.clone());
    world.provider.close_gate();
    publish_ten(&gateway);
    world.provider.until_posted(2).await;
    let later = Duration::from_secs(10);
    sleep(later).await;
    pause.send_replace(true);
    world.provider.open_gate(10);
    sleep(12 * MINUTE - later - Duration::from_secs(1)).await;
    assert_eq!(world.broker.waiting(), 6, "they arrived not quite twelve minutes ago");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(
        world.broker.waiting(),
        8,
        "a broker closes the channel of a consumer that holds them for longer"
    );

    // Another worker may have them now.
    let mut other = Embedded::in_world(world.clone(), Options::default());
    for _ in 2..10 {
        other.result().await;
    }
    assert_eq!((world.provider.posted().len(), world.broker.waiting()), (10, 0));
    sleep(60 * MINUTE).await;
    other.stop().await;

    gateway.publish(&request("last", "+573001234570"));
    sleep(MINUTE).await;
    assert_eq!(world.broker.waiting(), 1, "the pause goes on");
    pause.send_replace(false);
    while gateway.result().await.body["request_id"] != "last" {}
}

#[tokio::test(start_paused = true)]
async fn shutdown_during_a_pause_drains_as_usual() {
    let world = World::new();
    let (gateway, pause) = pausable(world.clone());
    let mut results = world.broker.subscribe_results();
    world.provider.close_gate();
    publish_ten(&gateway);
    world.provider.until_posted(2).await;
    pause.send_replace(true);
    sleep(Duration::from_secs(5)).await;
    let stopping = tokio::spawn(gateway.stop());
    sleep(Duration::from_secs(1)).await;
    world.provider.open_gate(2);
    assert_eq!(stopping.await.expect("no panic"), 0);
    assert_eq!((world.provider.posted().len(), world.broker.waiting()), (2, 8));
    assert!(results.recv().await.is_some() && results.recv().await.is_some());
    assert!(results.try_recv().is_err());
}
