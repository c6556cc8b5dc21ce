//! One request, one result, one message.

use std::sync::Arc;
use std::time::Duration;

use otpost::broker::{Properties, Publisher};
use serde_json::json;

use crate::harness::{ALICE, BOB, Embedded, NeverConfirmed, Options, World, request, with};

#[tokio::test(start_paused = true)]
async fn every_request_gets_one_result_and_a_repeat_replays_it() {
    let mut gateway = Embedded::start();
    let first = gateway.request("r1", ALICE).await;
    first.expect_sent().expect_replayed(false);
    let again = gateway.request("r1", ALICE).await;
    again.expect_sent().expect_replayed(true);
    assert_eq!(first.message.message_id, "r1:sent");
    assert_eq!(again.message.message_id, first.message.message_id);
    assert_eq!(again.body["provider_message_id"], first.body["provider_message_id"]);
    assert_eq!(again.body["at"], first.body["at"]);
    assert_eq!(gateway.posted().len(), 1);
    gateway.expect_no_result();
}

#[tokio::test(start_paused = true)]
async fn a_repeat_with_other_fields_is_still_the_same_request() {
    let mut gateway = Embedded::start();
    gateway.request("r1", ALICE).await.expect_sent();
    gateway.publish(&with("r1", ALICE, json!({"purpose": "login"})));
    let repeat = gateway.result().await;
    repeat.expect_sent().expect_replayed(true);
    assert_eq!(repeat.body["purpose"], "verification");
}

