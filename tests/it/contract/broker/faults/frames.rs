//! The properties of a message are one AMQP frame, so the limits of a frame are limits of properties.

use otpost::broker::rabbit::publish::RabbitPublisher;
use otpost::broker::{DeadHeaders, Outgoing, Properties, Publisher, Target};
use otpost::domain::channel::Channel;
use otpost::domain::time::UnixMillis;

use super::super::rabbit::{RabbitWorld, in_world};
use super::super::{World, next, outgoing, patiently};

/// RabbitMQ's default limit for a frame, less the rest of the frame.
const PROPERTIES_BYTES: usize = 131_072 - 200;

#[tokio::test]
async fn a_request_whose_properties_fill_a_frame_is_delivered() {
    in_world(async |world: &RabbitWorld| {
        let mut consumer = world.consumer(1);
        let traceparent = Some("x".repeat(PROPERTIES_BYTES));
        world.send("full", Properties { traceparent, ..Properties::default() }).await;
        assert_eq!(next(&mut consumer).await.body, b"full");
    })
    .await;
}

#[tokio::test]
async fn a_dead_letter_with_the_longest_properties_and_a_long_body_is_published() {
    in_world(async |world: &RabbitWorld| {
        let publisher = RabbitPublisher::start("results", world.settings(1));
        // Longer than any error of ours.
        let (id, error) = ("i".repeat(255), "e".repeat(8_000));
        let headers = DeadHeaders {
            channel: Channel::Sms,
            reason: "unattributable",
            error: &error,
            delivery_count: u64::MAX,
            requested_at: Some(UnixMillis(u64::from(u32::MAX) * 1_000)),
            request_id: Some(&id),
            status: Some("rejected"),
        };
        let body = vec![b'b'; 300_000];
        let message = Outgoing {
            body: &body,
            correlation_id: Some(&id),
            traceparent: Some(&id),
            tracestate: None,
            ..outgoing(Target::Dead(headers), &id)
        };
        patiently(publisher.publish(message)).await.expect("confirmed");
        let dead = patiently(world.next_dead_letter()).await;
        assert_eq!((dead.error, dead.body.len()), (error, body.len()));
    })
    .await;
}
