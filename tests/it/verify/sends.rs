//! Sends by Verify, and the outcomes of its answers.

use std::time::Duration;

use otpost::domain::email::EmailAddress;
use otpost::domain::send_failure::{Scope, SendFailure};
use otpost::provider::twilio::verify::{TwilioVerify, VerifySettings};
use otpost::provider::{CredentialError, LookupError, Message, Provider as _, WRONG_CHANNEL};

use super::{ALICE, adapter, adapter_at, assert_has_no_secret, settings};
use crate::contract::provider::Draft;
use crate::fake_verify::{Answer, FakeVerify, SERVICE_SID};

#[tokio::test]
async fn a_message_is_requested_by_its_number_alone() {
    let fake = FakeVerify::start();
    let verify = adapter(&fake);
    let first = verify.send(&Draft::to(ALICE).message()).await.expect("accepted");
    let again = verify.send(&Draft::to(ALICE).message()).await.expect("accepted");
    assert_eq!(first.message_id.as_deref(), Some("VL00000000000000000000000000000000"));
    assert_eq!(again.message_id.as_deref(), Some("VL00000000000000000000000000000001"));
    assert_eq!(first.verification_sid.as_deref(), Some("VE00000000000000000000000000000000"));
    assert_eq!(
        (first.verification_sid, first.segments),
        (again.verification_sid, None),
        "the same code is sent again"
    );
    let [request, _] = fake.requests().try_into().expect("two requests");
    assert_eq!(
        (request.method.as_str(), request.path),
        ("POST", format!("/v2/Services/{SERVICE_SID}/Verifications"))
    );
    let form: Vec<(&str, &str)> = request.form.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(form, [("To", ALICE), ("Channel", "sms")]);
}

#[tokio::test]
async fn a_locale_is_sent_if_verify_supports_it() {
    let fake = FakeVerify::start();
    for (wanted, sent) in [("es-CO", Some("es")), ("pt_BR", Some("pt-BR")), ("qu", None)] {
        let draft = Draft::to(ALICE);
        let message = Message { locale: Some(wanted), ..draft.message() };
        adapter(&fake).send(&message).await.expect("accepted");
        let requests = fake.requests();
        assert_eq!(requests.last().expect("a request").field("Locale"), sent, "{wanted}");
    }
}

#[tokio::test]
async fn each_refusal_is_of_its_own_class() {
    let rejected = |scope| move |failure: &SendFailure| matches!(failure, SendFailure::Refused { scope: got, .. } if *got == scope);
    let throttled = |failure: &SendFailure| matches!(failure, SendFailure::Throttled { .. });
    let in_doubt = |failure: &SendFailure| matches!(failure, SendFailure::InDoubt { .. });
    type Class<'a> = &'a dyn Fn(&SendFailure) -> bool;
    let table: [(u16, u32, Class); 12] = [
        (400, 60200, &rejected(Scope::Request)),
        (429, 60202, &rejected(Scope::Request)),
        (429, 60203, &rejected(Scope::Request)),
        (403, 60205, &rejected(Scope::Recipient)),
        (429, 60212, &throttled),
        (429, 20429, &throttled),
        (403, 60410, &rejected(Scope::Country)),
        (403, 60605, &rejected(Scope::Country)),
        (404, 20404, &rejected(Scope::Account)),
        (401, 20003, &rejected(Scope::Account)),
        (403, 60204, &rejected(Scope::Account)),
        (503, 60203, &in_doubt),
    ];
    for (status, code, class) in table {
        let fake = FakeVerify::start();
        fake.next([Answer::Error(status, code)]);
        let failure = adapter(&fake).send(&Draft::to(ALICE).message()).await.expect_err("refused");
        assert!(class(&failure), "{status} {code}: {failure:?}");
        assert_has_no_secret(&format!("{failure:?}"));
    }
}

#[tokio::test]
async fn a_lost_answer_is_in_doubt_and_a_lost_connection_is_not() {
    let fake = FakeVerify::start();
    let impatient = adapter_at(fake.base_url(), Duration::from_millis(500));
    for answer in [Answer::Hang, Answer::DoThenClose, Answer::DoThenFail] {
        fake.next([answer]);
        let failure = impatient.send(&Draft::to(ALICE).message()).await.expect_err("lost");
        assert!(matches!(failure, SendFailure::InDoubt { .. }), "{answer:?}: {failure:?}");
    }
    fake.next([Answer::DoThenTruncate]);
    let accepted = impatient.send(&Draft::to(ALICE).message()).await.expect("its status came");
    assert_eq!((accepted.message_id, accepted.verification_sid), (None, None));
    let base_url = fake.base_url();
    drop(fake);
    let failure = adapter_at(base_url, Duration::from_secs(2)).send(&Draft::to(ALICE).message()).await;
    assert!(matches!(failure, Err(SendFailure::NotConnected { .. })), "{failure:?}");
}

#[tokio::test]
async fn credentials_are_good_if_they_may_read_the_service() {
    let fake = FakeVerify::start();
    adapter(&fake).check_credentials().await.expect("good");
    let [request] = fake.requests().try_into().expect("one request");
    assert_eq!((request.method.as_str(), request.path), ("GET", format!("/v2/Services/{SERVICE_SID}")));
    let wrong = VerifySettings {
        service_sid: SERVICE_SID.replace('4', "5"),
        ..settings(fake.base_url(), Duration::from_secs(5))
    };
    let fault = TwilioVerify::new(&wrong).expect("well-formed").check_credentials().await;
    assert!(matches!(fault, Err(CredentialError::NoSuchService { status: 404, .. })), "{fault:?}");
}

#[tokio::test]
async fn no_email_address_is_sent_to_verify() {
    let fake = FakeVerify::start();
    let to = EmailAddress::parse("ana@shop.example").expect("an address").into();
    let draft = Draft { to, ..Draft::to(ALICE) };
    let verify = adapter(&fake);
    assert_eq!(verify.send(&draft.message()).await, Err(WRONG_CHANNEL));
    let found = verify.find(&draft.to, otpost::domain::time::UnixMillis(0)).await;
    assert!(matches!(found, Err(LookupError::Refused { .. })));
    assert!(fake.requests().is_empty());
}

#[test]
fn settings_that_cannot_work_are_refused() {
    for change in [
        |settings: &mut VerifySettings| {
            settings.service_sid = "MG00000000000000000000000000000004".to_owned()
        },
        |settings: &mut VerifySettings| settings.account_sid = "AC1".to_owned(),
        |settings: &mut VerifySettings| settings.base_url = "ftp://x".to_owned(),
        |settings: &mut VerifySettings| settings.timeout = Duration::ZERO,
    ] {
        let mut settings = settings("https://verify.twilio.com".to_owned(), Duration::from_secs(5));
        change(&mut settings);
        assert!(TwilioVerify::new(&settings).is_err());
    }
}
