//! `GET /api/v1/sms/conversion`: for operators only, within bounds.

use axum::body::Body;
use axum::http::{Request, header};
use otpost::clock::Clock;
use otpost::domain::conversion::Dimension;
use otpost::domain::conversion_batch::ConversionBatch;
use otpost::domain::time::UnixMillis;
use otpost::store::Store as _;
use serde_json::json;

use super::{Answer, START, TestServer, alice, service};
use crate::contract::store::conversion::entry;

const PATH: &str = "/api/v1/sms/conversion";

fn server() -> TestServer {
    TestServer::with(|api| {
        api.clock = Clock::Tokio { from: START, started: tokio::time::Instant::now() };
    })
}

async fn ask(server: &TestServer, query: &str, token: Option<&str>) -> Answer {
    let request = Request::get(format!("{PATH}{query}"));
    let request = match token {
        Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
        None => request,
    };
    server.ask(request.body(Body::empty()).expect("a request")).await
}

async fn plant(server: &TestServer) {
    let old = UnixMillis(START.0 - 3_600_000);
    let mut entries = vec![
        entry(old, Dimension::Channel, "sms", 10, 7),
        entry(START, Dimension::Channel, "sms", 3, 1),
        entry(START, Dimension::Channel, "email", 2, 0),
    ];
    entries
        .extend((0..8).map(|block| entry(old, Dimension::Block, &format!("+5730012{block}"), 2 + block, 1)));
    let batch = ConversionBatch { writer: 1, sequence: 1, entries, spend: Vec::new() };
    server.store.add_conversion(&batch).await.expect("answers");
}

#[tokio::test(start_paused = true)]
async fn an_operator_sees_sent_and_verified_codes() {
    let server = server();
    plant(&server).await;
    let body = ask(&server, "", Some(&service())).await.expect(200);
    let expected = json!([
        {"name": "sms", "sent": 13, "verified": 8, "unverified": 3, "pending": 2, "rate": 0.7},
        {"name": "email", "sent": 2, "verified": 0, "unverified": 0, "pending": 2},
    ]);
    assert_eq!(body["rows"], expected);
    assert_eq!(
        (&body["by"], &body["code_life"], &body["total"]["sent"]),
        (&json!("channel"), &json!(600), &json!(15))
    );
    let recent = ask(&server, "?since=30m", Some(&service())).await.expect(200);
    assert_eq!(recent["total"]["sent"], 5);
}

#[tokio::test(start_paused = true)]
async fn blocks_come_most_sends_first_and_the_rest_together() {
    let server = server();
    plant(&server).await;
    let body = ask(&server, "?by=block&since=1d&limit=2", Some(&service())).await.expect(200);
    let rows: Vec<(&str, u64)> = body["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| (row["name"].as_str().expect("a name"), row["sent"].as_u64().expect("a count")))
        .collect();
    // Two to four sends are too few to be shown, and of the others two are asked for.
    assert_eq!(rows, [("+57300127", 9), ("+57300126", 8), ("other", 27)]);
}

#[tokio::test(start_paused = true)]
async fn only_an_operator_may_ask() {
    let server = server();
    ask(&server, "", None).await.expect_problem(401, "unauthenticated");
    ask(&server, "", Some(&alice())).await.expect_problem(403, "insufficient_scope");
}

#[tokio::test(start_paused = true)]
async fn a_bad_query_is_refused_by_name_rule_and_shape() {
    let server = server();
    for (query, said) in [
        (
            "?by=number",
            "`by` must be channel, country, prefix, block, provider or sender; got a string of 6 characters",
        ),
        (
            "?since=16d",
            "`since` must be a number of minutes (5m), hours (2h) or days (15d), from 5m to 15d; got a string of 3 characters",
        ),
        ("?limit=0", "`limit` must be a number from 1 to 5000; got a string of 1 character"),
        ("?limit=5001", "`limit` must be a number from 1 to 5000; got a string of 4 characters"),
        ("?limit=1&limit=2", "`limit` must be given once; got it twice"),
        ("?to=%2B573001234567", "the query has a name other than `by`, `since` and `limit`"),
    ] {
        let problem = ask(&server, query, Some(&service())).await.expect_problem(422, "invalid_request");
        assert_eq!(problem["detail"], said, "{query}");
    }
}
