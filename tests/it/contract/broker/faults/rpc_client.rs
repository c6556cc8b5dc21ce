//! A caller on a connection that breaks gets an answer soon, and the next one is served as before.

use std::time::Duration;

use futures_util::future::join_all;
use otpost::broker::rabbit::rpc::RabbitRpcClient;
use otpost::broker::{PublishError, RpcClient as _, Settlement};
use tokio::time::{Instant, sleep};

use super::super::rabbit::{RabbitWorld, in_world};
use super::super::{World, asking, next, patiently, reply, until_waiting};
use super::proxied;

/// Time to be connected, or to hear that one is not, on a busy machine.
const SOON: Duration = Duration::from_secs(3);
/// A second for a connection, five for a confirm, and what a busy machine adds.
const BOUND: Duration = Duration::from_secs(8);
/// Longer than any of these tests may take to answer.
const LONG: Duration = Duration::from_secs(60);

/// Asks until the broker confirms a request.
async fn until_queued(rpc_client: &RabbitRpcClient) {
    let queued = async { while rpc_client.request(asking("again"), Duration::ZERO).await.is_err() {} };
    patiently(queued).await;
}

/// Publishes, and gets an error within this time because no confirm came. Answers true if the request is surely not
/// queued.
async fn expect_unconfirmed(rpc_client: &RabbitRpcClient, id: &str, bound: Duration) -> bool {
    let asked = Instant::now();
    let answer = rpc_client.request(asking(id), LONG).await;
    let (lost, not_taken) = match &answer {
        Err(PublishError::Unconfirmed(_)) => (true, false),
        Err(PublishError::NotTaken(_) | PublishError::Blocked) => (true, true),
        Ok(_) | Err(PublishError::Unroutable) => (false, false),
    };
    assert!(lost, "{answer:?}");
    assert!(asked.elapsed() < bound, "{:?}", asked.elapsed());
    not_taken
}

/// A worker answers what is asked from now on.
async fn expect_served(world: &RabbitWorld, rpc_client: &RabbitRpcClient) {
    let mut consumer = world.consumer(64);
    let worker = async {
        loop {
            let delivery = next(&mut consumer).await;
            let wanted = delivery.properties.correlation_id.as_deref() == Some("served");
            if wanted {
                reply(world, &delivery, b"result").await;
            }
            delivery.settle(Settlement::Ack);
            if wanted {
                return;
            }
        }
    };
    let asked = rpc_client.request(asking("served"), LONG);
    let (received, ()) = patiently(async { tokio::join!(asked, worker) }).await;
    assert_eq!(received.expect("queued").as_deref(), Some(b"result" as &[u8]));
}

#[tokio::test]
async fn a_caller_on_a_cut_connection_is_answered_at_once_and_the_next_one_is_served() {
    in_world(async |world: &RabbitWorld| {
        let (proxy, url) = proxied().await;
        let rpc_client = RabbitRpcClient::start(world.settings_at(&url, 1));
        until_queued(&rpc_client).await;
        for round in 0..3 {
            let ids: Vec<String> = (0..50).map(|nth| format!("cut-{round}-{nth}")).collect();
            let waiting = join_all(ids.iter().map(|id| rpc_client.request(asking(id), LONG)));
            let cut = async {
                sleep(Duration::from_millis(500)).await;
                proxy.cut();
                Instant::now()
            };
            let (answers, cut) = patiently(async { tokio::join!(waiting, cut) }).await;
            assert!(cut.elapsed() < SOON, "{:?}", cut.elapsed());
            // All were confirmed before: queued, and no result can come any more.
            assert!(answers.iter().all(|answer| matches!(answer, Ok(None))), "{answers:?}");
            until_queued(&rpc_client).await;
        }
        expect_served(world, &rpc_client).await;
    })
    .await;
}

#[tokio::test]
async fn a_caller_without_a_connection_gets_an_error_soon_and_is_served_after_it() {
    in_world(async |world: &RabbitWorld| {
        let (proxy, url) = proxied().await;
        proxy.refuse();
        let rpc_client = RabbitRpcClient::start(world.settings_at(&url, 1));
        assert!(expect_unconfirmed(&rpc_client, "before the first", SOON).await);
        proxy.resume();
        until_queued(&rpc_client).await;
        proxy.refuse();
        // The loss of the connection may be noticed by the first one only.
        expect_unconfirmed(&rpc_client, "refused-0", SOON).await;
        for nth in 1..3 {
            assert!(expect_unconfirmed(&rpc_client, &format!("refused-{nth}"), SOON).await);
        }
        proxy.resume();
        until_queued(&rpc_client).await;
        expect_served(world, &rpc_client).await;
    })
    .await;
}

