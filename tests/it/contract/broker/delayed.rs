//! The delay queue: each request on it comes back once, and nothing of it is lost.

use std::collections::BTreeSet;

use lapin::options::{BasicGetOptions, BasicNackOptions};
use lapin::types::{AMQPValue, FieldTable};
use otpost::broker::DELAY;
use tokio::time::Instant;

use super::rabbit::{RabbitWorld, in_world};
use super::*;

/// In place of the real time, so that a test does not wait for it.
const SHORT: Duration = Duration::from_millis(300);

contract!(
    a_delayed_request_is_counted_and_comes_back_once,
    a_delayed_request_keeps_the_count_of_its_returns,
    a_delayed_request_can_be_delayed_again,
    a_caller_receives_the_result_of_its_delayed_request,
    a_full_delay_queue_is_an_error_and_loses_nothing,
    a_missing_delay_queue_is_an_error,
    an_email_is_not_delayed,
);

/// Both have connected and declared the topology, so that another delay queue can take the place of theirs.
async fn ready(world: &dyn World) -> (Arc<dyn Publisher>, Box<dyn RequestConsumer>) {
    let (publisher, mut consumer) = (world.publisher(), world.consumer(4));
    let request = Target::Requests(Channel::Sms);
    let published = async { while publisher.publish(outgoing(request, "m-1")).await.is_err() {} };
    patiently(published).await;
    next(&mut consumer).await.settle(Settlement::Ack);
    (publisher, consumer)
}

async fn delay(publisher: &Arc<dyn Publisher>, delivery: Delivery) {
    patiently(publisher.delay(Channel::Sms, &delivery, AT)).await.expect("confirmed");
    delivery.settle(Settlement::Ack);
}

async fn until_delayed(world: &dyn World, wanted: u32) {
    let queues = world.request_queues();
    let counted = async {
        while queues.delayed().await.expect("the broker answers") != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently(counted).await;
}

fn all_properties() -> Properties {
    Properties {
        message_id: Some("m-1".to_owned()),
        priority: Some(7),
        correlation_id: Some("c-1".to_owned()),
        reply_to: Some("reply.me".to_owned()),
        timestamp: Some(AT),
        traceparent: Some(TRACE.to_owned()),
        tracestate: Some(STATE.to_owned()),
        delivery_count: 0,
        redelivered: false,
    }
}

/// The time is the real one.
async fn a_delayed_request_comes_back_after_its_time_with_its_properties(world: &dyn World) {
    let (publisher, mut consumer) = ready(world).await;
    world.send("{\"n\":1}", all_properties()).await;
    let first = next(&mut consumer).await;
    assert_eq!(first.properties, all_properties());
    let began = Instant::now();
    delay(&publisher, first).await;
    let again = timeout(DELAY + PATIENCE, consumer.next()).await.expect("in time").expect("a delivery");
    let took = began.elapsed();
    assert!((DELAY..DELAY + PATIENCE / 2).contains(&took), "{took:?}");
    assert_eq!(again.body, b"{\"n\":1}");
    assert_eq!(again.properties, Properties { redelivered: true, ..all_properties() });
    again.settle(Settlement::Ack);
}

#[tokio::test(start_paused = true)]
async fn in_memory_a_delayed_request_comes_back_after_its_time_with_its_properties() {
    let world = memory::MemoryWorld::default();
    a_delayed_request_comes_back_after_its_time_with_its_properties(&world).await;
}

#[tokio::test]
async fn from_rabbitmq_a_delayed_request_comes_back_after_its_time_with_its_properties() {
    in_world(async |world| {
        a_delayed_request_comes_back_after_its_time_with_its_properties(world).await;
    })
    .await;
}

async fn a_delayed_request_is_counted_and_comes_back_once(world: &dyn World) {
    let (publisher, mut consumer) = ready(world).await;
    world.replace_delay_queue(Duration::from_secs(2), 100).await;
    send_many(world, 3).await;
    for _ in 0..3 {
        delay(&publisher, next(&mut consumer).await).await;
    }
    until_delayed(world, 3).await;
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let delivery = next(&mut consumer).await;
        bodies.push(delivery.body.clone());
        delivery.settle(Settlement::Ack);
    }
    bodies.sort();
    assert_eq!(bodies, [b"0", b"1", b"2"]);
    until_delayed(world, 0).await;
    assert!(timeout(2 * SHORT, consumer.next()).await.is_err(), "one came twice");
    close(consumer).await;
    until_waiting(world, 0).await;
}

async fn a_delayed_request_keeps_the_count_of_its_returns(world: &dyn World) {
    let (publisher, mut consumer) = ready(world).await;
    world.replace_delay_queue(SHORT, 100).await;
    send_many(world, 1).await;
    next(&mut consumer).await.settle(Settlement::RequeueCounted);
    delay(&publisher, next(&mut consumer).await).await;
    let delayed = next(&mut consumer).await;
    assert_eq!((delayed.properties.delivery_count, delayed.properties.redelivered), (1, true));
    assert_eq!(delayed.properties.timestamp, Some(AT), "it had none");
    delayed.settle(Settlement::RequeueCounted);
    assert_eq!(next(&mut consumer).await.properties.delivery_count, 2);
}

