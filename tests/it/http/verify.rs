//! Verification of a typed code over HTTP.

use std::time::Duration;

use otpost::domain::channel::Channel;
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::phone::PhoneNumber;
use otpost::domain::recipient_keyring::RecipientKeyring;
use serde_json::{Value, json};

use super::broken::{Broken, Fails};
use super::{ALICE, CODE, HOUR, LIFE, PURPOSE, TestServer, VERIFY_PHONE, VERIFY_SERVICE, service, token};

const VERIFY_PATHS: [&str; 2] = [VERIFY_PHONE, VERIFY_SERVICE];

#[tokio::test]
async fn the_right_code_verifies_once() {
    for path in VERIFY_PATHS {
        let server = TestServer::start();
        server.send_code("r1", CODE).await;
        let answer = server.check_code(path, CODE).await;
        let expected = json!({"verified": true, "channel": "sms", "purpose": PURPOSE, "to": "+57******4567"});
        assert_eq!(answer.expect(200), expected);
        server.check_code(path, CODE).await.expect_problem(409, "code_used");
    }
}

#[tokio::test]
async fn a_wrong_code_reports_the_attempts_left_until_the_code_is_locked() {
    for path in VERIFY_PATHS {
        let server = TestServer::start();
        server.send_code("r1", CODE).await;
        for left in [4, 3, 2, 1, 0] {
            let problem = server.check_code(path, "000000").await.expect_problem(422, "wrong_code");
            assert_eq!(problem["attempts_remaining"], left);
        }
        let answer = server.check_code(path, CODE).await;
        let problem = answer.expect_problem(429, "too_many_attempts");
        assert_eq!(problem.get("retry_after"), None, "waiting does not help: {problem}");
    }
}

#[tokio::test]
async fn the_hourly_limit_of_wrong_attempts_reports_when_it_ends() {
    for path in VERIFY_PATHS {
        let server = TestServer::start();
        for (request, seconds, attempts) in [("r1", 0, 5), ("r2", 60, 4), ("r3", 120, 1)] {
            server.pass(Duration::from_secs(seconds));
            server.send_code(request, CODE).await;
            for _ in 0..attempts {
                server.check_code(path, "000000").await.expect_problem(422, "wrong_code");
            }
            if request == "r2" {
                server.check_code(path, CODE).await.expect(200);
            }
        }
        let answer = server.check_code(path, CODE).await;
        let problem = answer.expect_problem(429, "too_many_attempts");
        assert_eq!(problem["retry_after"], 3_600 - 120, "the first attempt leaves the hour then");
        server.pass(HOUR);
        server.send_code("r4", CODE).await;
        server.check_code(path, CODE).await.expect(200);
    }
}

#[tokio::test]
async fn a_code_expires_after_its_life_and_is_forgotten_an_hour_later() {
    for path in VERIFY_PATHS {
        let server = TestServer::start();
        server.send_code("r1", CODE).await;
        server.pass(LIFE);
        server.check_code(path, CODE).await.expect_problem(410, "code_expired");
        server.pass(LIFE + HOUR);
        server.check_code(path, CODE).await.expect_problem(404, "no_pending_code");
    }
}

#[tokio::test]
async fn a_code_is_valid_for_its_own_number_and_purpose_only() {
    let server = TestServer::start();
    server.send_code_for("r1", CODE, ALICE, "login", "k1").await;
    server.check_code(VERIFY_PHONE, CODE).await.expect_problem(404, "no_pending_code");
    let body = |to: &str| json!({"to": to, "purpose": "login", "channel": "sms", "otp_code": CODE});
    let other = server.post(VERIFY_SERVICE, &service(), &body("+573009999999")).await;
    other.expect_problem(404, "no_pending_code");
    let national = server.post(VERIFY_SERVICE, &service(), &body("300 123 4567")).await;
    assert_eq!(national.expect(200)["purpose"], "login");
}

#[tokio::test]
async fn a_code_is_read_as_people_type_and_paste_it_and_other_text_counts_no_attempt() {
    for path in VERIFY_PATHS {
        for typed in [
            " 482913\n",
            "482 913",
            "482-913",
            "482\u{a0}913",
            "482\u{2009}\u{2013}913",
            "\u{202d}482913\u{202c}",
            "４８２９１３",
            "٤٨٢٩١٣",
            "۴۸۲-۹۱۳",
            "४८२ ९१३",
        ] {
            let server = TestServer::start();
            server.send_code("r1", CODE).await;
            for other in ["482913x", "-482913", "482.913", "⁴⁸²⁹¹³", "482913\0", "", "\u{202d}"] {
                server.check_code(path, other).await.expect_problem(422, "invalid_request");
            }
            let wrong = server.check_code(path, "００００-00").await.expect_problem(422, "wrong_code");
            assert_eq!(wrong["attempts_remaining"], 4, "{typed}: what is no code was not counted");
            server.check_code(path, typed).await.expect(200);
        }
    }
}

#[tokio::test]
async fn a_code_of_a_missing_key_counts_no_attempt() {
    for path in VERIFY_PATHS {
        let server = TestServer::start();
        server.send_code_for("r1", CODE, ALICE, PURPOSE, "k9").await;
        for _ in 0..7 {
            let problem = server.check_code(path, "000000").await.expect_problem(503, "key_unavailable");
            assert_eq!(problem.get("attempts_remaining"), None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_store_is_reported_without_details() {
    for (fails, status, code) in [
        (Fails::WithAnError, 503, "store_unavailable"),
        (Fails::ByPanicking, 500, "internal"),
        (Fails::ByNeverAnswering, 503, "timed_out"),
    ] {
        let server = TestServer::over(Broken(fails));
        for answer in [
            server.check_code(VERIFY_PHONE, CODE).await,
            server.check_code(VERIFY_SERVICE, CODE).await,
            server.request_code().await,
        ] {
            answer.expect_problem(status, code);
            answer.expect_nothing_of(&["hunter2", "10.9.8.7", "redis", CODE, "300123"]);
        }
        assert!(server.queued().await.is_empty());
    }
}

#[tokio::test]
async fn an_invalid_number_cannot_be_verified() {
    let server = TestServer::start();
    for number in [json!("hello Secreto"), Value::Null] {
        let token = token(&json!({ "phone_number": number }));
        let answer = server.post(VERIFY_PHONE, &token, &json!({ "otp_code": CODE })).await;
        answer.expect_problem(422, "invalid_recipient");
        answer.expect_nothing_of(&["Secreto", CODE]);
    }
    let body = json!({"to": "hello Secreto", "otp_code": CODE});
    let answer = server.post(VERIFY_SERVICE, &service(), &body).await;
    answer.expect_problem(422, "invalid_request");
    answer.expect_nothing_of(&["Secreto", CODE]);
}

#[test]
fn the_masked_number_is_what_the_answers_show() {
    let number = PhoneNumber::parse(ALICE, "CO".parse().expect("a region")).expect("a number");
    assert_eq!(number.to_string(), "+57******4567");
    // The digest in the store does not contain the masked number.
    let named: Digest16 = RecipientKeyring::new(&[7; 32]).address(Channel::Sms, ALICE);
    assert!(!named.as_str().contains("4567"));
}
