//! The RabbitMQ adapter survives the loss of connections, queues and exchanges.

mod blocked;
mod frames;
mod hosts;
mod rpc_client;
mod topology;

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use otpost::broker::rabbit::RabbitSettings;
use otpost::broker::rabbit::consumer::RabbitConsumer;
use otpost::broker::rabbit::error::RabbitError;
use otpost::broker::rabbit::publish::RabbitPublisher;
use otpost::broker::rabbit::topology::declare_topology;
use otpost::broker::{
    DeadHeaders, Names, Properties, PublishError, Publisher, RequestConsumer, SEND_SMS_KEY, Settlement,
    Target,
};
use otpost::domain::channel::Channel;
use tokio::sync::watch;

use super::proxy::{Proxy, UNREADABLE};
use super::rabbit::{RabbitWorld, in_empty_world, in_world, url};
use super::{World, close, next, outgoing, patiently, send_many, until_waiting};

const RESULT: Target<'static> = Target::Results { routing_key: "sms.sent" };

/// A proxy to the broker, and the URL that leads through it.
pub async fn proxied() -> (Proxy, String) {
    let mut uri: AMQPUri = url().parse().expect("a valid URL");
    let proxy = Proxy::start(format!("{}:{}", uri.authority.host, uri.authority.port)).await;
    uri.authority.host = proxy.address.ip().to_string();
    uri.authority.port = proxy.address.port();
    let user = &uri.authority.userinfo;
    let url = format!(
        "amqp://{}:{}@{}/{}",
        user.username,
        user.password,
        proxy.address,
        uri.vhost.replace('/', "%2f")
    );
    (proxy, url)
}

async fn until(flag: &mut watch::Receiver<bool>, wanted: bool) {
    patiently(flag.wait_for(|value| *value == wanted)).await.expect("the adapter lives");
}

#[tokio::test]
async fn a_consumer_survives_the_loss_of_its_connection() {
    in_world(async |world: &RabbitWorld| {
        let (proxy, url) = proxied().await;
        let consumer = RabbitConsumer::start(world.settings_at(&url, 4), Channel::Sms);
        let mut connected = consumer.connected();
        let mut consumer: Box<dyn RequestConsumer> = Box::new(consumer);
        send_many(world, 1).await;
        for count in 0..3 {
            let held = next(&mut consumer).await;
            assert_eq!(held.properties.delivery_count, count);
            proxy.cut();
            until(&mut connected, false).await;
            assert!(held.is_lost());
            held.settle(Settlement::Ack);
        }
        next(&mut consumer).await.settle(Settlement::Ack);
        send_many(world, 1).await;
        assert_eq!(next(&mut consumer).await.properties.delivery_count, 0, "the acknowledgement counted");
    })
    .await;
}

#[tokio::test]
async fn a_consumer_waits_through_an_outage_and_loses_nothing_when_its_wait_is_dropped() {
    in_world(async |world: &RabbitWorld| {
        let (proxy, url) = proxied().await;
        proxy.refuse();
        let consumer = RabbitConsumer::start(world.settings_at(&url, 1), Channel::Sms);
        let mut connected = consumer.connected();
        let mut consumer: Box<dyn RequestConsumer> = Box::new(consumer);
        send_many(world, 20).await;
        let soon = std::time::Duration::from_millis(300);
        assert!(tokio::time::timeout(soon, consumer.next()).await.is_err());
        proxy.resume();
        until(&mut connected, true).await;
        for number in 0..20 {
            let delivery = loop {
                let moment = std::time::Duration::from_micros(50);
                if let Ok(delivery) = tokio::time::timeout(moment, consumer.next()).await {
                    break delivery.expect("not cancelled");
                }
            };
            assert_eq!(delivery.body, number.to_string().as_bytes());
            delivery.settle(Settlement::Ack);
        }
    })
    .await;
}

