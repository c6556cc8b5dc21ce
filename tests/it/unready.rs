//! The readiness of a worker that cannot reach RabbitMQ.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::contract::broker::patiently;
use crate::damaged::readiness;
use crate::logs::Running;
use crate::real::{Redis, redis_url};

fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port()
}

#[tokio::test]
async fn a_worker_whose_brokers_are_all_away_says_why_and_names_none() {
    let redis = Redis::fresh();
    let (redis_url, ops) = (redis_url(), format!("127.0.0.1:{}", closed_port()));
    let amqp = format!("amqp://user:hunter2@127.0.0.1:{},127.0.0.2:{}/%2f", closed_port(), closed_port());
    let mut worker = Running::spawn(
        "worker",
        &[
            ("ENVIRONMENT", "development"),
            ("OPS_ADDR", ops.as_str()),
            ("AMQP_URL", &amqp),
            ("REDIS_URL", &redis_url),
            ("REDIS_PREFIX", &redis.prefix),
        ],
    );
    worker.says("broker connection lost").await;
    let words =
        "not consuming: RabbitMQ is not connected: cannot be reached: connection refused (each of 2 hosts)";
    let mut text = String::new();
    patiently(async {
        while !text.contains(words) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if TcpStream::connect(&ops).is_ok() {
                text = readiness(&ops);
            }
        }
    })
    .await;
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    let body = text.split("\r\n\r\n").nth(1).expect("a body");
    for secret in ["hunter2", "127.0.0", "user"] {
        assert!(!body.contains(secret), "{body}");
    }
    drop(worker);
}
