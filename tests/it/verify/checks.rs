//! Codes that are checked at Verify.

use std::time::Duration;

use otpost::domain::address::Address;
use otpost::domain::code::Code;
use otpost::domain::phone::PhoneNumber;
use otpost::provider::twilio::verify::TwilioVerify;
use otpost::provider::{
    CodeVerifier as _, CodeVerifierError, CredentialError, LookupError, Provider as _, ProviderVerdict,
};

use super::{ALICE, adapter, adapter_at, assert_says_nothing};
use crate::contract::provider::Letter;
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
async fn a_code_is_asked_about_by_its_verification_or_by_its_number() {
    let fake = FakeVerify::start();
    let verify = adapter(&fake);
    assert_eq!(check(&verify, None, "482913").await, Ok(ProviderVerdict::Gone), "nothing was sent");
    verify.send(&Letter::to(ALICE).message()).await.expect("accepted");
    assert_eq!(check(&verify, Some(VE), "000000").await, Ok(ProviderVerdict::Wrong));
    assert_eq!(verify.is_approved(VE).await, Ok(false));
    assert_eq!(check(&verify, Some(VE), &fake.code(ALICE)).await, Ok(ProviderVerdict::Right));
    assert_eq!(verify.is_approved(VE).await, Ok(true));
    assert_eq!(check(&verify, Some(VE), &fake.code(ALICE)).await, Ok(ProviderVerdict::Gone), "it was used");
    let asked = fake.asked("/VerificationCheck");
    assert!(
        asked.iter().all(|request| request.path == format!("/v2/Services/{SERVICE_SID}/VerificationCheck"))
    );
    let form = |nth: usize| -> Vec<(&str, &str)> {
        asked[nth].form.iter().map(|(name, value)| (&**name, &**value)).collect()
    };
    assert_eq!(form(0), [("To", ALICE), ("Code", "482913")]);
    assert_eq!(form(1), [("VerificationSid", VE), ("Code", "000000")]);
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let lost = |judged: &Result<_, _>| matches!(judged, Err(CodeVerifierError::Lost(_)));
    let not_compared = |judged: &Result<_, _>| matches!(judged, Err(CodeVerifierError::NotCompared(_)));
    let is = |judgement| move |judged: &Result<ProviderVerdict, CodeVerifierError>| *judged == Ok(judgement);
    type Meaning<'a> = &'a dyn Fn(&Result<ProviderVerdict, CodeVerifierError>) -> bool;
    let table: [(Answer, Meaning); 15] = [
        (Answer::Error(400, 60200), &is(ProviderVerdict::Wrong)),
        (Answer::Error(429, 60202), &is(ProviderVerdict::TooManyTries)),
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
        verify.send(&Letter::to(ALICE).message()).await.expect("accepted");
        fake.next([answer]);
        let judged = check(&verify, Some(VE), &fake.code(ALICE)).await;
        assert!(meaning(&judged), "{answer:?}: {judged:?}");
        assert_says_nothing(&format!("{judged:?}"));
    }
}

#[tokio::test]
async fn a_service_that_was_deleted_is_told_from_a_code_that_is_over() {
    let fake = FakeVerify::start();
    let verify = adapter(&fake);
    verify.send(&Letter::to(ALICE).message()).await.expect("accepted");
    fake.expire();
    assert_eq!(check(&verify, Some(VE), "482913").await, Ok(ProviderVerdict::Gone));
    assert!(verify.is_there().await.is_ok());
    fake.delete_service();
    assert_eq!(check(&verify, Some(VE), "482913").await, Ok(ProviderVerdict::Gone), "it says no more");
    let gone = verify.is_there().await;
    assert!(matches!(gone, Err(CredentialError::Refused { status: 404, code: Some(20404) })), "{gone:?}");
    assert_says_nothing(&format!("{gone:?}"));
}

#[tokio::test]
async fn what_was_never_heard_of_was_not_compared() {
    let fake = FakeVerify::start();
    let base_url = fake.base_url();
    drop(fake);
    let judged = check(&adapter_at(base_url, Duration::from_secs(2)), Some(VE), "482913").await;
    assert!(matches!(judged, Err(CodeVerifierError::NotCompared(_))), "{judged:?}");
}

#[tokio::test]
async fn only_an_answer_that_was_read_says_that_a_code_was_told() {
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
