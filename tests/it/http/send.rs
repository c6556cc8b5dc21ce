//! Requests for a code: the published request, and rejections before publishing.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::HeaderValue;
use otpost::domain::limit_hits::LimitHits;
use otpost::domain::purpose::Purpose;
use otpost::domain::reached_limit::ReachedLimit;
use otpost::domain::request::SendRequest;
use otpost::domain::time_zone::Zone;
use serde_json::{Value, json};

use super::{ALICE, Answer, CODE, SEND_SMS, TestServer, alice, post, token};

#[tokio::test]
async fn a_request_for_a_code_is_published_like_one_of_a_back_end() {
    let server = TestServer::start();
    let answer = server.request_code().await;
    let response = answer.expect(202);
    let request_id = response["request_id"].as_str().expect("an id");
    let expected = json!({
        "request_id": request_id, "status": "queued", "channel": "sms", "to": "+57******4567",
        "resend_after": 30, "code_length": 6,
    });
    assert_eq!(response, expected);
    let queued = server.queued().await;
    assert_eq!(queued.len(), 1);
    let request = decoded(&queued[0]);
    assert_eq!((request.id.as_str(), request.to.as_ref()), (request_id, ALICE));
    assert_eq!(request.purpose, Purpose::default());
    assert_eq!(request.user_id.as_deref(), Some("user-1"));
    assert_eq!(request.user_name.as_deref(), Some("Alicia Ñandú"));
    assert_eq!(
        (request.locale.as_deref(), request.timezone.as_ref().map(Zone::name)),
        (Some("es-CO"), Some("America/Bogota"))
    );
    assert_eq!(request.client_ip.map(|ip| ip.to_string()).as_deref(), Some("192.0.2.1"));
    assert!(request.requested_at.is_some() && request.code.is_none());
}

#[track_caller]
pub(super) fn decoded(body: &[u8]) -> SendRequest<'_> {
    SendRequest::decode(body, None).unwrap_or_else(|refused| panic!("{}", refused.fault))
}

#[tokio::test]
async fn whatever_a_token_claims_the_queued_request_follows_the_contract() {
    let long = "ñ".repeat(201);
    for claims in [
        json!({"name": long, "locale": "not a language", "zoneinfo": "../../etc/passwd"}),
        json!({"name": "", "locale": "", "zoneinfo": ""}),
        json!({"name": "a\u{0}\r\n{{code}}", "locale": "e".repeat(500), "zoneinfo": "x".repeat(500)}),
        json!({"sub": "s".repeat(255), "name": "ñ".repeat(200), "zoneinfo": "America/Argentina/ComodRivadavia"}),
        json!({"sub": "ñ {} \" \\"}),
    ] {
        let server = TestServer::start();
        server.post(SEND_SMS, &token(&claims), &json!({"otp_type": "SMS"})).await.expect(202);
        decoded(&server.queued().await[0]);
    }
}

#[tokio::test]
async fn a_request_over_a_limit_is_refused_at_once_and_not_queued() {
    let server = TestServer::start();
    server.send_code("r1", CODE).await;
    let answer = server.request_code().await;
    assert_eq!(answer.expect_problem(429, "cooldown")["retry_after"], 30);
    for round in 1..5 {
        server.pass(Duration::from_secs(60) * round);
        server.send_code(&format!("again-{round}"), CODE).await;
    }
    server.pass(Duration::from_secs(400));
    let answer = server.request_code().await;
    assert_eq!(answer.expect_problem(429, "rate_limited")["retry_after"], 3_200);
    answer.expect_nothing_of(&["300123", CODE, "user-1"]);
    assert!(server.queued().await.is_empty());
}

#[tokio::test]
async fn a_refused_request_counts_for_the_status() {
    let mut counter = None;
    let server = TestServer::with(|api| counter = Some(api.limit_counter.clone()));
    server.send_code("r1", CODE).await;
    server.request_code().await.expect_problem(429, "cooldown");
    let hits = counter.expect("it is there").last_hour();
    assert_eq!(hits, LimitHits::of(&[(ReachedLimit::Cooldown, 1)]));
}

