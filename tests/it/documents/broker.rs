//! Compares `docs/asyncapi.json` with RabbitMQ: the declared topology and the properties of messages.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use lapin::BasicProperties;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use otpost::broker::rabbit::publish::RabbitPublisher;
use otpost::broker::rabbit::topology::declare_topology;
use otpost::broker::{DeadHeaders, Outgoing, Properties, Publisher as _, SEND_SMS_KEY, Settlement, Target};
use otpost::domain::channel::Channel;
use otpost::domain::time::UnixMillis;
use serde_json::{Map, Value, json};

use super::messages::{ASYNCAPI, channels, check_properties};
use crate::contract::broker::rabbit::{RabbitWorld, in_empty_world, in_world};
use crate::contract::broker::{TRACE, World, patiently};

const PREFIX: &str = "{amqpPrefix}";
const AT: UnixMillis = UnixMillis(1_795_000_000_000);

/// The document in the form of `otpost topology --json`. A queue without a name belongs to a reader.
fn documented() -> Vec<Value> {
    let mut rows = Vec::new();
    for channel in channels() {
        let amqp = &channel["bindings"]["amqp"];
        if let Some(exchange) = amqp.get("exchange") {
            rows.push(json!({"kind": "exchange", "name": exchange["name"], "type": exchange["type"],
                "durable": exchange["durable"]}));
        }
        let queue = &amqp["queue"];
        let Some(name) = queue.get("name") else {
            continue;
        };
        assert_eq!(name, &channel["address"]);
        let arguments = &channel["x-arguments"];
        rows.push(json!({"kind": "queue", "name": name, "type": arguments["x-queue-type"],
            "durable": queue["durable"], "arguments": arguments}));
        for binding in channel["x-bindings"].as_array().expect("bindings") {
            rows.push(json!({"kind": "binding", "from": binding["exchange"], "to": name,
                "routing_key": binding["routingKey"]}));
        }
    }
    rows
}

#[tokio::test]
async fn the_documented_exchanges_and_queues_are_the_declared_ones() {
    in_empty_world(async |world: &RabbitWorld| {
        let settings = world.settings(1).with_audit("400D".parse().expect("an age"));
        let declared = declare_topology(&settings).await.expect("declared");
        let results = world.names.results();
        let prefix = results.strip_suffix(".results").expect("a prefix");
        let declared = serde_json::to_string(&declared).expect("plain data").replace(prefix, PREFIX);
        let declared: Vec<Value> = serde_json::from_str(&declared).expect("JSON");
        let texts = |rows: Vec<Value>| rows.iter().map(Value::to_string).collect::<BTreeSet<_>>();
        assert_eq!(texts(documented()), texts(declared));
    })
    .await;
}

/// The properties by their names, and the headers.
fn beside(properties: &BasicProperties) -> Map<String, Value> {
    let mut beside = Map::new();
    for (name, text) in [
        ("message_id", properties.message_id()),
        ("correlation_id", properties.correlation_id()),
        ("app_id", properties.app_id()),
        ("reply_to", properties.reply_to()),
        ("type", properties.kind()),
        ("user_id", properties.user_id()),
        ("expiration", properties.expiration()),
    ] {
        beside.extend(text.as_ref().map(|text| (name.to_owned(), json!(text.as_str()))));
    }
    beside.extend(properties.priority().map(|priority| ("priority".to_owned(), json!(priority))));
    beside.extend(properties.timestamp().map(|at| ("timestamp".to_owned(), json!(at))));
    for (name, value) in properties.headers().iter().flat_map(|headers| headers.inner()) {
        let value = match value {
            AMQPValue::LongString(text) => json!(String::from_utf8_lossy(text.as_bytes())),
            AMQPValue::LongLongInt(number) => json!(number),
            other => panic!("{name} is {other:?}"),
        };
        beside.insert(name.to_string(), value);
    }
    beside
}

