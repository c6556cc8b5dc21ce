//! A dead letter whose properties are no valid AMQP is listed as such, and blocks none behind it.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use otpost::broker::{DeadHeaders, DeadLetter, SEND_SMS_KEY};
use otpost::domain::channel::Channel;
use serde_json::{Value, json};

use super::super::faults::proxied;
use super::super::proxy::UNREADABLE;
use super::super::rabbit::{RabbitWorld, in_world};
use super::super::{World as _, close, next, patiently};
use super::{ago, browser, dead_letter, dead_letters, panicked, run};
use crate::harness::{ALICE, with};

/// Publishes a message through a proxy that changes a byte of its properties.
async fn publish(exchange: String, key: &str, body: &[u8], properties: BasicProperties) {
    let (_proxy, url) = proxied().await;
    let connection = lapin::Connection::connect(&url, lapin::ConnectionProperties::default());
    let connection = connection.await.expect("connected");
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(Default::default()).await.expect("confirms");
    let sent = channel.basic_publish(exchange.into(), key.into(), Default::default(), body, properties);
    assert!(sent.await.expect("sent").await.expect("confirmed").is_ack());
}

fn text() -> String {
    String::from_utf8(UNREADABLE.to_vec()).expect("text until the proxy changes it")
}

/// An unreadable dead letter between two others.
async fn dead_letter_three(world: &RabbitWorld) {
    dead_letter(world, "dead:1", b"{}", panicked("before", "failed"), ago(3)).await;
    let properties = BasicProperties::default().with_message_id(text().into());
    publish(world.names.dead(), "dead", b"no JSON", properties).await;
    let unread = DeadHeaders { reason: "unattributable", error: "no id", ..DeadHeaders::default() };
    dead_letter(world, "dead:3", b"{}", unread, ago(1)).await;
}

fn unreadable_ids(rows: &[Value]) -> Vec<&str> {
    let unreadable = rows.iter().filter(|row| row["unreadable"] == true);
    unreadable.map(|row| row["id"].as_str().expect("an id")).collect()
}

#[tokio::test]
async fn an_unreadable_dead_letter_is_shown_and_dropped_and_blocks_none() {
    in_world(async |world: &RabbitWorld| {
        dead_letter_three(world).await;
        for _ in 0..3 {
            let list = run(world, &["list", "--json"]).expect(0).json();
            assert_eq!((list.len(), unreadable_ids(&list).len()), (3, 1), "{list:?}");
        }
        let table = run(world, &["list"]).expect(0).out;
        assert_eq!(table.matches("its properties are no valid AMQP").count(), 1, "{table}");
        let list = run(world, &["list", "--json"]).expect(0).json();
        let id = unreadable_ids(&list)[0];
        let shown = run(world, &["show", id]).expect(0).out;
        assert!(shown.contains("unreadable?") && shown.contains("xx xxxx"), "{shown}");
        run(world, &["replay", id]).expect(3);
        assert!(run(world, &["drop", id, "--yes"]).expect(0).out.contains("dropped"));
        let (browser, found) = dead_letters(world, 2).await;
        assert!(found.iter().all(|dead_letter| !dead_letter.unreadable));
        browser.close().await;
    })
    .await;
}

#[tokio::test]
async fn all_dead_letters_are_dropped_whether_they_are_readable_or_not() {
    in_world(async |world: &RabbitWorld| {
        dead_letter_three(world).await;
        let dropped = run(world, &["drop", "--all", "--yes"]).expect(0).out;
        assert_eq!(dropped.matches("dropped").count(), 3, "{dropped}");
        dead_letters(world, 0).await.0.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_unreadable_request_that_the_broker_dead_lettered_can_be_replayed() {
    in_world(async |world: &RabbitWorld| {
        let properties = BasicProperties::default().with_correlation_id(text().into());
        let body = with("r1", ALICE, json!({"n": 1}));
        // It expires at once, so that no worker has to lose a hundred connections.
        publish(world.names.requests(), SEND_SMS_KEY, &body, properties.with_expiration("0".into())).await;
        let (browser, found) = dead_letters(world, 1).await;
        let DeadLetter { unreadable, by_broker, reason, queue, .. } = &found[0];
        assert_eq!((unreadable, by_broker, reason.as_str()), (&true, &true, "expired"));
        assert_eq!(*queue, Some(world.names.requests_of(Channel::Sms)));
        assert_eq!(found[0].properties.correlation_id.as_deref(), Some("unreadable?"));
        browser.close().await;
        let replayed = run(world, &["replay", "--all", "--force", "--json"]).expect(0).json();
        assert_eq!((&replayed[0]["result"], &replayed[0]["request_id"]), (&json!("replayed"), &json!("r1")));
        let mut consumer = world.consumer(1);
        let delivery = patiently(next(&mut consumer)).await;
        assert_eq!(delivery.properties.correlation_id, None, "what was read is not what the caller wrote");
        assert_eq!(serde_json::from_slice::<Value>(&delivery.body).expect("JSON")["request_id"], "r1~r1");
        close(consumer).await;
    })
    .await;
}

/// RabbitMQ's own record of a dead letter stands among the publisher's headers, and is lost with them.
#[tokio::test]
async fn a_request_whose_headers_cannot_be_read_is_shown_as_the_brokers_dead_letter_and_can_be_replayed() {
    in_world(async |world: &RabbitWorld| {
        let deep =
            (0..40).fold(AMQPValue::Void, |inner, _| AMQPValue::FieldArray(FieldArray::from(vec![inner])));
        let mut headers = FieldTable::default();
        headers.insert("deep".into(), deep);
        let properties = BasicProperties::default().with_headers(headers).with_expiration("0".into());
        publish(world.names.requests(), SEND_SMS_KEY, &with("r1", ALICE, json!({})), properties).await;
        let (browser, found) = dead_letters(world, 1).await;
        let DeadLetter { unreadable, by_broker, reason, .. } = &found[0];
        assert_eq!((unreadable, by_broker, reason.as_str()), (&true, &true, "unknown"));
        browser.close().await;
        let list = run(world, &["list", "--json"]).expect(0).json();
        assert_eq!((&list[0]["by"], &list[0]["request_id"]), (&json!("broker"), &json!("r1")));
        let id = unreadable_ids(&list)[0];
        let shown = run(world, &["show", id]).expect(0).out;
        assert!(shown.contains("in clear: dead-lettered by the broker"), "{shown}");
        let refused = run(world, &["replay", id]).expect(3).out;
        assert!(refused.contains("it may have been sent") && refused.contains("--force"), "{refused}");
        let replayed = run(world, &["replay", id, "--force"]).expect(0).out;
        assert!(replayed.contains("r1 -> r1~r1"), "{replayed}");
    })
    .await;
}

/// Looks that end without a farewell return their dead letters, too.
#[tokio::test]
async fn looks_lose_no_dead_letter_however_they_end() {
    in_world(async |world: &RabbitWorld| {
        dead_letter_three(world).await;
        for look in 0..6 {
            let (mut browser, found) = dead_letters(world, 3).await;
            assert!(found.iter().all(|dead_letter| dead_letter.reads >= look), "{look}");
            assert!(browser.browse(10).await.expect("the queue").is_empty());
            if look % 2 == 0 { drop(browser) } else { browser.close().await }
        }
        let browser = browser(world).await;
        browser.close().await;
        dead_letters(world, 3).await.0.close().await;
    })
    .await;
}
