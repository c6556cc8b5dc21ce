//! What every broker promises, run on the one in memory and on RabbitMQ.

mod dead_letters;
mod faults;
mod memory;
mod proxy;
pub mod rabbit;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use otpost::broker::{
    DeadHeaders, Delivery, Outgoing, Properties, PublishError, Publisher, RequestConsumer, RpcClient,
    Settlement, Target,
};
use otpost::domain::channel::Channel;
use otpost::domain::time::UnixMillis;
use tokio::time::timeout;

/// No wait of these tests takes longer unless something is broken.
const PATIENCE: Duration = Duration::from_secs(20);
pub const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const AT: UnixMillis = UnixMillis(1_795_000_000_000);

/// A broker of one kind, for one test.
#[async_trait]
pub trait World: Send + Sync {
    fn source_of(&self, channel: Channel, prefetch: u16) -> Box<dyn RequestConsumer>;
    fn source(&self, prefetch: u16) -> Box<dyn RequestConsumer> {
        self.source_of(Channel::Sms, prefetch)
    }
    fn publisher(&self) -> Arc<dyn Publisher>;
    fn requester(&self) -> Arc<dyn RpcClient>;
    /// Publishes a request as a caller's own client does.
    async fn send(&self, body: &str, properties: Properties);
    /// Reads results that come from now on.
    async fn results(&self) -> Box<dyn Reader>;
    /// Declares a caller's reply queue.
    async fn reply_queue(&self, name: &str) -> Box<dyn Reader>;
    async fn next_dead_letter(&self) -> Dead;
    /// Requests that no source holds.
    async fn waiting(&self) -> usize;
    async fn delete_request_queue(&self);
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

contract!(
    a_request_arrives_with_its_properties,
    a_published_request_arrives,
    a_request_reaches_the_sources_of_its_channel_only,
    a_result_and_a_reply_reach_their_readers,
    the_prefetch_is_never_exceeded,
    a_requeued_request_comes_back_and_is_counted,
    an_acknowledged_request_never_comes_back,
    a_cancelled_source_hands_out_what_it_had_and_ends,
    a_paused_source_asks_for_nothing_more_until_it_is_resumed,
    a_paused_source_hands_out_what_it_had_and_hears_of_settlements,
    a_paused_source_can_be_cancelled,
    what_is_held_over_a_pause_is_not_lost_by_its_end,
    a_second_source_gets_what_the_first_one_dropped,
    a_closed_source_has_told_of_every_settlement,
    a_result_that_nobody_reads_counts_as_published,
    a_reply_to_a_queue_that_is_gone_counts_as_published,
    a_dead_letter_carries_its_headers,
    a_request_that_comes_back_too_often_is_set_aside,
    an_unroutable_request_is_an_error,
    who_asks_hears_the_result_of_their_own_request,
    who_asks_and_hears_nothing_in_time_knows_that_the_request_is_queued,
    who_asks_for_no_result_gets_none_and_the_worker_is_told_so,
    who_asks_without_a_queue_is_told_so,
    a_held_delivery_does_not_hold_the_others_back,
);

async fn a_request_arrives_with_its_properties(world: &dyn World) {
    let mut source = world.source(4);
    let sent = Properties {
        correlation_id: Some("c-1".to_owned()),
        reply_to: Some("reply.me".to_owned()),
        timestamp: Some(AT),
        traceparent: Some(TRACE.to_owned()),
        delivery_count: 0,
        redelivered: false,
    };
    world.send("{\"n\":1}", sent).await;
    let delivery = next(&mut source).await;
    assert_eq!(delivery.body, b"{\"n\":1}");
    assert_eq!(delivery.properties.correlation_id.as_deref(), Some("c-1"));
    assert_eq!(delivery.properties.reply_to.as_deref(), Some("reply.me"));
    assert_eq!(delivery.properties.timestamp, Some(AT));
    assert_eq!(delivery.properties.traceparent.as_deref(), Some(TRACE));
    assert_eq!(delivery.properties.delivery_count, 0);
    assert!(!delivery.is_lost());
}

async fn a_published_request_arrives(world: &dyn World) {
    let mut source = world.source(4);
    next_after_publish(world, &mut source, Target::Requests(Channel::Sms)).await;
}

async fn next_after_publish(world: &dyn World, source: &mut Box<dyn RequestConsumer>, target: Target<'_>) {
    world.publisher().publish(outgoing(target, "m-1")).await.expect("published");
    let delivery = next(source).await;
    assert_eq!(delivery.body, b"{}");
    assert_eq!(delivery.properties.correlation_id.as_deref(), Some("c-1"));
    assert_eq!(delivery.properties.timestamp, Some(AT));
    assert_eq!(delivery.properties.traceparent.as_deref(), Some(TRACE));
    delivery.settle(Settlement::Ack);
}

async fn a_request_reaches_the_sources_of_its_channel_only(world: &dyn World) {
    let (mut texts, mut emails) = (world.source_of(Channel::Sms, 4), world.source_of(Channel::Email, 4));
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
    };
    assert_eq!(results.next().await, expected("sms.sent", "m-1"));
    assert_eq!(replies.next().await, expected("reply.one", "m-2"));
}

