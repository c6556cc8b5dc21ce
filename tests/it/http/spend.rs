//! `GET /api/v1/sms/spend`: for operators only, within bounds.

use axum::body::Body;
use axum::http::{Request, header};
use otpost::clock::Clock;
use otpost::domain::amount::Amount;
use otpost::domain::budget::Budgets;
use otpost::domain::conversion::{Bucket, BucketWidth};
use otpost::domain::conversion_batch::ConversionBatch;
use otpost::domain::spend::{SpendCounts, SpendEntry, SpendGroup};
use otpost::domain::time::UnixMillis;
use otpost::store::Store as _;
use serde_json::json;

use super::{Answer, START, TestServer, alice, service};

const PATH: &str = "/api/v1/sms/spend";

fn server() -> TestServer {
    TestServer::with(|api| {
        api.clock = Clock::Tokio { from: START, started: tokio::time::Instant::now() };
        api.spend.budgets = Budgets { per_hour: None, per_day: Amount::parse("12.5") };
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

pub fn entry(at: UnixMillis, group: SpendGroup, name: &str, messages: u32, amount: &str) -> SpendEntry {
    let bucket = Bucket::of(BucketWidth::FiveMinutes, at).number;
    let amount = Amount::parse(amount).expect("an amount");
    SpendEntry { bucket, group, name: name.to_owned(), counts: SpendCounts { messages, amount } }
}

async fn plant(server: &TestServer) {
    let day_before = UnixMillis(START.0 - 24 * 3_600_000);
    let spend = vec![
        entry(START, SpendGroup::Country, "CO", 10, "0.4"),
        entry(START, SpendGroup::Country, "LV", 9, "0.9"),
        entry(day_before, SpendGroup::Country, "CO", 12, "0.48"),
        entry(START, SpendGroup::Sample, "expected", 2, "0.08"),
        entry(START, SpendGroup::Sample, "paid", 2, "0.1"),
    ];
    let batch = ConversionBatch { writer: 1, sequence: 1, spend, ..ConversionBatch::default() };
    server.store.add_conversion(&batch).await.expect("answers");
}

#[tokio::test(start_paused = true)]
async fn an_operator_sees_the_budgets_and_the_amounts() {
    let server = server();
    plant(&server).await;
    let body = ask(&server, "?by=country&since=1h", Some(&service())).await.expect(200);
    assert_eq!(
        body["rows"],
        json!([
            {"name": "LV", "messages": 9, "amount": "0.90", "before": "0.00"},
            {"name": "CO", "messages": 10, "amount": "0.40", "before": body["rows"][1]["before"]},
        ])
    );
    assert_eq!((&body["currency"], &body["is_estimate"]), (&json!("USD"), &json!(true)));
    assert_eq!(
        (&body["budgets"][1]["budget"], &body["budgets"][1]["left"]),
        (&json!("12.50"), &json!("12.50"))
    );
    assert!(body["budgets"][0].get("budget").is_none());
    assert_eq!(
        body["sample"],
        json!({"messages": 2, "expected": "0.08", "paid": "0.10", "deviation": 25.0, "other_currency": 0})
    );
    let long = ask(&server, "?by=country&since=8d&limit=1", Some(&service())).await.expect(200);
    assert_eq!((&long["rows"][1]["name"], &long["total"]["amount"]), (&json!("other"), &json!("1.78")));
    assert!(long.get("days_before").is_none() && long["total"].get("before").is_none());
}

#[tokio::test(start_paused = true)]
async fn only_an_operator_may_ask_and_a_bad_query_is_refused() {
    let server = server();
    ask(&server, "", None).await.expect_problem(401, "unauthenticated");
    ask(&server, "", Some(&alice())).await.expect_problem(403, "insufficient_scope");
    let problem = ask(&server, "?by=block", Some(&service())).await.expect_problem(422, "invalid_request");
    let said = "`by` must be channel, country, prefix, provider or sender; got a string of 5 characters";
    assert_eq!(problem["detail"], said);
}
