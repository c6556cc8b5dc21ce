//! Dead letters of requests for e-mails: a replay returns to the queue that they came from.

use otpost::broker::{DeadHeaders, Outgoing, RequestConsumer, Settlement, Target};
use otpost::domain::channel::Channel;
use serde_json::{Value, json};

use super::{ago, close, dead_letter, dead_letters, id_of, in_world, next, panicked, run};
use crate::contract::broker::World as _;
use crate::contract::broker::rabbit::RabbitWorld;
use crate::harness::with;

const ANA: &str = "ana@shop.example";

/// The request comes by the queue of e-mails, and nothing by that of text messages.
async fn expect_by_email(world: &RabbitWorld, id: &str) {
    let mut consumer = world.consumer_of(Channel::Email, 4);
    let delivery = next(&mut consumer).await;
    let body: Value = serde_json::from_slice(&delivery.body).expect("JSON");
    assert_eq!(body, json!({"request_id": id, "to": ANA}));
    delivery.settle(Settlement::Ack);
    close(consumer).await;
    assert_eq!(world.waiting().await, 0);
}

#[tokio::test]
async fn a_replayed_email_goes_back_to_the_queue_of_emails() {
    in_world(async |world: &RabbitWorld| {
        let headers = DeadHeaders { channel: Channel::Email, ..panicked("r1", "failed") };
        dead_letter(world, "dead:1", &with("r1", ANA, json!({})), headers, ago(20)).await;
        let list = run(world, &["list", "--json"]).expect(0);
        assert!(!list.out.contains("ana@") && !list.out.contains("shop"), "{}", list.out);
        let output = run(world, &["replay", &id_of(&list, "r1")]).expect(0);
        assert!(output.out.contains("replayed  r1 -> r1~r1\ndone, audit pending\n"), "{}", output.out);
        expect_by_email(world, "r1~r1").await;
        dead_letters(world, 0).await.0.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_email_that_the_broker_dead_lettered_returns_there_too() {
    in_world(async |world: &RabbitWorld| {
        let body = with("r1", ANA, json!({}));
        let message = Outgoing {
            target: Target::Requests(Channel::Email),
            body: &body,
            message_id: "m1",
            correlation_id: None,
            at: ago(20),
            traceparent: None,
            tracestate: None,
        };
        world.publisher().publish(message).await.expect("confirmed");
        let mut consumer: Box<dyn RequestConsumer> = world.consumer_of(Channel::Email, 1);
        for _ in 0..=otpost::broker::DELIVERY_LIMIT {
            next(&mut consumer).await.settle(Settlement::RequeueCounted);
        }
        close(consumer).await;
        dead_letters(world, 1).await.0.close().await;
        let list = run(world, &["list", "--json"]).expect(0);
        run(world, &["replay", &id_of(&list, "r1"), "--force"]).expect(0);
        expect_by_email(world, "r1~r1").await;
    })
    .await;
}
