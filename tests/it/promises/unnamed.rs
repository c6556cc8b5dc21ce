//! Messages without a claim: accepted by an answer that names no message, or still in doubt. A lookup never takes one of
//! them for the message of another request.

use std::time::Duration;

use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::send_failure::{RefusalReason, SendFailure};
use otpost::provider::DeliveryReceipt;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::harness::{ALICE, Embedded, Options, number, request, with};
use crate::scripted::{LookupScript, Script};

fn lost() -> Script {
    Script::Fail(SendFailure::InDoubt { detail: "timed out".to_owned() })
}

/// The id of the nth message that was posted.
fn sid(nth: usize) -> Value {
    json!(format!("SM{nth:032x}"))
}

async fn ask(gateway: &mut Embedded, id: &str) -> (String, Value) {
    let ended = gateway.request(id, ALICE).await;
    (ended.body["status"].as_str().expect("a status").to_owned(), ended.body["provider_message_id"].clone())
}

#[tokio::test(start_paused = true)]
async fn a_message_accepted_without_an_id_is_never_taken_for_that_of_another_request() {
    let mut gateway = Embedded::start();
    gateway.world.provider.script_next([Script::AcceptUnnamed, lost()]);
    assert_eq!(ask(&mut gateway, "r1").await, ("sent".to_owned(), Value::Null));
    let second = gateway.request("r2", ALICE).await;
    second.expect("unknown", Some("in_doubt"));
    assert_eq!(
        (gateway.posted().len(), gateway.world.provider.made().len()),
        (2, 1),
        "nothing is sent again"
    );
    gateway.request("r2", ALICE).await.expect("unknown", Some("in_doubt")).expect_replayed(true);
}

