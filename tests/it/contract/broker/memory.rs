//! The broker in memory, as a world of the contract; and what only it promises.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use otpost::broker::memory::{MemoryBroker, OwnedMessage};
use otpost::broker::{
    Properties, PublishError, Publisher, RequestConsumer, RequestQueues, RpcClient, Target,
};
use otpost::domain::channel::Channel;
use tokio::sync::mpsc;

use super::{Dead, Message, Reader, World, outgoing};

#[derive(Default)]
pub struct MemoryWorld {
    broker: MemoryBroker,
}

#[async_trait]
impl World for MemoryWorld {
    fn consumer_of(&self, channel: Channel, prefetch: u16) -> Box<dyn RequestConsumer> {
        Box::new(self.broker.consumer(channel, prefetch.into()))
    }

    fn publisher(&self) -> Arc<dyn Publisher> {
        Arc::new(self.broker.publisher())
    }

    fn rpc_client(&self) -> Arc<dyn RpcClient> {
        Arc::new(self.broker.rpc_client())
    }

    fn request_queues(&self) -> Arc<dyn RequestQueues> {
        Arc::new(self.broker.request_queues())
    }

    async fn send(&self, body: &str, properties: Properties) {
        self.broker.send_request(body.as_bytes(), properties).expect("room in the queue");
    }

    async fn results(&self) -> Box<dyn Reader> {
        Box::new(MemoryReader(self.broker.subscribe_results()))
    }

    async fn reply_queue(&self, name: &str) -> Box<dyn Reader> {
        Box::new(MemoryReader(self.broker.reply_queue(name)))
    }

    async fn next_dead_letter(&self) -> Dead {
        let dead = self.broker.dead_letters().into_iter().next().expect("a dead letter");
        Dead { body: dead.body, reason: dead.reason, error: dead.error, delivery_count: dead.delivery_count }
    }

    async fn waiting(&self) -> usize {
        self.broker.waiting()
    }

    async fn delete_request_queue(&self) {
        self.broker.delete_request_queue();
    }

    async fn replace_delay_queue(&self, delay: Duration, requests_max: u32) {
        self.broker.replace_delay_queue(delay, requests_max as usize);
    }

    async fn delete_delay_queue(&self) {
        self.broker.delete_delay_queue();
    }
}

struct MemoryReader(mpsc::Receiver<OwnedMessage>);

#[async_trait]
impl Reader for MemoryReader {
    async fn next(&mut self) -> Message {
        let message = super::patiently(self.0.recv()).await.expect("the broker is there");
        Message {
            routing_key: message.routing_key,
            body: message.body,
            message_id: message.message_id,
            correlation_id: message.correlation_id,
            at: message.at,
            traceparent: message.traceparent,
            tracestate: message.tracestate,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_takes_no_more() {
    let broker = MemoryBroker::default();
    for _ in 0..10_000 {
        broker.send_request(b"{}", Properties::default()).expect("room");
    }
    let refused = broker.publisher().publish(outgoing(Target::Requests(Channel::Sms), "m")).await;
    assert!(matches!(refused, Err(PublishError::NotTaken(_))));
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_confirm_is_lost_is_there() {
    let broker = MemoryBroker::default();
    broker.lose_next_confirms(1);
    let lost = broker.publisher().publish(outgoing(Target::Requests(Channel::Sms), "m-1")).await;
    assert!(matches!(lost, Err(PublishError::Unconfirmed(_))) && broker.waiting() == 1, "{lost:?}");
}

#[tokio::test(start_paused = true)]
async fn publishes_fail_as_often_as_ordered() {
    let broker = MemoryBroker::default();
    broker.fail_next_publishes(1);
    let publisher = broker.publisher();
    assert!(publisher.publish(outgoing(Target::Requests(Channel::Sms), "m-1")).await.is_err());
    assert!(publisher.publish(outgoing(Target::Requests(Channel::Sms), "m-2")).await.is_ok());
    assert_eq!(broker.waiting(), 1);
}
