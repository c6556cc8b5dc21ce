//! The contract of a broker, run on the one in memory and on RabbitMQ.

pub mod dead_letters;
pub mod faults;
mod memory;
mod poison;
mod proxy;
pub mod rabbit;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use otpost::broker::{
    DeadHeaders, Delivery, Outgoing, Properties, PublishError, Publisher, RequestConsumer, RequestQueues,
    RpcClient, Settlement, Target,
};
use otpost::domain::channel::Channel;
use otpost::domain::scaling::QueueDepth;
use otpost::domain::time::UnixMillis;
use tokio::time::timeout;

/// No wait of these tests takes longer unless something is broken.
const PATIENCE: Duration = Duration::from_secs(20);
pub const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const STATE: &str = "vendor=a,other=b";
const AT: UnixMillis = UnixMillis(1_795_000_000_000);

/// A broker of one kind, for one test.
#[async_trait]
pub trait World: Send + Sync {
    fn consumer_of(&self, channel: Channel, prefetch: u16) -> Box<dyn RequestConsumer>;
    fn consumer(&self, prefetch: u16) -> Box<dyn RequestConsumer> {
        self.consumer_of(Channel::Sms, prefetch)
    }
    fn publisher(&self) -> Arc<dyn Publisher>;
    fn rpc_client(&self) -> Arc<dyn RpcClient>;
    fn request_queues(&self) -> Arc<dyn RequestQueues>;
    /// Publishes a request as a caller's own client does.
    async fn send(&self, body: &str, properties: Properties);
    /// Reads results that come from now on.
    async fn results(&self) -> Box<dyn Reader>;
    /// Declares a caller's reply queue.
    async fn reply_queue(&self, name: &str) -> Box<dyn Reader>;
    async fn next_dead_letter(&self) -> Dead;
    /// Requests that no consumer holds.
    async fn waiting(&self) -> usize;
    async fn delete_request_queue(&self);
    /// A running publisher does not notice.
    async fn replace_delay_queue(&self, delay: Duration, requests_max: u32);
    async fn delete_delay_queue(&self);
}

#[async_trait]
pub trait Reader: Send {
    async fn next(&mut self) -> Message;
}

#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub routing_key: String,
    pub body: Vec<u8>,
    pub message_id: String,
    correlation_id: Option<String>,
    at: UnixMillis,
    traceparent: Option<String>,
    tracestate: Option<String>,
}

impl Message {
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    pub fn tracestate(&self) -> Option<&str> {
        self.tracestate.as_deref()
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Dead {
    body: Vec<u8>,
    reason: String,
    error: String,
    delivery_count: u64,
}

/// Instantiates each promise for each broker.
macro_rules! contract {
    ($($promise:ident),* $(,)?) => {
        mod on_memory {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(&super::memory::MemoryWorld::default()).await;
            })*
        }
        mod on_rabbit {
            $(#[tokio::test]
            async fn $promise() {
                super::rabbit::in_world(async |world| super::$promise(world).await).await;
            })*
        }
    };
}

mod delayed;

contract!(
    a_request_arrives_with_its_properties,
    a_published_request_arrives,
    a_request_reaches_the_consumers_of_its_channel_only,
    a_result_and_a_reply_reach_their_readers,
    the_prefetch_is_never_exceeded,
    a_requeued_request_comes_back_and_is_counted,
    an_orderly_requeue_comes_back_and_keeps_the_other_counts,
    an_acknowledged_request_never_comes_back,
    a_cancelled_consumer_hands_out_its_buffer_and_ends,
    a_paused_consumer_consumes_nothing_more_until_it_is_resumed,
    a_paused_consumer_hands_out_its_buffer_and_writes_settlements,
    a_paused_consumer_can_be_cancelled,
    unsettled_deliveries_survive_the_end_of_a_pause,
    a_second_consumer_receives_the_deliveries_that_the_first_one_dropped,
    a_closed_consumer_has_written_every_settlement,
    a_result_without_a_reader_counts_as_published,
    a_reply_to_a_queue_that_is_gone_counts_as_published,
    a_dead_letter_has_its_headers,
    a_request_that_returns_too_often_is_dead_lettered,
    an_unroutable_request_is_an_error,
    a_caller_receives_the_result_of_its_own_request,
    a_caller_without_a_result_in_time_knows_that_the_request_is_queued,
    a_caller_that_wants_no_result_gets_none_and_sends_no_reply_queue,
    a_caller_of_an_unroutable_request_gets_an_error,
    a_held_delivery_does_not_hold_the_others_back,
    requests_that_wait_and_their_consumers_are_counted,
    dead_letters_that_wait_are_counted,
);

