//! One request from HTTP to the receipt and the check of its code.

use serde_json::json;

use super::collector::{Collector, Span, resource};
use super::{CLIENT_SPAN, CLIENT_TRACE, NUMBER, post, result, send, serving, token};
use crate::contract::broker::World as _;
use crate::contract::broker::rabbit::{RabbitWorld, in_world};
use crate::fake_http::Recorded;
use crate::fake_twilio::{ACCOUNT_SID, AUTH_TOKEN, FakeTwilio, signature};
use crate::logs::Running;
use crate::real::Redis;

const CALLBACK: &str = "https://otp.example.co/webhooks/twilio/status";

/// The message that Twilio got: its callback URL, its SID, and the code in its text.
fn message(twilio: &FakeTwilio) -> (String, String, String) {
    let sent = twilio.requests().into_iter().find(|request| request.method == "POST").expect("a message");
    let text = sent.field("Body").expect("a text");
    let is_code = |word: &&str| word.len() == 6 && word.bytes().all(|byte| byte.is_ascii_digit());
    let code = text.split(|char: char| !char.is_ascii_digit()).find(is_code).expect("a code");
    let url = sent.field("StatusCallback").expect("a URL");
    (url.to_owned(), twilio.sids().remove(0), code.to_owned())
}

async fn report_delivered(base: &str, url: &str, sid: &str) -> String {
    let fields =
        [("AccountSid", ACCOUNT_SID), ("MessageSid", sid), ("MessageStatus", "delivered"), ("To", NUMBER)];
    let signature = signature(AUTH_TOKEN, url, &fields);
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
    let (_, query) = url.split_once('?').expect("a query");
    let answer = reqwest::Client::new()
        .post(format!("{base}/webhooks/twilio/status?{query}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-twilio-signature", &signature)
        .body(body)
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status().as_u16(), 204);
    signature
}

/// The steps of the worker are children of its span, in order.
fn expect_steps(collector: &Collector, process: &Span, results: &str) {
    let mut steps = collector.children(process);
    // Its events come later, linked with the calls that caused them.
    steps.retain(|step| step.links.is_empty());
    steps.sort_by_key(|span| span.times);
    let names: Vec<(&str, u64)> = steps.iter().map(|span| (span.name.as_str(), span.kind)).collect();
    let (_, source) = process.name.split_once(' ').expect("two words");
    let (publish, ack) = (format!("publish {results}:sms.sent"), format!("ack {source}"));
    assert_eq!(
        names,
        [("FCALL admit", 3), ("POST", 3), ("FCALL complete", 3), (&publish, 4), (&ack, 3)],
        "{steps:#?}"
    );
    steps[0].expect(&[("db.system.name", "redis"), ("db.stored_procedure.name", "admit")]);
    steps[1].expect(&[("http.response.status_code", "201"), ("server.address", "127.0.0.1")]);
    assert_eq!(steps[1].attributes.get("http.request.resend_count"), None);
    steps[4].expect(&[("messaging.operation.type", "settle")]);
    assert!(steps.iter().all(|step| !step.is_failed), "{steps:#?}");
}

fn expect_export(export: &Recorded, secrets: &[&str]) {
    assert_eq!((export.method.as_str(), export.path.as_str()), ("POST", "/v1/traces"));
    assert_eq!(export.headers["content-type"], "application/x-protobuf");
    assert_eq!(export.headers["authorization"], "Bearer planted-secret");
    let resource = resource(&export.body);
    assert_eq!(resource["service.name"], "otpost");
    assert_eq!(resource["deployment.environment.name"], "test");
    let text = String::from_utf8_lossy(&export.body);
    let traps = ["url.", "client.address", "db.query", "message.body", "exception"];
    for word in secrets.iter().chain(&traps) {
        assert!(!text.contains(word), "{word} in {text}");
    }
}

struct Scene {
    collector: Collector,
    twilio: FakeTwilio,
    worker: Running,
    _http: Running,
    base: String,
    redis: Redis,
}