#[tokio::test]
async fn a_caller_of_a_silent_broker_is_answered_in_bounded_time_and_is_served_after_it() {
    in_world(async |world: &RabbitWorld| {
        let (proxy, url) = proxied().await;
        let rpc_client = RabbitRpcClient::start(world.settings_at(&url, 1));
        until_queued(&rpc_client).await;
        proxy.hush();
        let ids: Vec<String> = (0..20).map(|nth| format!("silent-{nth}")).collect();
        let surely_not = join_all(ids.iter().map(|id| expect_unconfirmed(&rpc_client, id, BOUND))).await;
        assert!(!surely_not.contains(&true), "what was handed over may be queued: {surely_not:?}");
        // The connection is given up by now, and the next one is not opened either.
        expect_unconfirmed(&rpc_client, "still silent", BOUND).await;
        proxy.resume();
        until_queued(&rpc_client).await;
        expect_served(world, &rpc_client).await;
    })
    .await;
}

#[tokio::test]
async fn a_caller_of_a_blocking_broker_gets_an_error_soon_and_is_served_after_it() {
    in_world(async |world: &RabbitWorld| {
        let (proxy, url) = proxied().await;
        let rpc_client = RabbitRpcClient::start(world.settings_at(&url, 1));
        until_queued(&rpc_client).await;
        until_waiting(world, 1).await;
        // A caller whose request was confirmed goes on waiting, over the same connection.
        let early = rpc_client.request(asking("early"), Duration::from_secs(4));
        let blocked = async {
            sleep(Duration::from_millis(500)).await;
            proxy.block();
            sleep(Duration::from_millis(500)).await;
            for nth in 0..3 {
                let answer =
                    rpc_client.request(asking(&format!("blocked-{nth}")), Duration::from_secs(2)).await;
                assert!(matches!(answer, Err(PublishError::Blocked)), "the reason is known: {answer:?}");
            }
        };
        let (early, ()) = patiently(async { tokio::join!(early, blocked) }).await;
        assert!(matches!(early, Ok(None)), "{early:?}");
        // Nothing is published while the broker blocks.
        until_waiting(world, 2).await;
        proxy.resume();
        until_queued(&rpc_client).await;
        expect_served(world, &rpc_client).await;
    })
    .await;
}

/// As RabbitMQ 3.10 does on a channel whose first message came while the queue had no leader.
#[tokio::test]
async fn refused_requests_take_another_connection_and_a_caller_that_waits_keeps_its_own() {
    in_world(async |world: &RabbitWorld| {
        let (proxy, url) = proxied().await;
        let rpc_client = RabbitRpcClient::start(world.settings_at(&url, 1));
        until_queued(&rpc_client).await;
        let early = rpc_client.request(asking("early"), LONG);
        let refused = async {
            until_waiting(world, 2).await;
            // Confirms come in order, so the early caller has its own.
            until_queued(&rpc_client).await;
            proxy.nack();
            let refused = rpc_client.request(asking("refused"), Duration::ZERO).await;
            assert!(matches!(refused, Err(PublishError::NotTaken(_))), "{refused:?}");
            until_queued(&rpc_client).await;
            let mut consumer = world.consumer(64);
            loop {
                let delivery = next(&mut consumer).await;
                let is_early = delivery.properties.correlation_id.as_deref() == Some("early");
                if is_early {
                    reply(world, &delivery, b"result").await;
                }
                delivery.settle(Settlement::Ack);
                if is_early {
                    return;
                }
            }
        };
        let (early, ()) = patiently(async { tokio::join!(early, refused) }).await;
        assert_eq!(early.expect("confirmed").as_deref(), Some(b"result" as &[u8]));
    })
    .await;
}

#[tokio::test]
async fn an_unroutable_request_fails_whatever_else_is_published_and_the_queue_comes_back() {
    in_world(async |world: &RabbitWorld| {
        let rpc_client = RabbitRpcClient::start(world.settings(1));
        until_queued(&rpc_client).await;
        for round in 0..3 {
            world.delete_request_queue().await;
            let lost = patiently(rpc_client.request(asking("lost"), LONG)).await;
            assert!(matches!(lost, Err(PublishError::Unroutable)), "{lost:?}");
            until_queued(&rpc_client).await;
            world.delete_request_queue().await;
            let ids: Vec<String> = (0..500).map(|nth| format!("lost-{round}-{nth}")).collect();
            let asked = join_all(ids.iter().map(|id| rpc_client.request(asking(id), Duration::ZERO)));
            let answers = patiently(asked).await;
            let queued = answers.iter().filter(|answer| answer.is_ok()).count();
            let lost = answers.iter().filter(|answer| matches!(answer, Err(PublishError::Unroutable)));
            assert_eq!(queued + lost.count(), answers.len(), "each gets the answer of its own");
            until_queued(&rpc_client).await;
            // The requests reported as queued are there, and one more that was repeated until it was.
            until_waiting(world, queued + 1).await;
        }
        expect_served(world, &rpc_client).await;
    })
    .await;
}