async fn a_request_arrives_with_its_properties(world: &dyn World) {
    let mut consumer = world.consumer(4);
    let sent = Properties {
        message_id: Some("m-1".to_owned()),
        priority: Some(7),
        correlation_id: Some("c-1".to_owned()),
        reply_to: Some("reply.me".to_owned()),
        timestamp: Some(AT),
        traceparent: Some(TRACE.to_owned()),
        tracestate: Some(STATE.to_owned()),
        delivery_count: 0,
        redelivered: false,
    };
    world.send("{\"n\":1}", sent).await;
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.body, b"{\"n\":1}");
    assert_eq!(delivery.properties.message_id.as_deref(), Some("m-1"));
    assert_eq!(delivery.properties.priority, Some(7));
    assert_eq!(delivery.properties.correlation_id.as_deref(), Some("c-1"));
    assert_eq!(delivery.properties.reply_to.as_deref(), Some("reply.me"));
    assert_eq!(delivery.properties.timestamp, Some(AT));
    assert_eq!(delivery.properties.traceparent.as_deref(), Some(TRACE));
    assert_eq!(delivery.properties.tracestate.as_deref(), Some(STATE));
    assert_eq!(delivery.properties.delivery_count, 0);
    assert!(!delivery.is_lost());
}

async fn a_published_request_arrives(world: &dyn World) {
    let mut consumer = world.consumer(4);
    next_after_publish(world, &mut consumer, Target::Requests(Channel::Sms)).await;
}

async fn next_after_publish(world: &dyn World, consumer: &mut Box<dyn RequestConsumer>, target: Target<'_>) {
    world.publisher().publish(outgoing(target, "m-1")).await.expect("published");
    let delivery = next(consumer).await;
    assert_eq!(delivery.body, b"{}");
    assert_eq!(delivery.properties.correlation_id.as_deref(), Some("c-1"));
    assert_eq!(delivery.properties.timestamp, Some(AT));
    assert_eq!(delivery.properties.traceparent.as_deref(), Some(TRACE));
    assert_eq!(delivery.properties.tracestate.as_deref(), Some(STATE));
    delivery.settle(Settlement::Ack);
}

async fn a_request_reaches_the_consumers_of_its_channel_only(world: &dyn World) {
    let (mut texts, mut emails) = (world.consumer_of(Channel::Sms, 4), world.consumer_of(Channel::Email, 4));
    next_after_publish(world, &mut texts, Target::Requests(Channel::Sms)).await;
    next_after_publish(world, &mut emails, Target::Requests(Channel::Email)).await;
}

async fn a_result_and_a_reply_reach_their_readers(world: &dyn World) {
    let publisher = world.publisher();
    let mut results = world.results().await;
    let mut replies = world.reply_queue("reply.one").await;
    let result = Target::Results { routing_key: "sms.sent" };
    publisher.publish(outgoing(result, "m-1")).await.expect("a result");
    publisher.publish(outgoing(Target::Reply { queue: "reply.one" }, "m-2")).await.expect("a reply");
    let expected = |routing_key: &str, message_id: &str| Message {
        routing_key: routing_key.to_owned(),
        body: b"{}".to_vec(),
        message_id: message_id.to_owned(),
        correlation_id: Some("c-1".to_owned()),
        at: AT,
        traceparent: Some(TRACE.to_owned()),
        tracestate: Some(STATE.to_owned()),
    };
    assert_eq!(results.next().await, expected("sms.sent", "m-1"));
    assert_eq!(replies.next().await, expected("reply.one", "m-2"));
}