impl Scene {
    async fn start(world: &RabbitWorld) -> Scene {
        let (collector, twilio, redis) = (Collector::start(), FakeTwilio::start(), Redis::fresh());
        let (endpoint, api) = (collector.base_url(), twilio.base_url());
        let settings = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20planted-secret"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
            ("OTEL_TRACES_SAMPLER", "always_on"),
            ("TWILIO_ACCOUNT_SID", ACCOUNT_SID),
            ("TWILIO_AUTH_TOKEN", AUTH_TOKEN),
            ("TWILIO_FROM_NUMBER", "+15005550006"),
            ("TWILIO_API_BASE_URL", &api),
            ("TWILIO_STATUS_CALLBACK_URL", CALLBACK),
        ];
        let mut worker = Running::with_servers("worker", world, &redis, &settings);
        let (http, base) = serving("http", world, &redis, &settings).await;
        worker.says("started").await;
        Scene { collector, twilio, worker, _http: http, base, redis }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_is_one_linked_trace_from_http_to_the_receipt_and_no_span_holds_a_secret() {
    in_world(async |world: &RabbitWorld| {
        let mut scene = Scene::start(world).await;
        let mut results = world.results().await;
        let token = token();
        let answer = send(&scene.base, &token).await;
        let request_id = answer["request_id"].as_str().expect("an id");
        let line = scene.worker.says("request completed").await;
        let sent = result(&mut results, "sms.sent").await;
        let (url, sid, code) = message(&scene.twilio);
        let check = json!({"to": NUMBER, "otp_code": code});
        let checked = post(&scene.base, "/api/v1/otp/verify", &token, &check).await;
        assert_eq!(checked.0, 200, "{}", checked.1);
        let verified = result(&mut results, "sms.verified").await;
        let signature = report_delivered(&scene.base, &url, &sid).await;
        let delivered = result(&mut results, "sms.delivered").await;

        let collector = &mut scene.collector;
        let (requests, exchange) = (world.names.requests(), world.names.results());
        let server = collector.span("POST ", "/otp/send").await;
        assert_eq!((server.trace_id.as_str(), server.parent_id.as_str()), (CLIENT_TRACE, CLIENT_SPAN));
        server.expect(&[("http.route", "/api/v1/otp/send"), ("http.request.method", "POST")]);
        let publish = collector.span("publish ", ":send-sms").await;
        assert_eq!(publish.name, format!("publish {requests}:send-sms"));
        assert_eq!((&publish.trace_id, &publish.parent_id), (&server.trace_id, &server.span_id));
        publish.expect(&[("messaging.message.id", request_id), ("messaging.system", "rabbitmq")]);

        let process = collector.span("process ", ".send-sms").await;
        assert_eq!((process.links.as_slice(), process.parent_id.as_str()), (&[publish.id()][..], ""));
        process.expect(&[
            ("messaging.message.conversation_id", request_id),
            ("messaging.rabbitmq.destination.routing_key", "send-sms"),
            ("otpost.request.status", "sent"),
        ]);
        assert_eq!(line["trace_id"], process.trace_id.as_str(), "{line}");
        collector.span("ack ", ".send-sms").await;
        expect_steps(collector, &process, &exchange);

        for (published, end, by) in [
            (&delivered, ":sms.delivered", "/webhooks/twilio/status"),
            (&verified, ":sms.verified", "/otp/verify"),
        ] {
            let by = collector.span("POST ", by).await;
            let event = collector.span("publish ", end).await;
            assert_eq!((&event.trace_id, &event.parent_id), (&process.trace_id, &process.span_id));
            assert_eq!((&event.links, &by.links), (&vec![by.id()], &vec![process.id()]));
            assert_eq!(published.traceparent(), Some(event.traceparent().as_str()));
        }
        let publish = collector.span("publish ", ":sms.sent").await;
        assert_eq!(sent.traceparent(), Some(publish.traceparent().as_str()));

        let number = NUMBER.trim_start_matches('+');
        let secrets = [number, &number[2..], &code, &token, AUTH_TOKEN, &signature, "lanted", &sid];
        collector.requests().iter().for_each(|export| expect_export(export, &secrets));
        drop(scene.redis);
    })
    .await;
}
