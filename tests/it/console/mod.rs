//! The operators' console: its page, and the endpoints that only it has.

mod acts;
mod audit_list;
mod dead_letters;
mod forget;
mod page;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Request, header};
use otpost::broker::{DeadLetterQueue, DeadLetters, DeadLettersError, Names};
use otpost::clock::Clock;
use otpost::domain::outcome::{ErrorCode, Status};
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::domain::send_failure::Scope;
use otpost::domain::traffic::{DurationCounts, OutcomeCounts, Traffic};
use otpost::domain::worker_state::{Rate, WorkerState};
use otpost::flow::operate::dead_letters::desk::DeadLetterDesk;
use otpost::flow::operate::dead_letters::replayer::{Cooldowns, Replayer};
use otpost::http::Console;
use otpost::store::Store as _;
use serde_json::{Value, json};

use crate::contract::broker::dead_letters::KEY;
use crate::harness::{ALICE, BOB, Embedded, Options};
use crate::http::{Answer, TestServer, post, service, token};
use crate::promises::secrets::{captured_log, start_capturing};
use crate::scripted::refused;

/// Each endpoint with a body that it takes, if any.
const ENDPOINTS: [(&str, &str, &str); 15] = [
    ("GET", "/api/v1/ops/overview", ""),
    ("POST", "/api/v1/ops/kill-switch/on", r#"{"reason":"a test"}"#),
    ("POST", "/api/v1/ops/kill-switch/off", "{}"),
    ("GET", "/api/v1/ops/suppressions", ""),
    ("POST", "/api/v1/ops/suppressions", r#"{"to":"+573001234567"}"#),
    ("POST", "/api/v1/ops/suppressions/remove", r#"{"to":"+573001234567"}"#),
    ("GET", "/api/v1/ops/forget", ""),
    ("POST", "/api/v1/ops/forget", r#"{"to":"+573001234567","reason":"a test"}"#),
    ("GET", "/api/v1/ops/audit", ""),
    ("POST", "/api/v1/ops/defence/explain", r#"{"to":"+573001234567"}"#),
    (
        "POST",
        "/api/v1/ops/defence/overrides",
        r#"{"target":"LV","action":"deny","for":"1h","reason":"a test"}"#,
    ),
    ("POST", "/api/v1/ops/defence/overrides/remove", r#"{"target":"LV"}"#),
    ("GET", "/api/v1/ops/dead-letters", ""),
    ("POST", "/api/v1/ops/dead-letters/replay", r#"{"ids":["0123456789ab"],"dry_run":true}"#),
    ("POST", "/api/v1/ops/dead-letters/drop", r#"{"ids":["0123456789ab"],"dry_run":true}"#),
];

/// A broker that is down.
pub struct NoQueue;

#[async_trait]
impl DeadLetterQueue for NoQueue {
    async fn open(&self) -> Result<Box<dyn DeadLetters>, DeadLettersError> {
        Err(DeadLettersError("RabbitMQ cannot be reached".to_owned()))
    }
}

/// The console over these dead letters.
pub fn console(queue: Arc<dyn DeadLetterQueue>) -> Console {
    console_with(queue, None)
}

pub fn console_with(queue: Arc<dyn DeadLetterQueue>, cooldowns: Option<Cooldowns>) -> Console {
    Console::new(DeadLetterDesk::new(queue, replayer(cooldowns)), None, 100)
}

fn replayer(cooldowns: Option<Cooldowns>) -> Replayer {
    Replayer {
        cooldowns,
        names: Names::new("otpost"),
        recipients: Some(Arc::new(RecipientKeyring::new(&KEY))),
        code_life: Duration::from_secs(600),
        clock: Clock::System,
    }
}

async fn ask(
    server: &TestServer,
    endpoint: (&str, &str, &str),
    token: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let (method, path, body) = endpoint;
    let mut request = match method {
        "GET" => get(path, token),
        _ => post(path, token, body.to_owned()),
    };
    for (name, value) in headers {
        let name: header::HeaderName = name.parse().expect("a name");
        request.headers_mut().append(name, value.parse().expect("a value"));
    }
    server.ask(request).await
}

fn get(path: &str, token: &str) -> Request<Body> {
    let request = Request::get(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
    request.body(Body::empty()).expect("a request")
}

/// The lines of the audit log.
fn audit(log: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    lines.filter(|line| line["fields"]["audit"] == true).map(|line| line["fields"].clone()).collect()
}

#[tokio::test]
async fn without_the_console_none_of_its_paths_exists() {
    let server = TestServer::with(|api| api.console = None);
    for endpoint in ENDPOINTS {
        ask(&server, endpoint, &service(), &[]).await.expect_problem(404, "not_found");
    }
    for path in ["/console", "/console/", "/console/console.js"] {
        server.ask(get(path, &service())).await.expect_problem(404, "not_found");
    }
}

#[tokio::test]
async fn every_endpoint_needs_a_token_with_the_scope_of_operators() {
    let server = TestServer::start();
    let (sender, expired) =
        (token(&json!({"scope": "otp:send otp:verify"})), token(&json!({"exp": 1, "scope": "otp:admin"})));
    for endpoint in ENDPOINTS {
        let (method, path, body) = endpoint;
        let request =
            Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        let answer = server.ask(request.body(Body::from(body)).expect("a request")).await;
        answer.expect_problem(401, "unauthenticated");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        ask(&server, endpoint, &expired, &[]).await.expect_problem(401, "invalid_token");
        ask(&server, endpoint, &sender, &[]).await.expect_problem(403, "insufficient_scope");
        let request =
            Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        let request = request.header(header::COOKIE, format!("token={}", service())).body(Body::from(body));
        server.ask(request.expect("a request")).await.expect_problem(401, "unauthenticated");
    }
    assert!(server.store.kill_switch().await.expect("answers").is_none(), "nothing was done");
}

#[tokio::test]
async fn no_page_of_another_site_may_call() {
    let server = TestServer::start();
    let host = ("host", "otp.example.co:8443");
    for endpoint in ENDPOINTS {
        for foreign in [
            &[host, ("origin", "https://evil.example")][..],
            &[host, ("origin", "https://otp.example.co")],
            &[host, ("origin", "https://otp.example.co:8443.evil.example")],
            &[host, ("origin", "null")],
            &[host, ("origin", "file://otp.example.co:8443")],
            &[host, ("sec-fetch-site", "cross-site")],
            &[host, ("sec-fetch-site", "same-site")],
            &[host, ("origin", "https://otp.example.co:8443"), ("sec-fetch-site", "cross-site")],
            &[host, ("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")],
            &[("origin", "https://otp.example.co:8443")],
        ] {
            ask(&server, endpoint, &service(), foreign).await.expect_problem(403, "foreign_origin");
        }
    }
    assert!(server.store.kill_switch().await.expect("answers").is_none(), "nothing was done");
    for own in [
        &[host, ("origin", "https://otp.example.co:8443"), ("sec-fetch-site", "same-origin")][..],
        &[host, ("origin", "http://otp.example.co:8443")],
        &[host, ("sec-fetch-site", "none")],
        &[],
    ] {
        let answer = ask(&server, ENDPOINTS[0], &service(), own).await;
        answer.expect(200);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test]
async fn the_overview_adds_up_the_traffic_of_the_workers_that_run() {
    let server = TestServer::start();
    let (fast, slow) = (Duration::from_millis(60), Duration::from_millis(700));
    let state = |rate, sent, durations: &[Duration]| WorkerState {
        ended: Rate::per_second(rate),
        traffic: Traffic {
            ended: OutcomeCounts::of(&[
                (Status::Sent, None, sent),
                (Status::Failed, Some(ErrorCode::ProviderRejected), 1),
            ]),
            handled: DurationCounts::of(durations),
            provider: DurationCounts::of(&durations[..1]),
        },
        ..WorkerState::default()
    };
    let report =
        async |id, state: &WorkerState| server.store.report_worker(id, Some(state)).await.expect("answers");
    report(3, &state(50.0, 900, &[slow])).await;
    server.pass(Duration::from_secs(11));
    report(1, &state(1.5, 30, &[fast; 19])).await;
    report(2, &state(2.0, 12, &[slow])).await;
    let row = ask(&server, ENDPOINTS[0], &service(), &[]).await.expect(200);
    assert_eq!(
        row["traffic"],
        json!([
            {"channel": "sms", "rate": 3.5,
             "ended": [{"status": "sent", "count": 42}, {"status": "failed", "reason": "provider_rejected", "count": 2}],
             "handled": {"count": 20, "p50_ms": 76, "p95_ms": 100}, "provider": {"count": 2, "p50_ms": 100, "p95_ms": 950}},
            {"channel": "email", "rate": 0.0, "ended": [], "handled": {"count": 0}, "provider": {"count": 0}},
        ])
    );
    let status = server.ask(get("/api/v1/sms/status", &service())).await.expect(200);
    assert_eq!(status["traffic"], row["traffic"], "the same status as for everyone else");
}

#[tokio::test(start_paused = true)]
async fn a_worker_reports_how_its_requests_ended_and_how_long_they_took() {
    let mut gateway = Embedded::with(Options { maintained: true, ..Options::default() });
    gateway.world.provider.fail_next([refused(Scope::Recipient, 21_614)]);
    gateway.request("r1", ALICE).await.expect("failed", Some("provider_rejected"));
    gateway.request("r2", BOB).await.expect_sent();
    gateway.request("r2", BOB).await.expect_replayed(true);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let reported = gateway.world.store.reported_workers().await.expect("answers");
    let traffic = &reported.first().expect("a report").state.traffic;
    let ended =
        OutcomeCounts::of(&[(Status::Failed, Some(ErrorCode::ProviderRejected), 1), (Status::Sent, None, 1)]);
    assert_eq!(traffic.ended, ended, "a replay is no new end");
    assert_eq!((traffic.handled.total(), traffic.provider.total()), (2, 2));
    tokio::time::sleep(Duration::from_secs(75)).await;
    let reported = gateway.world.store.reported_workers().await.expect("answers");
    let traffic = &reported.first().expect("a report").state.traffic;
    assert_eq!((&traffic.ended, traffic.handled.total()), (&ended, 0));
}

#[tokio::test]
async fn a_repeated_reading_of_the_overview_is_one_audit_line_for_each_token_and_client_address() {
    let server = TestServer::with(|api| api.trusted_proxies = vec!["192.0.2.0/24".parse().expect("a net")]);
    start_capturing();
    let ana = token(&json!({"sub": "ana", "jti": "t-1", "scope": "otp:admin"}));
    let again = token(&json!({"sub": "ana", "jti": "t-2\n", "scope": "otp:admin"}));
    let (office, elsewhere) = ("198.51.100.1", "203.0.113.9");
    for (token, client) in [
        (&ana, office),
        (&ana, office),
        (&again, office),
        (&ana, elsewhere),
        (&ana, office),
        (&ana, elsewhere),
    ] {
        ask(&server, ENDPOINTS[0], token, &[("x-forwarded-for", client)]).await.expect(200);
    }
    let log = captured_log();
    let lines: Vec<Value> =
        audit(&log).iter().map(|line| json!([line["sub"], line["jti"], line["client_ip"]])).collect();
    let logged =
        [["ana", "t-1", office], ["ana", "t-2?", office], ["ana", "t-1", elsewhere]].map(|line| json!(line));
    assert_eq!(lines, logged, "{log}");
}

#[tokio::test]
async fn the_paths_of_the_console_add_no_series_of_http() {
    let server = TestServer::start();
    let count = || {
        let metrics = otpost::telemetry::metrics::render();
        let of_none = "otpost_http_requests_total{route=\"(none)\",status=\"401\"} ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(of_none));
        line.map_or(0, |count| count.parse::<u64>().expect("a count"))
    };
    let before = count();
    for endpoint in ENDPOINTS {
        ask(&server, endpoint, "none", &[]).await.expect_problem(401, "invalid_token");
    }
    server.ask_unchecked(get("/console/api.js", "none")).await;
    assert!(count() >= before + ENDPOINTS.len() as u64);
    let metrics = otpost::telemetry::metrics::render();
    assert!(!metrics.contains("/api/v1/ops") && !metrics.contains("/console"), "{metrics}");
}
