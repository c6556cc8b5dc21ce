//! Checking a code: what each typed code is answered.

use std::time::Duration;

use otpost::domain::channel::Channel;
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::phone::PhoneNumber;
use otpost::domain::recipient_keyring::RecipientKeyring;
use serde_json::{Value, json};

use super::broken::{Broken, Fails};
use super::{ALICE, CODE, Door, HOUR, LIFE, PURPOSE, VERIFY_PHONE, VERIFY_SERVICE, service, token};

const ENTRANCES: [&str; 2] = [VERIFY_PHONE, VERIFY_SERVICE];

#[tokio::test]
async fn the_right_code_verifies_once() {
    for path in ENTRANCES {
        let door = Door::open();
        door.send_code("r1", CODE).await;
        let answer = door.check_code(path, CODE).await;
        let expected = json!({"verified": true, "channel": "sms", "purpose": PURPOSE, "to": "+57******4567"});
        assert_eq!(answer.expect(200), expected);
        door.check_code(path, CODE).await.expect_problem(409, "code_used");
    }
}

#[tokio::test]
async fn a_wrong_code_tells_how_many_tries_are_left_until_only_a_new_code_helps() {
    for path in ENTRANCES {
        let door = Door::open();
        door.send_code("r1", CODE).await;
        for left in [4, 3, 2, 1, 0] {
            let problem = door.check_code(path, "000000").await.expect_problem(422, "wrong_code");
            assert_eq!(problem["attempts_remaining"], left);
        }
        let answer = door.check_code(path, CODE).await;
        let problem = answer.expect_problem(429, "too_many_attempts");
        assert_eq!(problem.get("retry_after"), None, "waiting does not help: {problem}");
    }
}

#[tokio::test]
async fn who_guesses_at_one_code_after_another_is_told_when_to_come_back() {
    for path in ENTRANCES {
        let door = Door::open();
        for (request, seconds, tries) in [("r1", 0, 5), ("r2", 60, 4), ("r3", 120, 1)] {
            door.pass(Duration::from_secs(seconds));
            door.send_code(request, CODE).await;
            for _ in 0..tries {
                door.check_code(path, "000000").await.expect_problem(422, "wrong_code");
            }
            if request == "r2" {
                door.check_code(path, CODE).await.expect(200);
            }
        }
        let answer = door.check_code(path, CODE).await;
        let problem = answer.expect_problem(429, "too_many_attempts");
        assert_eq!(problem["retry_after"], 3_600 - 120, "the first try leaves the hour then");
        door.pass(HOUR);
        door.send_code("r4", CODE).await;
        door.check_code(path, CODE).await.expect(200);
    }
}

#[tokio::test]
async fn a_code_is_over_when_its_life_is_and_forgotten_an_hour_later() {
    for path in ENTRANCES {
        let door = Door::open();
        door.send_code("r1", CODE).await;
        door.pass(LIFE);
        door.check_code(path, CODE).await.expect_problem(410, "code_expired");
        door.pass(LIFE + HOUR);
        door.check_code(path, CODE).await.expect_problem(404, "no_pending_code");
    }
}

#[tokio::test]
async fn a_code_is_good_for_its_own_number_and_purpose_only() {
    let door = Door::open();
    door.send_code_for("r1", CODE, ALICE, "login", "k1").await;
    door.check_code(VERIFY_PHONE, CODE).await.expect_problem(404, "no_pending_code");
    let body = |to: &str| json!({"to": to, "purpose": "login", "channel": "sms", "otp_code": CODE});
    let other = door.post(VERIFY_SERVICE, &service(), &body("+573009999999")).await;
    other.expect_problem(404, "no_pending_code");
    let national = door.post(VERIFY_SERVICE, &service(), &body("300 123 4567")).await;
    assert_eq!(national.expect(200)["purpose"], "login");
}

#[tokio::test]
async fn a_code_of_a_key_that_is_not_here_counts_nothing() {
    for path in ENTRANCES {
        let door = Door::open();
        door.send_code_for("r1", CODE, ALICE, PURPOSE, "k9").await;
        for _ in 0..7 {
            let problem = door.check_code(path, "000000").await.expect_problem(503, "key_unavailable");
            assert_eq!(problem.get("attempts_remaining"), None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn trouble_with_the_store_is_told_as_such_and_nothing_more() {
    for (fails, status, code) in [
        (Fails::WithAnError, 503, "store_unavailable"),
        (Fails::ByPanicking, 500, "internal"),
        (Fails::ByNeverAnswering, 503, "timed_out"),
    ] {
        let door = Door::over(Broken(fails));
        for answer in [
            door.check_code(VERIFY_PHONE, CODE).await,
            door.check_code(VERIFY_SERVICE, CODE).await,
            door.request_code().await,
        ] {
            answer.expect_problem(status, code);
            answer.expect_nothing_of(&["hunter2", "10.9.8.7", "redis", CODE, "300123"]);
        }
        assert!(door.queued().await.is_empty());
    }
}

#[tokio::test]
async fn a_number_that_is_none_cannot_be_verified() {
    let door = Door::open();
    for number in [json!("hello Secreto"), Value::Null] {
        let token = token(&json!({ "phone_number": number }));
        let answer = door.post(VERIFY_PHONE, &token, &json!({ "otp_code": CODE })).await;
        answer.expect_problem(422, "invalid_recipient");
        answer.expect_nothing_of(&["Secreto", CODE]);
    }
    let body = json!({"to": "hello Secreto", "otp_code": CODE});
    let answer = door.post(VERIFY_SERVICE, &service(), &body).await;
    answer.expect_problem(422, "invalid_request");
    answer.expect_nothing_of(&["Secreto", CODE]);
}

#[test]
fn the_masked_number_is_what_the_answers_show() {
    let number = PhoneNumber::parse(ALICE, "CO".parse().expect("a region")).expect("a number");
    assert_eq!(number.to_string(), "+57******4567");
    // The digest that names the number in the store is no mask of it.
    let named: Digest16 = RecipientKeyring::new(&[7; 32]).address(Channel::Sms, ALICE);
    assert!(!named.as_str().contains("4567"));
}