async fn the_prefetch_is_never_exceeded(world: &dyn World) {
    send_many(world, 10).await;
    let mut source = world.source(3);
    let mut held = vec![next(&mut source).await, next(&mut source).await, next(&mut source).await];
    assert!(timeout(Duration::from_millis(300), source.next()).await.is_err(), "a fourth came");
    held.pop().expect("three").settle(Settlement::Ack);
    next(&mut source).await;
}

async fn a_requeued_request_comes_back_and_is_counted(world: &dyn World) {
    let mut source = world.source(1);
    send_many(world, 1).await;
    for count in 0..3 {
        let delivery = next(&mut source).await;
        assert_eq!(delivery.properties.delivery_count, count);
        delivery.settle(Settlement::Requeue);
    }
}

async fn an_acknowledged_request_never_comes_back(world: &dyn World) {
    let mut source = world.source(5);
    send_many(world, 5).await;
    for _ in 0..5 {
        next(&mut source).await.settle(Settlement::Ack);
    }
    close(source).await;
    world.send("last", Properties::default()).await;
    let mut second = world.source(5);
    assert_eq!(next(&mut second).await.body, b"last");
}

async fn a_cancelled_source_hands_out_what_it_had_and_ends(world: &dyn World) {
    send_many(world, 8).await;
    let mut source = world.source(4);
    let first = next(&mut source).await;
    source.cancel().await;
    first.settle(Settlement::Ack);
    let mut drained = 0;
    while let Some(delivery) = patiently(source.next()).await {
        delivery.settle(Settlement::Ack);
        drained += 1;
    }
    assert!(drained <= 3, "{drained} came after the cancellation");
    assert!(patiently(source.next()).await.is_none(), "the end is final");
    close(source).await;
    until_waiting(world, 7 - drained).await;
}

/// Takes what a paused source still hands out.
async fn buffered(source: &mut Box<dyn RequestConsumer>) -> Vec<Delivery> {
    let mut buffered = Vec::new();
    while let Ok(Some(delivery)) = timeout(Duration::from_millis(300), source.next()).await {
        buffered.push(delivery);
    }
    buffered
}

async fn a_paused_source_asks_for_nothing_more_until_it_is_resumed(world: &dyn World) {
    let mut source = world.source(4);
    send_many(world, 1).await;
    next(&mut source).await.settle(Settlement::Ack);
    for _ in 0..2 {
        source.pause().await;
        source.pause().await;
        assert!(buffered(&mut source).await.is_empty());
        for number in 0..6 {
            world.send(&number.to_string(), Properties::default()).await;
        }
        assert!(buffered(&mut source).await.is_empty(), "a request came during a pause");
        until_waiting(world, 6).await;
        source.resume().await;
        source.resume().await;
        for number in 0..6 {
            let delivery = next(&mut source).await;
            assert_eq!(delivery.body, number.to_string().as_bytes());
            assert_eq!(delivery.properties.delivery_count, 0);
            delivery.settle(Settlement::Ack);
        }
    }
    close(source).await;
    until_waiting(world, 0).await;
}

async fn what_is_held_over_a_pause_is_not_lost_by_its_end(world: &dyn World) {
    let mut source = world.source(4);
    send_many(world, 12).await;
    let mut held = vec![next(&mut source).await];
    let mut ended = 0;
    while ended + held.len() < 12 {
        source.pause().await;
        held.extend(buffered(&mut source).await);
        held.remove(0).settle(Settlement::Ack);
        ended += 1;
        source.resume().await;
        if ended + held.len() < 12 {
            held.push(next(&mut source).await);
        }
        assert!(held.iter().all(|delivery| !delivery.is_lost()), "the end of a pause cost a connection");
    }
    held.into_iter().for_each(|delivery| delivery.settle(Settlement::Ack));
    close(source).await;
    until_waiting(world, 0).await;
}

