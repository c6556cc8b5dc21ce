//! A key in Redis that all requests share is damaged: what the real binary does and says, until the key is deleted.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::time::Duration;

use otpost::broker::Properties;
use serde_json::{Value, json};

use crate::contract::broker::rabbit::{RabbitWorld, in_world, url};
use crate::contract::broker::{Reader, World as _, patiently};
use crate::inspect::{otpost, rows};
use crate::logs::Running;
use crate::real::{Redis, redis_url};

/// The text of `/readyz`.
pub fn readiness(ops: &str) -> String {
    let mut connection = TcpStream::connect(ops).expect("it listens");
    connection.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
    connection
        .write_all(b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .expect("it is sent");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    answer
}

pub async fn until_ready(ops: &str) {
    patiently(async {
        while !readiness(ops).starts_with("HTTP/1.1 200") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// The `detail` of Redis in `otpost status`.
fn status(world: &RabbitWorld, redis: &Redis, exit: i32) -> Value {
    rows(&run_status(world, redis), exit)[0]["health"]["redis"]["detail"].clone()
}

fn is_paused(world: &RabbitWorld, redis: &Redis) -> bool {
    String::from_utf8_lossy(&run_status(world, redis).stdout).contains("sending_paused")
}

fn run_status(world: &RabbitWorld, redis: &Redis) -> Output {
    let (dead, amqp, url) = (world.names.dead(), url(), redis_url());
    let settings = [
        ("ENVIRONMENT", "development"),
        ("AMQP_URL", amqp.as_str()),
        ("AMQP_PREFIX", dead.trim_end_matches(".dead")),
        ("REDIS_URL", &url),
        ("REDIS_PREFIX", &redis.prefix),
    ];
    otpost(&settings, &["status", "--json"])
}

pub async fn send(world: &RabbitWorld, id: &str, to: usize) {
    let request = json!({"request_id": id, "to": format!("+5730012345{to:02}")});
    world.send(&request.to_string(), Properties::default()).await;
}

pub async fn expect_sent(results: &mut Box<dyn Reader>, id: &str) {
    loop {
        let result: Value = serde_json::from_slice(&results.next().await.body).expect("JSON");
        // Delivery events of earlier requests may come between, and results of those that were delivered again.
        if result["status"] != "delivered" && result["replayed"] != true {
            assert_eq!((&result["request_id"], &result["status"]), (&json!(id), &json!("sent")), "{result}");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_key_that_all_requests_share_stops_sending_until_it_is_deleted() {
    in_world(async |world: &RabbitWorld| {
        let redis = Redis::fresh();
        let ops = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").to_string();
        let mut results = world.results().await;
        let mut worker = Running::with_servers("worker", world, &redis, &[("OPS_ADDR", &ops)]);
        worker.says("started").await;
        until_ready(&ops).await;
        for (nth, (key, command, arguments)) in [
            ("due", "SET", [b"x".as_slice()].as_slice()),
            ("suppressed", "SET", &[b"x"]),
            ("a", "SET", &[b"x"]),
            ("workers", "SET", &[b"x"]),
            ("kill", "SET", &[b"x"]),
            ("cCO", "SET", &[b"x"]),
        ]
        .into_iter()
        .enumerate()
        {
            redis.replace(key, command, arguments);
            let id = format!("r{nth}");
            // A worker reads the suppression of a country when it has a request for it.
            let is_country = key.starts_with('c');
            if is_country {
                send(world, &id, nth).await;
            }
            let damaged = "shared key is damaged: sending pauses until it is mended or deleted (runbook)";
            for _channel in 0..2 {
                let line = worker.says_without(damaged, "request completed").await;
                assert_eq!((&line["level"], &line["key"]), (&json!("ERROR"), &json!(key)));
            }
            if !is_country {
                send(world, &id, nth).await;
            }
            let not_ready = readiness(&ops);
            let names_it = not_ready.contains(&format!("the key `{key}` in Redis"));
            assert!(not_ready.starts_with("HTTP/1.1 503") && names_it, "{not_ready}");
            let detail = status(world, &redis, 3);
            assert!(detail.as_str().is_some_and(|detail| detail.contains(&format!("`{key}`"))), "{detail}");
            redis.delete(key);
            worker.says_without("sending resumed", "request completed").await;
            expect_sent(&mut results, &id).await;
            worker.says("request completed").await;
            until_ready(&ops).await;
        }
        // Until the worker's next report the status says that it is paused.
        let settled = async {
            while is_paused(world, &redis) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        patiently(settled).await;
        assert_eq!(status(world, &redis, 0), Value::Null);
    })
    .await;
}
