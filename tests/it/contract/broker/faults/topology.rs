//! Exchanges, queues and bindings that are deleted or replaced under a running worker.

use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation, ExchangeKind};
use otpost::broker::SEND_EMAIL_KEY;
use tokio::time::timeout;

use super::*;

/// The promise, with room for a busy machine.
const RESTORED: Duration = Duration::from_secs(15);

/// Polls a plain client: a broker reports no deletion and no declaration.
async fn restored(is_there: impl AsyncFn() -> bool) {
    let polled = async {
        while !is_there().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(RESTORED, polled).await.expect("restored in time");
}

/// Publishes as a caller's own client does; true if a queue took the message.
async fn is_routed(world: &RabbitWorld, exchange: &str, key: &str) -> bool {
    let channel = world.open_channel().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let sent = channel.basic_publish(exchange.into(), key.into(), options, b"{}", BasicProperties::default());
    let Ok(confirmed) = sent.await else { return false };
    matches!(confirmed.await, Ok(Confirmation::Ack(None)))
}

async fn has_exchange(world: &RabbitWorld, name: &str) -> bool {
    let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let channel = world.open_channel().await;
    channel.exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default()).await.is_ok()
}

async fn delete_exchange(world: &RabbitWorld, name: &str) {
    let channel = world.open_channel().await;
    channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await.expect("deleted");
}

async fn unbind(world: &RabbitWorld, of: Channel, key: &str) {
    let (queue, exchange) = (world.names.requests_of(of), world.names.requests());
    let channel = world.open_channel().await;
    let unbound = channel.queue_unbind(queue.into(), exchange.into(), key.into(), FieldTable::default());
    unbound.await.expect("unbound");
}

#[tokio::test]
async fn deleted_exchanges_and_the_dead_letter_queue_come_back_under_a_running_worker() {
    in_world(async |world: &RabbitWorld| {
        let consumer = RabbitConsumer::start(world.settings(4), Channel::Sms);
        until(&mut consumer.connected(), true).await;
        let names = &world.names;
        for exchange in [names.requests(), names.results(), names.dead()] {
            delete_exchange(world, &exchange).await;
        }
        let channel = world.open_channel().await;
        let deleted = channel.queue_delete(names.dead_letters().into(), QueueDeleteOptions::default());
        deleted.await.expect("deleted");
        restored(async || is_routed(world, &names.requests(), SEND_SMS_KEY).await).await;
        restored(async || has_exchange(world, &names.results()).await).await;
        restored(async || is_routed(world, &names.dead(), "dead").await).await;
        let mut consumer: Box<dyn RequestConsumer> = Box::new(consumer);
        next(&mut consumer).await.settle(Settlement::Ack);
    })
    .await;
}

#[tokio::test]
async fn a_deleted_binding_comes_back_also_while_the_worker_is_paused() {
    in_world(async |world: &RabbitWorld| {
        let texts = RabbitConsumer::start(world.settings(4), Channel::Sms);
        let emails = RabbitConsumer::start(world.settings(4), Channel::Email);
        until(&mut texts.connected(), true).await;
        until(&mut emails.connected(), true).await;
        let mut texts: Box<dyn RequestConsumer> = Box::new(texts);
        texts.pause().await;
        unbind(world, Channel::Sms, SEND_SMS_KEY).await;
        unbind(world, Channel::Email, SEND_EMAIL_KEY).await;
        let exchange = world.names.requests();
        restored(async || is_routed(world, &exchange, SEND_SMS_KEY).await).await;
        restored(async || is_routed(world, &exchange, SEND_EMAIL_KEY).await).await;
        texts.resume().await;
        next(&mut texts).await.settle(Settlement::Ack);
        let mut emails: Box<dyn RequestConsumer> = Box::new(emails);
        next(&mut emails).await.settle(Settlement::Ack);
    })
    .await;
}

#[tokio::test]
async fn an_object_of_another_kind_makes_the_worker_unready_until_it_is_replaced() {
    in_world(async |world: &RabbitWorld| {
        let consumer = RabbitConsumer::start(world.settings(4), Channel::Sms);
        let mut connected = consumer.connected();
        until(&mut connected, true).await;
        let mut consumer: Box<dyn RequestConsumer> = Box::new(consumer);
        send_many(world, 1).await;
        let held = next(&mut consumer).await;

        let (exchange, queue) = (world.names.results(), world.names.dead_letters());
        delete_exchange(world, &exchange).await;
        let channel = world.open_channel().await;
        let fanout = channel.exchange_declare(
            exchange.as_str().into(),
            ExchangeKind::Fanout,
            ExchangeDeclareOptions { durable: true, ..Default::default() },
            FieldTable::default(),
        );
        fanout.await.expect("declared");
        until(&mut connected, false).await;
        assert!(!held.is_lost(), "requests in flight are not disturbed");
        held.settle(Settlement::Ack);
        send_many(world, 1).await;
        next(&mut consumer).await.settle(Settlement::Ack);
        delete_exchange(world, &exchange).await;
        until(&mut connected, true).await;

        channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
        let options = QueueDeclareOptions::durable();
        channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await.expect("declared");
        until(&mut connected, false).await;
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("deleted");
        until(&mut connected, true).await;
    })
    .await;
}