async fn the_prefetch_is_never_exceeded(world: &dyn World) {
    send_many(world, 10).await;
    let mut consumer = world.consumer(3);
    let mut held = vec![next(&mut consumer).await, next(&mut consumer).await, next(&mut consumer).await];
    assert!(timeout(Duration::from_millis(300), consumer.next()).await.is_err(), "a fourth came");
    held.pop().expect("three").settle(Settlement::Ack);
    next(&mut consumer).await;
}

async fn a_requeued_request_comes_back_and_is_counted(world: &dyn World) {
    let mut consumer = world.consumer(1);
    send_many(world, 1).await;
    for count in 0..3 {
        let delivery = next(&mut consumer).await;
        assert_eq!((delivery.properties.delivery_count, delivery.properties.redelivered), (count, count > 0));
        delivery.settle(Settlement::RequeueCounted);
    }
}

/// RabbitMQ counts it before 4.3, so no more is promised than that the delivery comes back marked as such.
async fn an_orderly_requeue_comes_back_and_keeps_the_other_counts(world: &dyn World) {
    let mut consumer = world.consumer(1);
    send_many(world, 1).await;
    let orders = [Settlement::Requeue, Settlement::RequeueCounted, Settlement::Requeue];
    for (requeues, settlement) in (0..).zip(orders) {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.properties.redelivered, requeues > 0);
        delivery.settle(settlement);
    }
    let count = next(&mut consumer).await.properties.delivery_count;
    assert!((1..=3).contains(&count), "{count}");
}

async fn an_acknowledged_request_never_comes_back(world: &dyn World) {
    let mut consumer = world.consumer(5);
    send_many(world, 5).await;
    for _ in 0..5 {
        next(&mut consumer).await.settle(Settlement::Ack);
    }
    close(consumer).await;
    world.send("last", Properties::default()).await;
    let mut second = world.consumer(5);
    assert_eq!(next(&mut second).await.body, b"last");
}

async fn a_cancelled_consumer_hands_out_its_buffer_and_ends(world: &dyn World) {
    send_many(world, 8).await;
    let mut consumer = world.consumer(4);
    let first = next(&mut consumer).await;
    consumer.cancel().await;
    first.settle(Settlement::Ack);
    let mut drained = 0;
    while let Some(delivery) = patiently(consumer.next()).await {
        delivery.settle(Settlement::Ack);
        drained += 1;
    }
    assert!(drained <= 3, "{drained} came after the cancellation");
    assert!(patiently(consumer.next()).await.is_none(), "the end is final");
    close(consumer).await;
    until_waiting(world, 7 - drained).await;
}

/// Takes what a paused consumer still hands out.
async fn buffered(consumer: &mut Box<dyn RequestConsumer>) -> Vec<Delivery> {
    let mut buffered = Vec::new();
    while let Ok(Some(delivery)) = timeout(Duration::from_millis(300), consumer.next()).await {
        buffered.push(delivery);
    }
    buffered
}

async fn a_paused_consumer_consumes_nothing_more_until_it_is_resumed(world: &dyn World) {
    let mut consumer = world.consumer(4);
    send_many(world, 1).await;
    next(&mut consumer).await.settle(Settlement::Ack);
    for _ in 0..2 {
        consumer.pause().await;
        consumer.pause().await;
        assert!(buffered(&mut consumer).await.is_empty());
        for number in 0..6 {
            world.send(&number.to_string(), Properties::default()).await;
        }
        assert!(buffered(&mut consumer).await.is_empty(), "a request came during a pause");
        until_waiting(world, 6).await;
        consumer.resume().await;
        consumer.resume().await;
        for number in 0..6 {
            let delivery = next(&mut consumer).await;
            assert_eq!(delivery.body, number.to_string().as_bytes());
            assert_eq!(delivery.properties.delivery_count, 0);
            delivery.settle(Settlement::Ack);
        }
    }
    close(consumer).await;
    until_waiting(world, 0).await;
}

async fn unsettled_deliveries_survive_the_end_of_a_pause(world: &dyn World) {
    let mut consumer = world.consumer(4);
    send_many(world, 12).await;
    let mut held = vec![next(&mut consumer).await];
    let mut ended = 0;
    while ended + held.len() < 12 {
        consumer.pause().await;
        held.extend(buffered(&mut consumer).await);
        held.remove(0).settle(Settlement::Ack);
        ended += 1;
        consumer.resume().await;
        if ended + held.len() < 12 {
            held.push(next(&mut consumer).await);
        }
        assert!(held.iter().all(|delivery| !delivery.is_lost()), "the end of a pause cost a connection");
    }
    held.into_iter().for_each(|delivery| delivery.settle(Settlement::Ack));
    close(consumer).await;
    until_waiting(world, 0).await;
}

