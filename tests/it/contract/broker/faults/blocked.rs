//! A broker under a memory or disk alarm blocks publishers: messages wait, and the reason is known.

use otpost::broker::HealthCheck as _;
use tokio::time::sleep;

use super::*;

/// Longer than a confirm may take.
const LONGER_THAN_A_CONFIRM: Duration = Duration::from_secs(6);

async fn until_blocked(publisher: &RabbitPublisher) {
    until(&mut publisher.blocked(), true).await;
}

#[tokio::test]
async fn a_message_on_its_way_waits_for_the_end_of_the_alarm_and_arrives_once() {
    in_world(async |world: &RabbitWorld| {
        let (proxy, url) = proxied().await;
        let publisher = Arc::new(RabbitPublisher::start("results", world.settings_at(&url, 1)));
        until(&mut publisher.connected(), true).await;
        let (mut results, connected) = (world.results().await, publisher.connected());
        // The broker stops reading before it says so.
        proxy.deafen();
        let sends: Vec<_> = ["m-1", "m-2"]
            .into_iter()
            .zip([RESULT, Target::Requests(Channel::Sms)])
            .map(|(id, target)| {
                let publisher = Arc::clone(&publisher);
                tokio::spawn(async move { publisher.publish(outgoing(target, id)).await })
            })
            .collect();
        sleep(Duration::from_millis(300)).await;
        proxy.block();
        until_blocked(&publisher).await;
        sleep(LONGER_THAN_A_CONFIRM).await;
        proxy.resume();
        for send in sends {
            patiently(send).await.expect("no panic").expect("confirmed");
        }
        assert_eq!(results.next().await.message_id, "m-1");
        publisher.publish(outgoing(RESULT, "m-3")).await.expect("confirmed");
        assert_eq!(results.next().await.message_id, "m-3", "each arrives once");
        until_waiting(world, 1).await;
        assert!(*connected.borrow() && !*publisher.blocked().borrow());
    })
    .await;
}

#[tokio::test]
async fn a_message_during_the_alarm_is_refused_by_its_name_and_the_connection_stays() {
    in_world(async |world: &RabbitWorld| {
        let (proxy, url) = proxied().await;
        let publisher = RabbitPublisher::start("results", world.settings_at(&url, 1));
        until(&mut publisher.connected(), true).await;
        publisher.check().await.expect("it takes messages");
        proxy.block();
        until_blocked(&publisher).await;
        for target in [RESULT, Target::Requests(Channel::Sms), Target::Reply { queue: "reply.me" }] {
            let refused = publisher.publish(outgoing(target, "m-1")).await;
            assert!(matches!(refused, Err(PublishError::Blocked)), "{refused:?}");
        }
        let status = publisher.check().await.expect_err("it takes no messages");
        assert_eq!(status, "blocks publishers (memory or disk alarm)");
        proxy.resume();
        until(&mut publisher.blocked(), false).await;
        publisher.publish(outgoing(RESULT, "m-2")).await.expect("confirmed");
        proxy.block();
        until_blocked(&publisher).await;
        // A lost connection is no blocked one.
        proxy.refuse();
        until(&mut publisher.blocked(), false).await;
        let away = publisher.check().await.expect_err("it is away");
        assert!(away.starts_with("not connected"), "{away}");
    })
    .await;
}