async fn a_paused_source_hands_out_what_it_had_and_hears_of_settlements(world: &dyn World) {
    let mut source = world.source(4);
    send_many(world, 8).await;
    let first = next(&mut source).await;
    until_waiting(world, 4).await;
    source.pause().await;
    let mut held = buffered(&mut source).await;
    assert_eq!(held.len(), 3, "what was taken before the pause is kept");
    held.push(first);
    assert!(held.iter().all(|delivery| !delivery.is_lost()));
    for delivery in held {
        delivery.settle(Settlement::Requeue);
    }
    until_waiting(world, 8).await;
    source.resume().await;
    let mut returns = 0;
    for _ in 0..8 {
        let delivery = next(&mut source).await;
        returns += delivery.properties.delivery_count;
        delivery.settle(Settlement::Ack);
    }
    assert_eq!(returns, 4, "they came back once each");
    // A resume that follows at once misses nothing.
    source.pause().await;
    source.resume().await;
    send_many(world, 1).await;
    next(&mut source).await.settle(Settlement::Ack);
}

async fn a_paused_source_can_be_cancelled(world: &dyn World) {
    for settled in [false, true] {
        let mut source = world.source(4);
        send_many(world, 6).await;
        let first = next(&mut source).await;
        source.pause().await;
        if settled {
            buffered(&mut source).await.into_iter().for_each(|delivery| delivery.settle(Settlement::Ack));
        }
        source.cancel().await;
        first.settle(Settlement::Ack);
        while let Some(delivery) = patiently(source.next()).await {
            delivery.settle(Settlement::Ack);
        }
        close(source).await;
        // What the source asked for no more is still there.
        let mut rest = world.source(8);
        for _ in 0..2 {
            next(&mut rest).await.settle(Settlement::Ack);
        }
        buffered(&mut rest).await.into_iter().for_each(|delivery| delivery.settle(Settlement::Ack));
        close(rest).await;
        until_waiting(world, 0).await;
    }
}

async fn a_second_source_gets_what_the_first_one_dropped(world: &dyn World) {
    send_many(world, 1).await;
    let mut first = world.source(4);
    let held = next(&mut first).await;
    let mut second = world.source(4);
    drop(first);
    let again = next(&mut second).await;
    assert_eq!(again.body, held.body);
    assert_eq!(again.properties.delivery_count, 1);
    assert!(held.is_lost());
    // Too late, and harmless.
    held.settle(Settlement::Ack);
    again.settle(Settlement::Requeue);
    assert_eq!(next(&mut second).await.properties.delivery_count, 2);
}

async fn a_closed_source_has_told_of_every_settlement(world: &dyn World) {
    let mut source = world.source(64);
    send_many(world, 50).await;
    let mut held = Vec::new();
    for _ in 0..50 {
        held.push(next(&mut source).await);
    }
    source.cancel().await;
    assert!(patiently(source.next()).await.is_none());
    for (number, delivery) in held.into_iter().enumerate() {
        delivery.settle(if number % 10 == 0 { Settlement::Requeue } else { Settlement::Ack });
    }
    close(source).await;
    until_waiting(world, 5).await;
}

async fn a_result_that_nobody_reads_counts_as_published(world: &dyn World) {
    let target = Target::Results { routing_key: "sms.sent" };
    world.publisher().publish(outgoing(target, "m-1")).await.expect("confirmed");
}

async fn a_reply_to_a_queue_that_is_gone_counts_as_published(world: &dyn World) {
    let target = Target::Reply { queue: "reply.gone" };
    world.publisher().publish(outgoing(target, "m-1")).await.expect("confirmed");
}

async fn a_dead_letter_carries_its_headers(world: &dyn World) {
    let headers =
        DeadHeaders { reason: "poison", error: "not JSON", delivery_count: 5, ..DeadHeaders::default() };
    world.publisher().publish(outgoing(Target::Dead(headers), "m-1")).await.expect("confirmed");
    let expected =
        Dead { body: b"{}".to_vec(), reason: "poison".into(), error: "not JSON".into(), delivery_count: 5 };
    assert_eq!(patiently(world.next_dead_letter()).await, expected);
}

