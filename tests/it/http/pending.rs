//! Requests that are published and have no result yet: each process bounds them.

use std::sync::Arc;

use otpost::domain::limit::{Limit, Limits};
use otpost::domain::limit_hits::LimitHits;
use otpost::domain::reached_limit::ReachedLimit;
use otpost::flow::limit_counter::LimitCounter;
use serde_json::json;

use super::services::{SEND, sender};
use super::{ALICE, TestServer};

#[tokio::test]
async fn a_refusal_for_pending_requests_counts_for_the_limit_of_their_bound() {
    let counter = Arc::new(LimitCounter::default());
    let limits = Limits::default().with(Limit::All, 0).with(Limit::User, 1).with(Limit::Recipient, 1);
    let server = TestServer::with(|api| (api.limits, api.limit_counter) = (limits, counter.clone()));
    let shop = sender(&json!({}));
    let user = |user: &str| json!({"to": "+573109876543", "user_id": user});
    for body in [user("u1"), json!({ "to": ALICE })] {
        for _ in 0..3 {
            server.post(SEND, &shop, &body).await.expect(202);
        }
        server.post(SEND, &shop, &body).await.expect_problem(429, "rate_limited");
    }
    server.post(SEND, &shop, &user("u1")).await.expect_problem(429, "rate_limited");
    let expected = LimitHits::of(&[(ReachedLimit::User, 2), (ReachedLimit::Number, 1)]);
    assert_eq!(counter.last_hour(), expected);
}
