//! The number and the level of log lines: one for a request, and few for failures that repeat.

use otpost::domain::send_failure::{Scope, SendFailure};
use serde_json::Value;

use crate::contract::broker::World as _;
use crate::contract::broker::faults::proxied;
use crate::contract::broker::rabbit::{RabbitWorld, in_world};
use crate::damaged::{expect_sent, send};
use crate::harness::Embedded;
use crate::logs::Running;
use crate::promises::secrets::{captured_log, start_capturing};
use crate::real::Redis;

fn lines_above_debug(log: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    lines
        .filter(|line| ["INFO", "WARN", "ERROR"].contains(&line["level"].as_str().unwrap_or_default()))
        .collect()
}

/// No other test refuses messages with this code: the lines of a kind are counted for the process.
const CODE: u32 = 21_699;

#[tokio::test(start_paused = true)]
async fn twenty_refused_messages_make_one_line_each_and_one_of_the_refusal() {
    start_capturing();
    let mut gateway = Embedded::start();
    for nth in 0..20 {
        gateway.world.provider.fail_next([SendFailure::refused(Scope::Recipient, Some(CODE))]);
        gateway.request(&format!("r{nth}"), &format!("+5730012345{nth:02}")).await;
    }
    let lines = lines_above_debug(&captured_log());
    let with = |message: &str| lines.iter().filter(|line| line["fields"]["message"] == message).count();
    assert_eq!((with("request completed"), with("provider refused a message")), (20, 1), "{lines:#?}");
    assert!(lines.len() <= 25, "{} lines: {lines:#?}", lines.len());
}

#[tokio::test(start_paused = true)]
async fn a_good_request_makes_one_line() {
    start_capturing();
    let mut gateway = Embedded::start();
    gateway.request("r1", "+573001234567").await;
    let lines = lines_above_debug(&captured_log());
    let of_request: Vec<&Value> = lines.iter().filter(|line| line["fields"]["request_id"] == "r1").collect();
    assert_eq!(of_request.len(), 1, "{of_request:#?}");
    assert_eq!(of_request[0]["fields"]["message"], "request completed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_is_one_warning_for_each_connection_and_one_that_blocks_is_not_lost() {
    in_world(async |world: &RabbitWorld| {
        let (proxy, url) = proxied().await;
        let redis = Redis::fresh();
        let more = [("AMQP_URL", url.as_str()), ("RUST_LOG", "info")];
        let mut worker = Running::with_servers("worker", world, &redis, &more);
        let mut results = world.results().await;
        worker.says("started").await;
        send(world, "r1", 1).await;
        expect_sent(&mut results, "r1").await;

        proxy.block();
        let mut lines = worker.lines_until("the broker blocks publishers (memory or disk alarm)").await;
        proxy.resume();
        lines.extend(worker.lines_until("the broker takes messages again").await);
        assert!(lines.iter().all(|line| line["message"] != "broker connection lost"), "{lines:#?}");

        proxy.cut();
        send(world, "r2", 2).await;
        expect_sent(&mut results, "r2").await;
        let lines = worker.lines_until("request completed").await;
        assert!(lines.iter().all(|line| line["level"] != "ERROR"), "{lines:#?}");
        let lost = lines.iter().filter(|line| line["message"] == "broker connection lost");
        let mut of: Vec<String> = lost.map(|line| format!("{} {}", line["role"], line["channel"])).collect();
        assert!(!of.is_empty(), "{lines:#?}");
        let all = of.len();
        of.sort_unstable();
        of.dedup();
        assert_eq!(of.len(), all, "one line for each connection: {lines:#?}");
    })
    .await;
}
