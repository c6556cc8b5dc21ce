//! The log says which check refused a token, where and for which network, and nothing of the token.

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};

use super::*;
use crate::promises::secrets::{captured_log, start_capturing};

const CLIENT: &str = "198.51.100.77";

fn server() -> TestServer {
    TestServer::with(|api| api.trusted_proxies = vec!["0.0.0.0/0".parse().expect("a network")])
}

async fn refuse(server: &TestServer, path: &str, token: &str) -> Vec<Value> {
    start_capturing();
    let request = Request::post(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header("x-forwarded-for", CLIENT)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(r#"{"to":"+573001234567","otp_code":"482913"}"#))
        .expect("a request");
    let answer = server.ask(request).await;
    assert!(matches!(answer.status, 401 | 403), "{}", answer.text);
    let log = captured_log();
    for secret in [token, CLIENT, "482913", "300123", ISSUER, AUDIENCE] {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    lines.map(|line| line["fields"].clone()).filter(|fields| fields["message"] == "token refused").collect()
}

#[tokio::test]
async fn a_refused_token_is_logged_with_the_check_that_failed_the_route_and_the_network() {
    let (server, now) = (server(), Clock::System.now().as_seconds());
    let other = EncodingKey::from_secret(b"another secret of more than thirty-two bytes");
    let good = alice();
    for (reason, path, token) in [
        ("expired", VERIFY_PHONE, token(&json!({"exp": now - 60}))),
        ("not_yet_valid", VERIFY_PHONE, token(&json!({"nbf": now + 60}))),
        ("audience", VERIFY_PHONE, token(&json!({"aud": "other"}))),
        ("audience", VERIFY_PHONE, token(&json!({"aud": null}))),
        ("issuer", VERIFY_PHONE, token(&json!({"iss": "https://other.example"}))),
        ("signature", VERIFY_PHONE, signed(Algorithm::HS256, &other, &claims(&json!({})))),
        ("claims", VERIFY_PHONE, token(&json!({"exp": "never"}))),
        ("claims", VERIFY_PHONE, token(&json!({"sub": null}))),
        ("malformed", VERIFY_PHONE, good[..good.len() / 2].replace('.', "")),
        ("scope", VERIFY_SERVICE, good.clone()),
    ] {
        let lines = refuse(&server, path, &token).await;
        let expected = json!({
            "message": "token refused", "reason": reason, "route": path, "client_network": "198.51.100.0/24",
        });
        assert_eq!(lines, [expected]);
        let counted = format!("otpost_tokens_refused_total{{reason=\"{reason}\"}} ");
        let metrics = otpost::telemetry::metrics::render();
        let line = metrics.lines().find(|line| line.starts_with(&counted)).expect("it is counted");
        assert!(!line.ends_with(" 0"), "{line}");
    }
}

#[test]
fn each_reason_is_counted_from_the_start() {
    let metrics = otpost::telemetry::metrics::render();
    for refusal in otpost::telemetry::TokenRefusal::ALL {
        let series = format!("otpost_tokens_refused_total{{reason=\"{}\"}} ", refusal.as_str());
        assert!(metrics.contains(&series), "{series}");
    }
}
