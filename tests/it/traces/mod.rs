//! Traces of the real binary, as a collector gets them.

pub mod collector;
mod context;
mod whole;

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::contract::broker::rabbit::RabbitWorld;
use crate::contract::broker::{Message, Reader, patiently};
use crate::inspect::otpost;
use crate::logs::Running;
use crate::real::Redis;

const NUMBER: &str = "+573001234567";
const CLIENT_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT_SPAN: &str = "00f067aa0ba902b7";

/// A free port, for a moment.
fn address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").to_string()
}

/// A process that serves HTTP, and its base URL.
pub async fn serving(
    command: &str,
    world: &RabbitWorld,
    redis: &Redis,
    more: &[(&str, &str)],
) -> (Running, String) {
    let http = address();
    let more = [&[("HTTP_ADDR", http.as_str())], more].concat();
    let mut process = Running::with_servers(command, world, redis, &more);
    process.says("started").await;
    (process, format!("http://{http}"))
}

pub fn token() -> String {
    let made = otpost(&[("ENVIRONMENT", "development")], &["token", "--scope", "otp:send otp:verify"]);
    String::from_utf8(made.stdout).expect("text").trim().to_owned()
}

/// Posts as a back end that has a trace of its own.
pub async fn post(base: &str, path: &str, token: &str, body: &Value) -> (u16, String) {
    let request = reqwest::Client::new()
        .post(format!("{base}{path}"))
        .bearer_auth(token)
        .header("traceparent", format!("00-{CLIENT_TRACE}-{CLIENT_SPAN}-01"))
        .header("tracestate", "vendor=planted")
        .header("content-type", "application/json")
        .body(body.to_string());
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a body"))
}

async fn send(base: &str, token: &str) -> Value {
    let body = json!({"to": NUMBER, "user_name": "Planted"});
    let (status, text) = post(base, "/api/v1/otp/send", token, &body).await;
    assert!(matches!(status, 200 | 202), "{status} {text}");
    serde_json::from_str(&text).expect("JSON")
}

/// The next result with this routing key.
pub async fn result(results: &mut Box<dyn Reader>, routing_key: &str) -> Message {
    patiently(async {
        loop {
            let message = results.next().await;
            if message.routing_key == routing_key {
                return message;
            }
        }
    })
    .await
}
