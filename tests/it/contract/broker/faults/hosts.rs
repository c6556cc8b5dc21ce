//! Several hosts in `AMQP_URL`: one that fails is left for another.

use std::collections::BTreeSet;

use otpost::broker::rabbit::health_check::RabbitHealthCheck;
use otpost::broker::rabbit::request_queues::RabbitRequestQueues;
use otpost::broker::{HealthCheck as _, RequestQueues as _};
use tokio::time::Instant;
use tokio::time::timeout;

use super::*;

/// The promise is five seconds, and this machine may be busy.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// A frozen host is given five seconds, an only one ten.
const PAST_A_FROZEN_HOST: Duration = Duration::from_secs(9);

/// Proxies to one broker, and a URL that names them all.
async fn hosts<const COUNT: usize>(parameters: &str) -> ([Proxy; COUNT], String) {
    let mut proxies = Vec::new();
    let mut url = String::new();
    for _ in 0..COUNT {
        let (proxy, of_one) = proxied().await;
        url = of_one;
        proxies.push(proxy);
    }
    let addresses: Vec<String> = proxies.iter().map(|proxy| proxy.address.to_string()).collect();
    let last = addresses.last().expect("there are some").clone();
    let url = format!("{}{parameters}", url.replace(&last, &addresses.join(",")));
    (proxies.try_into().unwrap_or_else(|_| panic!("as many as asked for")), url)
}

#[tokio::test]
async fn a_consumer_whose_host_goes_away_is_back_at_another_at_once() {
    in_world(async |world: &RabbitWorld| {
        let (proxies, url) = hosts::<2>("").await;
        let consumer = RabbitConsumer::start(world.settings_at(&url, 1), Channel::Sms);
        let mut connected = consumer.connected();
        let mut consumer: Box<dyn RequestConsumer> = Box::new(consumer);
        until(&mut connected, true).await;
        for round in 0..6 {
            proxies[(round + 1) % 2].resume();
            proxies[round % 2].refuse();
            let began = Instant::now();
            send_many(world, 1).await;
            next(&mut consumer).await.settle(Settlement::Ack);
            assert!(began.elapsed() < BACK_WITHIN, "round {round}: {:?}", began.elapsed());
        }
    })
    .await;
}

#[tokio::test]
async fn a_host_that_takes_connections_and_never_answers_is_left_for_another() {
    in_world(async |world: &RabbitWorld| {
        let ([frozen, _other], url) = hosts::<2>("").await;
        frozen.hush();
        let began = Instant::now();
        // Half of them begin with the frozen host.
        let publishers: Vec<_> =
            (0..8).map(|_| RabbitPublisher::start("results", world.settings_at(&url, 1))).collect();
        for publisher in &publishers {
            until(&mut publisher.connected(), true).await;
        }
        assert!(began.elapsed() < PAST_A_FROZEN_HOST, "{:?}", began.elapsed());
        RabbitHealthCheck::new(world.settings_at(&url, 1)).check().await.expect("one host is enough");
    })
    .await;
}

#[tokio::test]
async fn a_connection_stays_with_its_host_after_the_other_has_come_back() {
    in_world(async |world: &RabbitWorld| {
        let (proxies, url) = hosts::<2>("").await;
        proxies[1].refuse();
        let publisher = RabbitPublisher::start("results", world.settings_at(&url, 1));
        let mut connected = publisher.connected();
        until(&mut connected, true).await;
        proxies[1].resume();
        connected.mark_unchanged();
        proxies[1].cut();
        publisher.publish(outgoing(RESULT, "m-1")).await.expect("confirmed");
        assert!(!connected.has_changed().expect("it lives"), "it was on the other host");
        proxies[0].refuse();
        until(&mut connected, false).await;
        until(&mut connected, true).await;
    })
    .await;
}

#[tokio::test]
async fn without_any_host_a_round_is_repeated_until_one_is_there() {
    in_world(async |world: &RabbitWorld| {
        let (proxies, url) = hosts::<3>("").await;
        proxies.iter().for_each(Proxy::refuse);
        let unreachable = RabbitHealthCheck::new(world.settings_at(&url, 1)).check().await;
        let text = unreachable.expect_err("no host answers");
        let each = ["host 1 ", "host 2 ", "host 3 "].iter().all(|host| text.contains(host));
        assert!(each || text.ends_with("(each of 3 hosts)"), "{text}");
        let consumer = RabbitConsumer::start(world.settings_at(&url, 1), Channel::Sms);
        let mut connected = consumer.connected();
        let soon = Duration::from_secs(2);
        assert!(timeout(soon, connected.wait_for(|connected| *connected)).await.is_err());
        proxies[1].resume();
        let began = Instant::now();
        until(&mut connected, true).await;
        assert!(began.elapsed() < BACK_WITHIN, "{:?}", began.elapsed());
    })
    .await;
}

#[tokio::test]
async fn a_reading_of_the_queues_that_a_silent_host_holds_up_goes_on_with_the_next() {
    in_world(async |world: &RabbitWorld| {
        let (proxies, url) = hosts::<2>("").await;
        let queues = RabbitRequestQueues::new(world.settings_at(&url, 1));
        let reading = async || timeout(Duration::from_secs(2), queues.depths()).await;
        reading().await.expect("in time").expect("both hosts answer");
        // It is at one of them.
        for silent in &proxies {
            silent.hush();
            let mut readings = vec![reading().await, reading().await];
            readings.retain(|answer| matches!(answer, Ok(Ok(_))));
            assert!(!readings.is_empty(), "the second reading is at the other host");
            silent.resume();
        }
    })
    .await;
}

#[tokio::test]
async fn one_list_serves_every_command() {
    in_empty_world(async |world: &RabbitWorld| {
        let ([gone, _there], url) = hosts::<2>("").await;
        gone.refuse();
        // Each begins with a host of its own choice.
        let settings = world.settings_at(&url, 1);
        let mut names = BTreeSet::new();
        for _ in 0..4 {
            let declared = declare_topology(&settings).await.expect("declared");
            names.extend(declared.iter().map(ToString::to_string));
        }
        assert!(names.iter().any(|name| name.contains(&world.names.requests_of(Channel::Sms))));
    })
    .await;
}

#[tokio::test]
async fn many_workers_declare_a_fresh_topology_at_once() {
    in_empty_world(async |world: &RabbitWorld| {
        let consumers: Vec<_> = (0..6)
            .flat_map(|_| Channel::ALL)
            .map(|channel| RabbitConsumer::start(world.settings(1), channel))
            .collect();
        let declared = futures_util::future::join_all((0..4).map(|_| {
            let settings = world.settings(1);
            async move { declare_topology(&settings).await }
        }));
        for outcome in patiently(declared).await {
            outcome.expect("declared");
        }
        for consumer in &consumers {
            until(&mut consumer.connected(), true).await;
        }
    })
    .await;
}
