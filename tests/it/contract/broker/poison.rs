//! A poison message at RabbitMQ, whatever its version counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use otpost::broker::Properties;
use serde_json::Value;

use super::rabbit::{RabbitWorld, in_world};
use super::{World as _, patiently, until_waiting};
use crate::harness::{ALICE, Embedded, Options, World, request};

const NEIGHBOURS: usize = 40;

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
        let dead = patiently(world.next_dead_letter()).await;
        assert_eq!((dead.reason.as_str(), dead.delivery_count), ("panic", 4), "each version counts a panic");
        assert_eq!(worker.stop().await, 0);
        until_waiting(world, 0).await;
    })
    .await;
}