#[tokio::test]
async fn a_consumer_without_a_connection_can_be_cancelled_and_closed() {
    in_empty_world(async |world: &RabbitWorld| {
        let (proxy, url) = proxied().await;
        proxy.refuse();
        let mut consumer: Box<dyn RequestConsumer> =
            Box::new(RabbitConsumer::start(world.settings_at(&url, 4), Channel::Sms));
        consumer.cancel().await;
        assert!(patiently(consumer.next()).await.is_none());
        close(consumer).await;
    })
    .await;
}

#[tokio::test]
async fn a_consumer_that_loses_its_connection_in_a_pause_connects_and_consumes_nothing_until_it_is_resumed() {
    in_world(async |world: &RabbitWorld| {
        let (proxy, url) = proxied().await;
        let consumer = RabbitConsumer::start(world.settings_at(&url, 4), Channel::Sms);
        let mut connected = consumer.connected();
        let mut consumer: Box<dyn RequestConsumer> = Box::new(consumer);
        send_many(world, 2).await;
        let held = next(&mut consumer).await;
        consumer.pause().await;
        proxy.cut();
        until(&mut connected, false).await;
        until(&mut connected, true).await;
        assert!(held.is_lost());
        let soon = std::time::Duration::from_millis(500);
        assert!(tokio::time::timeout(soon, consumer.next()).await.is_err(), "it consumes during a pause");
        until_waiting(world, 2).await;
        assert!(*connected.borrow(), "a pause is deliberate: it is ready");
        consumer.resume().await;
        for _ in 0..2 {
            let delivery = next(&mut consumer).await;
            assert_eq!(delivery.properties.delivery_count, 1);
            delivery.settle(Settlement::Ack);
        }
        consumer.pause().await;
        proxy.refuse();
        until(&mut connected, false).await;
        consumer.resume().await;
        proxy.resume();
        send_many(world, 1).await;
        next(&mut consumer).await.settle(Settlement::Ack);
    })
    .await;
}

#[tokio::test]
async fn a_queue_that_was_deleted_is_declared_again() {
    in_world(async |world: &RabbitWorld| {
        let consumer = RabbitConsumer::start(world.settings(4), Channel::Sms);
        let mut connected = consumer.connected();
        let mut consumer: Box<dyn RequestConsumer> = Box::new(consumer);
        until(&mut connected, true).await;
        world.delete_request_queue().await;
        until(&mut connected, false).await;
        until(&mut connected, true).await;
        world.send("again", Properties::default()).await;
        assert_eq!(next(&mut consumer).await.body, b"again");
    })
    .await;
}

#[tokio::test]
async fn a_publisher_survives_the_loss_of_its_connection() {
    in_world(async |world: &RabbitWorld| {
        let (proxy, url) = proxied().await;
        let publisher = RabbitPublisher::start("results", world.settings_at(&url, 1));
        let mut connected = publisher.connected();
        publisher.publish(outgoing(RESULT, "m-1")).await.expect("confirmed");
        proxy.refuse();
        until(&mut connected, false).await;
        let lost = publisher.publish(outgoing(RESULT, "m-2")).await;
        assert!(matches!(lost, Err(PublishError::Unconfirmed(_) | PublishError::NotTaken(_))), "{lost:?}");
        proxy.resume();
        until(&mut connected, true).await;
        publisher.publish(outgoing(RESULT, "m-3")).await.expect("confirmed");
        publisher.publish(outgoing(Target::Requests(Channel::Sms), "m-4")).await.expect("confirmed");
        patiently(publisher.close()).await;
        let closed = publisher.publish(outgoing(RESULT, "m-5")).await;
        assert!(matches!(closed, Err(PublishError::NotTaken(_))), "{closed:?}");
    })
    .await;
}

