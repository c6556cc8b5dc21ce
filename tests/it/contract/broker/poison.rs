//! A poison message at RabbitMQ, whatever its version counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use otpost::broker::rabbit::dead_letters::RabbitDeadLetters;
use otpost::broker::{DeadLetter, DeadLetters, Properties, Settlement};
use serde_json::Value;

use super::rabbit::{RabbitWorld, in_world, version};
use super::{World as _, close, next, patiently, until_waiting};
use crate::harness::{ALICE, Embedded, Options, World, request};

const NEIGHBOURS: usize = 40;

/// The dead letter follows its result.
async fn dead_letter(world: &RabbitWorld) -> DeadLetter {
    loop {
        let mut browser: Box<dyn DeadLetters> =
            Box::new(RabbitDeadLetters::open(&world.settings(1)).await.expect("connected"));
        let found = browser.browse(1).await.expect("the queue").pop();
        browser.close().await;
        if let Some(found) = found {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_request_that_panics_five_handlers_is_dead_lettered_and_its_neighbours_are_not_delayed() {
    in_world(async |world: &RabbitWorld| {
        let (shared, mut results) = (World::new(), world.results().await);
        *shared.store.poison.lock().expect("no panic") = Some(shared.recipient(ALICE));
        let broker = Some((world.consumer(10), world.publisher()));
        let worker = Embedded::in_world(shared.clone(), Options { broker, ..Options::default() });
        let send = async |id: &str, to: &str| {
            let body = String::from_utf8(request(id, to)).expect("JSON");
            world.send(&body, Properties::default()).await;
        };
        send("poison", ALICE).await;
        let began = Instant::now();
        for number in 0..NEIGHBOURS {
            send(&format!("r{number}"), &format!("+573001{number:06}")).await;
        }
        let mut ended = BTreeMap::new();
        while ended.len() < NEIGHBOURS + 1 {
            let result: Value = serde_json::from_slice(&results.next().await.body).expect("JSON");
            let id = result["request_id"].as_str().expect("an id").to_owned();
            assert!(ended.insert(id, result).is_none(), "each has one result");
        }
        let poison = ended.remove("poison").expect("a result");
        assert_eq!((&poison["status"], &poison["error"]["code"]), (&"failed".into(), &"internal".into()));
        for (id, result) in &ended {
            assert_eq!((&result["status"], &result["replayed"]), (&"sent".into(), &Value::Null), "{id}");
        }
        // No crash suspect waits, which takes seconds.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        let dead = patiently(dead_letter(world)).await;
        let counted = (dead.reason.as_str(), dead.delivery_count, dead.request_id.as_deref());
        assert_eq!(counted, ("panic", Some(4), Some("poison")), "each version counts a panic");
        assert_eq!(worker.stop().await, 0);
        until_waiting(world, 0).await;
    })
    .await;
}

#[tokio::test]
async fn an_orderly_requeue_is_counted_before_4_3_only_and_every_other_return_always() {
    in_world(async |world: &RabbitWorld| {
        let counts_nacks = u64::from(version().await < (4, 3));
        world.send("counted", Properties::default()).await;
        let mut consumer = world.consumer(1);
        next(&mut consumer).await.settle(Settlement::Requeue);
        let nacked = next(&mut consumer).await;
        assert_eq!(nacked.properties.delivery_count, counts_nacks);
        nacked.settle(Settlement::RequeueCounted);
        let rejected = next(&mut consumer).await;
        assert_eq!(rejected.properties.delivery_count, counts_nacks + 1);
        drop((rejected, consumer));
        let mut consumer = world.consumer(1);
        let lost = next(&mut consumer).await;
        assert_eq!((lost.properties.delivery_count, lost.properties.redelivered), (counts_nacks + 2, true));
        lost.settle(Settlement::Ack);
        close(consumer).await;
    })
    .await;
}