async fn a_delayed_request_can_be_delayed_again(world: &dyn World) {
    let (publisher, mut consumer) = ready(world).await;
    world.replace_delay_queue(SHORT, 100).await;
    world.send("again", all_properties()).await;
    for _ in 0..3 {
        delay(&publisher, next(&mut consumer).await).await;
    }
    let last = next(&mut consumer).await;
    assert_eq!(last.body, b"again");
    assert_eq!(last.properties, Properties { redelivered: true, ..all_properties() });
    last.settle(Settlement::Ack);
}

/// The caller's reply queue is that of its own connection.
async fn a_caller_receives_the_result_of_its_delayed_request(world: &dyn World) {
    let (publisher, mut consumer) = ready(world).await;
    let rpc_client = world.rpc_client();
    world.replace_delay_queue(SHORT, 100).await;
    let asked = rpc_client.request(asking("late"), PATIENCE);
    let worker = async {
        delay(&publisher, next(&mut consumer).await).await;
        let delivery = next(&mut consumer).await;
        reply(world, &delivery, b"the result").await;
        delivery.settle(Settlement::Ack);
    };
    let (received, ()) = patiently(async { tokio::join!(asked, worker) }).await;
    assert_eq!(received.expect("queued").as_deref(), Some(b"the result" as &[u8]));
}

/// A quorum queue takes a few more than its maximum before it refuses.
async fn a_full_delay_queue_is_an_error_and_loses_nothing(world: &dyn World) {
    let (publisher, mut consumer) = ready(world).await;
    world.replace_delay_queue(Duration::from_secs(60), 1).await;
    let mut delayed = 0;
    let refused = loop {
        world.send(&delayed.to_string(), Properties::default()).await;
        let delivery = next(&mut consumer).await;
        match patiently(publisher.delay(Channel::Sms, &delivery, AT)).await {
            Ok(()) if delayed < 200 => delivery.settle(Settlement::Ack),
            Ok(()) => panic!("it is never full"),
            Err(error) => {
                delivery.settle(Settlement::Requeue);
                break error;
            }
        }
        delayed += 1;
    };
    assert!(matches!(refused, PublishError::NotTaken(_)), "{refused:?}");
    let returned = next(&mut consumer).await;
    assert_eq!(returned.body, delayed.to_string().as_bytes());
    returned.settle(Settlement::Ack);
    until_delayed(world, delayed).await;
}

async fn a_missing_delay_queue_is_an_error(world: &dyn World) {
    let (publisher, mut consumer) = ready(world).await;
    send_many(world, 1).await;
    let delivery = next(&mut consumer).await;
    world.delete_delay_queue().await;
    let refused = patiently(publisher.delay(Channel::Sms, &delivery, AT)).await;
    assert!(matches!(refused, Err(PublishError::Unroutable)), "{refused:?}");
    delivery.settle(Settlement::Requeue);
    next(&mut consumer).await.settle(Settlement::Ack);
}

async fn an_email_is_not_delayed(world: &dyn World) {
    let ((publisher, _), mut consumer) = (ready(world).await, world.consumer_of(Channel::Email, 1));
    publisher.publish(outgoing(Target::Requests(Channel::Email), "m-1")).await.expect("published");
    let delivery = next(&mut consumer).await;
    let refused = patiently(publisher.delay(Channel::Email, &delivery, AT)).await;
    assert!(matches!(refused, Err(PublishError::Unroutable)), "{refused:?}");
    until_delayed(world, 0).await;
}

/// The headers of the next request, as RabbitMQ has them. It is requeued.
async fn next_headers(world: &RabbitWorld) -> FieldTable {
    let (channel, queue) = (world.open_channel().await, world.names.requests_of(Channel::Sms));
    let got = async {
        loop {
            let got = channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: false });
            if let Some(message) = got.await.expect("the queue is there") {
                let requeue = BasicNackOptions { multiple: false, requeue: true };
                channel.basic_nack(message.delivery.delivery_tag, requeue).await.expect("written");
                return message.delivery.properties.headers().clone().expect("headers");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently(got).await
}

#[tokio::test]
async fn the_headers_of_a_request_do_not_grow_with_its_delays() {
    in_world(async |world: &RabbitWorld| {
        let (publisher, mut consumer) = ready(world).await;
        world.replace_delay_queue(Duration::from_secs(1), 100).await;
        world.send("again", all_properties()).await;
        let mut names = Vec::new();
        for _ in 0..3 {
            delay(&publisher, next(&mut consumer).await).await;
            consumer.pause().await;
            let headers = next_headers(world).await;
            let AMQPValue::FieldArray(deaths) = &headers.inner()["x-death"] else {
                panic!("{headers:?}");
            };
            assert_eq!(deaths.as_slice().len(), 1, "{headers:?}");
            names.push(headers.inner().keys().map(ToString::to_string).collect::<BTreeSet<_>>());
            consumer.resume().await;
        }
        assert!(names.iter().all(|of_one| *of_one == names[0]), "{names:?}");
        next(&mut consumer).await.settle(Settlement::Ack);
    })
    .await;
}
