//! The outcome of every answer and of a missing one.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use otpost::domain::send_failure::{Scope, SendFailure};
use otpost::provider::twilio::TwilioSettings;
use otpost::provider::{Accepted, Provider};

use super::{ALICE, adapter, assert_has_no_secret, send, settings, settings_at};
use crate::contract::provider::Draft;
use crate::fake_twilio::{Answer, FakeTwilio};
use crate::scripted::refused;

/// The outcome of a send with this answer of the fake.
async fn sent_with(answer: Answer) -> Result<Accepted, SendFailure> {
    let twilio = FakeTwilio::start();
    twilio.next([answer]);
    let outcome = send(&settings(&twilio)).await;
    assert!(twilio.requests().len() <= 1, "no request is ever repeated");
    outcome
}

#[track_caller]
fn assert_in_doubt(outcome: Result<Accepted, SendFailure>) {
    let Err(SendFailure::InDoubt { detail }) = outcome else { panic!("in doubt, not {outcome:?}") };
    assert_has_no_secret(&detail);
}

#[track_caller]
fn assert_unreachable(outcome: Result<Accepted, SendFailure>) {
    let Err(SendFailure::NotConnected { detail }) = outcome else { panic!("unreachable, not {outcome:?}") };
    assert_has_no_secret(&detail);
}

#[tokio::test]
async fn a_number_that_twilio_refuses_does_not_concern_another() {
    let twilio = FakeTwilio::start();
    twilio.for_recipient(ALICE, Answer::error(400, 21211));
    let adapter = adapter(&settings(&twilio));
    let refused = adapter.send(&Draft::to(ALICE).message()).await;
    assert_eq!(refused, Err(SendFailure::refused(Scope::Recipient, Some(21211))));
    adapter.send(&Draft::to("+573001234568").message()).await.expect("accepted");
    assert_eq!(twilio.created(), 1);
}

#[tokio::test]
async fn every_refusal_has_its_scope() {
    let twilio = FakeTwilio::start();
    let adapter = adapter(&settings(&twilio));
    for (status, code, scope) in [
        (400, 21614, Scope::Recipient),
        (400, 21610, Scope::Recipient),
        (400, 21617, Scope::Request),
        (400, 21408, Scope::Country),
        (403, 60605, Scope::Country),
        (400, 21606, Scope::Sender),
        (400, 21611, Scope::Sender),
        (400, 21659, Scope::Sender),
        (400, 21635, Scope::Recipient),
        (401, 20003, Scope::Account),
        (403, 20008, Scope::Account),
        (404, 20404, Scope::Account),
        (400, 29_999, Scope::Unrecognised),
    ] {
        twilio.next([Answer::error(status, code)]);
        let outcome = adapter.send(&Draft::to(ALICE).message()).await;
        assert_eq!(outcome, Err(refused(scope, code)), "{code}");
    }
}

#[tokio::test]
async fn a_refusal_without_a_number_is_judged_by_its_status() {
    for (status, scope) in [
        (401, Scope::Account),
        (403, Scope::Account),
        (404, Scope::Account),
        (400, Scope::Unrecognised),
        (422, Scope::Unrecognised),
    ] {
        let outcome = sent_with(Answer::Status(status, "not an object".into())).await;
        assert_eq!(outcome, Err(SendFailure::refused(scope, None)), "{status}");
    }
}

#[tokio::test]
async fn a_redirect_is_a_wrong_base_url_and_is_never_followed() {
    let elsewhere = FakeTwilio::start();
    let outcome = sent_with(Answer::Redirect(elsewhere.base_url())).await;
    assert_eq!(outcome, Err(SendFailure::refused(Scope::Account, None)));
    assert!(elsewhere.requests().is_empty(), "the credential must not go there");
}

#[tokio::test]
async fn a_throttled_send_has_the_wait_that_twilio_asked_for() {
    let in_a_minute = jiff::Timestamp::now() + Duration::from_secs(60);
    let date =
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&in_a_minute).expect("a date");
    for (asked, seconds) in [(Some("7".to_owned()), Some(7..=7)), (Some(date), Some(55..=60)), (None, None)] {
        let outcome = sent_with(Answer::Throttle(asked.clone())).await;
        let Err(SendFailure::Throttled { provider_code: Some(20429), retry_after }) = outcome else {
            panic!("throttled, not {outcome:?}")
        };
        let wait = retry_after.map(|wait| wait.as_secs());
        assert_eq!(wait.is_some(), seconds.is_some(), "{asked:?}");
        assert!(
            wait.is_none_or(|wait| seconds.is_some_and(|range| range.contains(&wait))),
            "{asked:?}: {wait:?}"
        );
    }
}