#[tokio::test(start_paused = true)]
async fn the_same_id_for_another_recipient_is_another_request() {
    let mut gateway = Embedded::start();
    gateway.request("r1", ALICE).await.expect_sent().expect_replayed(false);
    gateway.request("r1", BOB).await.expect_sent().expect_replayed(false);
    assert_eq!(gateway.posted().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_acked_only_after_its_result_is_confirmed() {
    let mut gateway = Embedded::start();
    gateway.world.broker.fail_next_publishes(4);
    gateway.request("r1", ALICE).await.expect_sent();
    assert_eq!(gateway.posted().len(), 1, "an unconfirmed result is published again, not sent again");
    gateway.expect_no_result();

    gateway.world.broker.fail_next_publishes(usize::MAX);
    gateway.publish(&request("r2", BOB));
    gateway.world.provider.until_posted(2).await;
    let world = gateway.world.clone();
    assert_eq!(gateway.stop().await, 1);
    assert_eq!(world.broker.waiting(), 1, "an unconfirmed result leaves its delivery unacknowledged");

    world.broker.fail_next_publishes(0);
    let mut next = Embedded::in_world(world, Options::default());
    next.result().await.expect_sent().expect_replayed(true);
    assert_eq!(next.posted().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_second_delivery_of_a_request_in_progress_waits_and_keeps_no_slot() {
    let world = World::new();
    let mut gateway = Embedded::in_world(world.clone(), Options { concurrency: 1, ..Options::default() });
    world.provider.close_gate();
    gateway.publish(&request("r1", ALICE));
    world.provider.until_posted(1).await;
    let mut other = Embedded::in_world(world.clone(), Options { concurrency: 1, ..Options::default() });
    other.publish(&request("r1", ALICE));
    other.publish(&request("r2", BOB));
    world.provider.until_posted(2).await;
    world.provider.open_gate(10);
    gateway.result().await.expect_sent();
    other.result().await.expect_sent();
    let mut ended: Vec<_> = Vec::new();
    for _ in 0..2 {
        let result = gateway.result().await;
        ended.push((result.body["request_id"].clone(), result.body["replayed"].as_bool()));
    }
    assert!(ended.contains(&(json!("r1"), Some(true))), "{ended:?}");
    assert_eq!(world.provider.posted().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_callers_correlation_and_trace_come_back() {
    let mut gateway = Embedded::start();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let properties = Properties {
        correlation_id: Some("order-7".to_owned()),
        traceparent: Some(trace.to_owned()),
        ..Properties::default()
    };
    gateway.publish_with(&request("r1", ALICE), properties);
    let result = gateway.result().await;
    assert_eq!(result.message.correlation_id.as_deref(), Some("order-7"));
    assert_eq!(result.message.traceparent.as_deref(), Some(trace));
    assert_eq!(result.message.routing_key, "sms.sent");
    let plain = gateway.request("r2", BOB).await;
    assert_eq!(
        plain.message.correlation_id.as_deref(),
        Some("r2"),
        "without one, the request id is the correlation id"
    );
}

#[tokio::test(start_paused = true)]
async fn only_an_allowed_reply_queue_gets_the_result() {
    let mut gateway = Embedded::start();
    let broker = gateway.world.broker.clone();
    let mut queues: Vec<_> = ["reply.me", "exact", "elsewhere", "otpost.send-sms"]
        .map(|name| (name, broker.reply_queue(name)))
        .into_iter()
        .collect();
    for (at, name) in ["reply.me", "exact", "elsewhere", "otpost.send-sms"].iter().enumerate() {
        let properties = Properties { reply_to: Some((*name).to_owned()), ..Properties::default() };
        gateway.publish_with(&request(&format!("r{at}"), &format!("+57300123456{at}")), properties);
        gateway.result().await.expect_sent();
    }
    // Replies are published in order, so every earlier reply is in its queue now.
    gateway.request("last", BOB).await.expect_sent();
    let got: Vec<_> = queues.iter_mut().map(|(name, queue)| (*name, queue.try_recv().is_ok())).collect();
    assert_eq!(got, [("reply.me", true), ("exact", true), ("elsewhere", false), ("otpost.send-sms", false)]);
}

#[tokio::test(start_paused = true)]
async fn a_reply_queue_that_never_confirms_delays_no_request() {
    let replies = Some(Arc::new(NeverConfirmed) as Arc<dyn Publisher>);
    let mut gateway = Embedded::with(Options { concurrency: 2, replies, ..Options::default() });
    let started = tokio::time::Instant::now();
    for number in 100..400 {
        let properties = Properties { reply_to: Some("reply.full".to_owned()), ..Properties::default() };
        gateway.publish_with(&request("r", &format!("+573001234{number}")), properties);
    }
    for _ in 100..400 {
        gateway.result().await.expect_sent();
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(gateway.stop().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_lost_by_the_store_makes_the_same_code_again() {
    let worlds = [World::new(), World::new()];
    let requested_at = worlds[0].clock.now().to_string();
    let mut codes = Vec::new();
    for world in worlds {
        let mut gateway = Embedded::in_world(world, Options::default());
        gateway.publish(&with("r1", ALICE, json!({"requested_at": requested_at})));
        gateway.result().await.expect_sent();
        codes.push(gateway.posted()[0].code.clone());
    }
    assert_eq!(codes[0], codes[1]);
}

#[tokio::test(start_paused = true)]
async fn copies_of_a_request_in_progress_get_its_result_soon_after_it_ends() {
    let world = World::new();
    let mut gateway = Embedded::in_world(world.clone(), Options::default());
    world.provider.close_gate();
    gateway.publish(&request("r1", ALICE));
    gateway.publish(&request("r1", ALICE));
    world.provider.until_posted(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ended = tokio::time::Instant::now();
    world.provider.open_gate(1);
    gateway.result().await.expect_sent();
    gateway.result().await.expect_sent().expect_replayed(true);
    assert!(ended.elapsed() < Duration::from_secs(7), "{:?}", ended.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_known_outcome_survives_a_lost_delivery() {
    let world = World::new();
    let mut gateway = Embedded::in_world(world.clone(), Options::default());
    world.provider.close_gate();
    gateway.publish(&request("r1", ALICE));
    world.provider.until_posted(1).await;
    world.store.gone.store(true, std::sync::atomic::Ordering::SeqCst);
    world.provider.open_gate(1);
    tokio::time::sleep(Duration::from_secs(1_500)).await;
    world.store.gone.store(false, std::sync::atomic::Ordering::SeqCst);
    gateway.result().await.expect_sent();
    gateway.request("r1", ALICE).await.expect_sent().expect_replayed(true);
    assert_eq!(world.provider.posted().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_finishes_messages_in_flight_and_requeues_waiting_deliveries() {
    let world = World::new();
    let gateway = Embedded::in_world(world.clone(), Options { concurrency: 2, ..Options::default() });
    let mut results = world.broker.subscribe_results();
    world.provider.close_gate();
    for number in 0..6 {
        gateway.publish(&request(&format!("r{number}"), &format!("+57300123456{number}")));
    }
    world.provider.until_posted(2).await;
    let stopping = tokio::spawn(gateway.stop());
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.provider.open_gate(2);
    assert_eq!(stopping.await.expect("no panic"), 0);
    assert_eq!(world.provider.posted().len(), 2);
    assert_eq!(world.broker.waiting(), 4, "the prefetched deliveries are back on the queue");
    assert!(results.recv().await.is_some() && results.recv().await.is_some());
    assert!(results.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn shutdown_requeues_a_request_that_waits_for_its_next_attempt() {
    use otpost::domain::send_failure::SendFailure;
    let world = World::new();
    let gateway = Embedded::in_world(world.clone(), Options::default());
    let retry_after = Some(Duration::from_secs(120));
    world.provider.fail_next([SendFailure::Throttled { provider_code: None, retry_after }]);
    gateway.publish(&request("r1", ALICE));
    world.provider.until_posted(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = tokio::time::Instant::now();
    assert_eq!(gateway.stop().await, 0);
    assert!(before.elapsed() < Duration::from_secs(1));

    let mut next = Embedded::in_world(world, Options::default());
    let ended = next.result().await;
    ended.expect_sent();
    assert_eq!(ended.body["attempts"], 2, "attempts are counted over redeliveries");
}

#[tokio::test(start_paused = true)]
async fn messages_in_flight_never_exceed_the_concurrency() {
    let mut gateway = Embedded::with(Options { concurrency: 3, ..Options::default() });
    for number in 10..60 {
        gateway.publish(&request(&format!("r{number}"), &format!("+5730012345{number}")));
    }
    for _ in 10..60 {
        gateway.result().await.expect_sent();
    }
    let most = gateway.world.provider.in_flight_max.load(std::sync::atomic::Ordering::SeqCst);
    assert!(most <= 3, "{most} at once");
}