#[tokio::test(start_paused = true)]
async fn a_message_beside_one_accepted_without_an_id_is_found() {
    let mut gateway = Embedded::start();
    gateway.world.provider.script_next([Script::AcceptUnnamed, Script::AcceptAndLoseAnswer]);
    ask(&mut gateway, "r1").await;
    assert_eq!(ask(&mut gateway, "r2").await, ("sent".to_owned(), sid(2)));
    assert_eq!(gateway.posted().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn of_three_messages_two_without_a_claim_leave_one() {
    for (third, expected) in [
        (Script::AcceptAndLoseAnswer, ("sent".to_owned(), sid(3))),
        (lost(), ("unknown".to_owned(), Value::Null)),
    ] {
        let mut gateway = Embedded::start();
        gateway.world.provider.script_next([Script::AcceptUnnamed, Script::AcceptUnnamed, third]);
        ask(&mut gateway, "r1").await;
        ask(&mut gateway, "r2").await;
        assert_eq!(ask(&mut gateway, "r3").await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn messages_listed_late_are_waited_for_beside_one_without_a_claim() {
    let mut gateway = Embedded::start();
    gateway.world.provider.script_next([Script::AcceptUnnamed]);
    ask(&mut gateway, "r1").await;
    gateway.world.provider.script_next([Script::AcceptAndLoseAnswer]);
    gateway.world.provider.script_lookups([LookupScript::Hide; 3]);
    assert_eq!(ask(&mut gateway, "r2").await, ("sent".to_owned(), sid(2)));
}

#[tokio::test(start_paused = true)]
async fn a_message_with_another_code_does_not_count() {
    let mut gateway = Embedded::with(Options { caller_codes_allowed: true, ..Options::default() });
    gateway.world.provider.script_next([Script::AcceptUnnamed, Script::AcceptAndLoseAnswer, lost()]);
    gateway.publish(&with("r1", ALICE, json!({"code": "111111"})));
    gateway.result().await.expect_sent();
    gateway.publish(&with("r2", ALICE, json!({"code": "222222"})));
    assert_eq!(gateway.result().await.expect_sent().body["provider_message_id"], sid(2));
    // The same code for another purpose: its message cannot be told from the first one.
    gateway.publish(&with("r3", ALICE, json!({"code": "111111", "purpose": "login"})));
    gateway.result().await.expect("unknown", Some("in_doubt"));
}

#[tokio::test(start_paused = true)]
async fn a_message_made_long_before_the_attempt_does_not_count() {
    let mut gateway = Embedded::start();
    gateway.world.provider.script_next([Script::AcceptUnnamed, Script::AcceptAndLoseAnswer]);
    ask(&mut gateway, "r1").await;
    sleep(Duration::from_secs(60)).await;
    gateway.world.provider.script_lookups([LookupScript::Hide; 2]);
    assert_eq!(ask(&mut gateway, "r2").await, ("sent".to_owned(), sid(2)));
}

#[tokio::test(start_paused = true)]
async fn a_receipt_names_the_message_of_a_request_without_an_id() {
    let mut gateway = Embedded::start();
    gateway.world.provider.script_next([Script::AcceptUnnamed, lost()]);
    ask(&mut gateway, "r1").await;
    let receipt = DeliveryReceipt {
        request_id: otpost::domain::request_id::RequestId::parse("r1").expect("valid"),
        to: number(ALICE).into(),
        message_id: format!("SM{:032x}", 1),
        status: DeliveryStatus::Queued,
        provider_code: None,
        reason: RefusalReason::Other,
    };
    gateway.tracker.process("scripted", &receipt).await.expect("the receipt is recorded");
    // The listed message is surely the first request's, so the second one was not sent, and is sent once more.
    assert_eq!(ask(&mut gateway, "r2").await, ("sent".to_owned(), sid(3)));
}

#[tokio::test(start_paused = true)]
async fn a_message_of_a_request_that_ended_as_unknown_is_not_taken_either() {
    let mut gateway = Embedded::start();
    gateway.world.provider.script_next([Script::AcceptAndLoseAnswer, lost()]);
    gateway.world.provider.script_lookups([LookupScript::Refused]);
    assert_eq!(ask(&mut gateway, "r1").await.0, "unknown");
    assert_eq!(ask(&mut gateway, "r2").await.0, "unknown");
    assert_eq!(gateway.posted().len(), 2);
}

/// The first attempt was made and listed too late; the second one was accepted under its id.
#[tokio::test(start_paused = true)]
async fn the_first_message_of_a_resent_request_is_not_taken_either() {
    let mut gateway = Embedded::start();
    gateway.world.provider.script_next([Script::AcceptAndLoseAnswer, Script::Accept, lost()]);
    gateway.world.provider.script_lookups([LookupScript::Hide; 7]);
    assert_eq!(ask(&mut gateway, "r1").await, ("sent".to_owned(), sid(2)));
    let second = ask(&mut gateway, "r2").await;
    assert_ne!(second.1, sid(1), "{second:?}");
}

/// Verify may answer with the id of its Verification only, and lists messages under other ids, without a text.
#[tokio::test(start_paused = true)]
async fn a_verification_that_names_no_message_is_never_taken_for_that_of_another_request() {
    let mut gateway = Embedded::start();
    gateway.world.provider.makes_codes.store(true, std::sync::atomic::Ordering::SeqCst);
    gateway.world.provider.script_next([Script::AcceptUnnamed, lost()]);
    assert_eq!(ask(&mut gateway, "r1").await.0, "sent");
    assert_eq!(ask(&mut gateway, "r2").await.0, "unknown");
    assert_eq!(gateway.posted().len(), 2);
}

/// Without a cooldown two requests can be in doubt at the same time.
#[tokio::test(start_paused = true)]
async fn of_two_requests_in_doubt_neither_takes_a_message_that_may_be_the_others() {
    for scripts in [[Script::AcceptAndLoseAnswer, lost()], [lost(), Script::AcceptAndLoseAnswer]] {
        let mut gateway = Embedded::start();
        gateway.world.provider.script_next(scripts);
        // Both are in doubt before the first list shows a message.
        gateway.world.provider.script_lookups([LookupScript::Hide; 2]);
        gateway.publish(&request("r1", ALICE));
        gateway.publish(&request("r2", ALICE));
        for _ in 0..2 {
            gateway.result().await.expect("unknown", Some("in_doubt"));
        }
        assert_eq!(gateway.posted().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn two_requests_in_doubt_that_were_both_sent_end_as_sent() {
    let mut gateway = Embedded::start();
    gateway.world.provider.script_next([Script::AcceptAndLoseAnswer, Script::AcceptAndLoseAnswer]);
    gateway.world.provider.script_lookups([LookupScript::Hide; 2]);
    gateway.publish(&request("r1", ALICE));
    gateway.publish(&request("r2", ALICE));
    for _ in 0..2 {
        let ended = gateway.result().await;
        ended.expect_sent();
        assert_eq!(ended.body["provider_message_id"], Value::Null, "which message is whose is unknown");
    }
    assert_eq!(gateway.posted().len(), 2);
}
