//! The metrics of a worker process with a real RabbitMQ and a real Redis.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;

use crate::contract::broker::rabbit::{RabbitWorld, in_world, url};
use crate::real::{Redis, redis_url};

/// A reading of the queues takes ten seconds at most.
const WITHIN: Duration = Duration::from_secs(40);

struct Worker {
    child: Child,
    ops: String,
}

impl Worker {
    fn start(world: &RabbitWorld, redis: &Redis) -> Worker {
        let (names, redis_url, amqp_url) = (world.names.dead(), redis_url(), url());
        let settings = [
            ("ENVIRONMENT", "development"),
            ("AMQP_URL", &amqp_url),
            ("AMQP_PREFIX", names.trim_end_matches(".dead")),
            ("REDIS_URL", &redis_url),
            ("REDIS_PREFIX", &redis.prefix),
            ("WORKER_PREFETCH", "77"),
        ];
        Worker::spawn("worker", &settings)
    }

    fn spawn(command: &str, settings: &[(&str, &str)]) -> Worker {
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("it has one");
        let ops = port.to_string();
        let child = Command::new(env!("CARGO_BIN_EXE_otpost"))
            .arg(command)
            .env_clear()
            .env("OPS_ADDR", &ops)
            .envs(settings.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        Worker { child, ops }
    }

    /// The head and the body of an answer of `/metrics`, once the process listens.
    fn metrics(&self, accept: &str) -> Option<(String, String)> {
        let mut socket = TcpStream::connect(&self.ops).ok()?;
        socket.set_read_timeout(Some(WITHIN)).expect("a time-out");
        write!(socket, "GET /metrics HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\n\r\n", self.ops).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.to_ascii_lowercase(), body.to_owned()))
    }

    async fn metrics_with(&self, lines: &[&str]) -> String {
        let began = Instant::now();
        loop {
            let text = self.metrics("*/*").map_or(String::new(), |(_, text)| text);
            if lines.iter().all(|wanted| text.lines().any(|line| line == *wanted)) {
                return text;
            }
            assert!(began.elapsed() < WITHIN, "{lines:?} are not all in {text}");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn publish(world: &RabbitWorld, body: &[u8]) {
    let (exchange, key) = (world.names.requests().into(), "send-sms".into());
    let (channel, options) = (world.open_channel().await, BasicPublishOptions::default());
    let published = channel.basic_publish(exchange, key, options, body, BasicProperties::default()).await;
    published.expect("published");
}

#[tokio::test]
async fn a_worker_shows_its_queues_and_the_first_dead_letter() {
    in_world(async |world| {
        let redis = Redis::fresh();
        let worker = Worker::start(world, &redis);
        let nothing_yet = [
            "otpost_dead_lettered_total{reason=\"unattributable\"} 0",
            "otpost_broker_connected{role=\"requests\",channel=\"sms\"} 1",
            "otpost_broker_reconnects_total{role=\"requests\",channel=\"sms\"} 0",
            "otpost_queue_messages{queue=\"sms\"} 0",
            "otpost_queue_messages{queue=\"delayed\"} 0",
            "otpost_queue_messages{queue=\"dead_letters\"} 0",
            "otpost_deliveries_delayed_total 0",
            "otpost_queue_consumers{queue=\"sms\"} 1",
            "otpost_queue_consumers{queue=\"email\"} 1",
            "otpost_queue_consumers{queue=\"dead_letters\"} 0",
        ];
        worker.metrics_with(&nothing_yet).await;
        publish(world, b"{}").await;
        publish(world, br#"{"request_id":"m1","to":"+573001234567","requested_at":"2026-11-22T13:36:16Z"}"#)
            .await;
        publish(world, br#"{"request_id":"m2","to":"+573001234567"}"#).await;
        let text = worker
            .metrics_with(&[
                "otpost_dead_lettered_total{reason=\"unattributable\"} 1",
                "otpost_queue_messages{queue=\"dead_letters\"} 1",
                "otpost_requests_by_country_total{country=\"CO\",status=\"sent\"} 1",
                "otpost_requests_by_country_total{country=\"CO\",status=\"rejected\"} 1",
                "otpost_request_queue_time_seconds_count{channel=\"sms\"} 1",
                "otpost_request_duration_seconds_count{channel=\"sms\",status=\"sent\"} 1",
                "otpost_message_segments_total{provider=\"simulated\"} 1",
                "otpost_store_operation_duration_seconds_count{operation=\"admit\"} 2",
                "otpost_prefetch{channel=\"sms\"} 77",
            ])
            .await;
        assert!(!text.contains("300123"), "{text}");
        let (head, text) = worker.metrics("text/html, text/plain;q=0.9").expect("an answer");
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        assert!(text.contains("# TYPE otpost_requests_total counter\n") && !text.contains("# EOF"), "{text}");
        let (head, text) = worker.metrics("application/openmetrics-text;version=1.0.0").expect("an answer");
        assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
        assert!(text.contains("# TYPE otpost_requests counter\n") && text.ends_with("# EOF\n"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn dev_shows_the_queues_in_memory() {
    let dev = Worker::spawn("dev", &[("HTTP_ADDR", "127.0.0.1:0")]);
    dev.metrics_with(&[
        "otpost_queue_messages{queue=\"sms\"} 0",
        "otpost_queue_messages{queue=\"delayed\"} 0",
        "otpost_queue_messages{queue=\"dead_letters\"} 0",
        "otpost_queue_consumers{queue=\"sms\"} 1",
        "otpost_queue_consumers{queue=\"email\"} 1",
    ])
    .await;
}