#[tokio::test]
async fn the_properties_of_published_messages_are_the_documented_ones() {
    in_world(async |world: &RabbitWorld| {
        let channel = world.open_channel().await;
        // The broker names the queue and deletes it with the connection.
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.expect("a queue");
        let queue = queue.name().to_string();
        for (exchange, key) in [(world.names.results(), "#"), (world.names.dead(), "dead")] {
            let options = QueueBindOptions::default();
            let bound = channel.queue_bind(
                queue.as_str().into(),
                exchange.into(),
                key.into(),
                options,
                FieldTable::default(),
            );
            bound.await.expect("bound");
        }
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let read = channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default());
        let mut read = read.await.expect("a consumer");
        let publisher = RabbitPublisher::start("results", world.settings(1));
        // On a busy broker, publishing could time out before the connection is open.
        patiently(publisher.connected().wait_for(|connected| *connected)).await.expect("it is there");

        let (result, fact) =
            (Target::Results { routing_key: "sms.sent" }, Target::Results { routing_key: "sms.delivered" });
        let verified = Target::Results { routing_key: "sms.verified" };
        let reply = Target::Reply { queue: &queue };
        let least = DeadHeaders { reason: "unattributable", ..DeadHeaders::default() };
        let most = DeadHeaders {
            requested_at: Some(AT),
            request_id: Some("r1"),
            status: Some("failed"),
            reason: "panic",
            ..least
        };
        for (name, target, correlation_id, traceparent, full) in [
            ("result", result, Some("c-1"), Some(TRACE), true),
            ("result", result, Some("c-1"), None, false),
            ("laterFact", fact, Some("c-1"), Some(TRACE), true),
            ("laterFact", fact, Some("c-1"), None, false),
            ("verified", verified, Some("c-1"), Some(TRACE), true),
            ("verified", verified, Some("c-1"), None, false),
            ("reply", reply, Some("c-1"), Some(TRACE), true),
            ("reply", reply, Some("c-1"), None, false),
            ("deadLetter", Target::Dead(most), Some("c-1"), Some(TRACE), true),
            ("deadLetter", Target::Dead(least), None, None, false),
        ] {
            let tracestate = traceparent.map(|_| "vendor=a");
            let message = Outgoing {
                target,
                body: b"{}",
                message_id: "m-1",
                correlation_id,
                at: AT,
                traceparent,
                tracestate,
            };
            publisher.publish(message).await.expect("confirmed");
            let came = patiently(read.next()).await.expect("the queue is there").expect("readable");
            check_properties(name, &beside(&came.properties), full);
            let kind = came.properties.content_type().as_ref().map(|text| text.as_str());
            assert_eq!(ASYNCAPI["components"]["messages"][name]["contentType"].as_str(), kind, "{name}");
            assert_eq!(came.properties.delivery_mode(), &Some(2), "{name}");
        }
        for (name, operation) in ASYNCAPI["operations"].as_object().expect("operations") {
            let sent = operation["action"] == "send";
            assert!(!sent || operation["bindings"]["amqp"]["deliveryMode"] == 2, "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_properties_of_delayed_requests_are_the_documented_ones() {
    in_world(async |world: &RabbitWorld| {
        let (channel, mut consumer) = (world.open_channel().await, world.consumer_of(Channel::Sms, 1));
        let publisher = RabbitPublisher::start("results", world.settings(1));
        patiently(publisher.connected().wait_for(|connected| *connected)).await.expect("it is there");
        let all = Properties {
            message_id: Some("m-1".to_owned()),
            priority: Some(7),
            correlation_id: Some("c-1".to_owned()),
            reply_to: Some("reply.me".to_owned()),
            timestamp: Some(AT),
            traceparent: Some(TRACE.to_owned()),
            tracestate: Some("vendor=a".to_owned()),
            ..Properties::default()
        };
        for (sent, full) in [(all, true), (Properties::default(), false)] {
            world.send("{}", sent).await;
            let delivery = patiently(consumer.next()).await.expect("a request");
            publisher.delay(Channel::Sms, &delivery, AT).await.expect("confirmed");
            delivery.settle(Settlement::Ack);
            let got = channel.basic_get(world.names.delayed().into(), BasicGetOptions { no_ack: true }).await;
            let delayed = got.expect("the queue is there").expect("it is confirmed").delivery;
            let mut beside = beside(&delayed.properties);
            // The broker's own counts.
            beside.retain(|name, _| !["x-delivery-count", "x-acquired-count"].contains(&name.as_str()));
            check_properties("delayedRequest", &beside, full);
            assert_eq!((delayed.data, delayed.properties.delivery_mode()), (b"{}".to_vec(), &Some(2)));
        }
    })
    .await;
}

#[tokio::test]
async fn the_documented_properties_of_requests_are_read() {
    in_world(async |world: &RabbitWorld| {
        let mut properties = BasicProperties::default();
        let mut headers = FieldTable::default();
        let request = &ASYNCAPI["components"]["messages"]["request"]["headers"]["properties"];
        for name in request.as_object().expect("properties").keys() {
            properties = match name.as_str() {
                "correlation_id" => properties.with_correlation_id("c-1".into()),
                "reply_to" => properties.with_reply_to("reply.me".into()),
                "timestamp" => properties.with_timestamp(AT.as_seconds()),
                "message_id" => properties.with_message_id("m-1".into()),
                "priority" => properties.with_priority(7),
                header => {
                    headers.insert(header.into(), AMQPValue::LongString(TRACE.into()));
                    properties
                }
            };
        }
        let channel = world.open_channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        let (exchange, options) = (world.names.requests().into(), BasicPublishOptions::default());
        let properties = properties.with_headers(headers);
        let sent = channel.basic_publish(exchange, SEND_SMS_KEY.into(), options, b"{}", properties);
        sent.await.expect("sent").await.expect("confirmed");
        let mut source = world.consumer_of(Channel::Sms, 1);
        let read = patiently(source.next()).await.expect("a request").properties;
        assert_eq!(
            (read.correlation_id.as_deref(), read.reply_to.as_deref()),
            (Some("c-1"), Some("reply.me"))
        );
        assert_eq!((read.timestamp, read.traceparent.as_deref()), (Some(AT), Some(TRACE)));
        assert_eq!((read.message_id.as_deref(), read.priority), (Some("m-1"), Some(7)));
    })
    .await;
}