#[tokio::test]
async fn a_full_queue_is_throttled_whatever_its_status() {
    let outcome = sent_with(Answer::error(400, 30001)).await;
    assert_eq!(outcome, Err(SendFailure::Throttled { provider_code: Some(30001), retry_after: None }));
}

#[tokio::test]
async fn a_server_error_is_in_doubt_even_with_a_known_number() {
    assert_in_doubt(sent_with(Answer::error(500, 20500)).await);
    assert_in_doubt(sent_with(Answer::error(503, 21211)).await);
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let closed = listener.local_addr().expect("an address");
    drop(listener);
    assert_unreachable(send(&settings_at(format!("http://{closed}"))).await);
}

#[tokio::test]
async fn a_host_without_an_address_is_unreachable() {
    // No label has 64 characters (RFC 1035 §2.3.4), so the resolver fails without a query.
    let host = format!("{}.invalid", "a".repeat(64));
    assert_unreachable(send(&settings_at(format!("http://{host}"))).await);
}

#[tokio::test]
async fn a_handshake_that_stalls_is_unreachable_well_before_the_time_out() {
    // The kernel accepts connections, and no TLS handshake follows.
    let silent = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let base_url = format!("https://{}", silent.local_addr().expect("an address"));
    let timeout = Duration::from_secs(2);
    // Built before the measurement, because reading the system's certificates takes time.
    let adapter = adapter(&TwilioSettings { timeout, ..settings_at(base_url) });
    let started = Instant::now();
    assert_unreachable(adapter.send(&Draft::to(ALICE).message()).await);
    assert!(started.elapsed() < timeout, "connecting must give up first: {:?}", started.elapsed());
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_unreachable() {
    let twilio = FakeTwilio::start();
    let outcome = send(&settings_at(twilio.base_url().replace("http:", "https:"))).await;
    assert_unreachable(outcome);
    assert!(twilio.requests().is_empty());
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_in_doubt() {
    assert_in_doubt(sent_with(Answer::Reset).await);
    let twilio = FakeTwilio::start();
    twilio.next([Answer::AcceptThenClose]);
    assert_in_doubt(send(&settings(&twilio)).await);
    assert_eq!(
        (twilio.created(), twilio.requests().len()),
        (1, 1),
        "it was sent once and must not be sent again"
    );
}

#[tokio::test]
async fn a_kept_connection_that_breaks_before_the_answer_is_in_doubt_too() {
    let twilio = FakeTwilio::start();
    let adapter = adapter(&settings(&twilio));
    adapter.send(&Draft::to(ALICE).message()).await.expect("accepted");
    twilio.next([Answer::Reset]);
    assert_in_doubt(adapter.send(&Draft::to(ALICE).message()).await);
    assert_eq!(twilio.created(), 1);
}

#[tokio::test]
async fn no_answer_in_time_is_in_doubt() {
    let twilio = FakeTwilio::start();
    twilio.next([Answer::Hang]);
    let timeout = Duration::from_millis(300);
    assert_in_doubt(send(&TwilioSettings { timeout, ..settings(&twilio) }).await);
}

#[tokio::test]
async fn a_message_is_accepted_once_the_status_arrived_whatever_body_follows() {
    let unknown = Accepted { message_id: None, segments: None, verification_sid: None };
    assert_eq!(sent_with(Answer::AcceptThenTruncate).await, Ok(unknown.clone()));
    for body in ["", "<html>", "{\"sid\":\"SM12\"}", "[]", "null"] {
        assert_eq!(sent_with(Answer::AcceptWith(body.to_owned())).await, Ok(unknown.clone()), "{body}");
    }
    // The body is read up to a bound and cut there: still accepted.
    let endless = format!("{{\"pad\":\"{}\"}}", "x".repeat(1 << 20));
    assert_eq!(sent_with(Answer::AcceptWith(endless)).await, Ok(unknown.clone()));
    assert_eq!(sent_with(Answer::Status(200, serde_json::json!({}))).await, Ok(unknown));
}

#[tokio::test]
async fn a_standing_answer_holds_until_it_is_replaced() {
    let twilio = FakeTwilio::start();
    let adapter = adapter(&settings(&twilio));
    twilio.for_everyone(Answer::error(500, 20500));
    for _ in 0..2 {
        assert_in_doubt(adapter.send(&Draft::to(ALICE).message()).await);
    }
    twilio.for_everyone(Answer::Normal);
    adapter.send(&Draft::to(ALICE).message()).await.expect("accepted");
}