async fn a_paused_consumer_hands_out_its_buffer_and_writes_settlements(world: &dyn World) {
    let mut consumer = world.consumer(4);
    send_many(world, 8).await;
    let first = next(&mut consumer).await;
    until_waiting(world, 4).await;
    consumer.pause().await;
    let mut held = buffered(&mut consumer).await;
    assert_eq!(held.len(), 3, "what was taken before the pause is kept");
    held.push(first);
    assert!(held.iter().all(|delivery| !delivery.is_lost()));
    for delivery in held {
        delivery.settle(Settlement::Requeue);
    }
    until_waiting(world, 8).await;
    consumer.resume().await;
    let mut returns = 0;
    for _ in 0..8 {
        let delivery = next(&mut consumer).await;
        returns += usize::from(delivery.properties.redelivered);
        delivery.settle(Settlement::Ack);
    }
    assert_eq!(returns, 4, "they came back once each");
    // A resume that follows at once misses nothing.
    consumer.pause().await;
    consumer.resume().await;
    send_many(world, 1).await;
    next(&mut consumer).await.settle(Settlement::Ack);
}

async fn a_paused_consumer_can_be_cancelled(world: &dyn World) {
    for settled in [false, true] {
        let mut consumer = world.consumer(4);
        send_many(world, 6).await;
        let first = next(&mut consumer).await;
        consumer.pause().await;
        if settled {
            buffered(&mut consumer).await.into_iter().for_each(|delivery| delivery.settle(Settlement::Ack));
        }
        consumer.cancel().await;
        first.settle(Settlement::Ack);
        while let Some(delivery) = patiently(consumer.next()).await {
            delivery.settle(Settlement::Ack);
        }
        close(consumer).await;
        // Requests that were not consumed are still in the queue.
        let mut rest = world.consumer(8);
        for _ in 0..2 {
            next(&mut rest).await.settle(Settlement::Ack);
        }
        buffered(&mut rest).await.into_iter().for_each(|delivery| delivery.settle(Settlement::Ack));
        close(rest).await;
        until_waiting(world, 0).await;
    }
}

async fn a_second_consumer_receives_the_deliveries_that_the_first_one_dropped(world: &dyn World) {
    send_many(world, 1).await;
    let mut first = world.consumer(4);
    let held = next(&mut first).await;
    let mut second = world.consumer(4);
    drop(first);
    let again = next(&mut second).await;
    assert_eq!(again.body, held.body);
    assert_eq!(again.properties.delivery_count, 1);
    assert!(held.is_lost());
    // Too late, and harmless.
    held.settle(Settlement::Ack);
    again.settle(Settlement::RequeueCounted);
    assert_eq!(next(&mut second).await.properties.delivery_count, 2);
}

async fn a_closed_consumer_has_written_every_settlement(world: &dyn World) {
    let mut consumer = world.consumer(64);
    send_many(world, 50).await;
    let mut held = Vec::new();
    for _ in 0..50 {
        held.push(next(&mut consumer).await);
    }
    consumer.cancel().await;
    assert!(patiently(consumer.next()).await.is_none());
    for (number, delivery) in held.into_iter().enumerate() {
        delivery.settle(if number % 10 == 0 { Settlement::Requeue } else { Settlement::Ack });
    }
    close(consumer).await;
    until_waiting(world, 5).await;
}

async fn a_result_without_a_reader_counts_as_published(world: &dyn World) {
    let target = Target::Results { routing_key: "sms.sent" };
    world.publisher().publish(outgoing(target, "m-1")).await.expect("confirmed");
}

async fn a_reply_to_a_queue_that_is_gone_counts_as_published(world: &dyn World) {
    let target = Target::Reply { queue: "reply.gone" };
    world.publisher().publish(outgoing(target, "m-1")).await.expect("confirmed");
}

