//! Checks of codes at Verify.

use std::time::Duration;

use otpost::domain::address::Address;
use otpost::domain::code::Code;
use otpost::domain::phone::PhoneNumber;
use otpost::provider::twilio::verify::TwilioVerify;
use otpost::provider::{
    CodeVerifier as _, CodeVerifierError, CredentialError, LookupError, Provider as _, ProviderVerdict,
};

use super::{ALICE, adapter, adapter_at, assert_has_no_secret};
use crate::contract::provider::Draft;
use crate::fake_verify::{Answer, FakeVerify, SERVICE_SID};

const VE: &str = "VE00000000000000000000000000000000";

fn alice() -> Address {
    PhoneNumber::parse(ALICE, "CO".parse().expect("valid")).expect("a number").into()
}

async fn check(
    verify: &TwilioVerify,
    sid: Option<&str>,
    code: &str,
) -> Result<ProviderVerdict, CodeVerifierError> {
    verify.check(&alice(), sid, &Code::parse(code).expect("a code")).await
}

#[tokio::test]
async fn a_code_is_checked_by_its_verification_or_by_its_number() {
    let fake = FakeVerify::start();
    let verify = adapter(&fake);
    assert_eq!(check(&verify, None, "482913").await, Ok(ProviderVerdict::Gone), "nothing was sent");
    verify.send(&Draft::to(ALICE).message()).await.expect("accepted");
    assert_eq!(check(&verify, Some(VE), "000000").await, Ok(ProviderVerdict::Wrong));
    assert_eq!(verify.is_approved(VE).await, Ok(false));
    assert_eq!(check(&verify, Some(VE), &fake.code(ALICE)).await, Ok(ProviderVerdict::Right));
    assert_eq!(verify.is_approved(VE).await, Ok(true));
    assert_eq!(check(&verify, Some(VE), &fake.code(ALICE)).await, Ok(ProviderVerdict::Gone), "it was used");
    let checks = fake.requests_to("/VerificationCheck");
    assert!(
        checks.iter().all(|request| request.path == format!("/v2/Services/{SERVICE_SID}/VerificationCheck"))
    );
    let form = |nth: usize| -> Vec<(&str, &str)> {
        checks[nth].form.iter().map(|(name, value)| (&**name, &**value)).collect()
    };
    assert_eq!(form(0), [("To", ALICE), ("Code", "482913")]);
    assert_eq!(form(1), [("VerificationSid", VE), ("Code", "000000")]);
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let lost = |verdict: &Result<_, _>| matches!(verdict, Err(CodeVerifierError::Lost(_)));
    let not_compared = |verdict: &Result<_, _>| matches!(verdict, Err(CodeVerifierError::NotCompared(_)));
    let is = |expected| move |verdict: &Result<ProviderVerdict, CodeVerifierError>| *verdict == Ok(expected);
    type Meaning<'a> = &'a dyn Fn(&Result<ProviderVerdict, CodeVerifierError>) -> bool;
    let table: [(Answer, Meaning); 15] = [
        (Answer::Error(400, 60200), &is(ProviderVerdict::Wrong)),
        (Answer::Error(429, 60202), &is(ProviderVerdict::TooManyChecks)),
        (Answer::Error(404, 20404), &is(ProviderVerdict::Gone)),
        (Answer::Error(429, 60203), &not_compared),
        (Answer::Error(403, 60205), &not_compared),
        (Answer::Error(429, 60212), &not_compared),
        (Answer::Error(429, 20429), &not_compared),
        (Answer::Error(403, 60410), &not_compared),
        (Answer::Error(401, 20003), &not_compared),
        (Answer::Error(500, 20500), &lost),
        (Answer::Error(503, 60202), &lost),
        (Answer::DoThenFail, &lost),
        (Answer::DoThenTruncate, &lost),
        (Answer::DoThenClose, &lost),
        (Answer::Hang, &lost),
    ];
    for (answer, meaning) in table {
        let fake = FakeVerify::start();
        let verify = adapter_at(fake.base_url(), Duration::from_secs(1));
        verify.send(&Draft::to(ALICE).message()).await.expect("accepted");
        fake.next([answer]);
        let verdict = check(&verify, Some(VE), &fake.code(ALICE)).await;
        assert!(meaning(&verdict), "{answer:?}: {verdict:?}");
        assert_has_no_secret(&format!("{verdict:?}"));
    }
}

#[tokio::test]
async fn a_deleted_service_is_distinguished_from_an_expired_code() {
    let fake = FakeVerify::start();
    let verify = adapter(&fake);
    verify.send(&Draft::to(ALICE).message()).await.expect("accepted");
    fake.expire();
    assert_eq!(check(&verify, Some(VE), "482913").await, Ok(ProviderVerdict::Gone));
    assert!(verify.is_there().await.is_ok());
    fake.delete_service();
    assert_eq!(check(&verify, Some(VE), "482913").await, Ok(ProviderVerdict::Gone), "it says no more");
    let gone = verify.is_there().await;
    assert!(
        matches!(gone, Err(CredentialError::NoSuchService { status: 404, provider_code: Some(20404) })),
        "{gone:?}"
    );
    assert_has_no_secret(&format!("{gone:?}"));
}

#[tokio::test]
async fn a_check_that_never_reached_the_provider_was_not_compared() {
    let fake = FakeVerify::start();
    let base_url = fake.base_url();
    drop(fake);
    let verdict = check(&adapter_at(base_url, Duration::from_secs(2)), Some(VE), "482913").await;
    assert!(matches!(verdict, Err(CodeVerifierError::NotCompared(_))), "{verdict:?}");
}

#[tokio::test]
async fn only_a_complete_answer_shows_whether_a_code_was_approved() {
    let fake = FakeVerify::start();
    let verify = adapter_at(fake.base_url(), Duration::from_secs(1));
    assert_eq!(verify.is_approved(VE).await, Err(LookupError::NotFound));
    assert_eq!(verify.is_approved("VE/../x").await, Err(LookupError::NotFound), "no other path is asked");
    assert_eq!(fake.requests().len(), 1);
    for answer in [Answer::Error(500, 20500), Answer::Hang, Answer::Error(429, 20429)] {
        fake.next([answer]);
        let read = verify.is_approved(VE).await;
        assert!(matches!(read, Err(LookupError::Unanswered(_))), "{answer:?}: {read:?}");
    }
}