#[tokio::test]
async fn a_number_that_the_rules_exclude_is_refused() {
    #[track_caller]
    fn check(server: &TestServer, answer: &Answer, code: &str) {
        answer.expect_problem(422, code);
        answer.expect_nothing_of(&["6012345", "2015550", "hello", "Secreto"]);
        assert_eq!(server.broker.waiting(), 0);
    }
    let ask = async |server: &TestServer, number: Value| {
        let token = token(&json!({ "phone_number": number }));
        server.post(SEND_SMS, &token, &json!({"otp_type": "SMS"})).await
    };
    let server = TestServer::start();
    for (number, code) in [
        (json!("+576012345678"), "landline"),
        (json!("+12015550123"), "country_not_allowed"),
        (json!("hello Secreto"), "invalid_recipient"),
        (json!(""), "invalid_recipient"),
        (Value::Null, "invalid_recipient"),
    ] {
        check(&server, &ask(&server, number).await, code);
    }
    let off = TestServer::with(|api| api.rules.sms_enabled = false);
    check(&off, &ask(&off, json!(ALICE)).await, "channel_disabled");
}

#[tokio::test]
async fn an_idempotency_key_names_one_request_of_one_user() {
    let server = TestServer::start();
    let ask = async |sub: &str, key: &str| {
        let mut request = post(SEND_SMS, &token(&json!({ "sub": sub })), r#"{"otp_type":"SMS"}"#);
        request.headers_mut().insert("idempotency-key", key.parse().expect("a header value"));
        server.ask(request).await.expect(202)["request_id"].clone()
    };
    let first = ask("user-1", "order-77").await;
    let mut ids = BTreeSet::from([first.to_string()]);
    // Another key, another user, or the same characters split differently name another request.
    for (sub, key) in
        [("user-1", "order-78"), ("user-2", "order-77"), ("user-1o", "rder-77"), ("user-1:o", "rder-77")]
    {
        assert!(ids.insert(ask(sub, key).await.to_string()), "{sub} {key}");
    }
    assert!(!first.to_string().contains("order") && !first.to_string().contains("user"));
    assert_eq!(server.queued().await.len(), 5);
    server.send_code(first.as_str().expect("an id"), CODE).await;
    assert_eq!(ask("user-1", "order-77").await, first, "a repeat is not refused by a cooldown");
}

#[tokio::test]
async fn an_idempotency_key_is_no_way_around_a_limit() {
    let server = TestServer::start();
    server.send_code("r1", CODE).await;
    let mut request = post(SEND_SMS, &alice(), r#"{"otp_type":"SMS"}"#);
    request.headers_mut().insert("idempotency-key", "another".parse().expect("a header value"));
    server.ask(request).await.expect_problem(429, "cooldown");
}

#[tokio::test]
async fn without_an_idempotency_key_every_request_is_another_one() {
    let server = TestServer::start();
    let (first, second) = (server.request_code().await.expect(202), server.request_code().await.expect(202));
    assert_ne!(first["request_id"], second["request_id"]);
}

#[tokio::test]
async fn an_idempotency_key_that_breaks_its_rule_is_refused() {
    let server = TestServer::start();
    for key in [Vec::new(), vec![b'k'; 256], "Secreto-ñ".as_bytes().to_vec(), b"Secreto one".to_vec()] {
        let mut request = post(SEND_SMS, &alice(), r#"{"otp_type":"SMS"}"#);
        let value = HeaderValue::from_bytes(&key).expect("a header value");
        request.headers_mut().insert("idempotency-key", value);
        let answer = server.ask(request).await;
        answer.expect_problem(400, "invalid_request");
        answer.expect_nothing_of(&["Secreto", "kkk"]);
    }
    assert!(server.queued().await.is_empty());
}

#[tokio::test]
async fn a_request_that_could_not_be_queued_may_be_repeated() {
    let server = TestServer::start();
    server.broker.fail_next_publishes(1);
    let answer = server.request_code().await;
    answer.expect_problem(503, "queue_unavailable");
    answer.expect_nothing_of(&["300123", "user-1"]);
    assert!(server.queued().await.is_empty());
    server.request_code().await.expect(202);
    server.broker.delete_request_queue();
    server.request_code().await.expect_problem(503, "queue_unavailable");
}

/// The client address of a request with these `X-Forwarded-For` lines.
async fn client_ip(trusted: &str, peer: &str, forwarded: &[&[u8]]) -> String {
    let server = TestServer::with(|api| {
        api.trusted_proxies = trusted.split(',').filter_map(|net| net.parse().ok()).collect();
    });
    let mut request = post(SEND_SMS, &alice(), r#"{"otp_type":"SMS"}"#);
    for line in forwarded {
        let line = HeaderValue::from_bytes(line).expect("a header value");
        request.headers_mut().append("x-forwarded-for", line);
    }
    server.ask_from(peer, request).await.expect(202);
    let body = &server.queued().await[0];
    decoded(body).client_ip.expect("an address").to_string()
}

const TRUSTED: &str = "10.0.0.0/8,2001:db8::/32";

#[tokio::test]
async fn only_a_trusted_proxy_may_state_the_client_address() {
    for (trusted, peer, forwarded, expected) in [
        ("", "203.0.113.9:1", &["198.51.100.7"] as &[&str], "203.0.113.9"),
        ("", "10.0.0.1:1", &["198.51.100.7"], "10.0.0.1"),
        (TRUSTED, "203.0.113.9:1", &["198.51.100.7"], "203.0.113.9"),
        (TRUSTED, "10.0.0.1:1", &[], "10.0.0.1"),
        (TRUSTED, "10.0.0.1:1", &["198.51.100.7"], "198.51.100.7"),
        (TRUSTED, "10.0.0.1:1", &["1.1.1.1, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        (TRUSTED, "10.0.0.1:1", &["1.1.1.1", "198.51.100.7"], "198.51.100.7"),
        (TRUSTED, "10.0.0.1:1", &["198.51.100.7, nonsense"], "10.0.0.1"),
        (TRUSTED, "10.0.0.1:1", &["ñ"], "10.0.0.1"),
        (TRUSTED, "[2001:db8::1]:1", &["2a00::7"], "2a00::7"),
        (TRUSTED, "[::ffff:10.0.0.1]:1", &["::ffff:198.51.100.7"], "198.51.100.7"),
        ("::ffff:10.0.0.0/104", "10.0.0.1:1", &["198.51.100.7, 10.9.9.9"], "198.51.100.7"),
        ("::ffff:10.0.0.0/104", "[::ffff:10.0.0.1]:1", &["198.51.100.7"], "198.51.100.7"),
        ("::ffff:10.0.0.0/104", "11.0.0.1:1", &["198.51.100.7"], "11.0.0.1"),
        ("::/0", "10.0.0.1:1", &["198.51.100.7"], "198.51.100.7"),
        ("::/0", "[::ffff:10.0.0.1]:1", &["198.51.100.7"], "198.51.100.7"),
        ("::/0", "[2001:db8::1]:1", &["2a00::7"], "2a00::7"),
        ("0.0.0.0/0", "[::ffff:10.0.0.1]:1", &["198.51.100.7"], "198.51.100.7"),
        ("0.0.0.0/0", "[2001:db8::1]:1", &["198.51.100.7"], "2001:db8::1"),
    ] {
        let lines: Vec<&[u8]> = forwarded.iter().map(|line| line.as_bytes()).collect();
        let got = client_ip(trusted, peer, &lines).await;
        assert_eq!(got, expected, "{trusted} {peer} {forwarded:?}");
    }
}

#[tokio::test]
async fn a_forwarded_hop_may_have_a_port_brackets_quotes_and_a_zone() {
    for (hop, expected) in [
        ("198.51.100.7:50000", "198.51.100.7"),
        ("198.51.100.7:_hidden", "198.51.100.7"),
        ("\"198.51.100.7\"", "198.51.100.7"),
        ("\"198.51.100.7:443\"", "198.51.100.7"),
        ("[2a00::7]", "2a00::7"),
        ("[2a00::7]:443", "2a00::7"),
        ("\"[2a00::7]:443\"", "2a00::7"),
        ("\"2a00::7\"", "2a00::7"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:443", "fe80::1"),
        ("[::ffff:198.51.100.7]:1", "198.51.100.7"),
        ("\t 198.51.100.7 \t", "198.51.100.7"),
        // Empty elements of a list do not count (RFC 9110 §5.6.1).
        ("198.51.100.7,, ,\t,", "198.51.100.7"),
        ("198.51.100.7:1, 10.0.0.2:80, [2001:db8::2%eth1]:443", "198.51.100.7"),
    ] {
        let got = client_ip(TRUSTED, "10.0.0.1:1", &[b"6.6.6.6", hop.as_bytes()]).await;
        assert_eq!(got, expected, "{hop}");
    }
}

#[tokio::test]
async fn an_unreadable_forwarded_hop_ends_the_walk_at_the_nearest_trusted_address() {
    let (many, long) = (["10.0.0.2"; 2_000].join(","), "1".repeat(20_000));
    for hop in [
        "unknown",
        "_hidden",
        "198.51.100",
        "198.51.100.007",
        "0198.51.100.7",
        "198.51.100.7:",
        "198.51.100.7:65536",
        "198.51.100.7:+1",
        "198.51.100.7:1:1",
        "198.51.100.7%eth0",
        "198.51.100.7/32",
        "[198.51.100.7]",
        "[2a00::7",
        "2a00::7]",
        "[2a00::7]443",
        "[2a00::7]:",
        "[2a00::7]:x",
        "[2a00::7%]",
        "[2a00::7%a b]",
        "\"198.51.100.7",
        "198.51.100.7\"",
        "\"\"198.51.100.7\"\"",
        "for=198.51.100.7",
        "198.51.100.7 198.51.100.8",
        "\"",
        "\"\"",
        "[]",
        "%",
        ":1",
        &long,
    ] {
        let line = format!("6.6.6.6, {hop}, 10.0.0.3");
        let got = client_ip(TRUSTED, "10.0.0.1:1", &[b"6.6.6.6", line.as_bytes()]).await;
        assert_eq!(got, "10.0.0.3", "{hop}");
    }
    // A line with any byte counts, whatever the lines around it are.
    for odd in [b"198.51.100.7\xff" as &[u8], b"\xff", b"6.6.6.6, \xc3\xb1", b"198.51.100.7\xa0"] {
        let got = client_ip(TRUSTED, "10.0.0.1:1", &[b"6.6.6.6", odd, b"10.0.0.3, 10.0.0.4"]).await;
        assert_eq!(got, "10.0.0.3", "{odd:?}");
        assert_eq!(client_ip(TRUSTED, "10.0.0.1:1", &[b"6.6.6.6", odd]).await, "10.0.0.1", "{odd:?}");
    }
    // The number of hops that are read is bounded.
    let got = client_ip(TRUSTED, "10.0.0.1:1", &[format!("6.6.6.6,{many}").as_bytes()]).await;
    assert_eq!(got, "10.0.0.2");
    let lines = vec![b"10.0.0.2" as &[u8]; 90];
    let lines = [vec![b"6.6.6.6" as &[u8]], lines].concat();
    assert_eq!(client_ip(TRUSTED, "10.0.0.1:1", &lines).await, "10.0.0.2");
}

#[tokio::test]
async fn an_unreadable_forwarded_hop_is_counted() {
    let counted = || {
        let rendered = otpost::telemetry::metrics::render();
        let line = rendered.lines().find(|line| line.starts_with("otpost_http_forwarded_unreadable_total "));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let before = counted();
    client_ip(TRUSTED, "10.0.0.1:1", &[b"unknown"]).await;
    assert!(counted() > before);
}
