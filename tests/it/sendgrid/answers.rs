//! The outcome of every answer and of a missing one.

use std::net::TcpListener;
use std::time::Duration;

use otpost::domain::send_failure::{Scope, SendFailure};
use otpost::provider::sendgrid::SendGridSettings;
use otpost::provider::{Accepted, CredentialError, Provider as _};

use super::{adapter, assert_has_no_secret, send, send_by, settings_at};
use crate::fake_sendgrid::{Answer, FakeSendGrid, MESSAGE_ID};

/// The outcome of a send with this answer of the fake.
async fn sent_with(answer: Answer) -> Result<Accepted, SendFailure> {
    let fake = FakeSendGrid::start();
    fake.next([answer]);
    let settings = SendGridSettings { timeout: Duration::from_millis(500), ..settings_at(fake.base_url()) };
    let outcome = send_by(&adapter(settings), "s").await;
    assert_eq!(fake.requests().len(), 1, "no request is ever repeated");
    if let Err(SendFailure::InDoubt { detail } | SendFailure::NotConnected { detail }) = &outcome {
        assert_has_no_secret(detail);
    }
    outcome
}

#[tokio::test]
async fn an_accepted_email_has_the_message_id_of_sendgrid_or_none() {
    let fake = FakeSendGrid::start();
    let named = Accepted { message_id: Some(MESSAGE_ID.to_owned()), segments: None, verification_sid: None };
    assert_eq!(send(&fake).await, Ok(named));
    let nameless = Ok(Accepted { message_id: None, segments: None, verification_sid: None });
    assert_eq!(sent_with(Answer::Status(202, "", String::new())).await, nameless);
    assert_eq!(sent_with(Answer::Status(202, "X-Message-Id: a b\r\n", "x".repeat(1 << 20))).await, nameless);
}

#[tokio::test]
async fn every_refusal_has_its_scope() {
    for (status, scope) in [
        (302, Scope::Account),
        (400, Scope::Request),
        (401, Scope::Account),
        (403, Scope::Account),
        (404, Scope::Account),
        (413, Scope::Request),
        (422, Scope::Unrecognised),
    ] {
        let outcome = sent_with(Answer::status(status)).await;
        assert_eq!(outcome, Err(SendFailure::refused(scope, None)), "{status}");
    }
}

#[tokio::test]
async fn a_throttled_send_has_the_wait_that_sendgrid_asked_for() {
    for (headers, seconds) in [
        ("Retry-After: 7\r\n", Some(7)),
        ("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-RateLimit-Reset: 784111807\r\n", Some(30)),
        ("", None),
    ] {
        let outcome = sent_with(Answer::Status(429, headers, String::new())).await;
        let retry_after = seconds.map(Duration::from_secs);
        assert_eq!(outcome, Err(SendFailure::Throttled { provider_code: None, retry_after }), "{headers}");
    }
}

#[tokio::test]
async fn an_email_that_may_have_been_sent_is_in_doubt() {
    for answer in [Answer::status(500), Answer::status(503), Answer::status(408), Answer::Close, Answer::Hang]
    {
        let outcome = sent_with(answer.clone()).await;
        assert!(matches!(outcome, Err(SendFailure::InDoubt { .. })), "{answer:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let closed = listener.local_addr().expect("an address");
    drop(listener);
    let outcome = send_by(&adapter(settings_at(format!("http://{closed}"))), "s").await;
    let Err(SendFailure::NotConnected { detail }) = outcome else { panic!("unreachable, not {outcome:?}") };
    assert_has_no_secret(&detail);
}

#[tokio::test]
async fn a_key_is_valid_if_it_may_send_and_the_check_sends_nothing() {
    let scopes = |list: &str| Answer::Status(200, "", format!(r#"{{"scopes":[{list}]}}"#));
    let fake = FakeSendGrid::start();
    let sendgrid = adapter(settings_at(fake.base_url()));
    sendgrid.check_credentials().await.expect("the key is good");
    let [request] = fake.requests().try_into().expect("one request");
    assert_eq!(
        (request.method.as_str(), request.path.as_str(), request.body.len()),
        ("GET", "/v3/scopes", 0)
    );
    type Expected = fn(&CredentialError) -> bool;
    let cases: [(Answer, Expected); 6] = [
        (scopes(r#""mail.batch.read","mail.sender""#), |fault| matches!(fault, CredentialError::MayNotSend)),
        (Answer::status(401), |fault| matches!(fault, CredentialError::Refused { status: 401, .. })),
        // A key that may only send may not be allowed to read its scopes.
        (Answer::status(403), |fault| matches!(fault, CredentialError::MayNotRead { provider_code: 403 })),
        (Answer::status(500), |fault| matches!(fault, CredentialError::Unanswered(_))),
        (Answer::Status(200, "", "<html>".to_owned()), |fault| {
            matches!(fault, CredentialError::Unanswered(_))
        }),
        (Answer::Close, |fault| matches!(fault, CredentialError::Unanswered(_))),
    ];
    for (answer, expected) in cases {
        fake.next([answer.clone()]);
        let fault = sendgrid.check_credentials().await.expect_err("a fault");
        assert!(expected(&fault), "{answer:?}: {fault:?}");
        assert_has_no_secret(&format!("{fault} {fault:?}"));
    }
    assert!(fake.mails().is_empty());
}
