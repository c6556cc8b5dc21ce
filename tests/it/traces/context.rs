//! The trace context of messages, the decision to record, and a collector that does not answer.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use otpost::broker::Properties;
use serde_json::json;

use super::collector::Collector;
use super::{CLIENT_SPAN, CLIENT_TRACE, NUMBER, address, post, result, send, serving, token};
use crate::contract::broker::World as _;
use crate::contract::broker::rabbit::{RabbitWorld, in_world};
use crate::logs::Running;
use crate::real::Redis;

/// A request whose publisher has a trace.
async fn publish(world: &RabbitWorld, id: &str, to: &str, trace: &str, flags: &str) {
    let properties = Properties {
        traceparent: Some(format!("00-{trace}-{CLIENT_SPAN}-{flags}")),
        tracestate: Some("vendor=a".to_owned()),
        ..Properties::default()
    };
    world.send(&json!({"request_id": id, "to": to}).to_string(), properties).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_tracing_all_results_of_a_request_over_http_have_its_trace() {
    in_world(async |world: &RabbitWorld| {
        let redis = Redis::fresh();
        let (mut process, base) = serving("serve", world, &redis, &[]).await;
        let mut results = world.results().await;
        send(&base, &token()).await;
        assert_eq!(process.says("request completed").await.get("trace_id"), None);
        for routing_key in ["sms.sent", "sms.delivered"] {
            let message = result(&mut results, routing_key).await;
            // A client does not decide about the recording of others.
            let expected = format!("00-{CLIENT_TRACE}-{CLIENT_SPAN}-00");
            assert_eq!(message.traceparent(), Some(expected.as_str()), "{routing_key}");
            assert_eq!(message.tracestate(), None, "{routing_key}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publishers_trace_goes_on_where_it_is_the_parent_and_its_decision_holds() {
    in_world(async |world: &RabbitWorld| {
        let (mut collector, redis) = (Collector::start(), Redis::fresh());
        let endpoint = collector.base_url();
        let settings = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_TRACES_SAMPLER_ARG", "0"),
            ("OTEL_SERVICE_NAME", "codes"),
            ("TRACES_PUBLISHER", "parent"),
        ];
        let mut worker = Running::with_servers("worker", world, &redis, &settings);
        worker.says("started").await;
        let mut results = world.results().await;
        let unrecorded = CLIENT_TRACE.replace('4', "5");
        publish(world, "unrecorded", "+573001234501", &unrecorded, "00").await;
        let message = result(&mut results, "sms.sent").await;
        let traceparent = message.traceparent().expect("a trace");
        assert!(traceparent.starts_with(&format!("00-{unrecorded}-")), "{traceparent}");
        assert!(traceparent.ends_with("-00"), "{traceparent}");

        publish(world, "recorded", NUMBER, CLIENT_TRACE, "01").await;
        let message = result(&mut results, "sms.sent").await;
        assert_eq!(message.tracestate(), Some("vendor=a"));
        // The spans of the last second are exported before the process ends.
        worker.terminate();
        let process = collector.span("process ", ".send-sms").await;
        assert_eq!((process.trace_id.as_str(), process.parent_id.as_str()), (CLIENT_TRACE, CLIENT_SPAN));
        assert_eq!((process.state.as_str(), process.links.as_slice()), ("vendor=a", &[][..]));
        process.expect(&[("messaging.message.conversation_id", "recorded")]);
        let publish = collector.span("publish ", ":sms.sent").await;
        assert_eq!(message.traceparent(), Some(publish.traceparent().as_str()));
        assert!(collector.spans.iter().all(|span| span.trace_id == CLIENT_TRACE), "{:#?}", collector.spans);
        let resource = super::collector::resource(&collector.requests()[0].body);
        assert_eq!(resource["service.name"], "codes");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publishers_trace_is_linked_and_goes_on_in_no_result() {
    in_world(async |world: &RabbitWorld| {
        let (mut collector, redis) = (Collector::start(), Redis::fresh());
        let endpoint = collector.base_url();
        let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
        let mut worker = Running::with_servers("worker", world, &redis, &settings);
        worker.says("started").await;
        let mut results = world.results().await;
        publish(world, "linked", NUMBER, CLIENT_TRACE, "01").await;
        let message = result(&mut results, "sms.sent").await;
        worker.terminate();
        let process = collector.span("process ", ".send-sms").await;
        assert_ne!(process.trace_id, CLIENT_TRACE);
        assert_eq!(process.links, [(CLIENT_TRACE.to_owned(), CLIENT_SPAN.to_owned())]);
        let publish = collector.span("publish ", ":sms.sent").await;
        assert_eq!(publish.trace_id, process.trace_id);
        assert_eq!(message.traceparent(), Some(publish.traceparent().as_str()));
        assert_eq!(message.tracestate(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_have_no_span() {
    in_world(async |world: &RabbitWorld| {
        let (mut collector, redis) = (Collector::start(), Redis::fresh());
        let endpoint = collector.base_url();
        let settings =
            [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_TRACES_SAMPLER", "always_on")];
        let (process, base) = serving("http", world, &redis, &settings).await;
        for path in ["/livez", "/readyz", "/openapi.json", "/nowhere"] {
            reqwest::get(format!("{base}{path}")).await.expect("an answer");
        }
        process.terminate();
        collector.span("GET", "GET").await;
        let names: Vec<&str> = collector.spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["GET"], "the one of a path that is not there");
        let resource = super::collector::resource(&collector.requests()[0].body);
        assert_eq!(resource["service.instance.id"].len(), 32, "{resource:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_over_http_decides_about_no_recording() {
    in_world(async |world: &RabbitWorld| {
        let (mut collector, redis) = (Collector::start(), Redis::fresh());
        let endpoint = collector.base_url();
        let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_TRACES_SAMPLER_ARG", "0")];
        let (process, base) = serving("serve", world, &redis, &settings).await;
        let mut results = world.results().await;
        send(&base, &token()).await;
        let message = result(&mut results, "sms.sent").await;
        assert!(message.traceparent().is_some_and(|it| it.ends_with("-00")), "{:?}", message.traceparent());
        publish(world, "marker", "+573001234502", CLIENT_TRACE, "01").await;
        result(&mut results, "sms.sent").await;
        process.terminate();
        collector.span("process ", ".send-sms").await;
        assert!(collector.spans.iter().all(|span| span.kind != 2), "{:#?}", collector.spans);
    })
    .await;
}

fn metrics(ops: &str) -> String {
    let mut connection = TcpStream::connect(ops).expect("it listens");
    connection.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
    connection
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .expect("it is sent");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_cannot_be_reached_costs_the_spans_and_one_line() {
    in_world(async |world: &RabbitWorld| {
        let (redis, nowhere, ops) = (Redis::fresh(), address(), address());
        let endpoint = format!("http://{nowhere}");
        let settings = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_TRACES_SAMPLER", "always_on"),
            ("OPS_ADDR", &ops),
        ];
        let (mut process, base) = serving("serve", world, &redis, &settings).await;
        let before = metrics(&ops);
        assert!(before.contains("otpost_trace_spans_dropped_total 0"), "{before}");
        for result in ["exported", "refused", "unanswered"] {
            let series = format!("otpost_trace_exports_total{{result=\"{result}\"}} 0");
            assert!(before.contains(&series), "{before}");
        }
        let token = token();
        send(&base, &token).await;
        let line = process.says("trace spans not exported").await;
        assert_eq!((&line["level"], &line["reason"]), (&json!("WARN"), &json!("unanswered")), "{line}");
        assert!(!line.to_string().contains(&nowhere), "{line}");
        let code = json!({"to": NUMBER, "otp_code": "000000"});
        assert_eq!(post(&base, "/api/v1/otp/verify", &token, &code).await.0, 422);
        process.terminate();
        process.says_without("stopped with nothing in flight", "trace spans not exported").await;
    })
    .await;
}