async fn a_dead_letter_has_its_headers(world: &dyn World) {
    let headers =
        DeadHeaders { reason: "poison", error: "not JSON", delivery_count: 5, ..DeadHeaders::default() };
    world.publisher().publish(outgoing(Target::Dead(headers), "m-1")).await.expect("confirmed");
    let expected =
        Dead { body: b"{}".to_vec(), reason: "poison".into(), error: "not JSON".into(), delivery_count: 5 };
    assert_eq!(patiently(world.next_dead_letter()).await, expected);
}

async fn a_request_that_returns_too_often_is_dead_lettered(world: &dyn World) {
    let mut consumer = world.consumer(1);
    world.send("poison", Properties::default()).await;
    for _ in 0..=otpost::broker::DELIVERY_LIMIT {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.body, b"poison");
        delivery.settle(Settlement::RequeueCounted);
    }
    let dead = patiently(world.next_dead_letter()).await;
    assert_eq!((dead.body.as_slice(), dead.reason.as_str()), (b"poison".as_slice(), "delivery_limit"));
}

async fn an_unroutable_request_is_an_error(world: &dyn World) {
    let publisher = world.publisher();
    publisher.publish(outgoing(Target::Requests(Channel::Sms), "m-1")).await.expect("there is a queue");
    world.delete_request_queue().await;
    let refused = publisher.publish(outgoing(Target::Requests(Channel::Sms), "m-2")).await;
    assert!(matches!(refused, Err(PublishError::Unroutable)), "{refused:?}");
}

/// With a prefetch of 8, 200 deliveries beside the one that is held come only if every other one was acknowledged.
async fn a_held_delivery_does_not_hold_the_others_back(world: &dyn World) {
    let mut consumer = world.consumer(8);
    send_many(world, 201).await;
    let held = next(&mut consumer).await;
    let mut late = next(&mut consumer).await;
    for _ in 0..199 {
        let delivery = next(&mut consumer).await;
        // Each one is settled after its successor came.
        std::mem::replace(&mut late, delivery).settle(Settlement::Ack);
    }
    late.settle(Settlement::Ack);
    close(consumer).await;
    until_waiting(world, 1).await;
    let mut second = world.consumer(8);
    let again = next(&mut second).await;
    assert_eq!((again.body, again.properties.delivery_count), (held.body.clone(), 1));
}

async fn requests_that_wait_and_their_consumers_are_counted(world: &dyn World) {
    let queues = world.request_queues();
    // RabbitMQ counts what has just changed a moment later.
    let until = async |sms: (u32, u32)| {
        let wanted = [QueueDepth { ready: sms.0, consumers: sms.1 }, QueueDepth::default()];
        let counted = async {
            while queues.depths().await.expect("the broker answers") != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, counted).await.unwrap_or_else(|_| panic!("not counted: {wanted:?}"));
    };
    until((0, 0)).await;
    send_many(world, 5).await;
    until((5, 0)).await;
    let mut consumer = world.consumer(2);
    let held = next(&mut consumer).await;
    until((3, 1)).await;
    drop(held);
    close(consumer).await;
    until((5, 0)).await;
    world.delete_request_queue().await;
    until((0, 0)).await;
}

async fn dead_letters_that_wait_are_counted(world: &dyn World) {
    let queues = world.request_queues();
    assert_eq!(queues.dead_letters().await, Ok(0));
    let headers = DeadHeaders { reason: "poison", ..DeadHeaders::default() };
    world.publisher().publish(outgoing(Target::Dead(headers), "m-1")).await.expect("confirmed");
    patiently(async {
        while queues.dead_letters().await != Ok(1) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    queues.close().await;
    assert_eq!(queues.dead_letters().await, Ok(1), "it connects again");
}

fn outgoing<'a>(target: Target<'a>, message_id: &'a str) -> Outgoing<'a> {
    let (correlation_id, traceparent) = (Some("c-1"), Some(TRACE));
    Outgoing { target, body: b"{}", message_id, correlation_id, at: AT, traceparent, tracestate: Some(STATE) }
}

async fn send_many(world: &dyn World, count: usize) {
    for number in 0..count {
        world.send(&number.to_string(), Properties::default()).await;
    }
}

pub async fn next(consumer: &mut Box<dyn RequestConsumer>) -> Delivery {
    patiently(consumer.next()).await.expect("the consumer ended")
}

/// Publishes a result to where a delivery wants it.
async fn reply(world: &dyn World, delivery: &Delivery, body: &[u8]) {
    let queue = delivery.properties.reply_to.clone().expect("a reply queue");
    let correlation_id = delivery.properties.correlation_id.clone();
    let message = Outgoing {
        body,
        correlation_id: correlation_id.as_deref(),
        ..outgoing(Target::Reply { queue: &queue }, "result")
    };
    patiently(world.publisher().publish(message)).await.expect("confirmed");
}

/// A request with an id of its own.
fn asking<'a>(id: &'a str) -> Outgoing<'a> {
    Outgoing { correlation_id: Some(id), ..outgoing(Target::Requests(Channel::Sms), id) }
}

