//! Checks of credentials and settings.

use std::time::Duration;

use otpost::provider::twilio::messages::TwilioMessages;
use otpost::provider::twilio::{Authentication, Sender, TwilioSettings};
use otpost::provider::{CredentialError, Provider};

use super::{adapter, api_key, assert_has_no_secret, settings, settings_at, token};
use crate::fake_twilio::{Answer, FakeTwilio};

async fn checked(authentication: Authentication, answers: Vec<Answer>) -> Result<(), CredentialError> {
    let twilio = FakeTwilio::start();
    twilio.next(answers);
    let settings =
        TwilioSettings { authentication, timeout: Duration::from_millis(500), ..settings(&twilio) };
    let verdict = adapter(&settings).check_credentials().await;
    assert_eq!(twilio.only_request().method, "GET", "a check sends nothing");
    if let Err(fault) = &verdict {
        assert_has_no_secret(&format!("{fault} {fault:?}"));
    }
    verdict
}

#[tokio::test]
async fn good_credentials_pass_and_wrong_ones_are_refused() {
    checked(token(), vec![]).await.expect("the token is good");
    let verdict = checked(Authentication { password: "wrong".into(), ..token() }, vec![]).await;
    assert!(
        matches!(verdict, Err(CredentialError::Refused { status: 401, provider_code: Some(20003) })),
        "{verdict:?}"
    );
    for (status, code) in [(403, 20005), (404, 20404)] {
        let verdict = checked(token(), vec![Answer::error(status, code)]).await;
        let Err(CredentialError::Refused { status: seen, provider_code: seen_code }) = verdict else {
            panic!("refused, not {verdict:?}")
        };
        assert_eq!((seen, seen_code), (status, Some(code)));
    }
}

#[tokio::test]
async fn a_standard_api_key_passes_although_it_may_not_read_the_account() {
    checked(api_key(), vec![]).await.expect("the key is good");
}

#[tokio::test]
async fn an_api_key_that_may_only_send_cannot_be_checked() {
    let verdict = checked(api_key(), vec![Answer::error(401, 70051)]).await;
    assert!(matches!(verdict, Err(CredentialError::MayNotRead { provider_code: 70051 })), "{verdict:?}");
}

#[tokio::test]
async fn test_credentials_are_refused_because_they_deliver_nothing() {
    let verdict = checked(token(), vec![Answer::error(403, 20008)]).await;
    assert!(
        matches!(verdict, Err(CredentialError::Refused { provider_code: Some(20008), .. })),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn an_outage_says_nothing_about_credentials() {
    let outages = [Answer::error(500, 20500), Answer::Throttle(None), Answer::Hang, Answer::AcceptThenClose];
    for answer in outages {
        let verdict = checked(token(), vec![answer.clone()]).await;
        assert!(matches!(verdict, Err(CredentialError::Unanswered(_))), "{answer:?}: {verdict:?}");
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_without_their_values() {
    type Change = fn(&mut TwilioSettings);
    let changes: [Change; 12] = [
        |s| s.account_sid = "AC-hunter2".to_owned(),
        |s| s.account_sid = "../../AC-hunter2".to_owned(),
        |s| s.authentication.password = String::new().into(),
        |s| s.authentication.user = "AC-hunter2".to_owned(),
        |s| s.sender = Sender::Numbers(vec![]),
        |s| s.sender = Sender::MessagingService("MG-hunter2".to_owned()),
        |s| s.base_url = "hunter2".to_owned(),
        |s| s.base_url = "https://user:hunter2@api.twilio.com".to_owned(),
        |s| s.status_callback = Some("https://hunter2_.example/".to_owned()),
        |s| s.status_callback = Some("https://hunter2.example/?a=1".to_owned()),
        |s| s.status_callback = Some("https://user:hunter2@otp.example/".to_owned()),
        |s| s.timeout = Duration::ZERO,
    ];
    for (nth, change) in changes.into_iter().enumerate() {
        let mut settings = settings_at("https://api.twilio.com".to_owned());
        change(&mut settings);
        let Err(fault) = TwilioMessages::new(settings) else { panic!("setting {nth} was taken") };
        let said = format!("{fault} {fault:?}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}