async fn a_request_that_comes_back_too_often_is_set_aside(world: &dyn World) {
    let mut source = world.source(1);
    world.send("poison", Properties::default()).await;
    for _ in 0..=otpost::broker::DELIVERY_LIMIT {
        let delivery = next(&mut source).await;
        assert_eq!(delivery.body, b"poison");
        delivery.settle(Settlement::Requeue);
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
    let mut source = world.source(8);
    send_many(world, 201).await;
    let held = next(&mut source).await;
    let mut late = next(&mut source).await;
    for _ in 0..199 {
        let delivery = next(&mut source).await;
        // Each one is settled after its successor came.
        std::mem::replace(&mut late, delivery).settle(Settlement::Ack);
    }
    late.settle(Settlement::Ack);
    close(source).await;
    until_waiting(world, 1).await;
    let mut second = world.source(8);
    let again = next(&mut second).await;
    assert_eq!((again.body, again.properties.delivery_count), (held.body.clone(), 1));
}

fn outgoing<'a>(target: Target<'a>, message_id: &'a str) -> Outgoing<'a> {
    let (correlation_id, traceparent) = (Some("c-1"), Some(TRACE));
    Outgoing { target, body: b"{}", message_id, correlation_id, at: AT, traceparent }
}

async fn send_many(world: &dyn World, count: usize) {
    for number in 0..count {
        world.send(&number.to_string(), Properties::default()).await;
    }
}

async fn next(source: &mut Box<dyn RequestConsumer>) -> Delivery {
    patiently(source.next()).await.expect("the source ended")
}

/// Publishes a result to where a delivery wants it.
async fn reply(world: &dyn World, delivery: &Delivery, body: &[u8]) {
    let queue = delivery.properties.reply_to.clone().expect("somebody listens");
    let correlation_id = delivery.properties.correlation_id.clone();
    let message = Outgoing {
        body,
        correlation_id: correlation_id.as_deref(),
        ..outgoing(Target::Reply { queue: &queue }, "result")
    };
    patiently(world.publisher().publish(message)).await.expect("told");
}

/// A request with an id of its own.
fn asking<'a>(id: &'a str) -> Outgoing<'a> {
    Outgoing { correlation_id: Some(id), ..outgoing(Target::Requests(Channel::Sms), id) }
}

/// The other way round, so that each hears its own and not the next one's.
async fn who_asks_hears_the_result_of_their_own_request(world: &dyn World) {
    let (requester, mut source) = (world.requester(), world.source(4));
    let one = requester.request(asking("one"), PATIENCE);
    let other = requester.request(asking("other"), PATIENCE);
    let worker = async {
        let mut deliveries = [next(&mut source).await, next(&mut source).await];
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

async fn who_asks_and_hears_nothing_in_time_knows_that_the_request_is_queued(world: &dyn World) {
    let (requester, mut source) = (world.requester(), world.source(4));
    let asked = requester.request(asking("slow"), Duration::from_millis(300));
    assert_eq!(patiently(asked).await.expect("queued"), None);
    let delivery = next(&mut source).await;
    // What comes too late is nobody's, and does not reach the next one.
    reply(world, &delivery, b"late").await;
    delivery.settle(Settlement::Ack);
    let asked = requester.request(asking("next"), PATIENCE);
    let worker = async {
        let delivery = next(&mut source).await;
        reply(world, &delivery, b"in time").await;
        delivery.settle(Settlement::Ack);
    };
    let (heard, ()) = patiently(async { tokio::join!(asked, worker) }).await;
    assert_eq!(heard.expect("queued").as_deref(), Some(b"in time" as &[u8]));
}

async fn who_asks_for_no_result_gets_none_and_the_worker_is_told_so(world: &dyn World) {
    let (requester, mut source) = (world.requester(), world.source(4));
    assert_eq!(patiently(requester.request(asking("quiet"), Duration::ZERO)).await.expect("queued"), None);
    let delivery = next(&mut source).await;
    assert_eq!(delivery.properties.reply_to, None);
    delivery.settle(Settlement::Ack);
}

async fn who_asks_without_a_queue_is_told_so(world: &dyn World) {
    let requester = world.requester();
    assert_eq!(patiently(requester.request(asking("first"), Duration::ZERO)).await.expect("queued"), None);
    world.delete_request_queue().await;
    let refused = patiently(requester.request(asking("lost"), PATIENCE)).await;
    assert!(matches!(refused, Err(PublishError::Unroutable)), "{refused:?}");
}

/// A broker puts back what a closed source held in its own time, and tells nobody.
async fn until_waiting(world: &dyn World, wanted: usize) {
    let reached = async {
        while world.waiting().await != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently(reached).await;
}

async fn close(source: Box<dyn RequestConsumer>) {
    patiently(source.close()).await;
}

#[track_caller]
pub fn patiently<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let asked = std::panic::Location::caller();
    async move { timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("nothing happened at {asked}")) }
}