/// Replies in reverse order, so that each caller receives its own and not the next one.
async fn a_caller_receives_the_result_of_its_own_request(world: &dyn World) {
    let (rpc_client, mut consumer) = (world.rpc_client(), world.consumer(4));
    let one = rpc_client.request(asking("one"), PATIENCE);
    let other = rpc_client.request(asking("other"), PATIENCE);
    let worker = async {
        let mut deliveries = [next(&mut consumer).await, next(&mut consumer).await];
        deliveries.reverse();
        for delivery in deliveries {
            let id = delivery.properties.correlation_id.clone().expect("each has one");
            reply(world, &delivery, id.as_bytes()).await;
            delivery.settle(Settlement::Ack);
        }
    };
    let (one, other, ()) = patiently(async { tokio::join!(one, other, worker) }).await;
    assert_eq!(one.expect("queued").as_deref(), Some(b"one" as &[u8]));
    assert_eq!(other.expect("queued").as_deref(), Some(b"other" as &[u8]));
}

async fn a_caller_without_a_result_in_time_knows_that_the_request_is_queued(world: &dyn World) {
    let (rpc_client, mut consumer) = (world.rpc_client(), world.consumer(4));
    let asked = rpc_client.request(asking("slow"), Duration::from_millis(300));
    assert_eq!(patiently(asked).await.expect("queued"), None);
    let delivery = next(&mut consumer).await;
    // A late reply has no caller, and does not reach the next one.
    reply(world, &delivery, b"late").await;
    delivery.settle(Settlement::Ack);
    let asked = rpc_client.request(asking("next"), PATIENCE);
    let worker = async {
        let delivery = next(&mut consumer).await;
        reply(world, &delivery, b"in time").await;
        delivery.settle(Settlement::Ack);
    };
    let (received, ()) = patiently(async { tokio::join!(asked, worker) }).await;
    assert_eq!(received.expect("queued").as_deref(), Some(b"in time" as &[u8]));
}

async fn a_caller_that_wants_no_result_gets_none_and_sends_no_reply_queue(world: &dyn World) {
    let (rpc_client, mut consumer) = (world.rpc_client(), world.consumer(4));
    assert_eq!(patiently(rpc_client.request(asking("quiet"), Duration::ZERO)).await.expect("queued"), None);
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.properties.reply_to, None);
    delivery.settle(Settlement::Ack);
}

async fn a_caller_of_an_unroutable_request_gets_an_error(world: &dyn World) {
    let rpc_client = world.rpc_client();
    assert_eq!(patiently(rpc_client.request(asking("first"), Duration::ZERO)).await.expect("queued"), None);
    world.delete_request_queue().await;
    let refused = patiently(rpc_client.request(asking("lost"), PATIENCE)).await;
    assert!(matches!(refused, Err(PublishError::Unroutable)), "{refused:?}");
}

/// A broker requeues the deliveries of a closed consumer in its own time, without a signal.
async fn until_waiting(world: &dyn World, wanted: usize) {
    let reached = async {
        while world.waiting().await != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently(reached).await;
}

async fn close(consumer: Box<dyn RequestConsumer>) {
    patiently(consumer.close()).await;
}

#[track_caller]
pub fn patiently<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let asked = std::panic::Location::caller();
    async move { timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("nothing happened at {asked}")) }
}
