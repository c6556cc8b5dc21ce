//! Damaged data in Redis, over HTTP: a problem that no retry mends, until an operator has deleted it.

use otpost::domain::channel::Channel;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::real::Redis;

const SEND: &str = "/api/v1/otp/send";
const RATE_LIMIT: &str = "/api/v1/sms/rate-limit";
const REQUESTS: &str = "/api/v1/sms/requests";

#[track_caller]
fn expect_unreadable(answer: &Answer) {
    let problem = answer.expect_problem(500, "record_unreadable");
    assert!(problem.get("retry_after").is_none(), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("operator")), "{problem}");
    answer.expect_nothing_of(&["3001234567"]);
}

/// A service that may do everything.
fn shop() -> String {
    token(
        &json!({"sub": "shop", "phone_number": null, "email": null, "scope": "otp:send otp:verify otp:admin"}),
    )
}

async fn get(server: &TestServer, path: &str) -> Answer {
    let request = Request::get(path).header(header::AUTHORIZATION, format!("Bearer {}", shop()));
    server.ask(request.body(Body::empty()).expect("a request")).await
}

#[tokio::test]
async fn a_damaged_recipient_is_a_problem_without_a_retry_until_it_is_deleted() {
    let redis = Redis::fresh();
    let server = TestServer::over(redis.store());
    let recipient = server.recipient_keyring.address(Channel::Sms, ALICE);
    let key = [b"s" as &[u8], &recipient.bytes()].concat();
    redis.replace(&key, "SET", &[b"garbage"]);
    let to = json!({ "to": ALICE });
    for path in [SEND, RATE_LIMIT, REQUESTS] {
        expect_unreadable(&server.post(path, &shop(), &to).await);
    }
    expect_unreadable(&server.request_code().await);
    for path in [VERIFY_PHONE, VERIFY_SERVICE] {
        expect_unreadable(&server.check_code(path, CODE).await);
    }
    redis.delete(&key);
    for path in [RATE_LIMIT, REQUESTS] {
        server.post(path, &shop(), &to).await.expect(200);
    }
    server.post(SEND, &shop(), &to).await.expect(202);
}

#[tokio::test]
async fn a_damaged_request_is_a_problem_without_a_retry() {
    let redis = Redis::fresh();
    let server = TestServer::over(redis.store());
    let answer = server.post(SEND, &shop(), &json!({ "to": ALICE })).await.expect(202);
    let id = answer["request_id"].as_str().expect("an id");
    redis.replace([b"qh", &Sha256::digest(id)[..16]].concat(), "SET", &[b"garbage"]);
    for path in [format!("{REQUESTS}/{id}"), format!("/api/v1/otp/status/{id}")] {
        expect_unreadable(&get(&server, &path).await);
    }
}