#[tokio::test]
async fn an_exchange_that_was_deleted_is_declared_again() {
    in_world(async |world: &RabbitWorld| {
        let publisher = RabbitPublisher::start("results", world.settings(1));
        publisher.publish(outgoing(RESULT, "m-1")).await.expect("confirmed");
        let channel = world.open_channel().await;
        for (exchange, target) in [
            (world.names.results(), RESULT),
            (world.names.requests(), Target::Requests(Channel::Sms)),
            (
                world.names.dead(),
                Target::Dead(DeadHeaders { reason: "r", error: "e", ..DeadHeaders::default() }),
            ),
        ] {
            channel
                .exchange_delete(exchange.into(), ExchangeDeleteOptions::default())
                .await
                .expect("deleted");
            let healed = async { while publisher.publish(outgoing(target, "m-2")).await.is_err() {} };
            patiently(healed).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_queue_with_other_arguments_is_named_with_advice() {
    in_empty_world(async |world: &RabbitWorld| {
        let channel = world.open_channel().await;
        let (queue, options) = (world.names.requests_of(Channel::Sms), QueueDeclareOptions::durable());
        channel.queue_declare(queue.clone().into(), options, FieldTable::default()).await.expect("declared");
        let refused = declare_topology(&world.settings(1)).await.expect_err("other arguments");
        assert!(matches!(refused, RabbitError::Refused { .. }), "{refused:?}");
        let text = refused.to_string();
        for part in
            [queue.as_str(), "x-delivery-limit=100", "x-queue-type=quorum", "AMQP_PREFIX", "delete it"]
        {
            assert!(text.contains(part), "no {part} in: {text}");
        }
        let consumer = RabbitConsumer::start(world.settings(1), Channel::Sms);
        assert!(!*consumer.connected().borrow());
        patiently(Box::new(consumer).close()).await;
    })
    .await;
}

#[tokio::test]
async fn a_queue_of_one_channel_that_is_refused_stops_that_channel_alone_until_it_is_replaced() {
    in_empty_world(async |world: &RabbitWorld| {
        let channel = world.open_channel().await;
        let (queue, options) = (world.names.requests_of(Channel::Email), QueueDeclareOptions::durable());
        channel.queue_declare(queue.clone().into(), options, FieldTable::default()).await.expect("declared");
        let emails = RabbitConsumer::start(world.settings(1), Channel::Email);
        let texts = RabbitConsumer::start(world.settings(1), Channel::Sms);
        let publisher = RabbitPublisher::start("results", world.settings(1));
        let rpc_client = world.rpc_client();
        let (mut takes_emails, mut takes_texts) = (emails.connected(), texts.connected());
        until(&mut takes_texts, true).await;
        until(&mut publisher.connected(), true).await;
        publisher.publish(outgoing(RESULT, "m-1")).await.expect("confirmed");
        let asked = async |channel| {
            rpc_client.request(outgoing(Target::Requests(channel), "m-2"), Duration::ZERO).await
        };
        patiently(async { while asked(Channel::Sms).await.is_err() {} }).await;
        let mut texts: Box<dyn RequestConsumer> = Box::new(texts);
        next(&mut texts).await.settle(Settlement::Ack);
        assert!(asked(Channel::Email).await.is_err(), "no queue takes it");
        asked(Channel::Sms).await.expect("and the other is not disturbed");
        assert!(!*takes_emails.borrow() && *takes_texts.borrow());

        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("deleted");
        until(&mut takes_emails, true).await;
        asked(Channel::Email).await.expect("it has a queue");
        let mut emails: Box<dyn RequestConsumer> = Box::new(emails);
        next(&mut emails).await.settle(Settlement::Ack);
    })
    .await;
}

#[tokio::test]
async fn declaring_twice_changes_nothing_and_lists_the_objects() {
    in_empty_world(async |world: &RabbitWorld| {
        let first = declare_topology(&world.settings(1)).await.expect("declared");
        let second = declare_topology(&world.settings(1)).await.expect("declared again");
        assert_eq!(first, second);
        assert!(first.iter().any(|line| line.to_string().contains(&world.names.requests_of(Channel::Sms))
            && line.to_string().contains(SEND_SMS_KEY)));
        let rows = serde_json::to_value(&first).expect("plain data");
        let name = world.names.requests_of(Channel::Sms);
        let queue = rows.as_array().expect("a list").iter().find(|row| row["name"] == name.as_str());
        let queue = queue.unwrap_or_else(|| panic!("no queue in {rows}"));
        assert_eq!(
            (&queue["kind"], &queue["type"], &queue["durable"]),
            (&"queue".into(), &"quorum".into(), &true.into())
        );
        assert_eq!(queue["arguments"]["x-delivery-limit"], 100);
    })
    .await;
}

/// `lapin` may attach a returned message to the confirm of another; no publisher may get a wrong answer because of it.
#[tokio::test]
async fn returned_results_disturb_no_other_message() {
    in_world(async |world: &RabbitWorld| {
        let publisher = Arc::new(RabbitPublisher::start("results", world.settings(1)));
        let mut results = world.reply_queue(&format!("{}.reply", world.names.results())).await;
        let queue = format!("{}.reply", world.names.results());
        let sends: Vec<_> = (0..300)
            .map(|number: usize| {
                let (publisher, queue) = (Arc::clone(&publisher), queue.clone());
                tokio::spawn(async move {
                    let target = match number % 3 {
                        0 => Target::Reply { queue: "reply.gone" },
                        1 => Target::Reply { queue: &queue },
                        _ => Target::Requests(Channel::Sms),
                    };
                    publisher.publish(outgoing(target, &format!("m-{number}"))).await
                })
            })
            .collect();
        for send in sends {
            patiently(send).await.expect("no panic").expect("confirmed");
        }
        for _ in 0..100 {
            results.next().await;
        }
        until_waiting(world, 100).await;
    })
    .await;
}

/// By itself `lapin` ends its connection at a correlation id that is no UTF-8, and the process at tables that are too deep.
#[tokio::test]
async fn a_request_with_unreadable_properties_is_delivered_and_disturbs_none() {
    in_world(async |world: &RabbitWorld| {
        let (_proxy, url) = proxied().await;
        let through = lapin::Connection::connect(&url, lapin::ConnectionProperties::default());
        let channel = through.await.expect("connected").create_channel().await.expect("a channel");
        let id = String::from_utf8(UNREADABLE.to_vec()).expect("text until the proxy changes it");
        let deep = (0..100).fold(FieldTable::default(), |inner, _| {
            let mut table = FieldTable::default();
            table.insert("in".into(), lapin::types::AMQPValue::FieldTable(inner));
            table
        });
        let unreadable = [
            lapin::BasicProperties::default().with_correlation_id(id.into()),
            lapin::BasicProperties::default().with_correlation_id("lost".into()).with_headers(deep),
        ];
        for properties in unreadable {
            let (exchange, options) = (world.names.requests().into(), Default::default());
            let sent = channel.basic_publish(exchange, SEND_SMS_KEY.into(), options, b"odd", properties);
            sent.await.expect("sent");
        }
        until_waiting(world, 2).await;
        send_many(world, 20).await;
        let mut consumer = world.consumer(30);
        let mut ids = Vec::new();
        for _ in 0..22 {
            let delivery = next(&mut consumer).await;
            assert_eq!(delivery.properties.delivery_count, 0, "no connection was lost");
            if delivery.body == b"odd" {
                ids.push(delivery.properties.correlation_id.clone());
            }
            delivery.settle(Settlement::Ack);
        }
        assert_eq!(ids, [Some("unreadable?".to_owned()), None]);
    })
    .await;
}

#[tokio::test]
async fn an_ipv6_address_in_the_url_is_the_server_that_is_connected_to() {
    let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    for host in ["[::ffff:127.0.0.2]", "[0:0:0:0:0:FFFF:7f00:2]", "127.0.0.2"] {
        let url = format!("amqp://guest:guest@{host}:{port}/");
        let settings = RabbitSettings::new(&url, Names::new("nowhere"), 1).expect("a valid URL");
        let _publisher = RabbitPublisher::start("results", settings);
        patiently(listener.accept()).await.expect("it connects here");
    }
}
