//! The contract of a provider, for each file of `providers/`: requests, acceptances and refusals.

use std::time::Duration;

use otpost::domain::send_failure::{RefusalReason, Scope, SendFailure};
use otpost::provider::{CredentialError, LOOKUP_UNSUPPORTED, Provider as _};

use super::{NO_ONES_KEY, VENDORS, Vendor, read, reference_in};
use crate::contract::provider::Draft;
use crate::fake_vendor::{Answer, FakeVendor};

const NUMBER: &str = "+573001234567";

#[test]
fn every_shipped_file_is_tested() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/providers");
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    names.sort();
    let mut tested = VENDORS.map(|vendor| format!("{}.toml", vendor.name));
    tested.sort();
    assert_eq!(names, tested);
}

#[tokio::test]
async fn every_vendor_gets_the_number_the_text_and_the_credentials_and_accepts() {
    for vendor in VENDORS {
        let fake = vendor.fake();
        let provider = vendor.described(&fake, NO_ONES_KEY).provider;
        assert_eq!(provider.name(), vendor.name);
        provider.check_credentials().await.expect("the credentials are good");
        let [check] = fake.requests().try_into().expect("the check");
        assert_eq!((check.method.as_str(), check.body.len()), ("GET", 0), "{}", vendor.name);
        for body in ["MeStore: Hola Ana & Co, tu codigo es 123456. +100% ñ", "код 123456"] {
            let draft = Draft { body: body.to_owned(), ..Draft::to(NUMBER) };
            let accepted = provider.send(&draft.message()).await.expect(vendor.name);
            assert_eq!(accepted.message_id.as_deref(), Some(vendor.id), "{}", vendor.name);
        }
        let requests = fake.requests().split_off(1);
        let shown = format!("{:?} {}", requests[0].headers, String::from_utf8_lossy(&requests[0].body));
        assert!(shown.contains("573001234567"), "{}: {shown}", vendor.name);
        let signed = vendor.name == "webhook";
        assert!(signed || shown.contains("secret-of-"), "{}: {shown}", vendor.name);
        assert!(!reference_in(&requests[0]).is_empty());
        let found = provider.find(&Draft::to(NUMBER).to, otpost::domain::time::UnixMillis(0)).await;
        assert_eq!(found.map(|found| found.len()), Err(LOOKUP_UNSUPPORTED));
    }
}

#[tokio::test]
async fn texts_go_out_as_each_vendor_encodes_them() {
    let latin = "MeStore: Hola Ana & Co, tu codigo es 123456. +100% ñ";
    for (name, field) in [("vonage", "text"), ("jasmin", "content")] {
        let vendor = Vendor::named(name);
        let fake = vendor.fake();
        let provider = vendor.described(&fake, NO_ONES_KEY).provider;
        provider.send(&Draft::to(NUMBER).message()).await.expect("accepted");
        let cyrillic = Draft { body: "код".to_owned(), ..Draft::to(NUMBER) };
        provider.send(&cyrillic.message()).await.expect("accepted");
        let [first, second] = fake.requests().try_into().expect("two requests");
        assert_eq!(first.field(field), Some(latin));
        match name {
            "vonage" => {
                assert_eq!((first.field("type"), second.field("type")), (Some("text"), Some("unicode")));
                assert_eq!(first.field("ttl"), Some("600000"));
                assert_eq!(first.field("api_secret"), Some("secret-of-VONAGE_API_SECRET"));
            }
            _ => {
                assert_eq!((first.field("coding"), second.field("coding")), (Some("0"), Some("8")));
                assert_eq!(
                    (second.field("hex-content"), second.field("content")),
                    (Some("043A043E0434"), None)
                );
                assert_eq!(first.field("hex-content"), None);
            }
        }
    }
    let vendor = Vendor::named("infobip");
    let fake = vendor.fake();
    vendor.described(&fake, NO_ONES_KEY).provider.send(&Draft::to(NUMBER).message()).await.expect("accepted");
    let [request] = fake.requests().try_into().expect("one request");
    assert_eq!(request.headers["authorization"], "App secret-of-INFOBIP_API_KEY");
    let message = &request.json()["messages"][0];
    assert_eq!(message["content"]["text"], latin);
    assert_eq!(message["destinations"][0]["to"], "573001234567");
    assert_eq!(message["sender"], "MeStore");
}

/// The answer of the vendor, and the failure that it stands for.
async fn check(name: &str, status: u16, body: &str, expected: SendFailure) {
    let vendor = Vendor::named(name);
    let fake = vendor.fake();
    fake.next(Answer::Status(status, "Retry-After: 7\r\n", body.to_owned()));
    let sent = vendor.described(&fake, NO_ONES_KEY).provider.send(&Draft::to(NUMBER).message()).await;
    assert_eq!(sent, Err(expected), "{name}: {status} {body}");
}

fn refused(scope: Scope, provider_code: Option<u32>) -> SendFailure {
    SendFailure::refused(scope, provider_code)
}

#[tokio::test]
async fn every_refusal_of_a_vendor_has_its_class() {
    let infobip = |id: u32, name: &str| {
        format!(r#"{{"messages":[{{"status":{{"groupName":"REJECTED","id":{id},"name":"{name}"}}}}]}}"#)
    };
    for (id, name, scope) in [
        (52, "REJECTED_DESTINATION", Scope::Recipient),
        (6, "REJECTED_NETWORK", Scope::Country),
        (11, "REJECTED_SOURCE", Scope::Sender),
        (7, "REJECTED_ROUTE_NOT_AVAILABLE", Scope::Country),
        (12, "REJECTED_NOT_ENOUGH_CREDITS", Scope::Account),
        (25, "REJECTED_MESSAGE_TOO_LONG", Scope::Request),
    ] {
        check("infobip", 200, &infobip(id, name), refused(scope, Some(id))).await;
    }
    let opted_out = SendFailure::Refused {
        scope: Scope::Recipient,
        reason: RefusalReason::OptedOut,
        provider_code: Some(10),
    };
    check("infobip", 200, &infobip(10, "REJECTED_DND"), opted_out).await;
    check("infobip", 401, "{}", refused(Scope::Account, None)).await;
    for (status, code, scope) in [
        (400, 10_002, Scope::Recipient),
        (403, 10_002, Scope::Recipient),
        (403, 10_010, Scope::Request),
        (400, 10_015, Scope::Request),
        (401, 10_009, Scope::Account),
    ] {
        let body = format!(r#"{{"errors":[{{"code":"{code}","title":"no"}}]}}"#);
        check("telnyx", status, &body, refused(scope, Some(code))).await;
    }
    for (code, scope) in
        [(2, Scope::Request), (4, Scope::Account), (7, Scope::Recipient), (9, Scope::Account)]
    {
        let body = format!(r#"{{"message-count":"1","messages":[{{"status":"{code}","error-text":"no"}}]}}"#);
        check("vonage", 200, &body, refused(scope, Some(code))).await;
    }
    check("jasmin", 403, "Error \"Authentication failure for username:x\"", refused(Scope::Account, None))
        .await;
    check("jasmin", 403, "Error \"Auth", refused(Scope::Request, None)).await;
    check("jasmin", 412, "Error \"No route found\"", refused(Scope::Country, None)).await;
    check("jasmin", 400, "Error \"Argument x is unknown.\"", refused(Scope::Request, None)).await;
    for (status, scope) in [(404, Scope::Recipient), (422, Scope::Request), (401, Scope::Account)] {
        check("webhook", status, "", refused(scope, None)).await;
    }
    let nothing_sent = SendFailure::NotConnected { detail: "answered with HTTP 503".to_owned() };
    check("webhook", 503, "", nothing_sent).await;
}

/// A shipped file without its check.
fn without_check(vendor: &Vendor, fake: &FakeVendor) -> String {
    let text = vendor.text(fake);
    let (before, rest) = text.split_once("[providers.check]").expect("a check");
    let (_, after) = rest.split_once("[providers.answers]").expect("answers");
    format!("{before}[providers.answers]{after}")
}

#[tokio::test]
async fn an_account_is_refused_by_one_answer_only_with_a_check() {
    let vendor = Vendor::named("telnyx");
    let fake = vendor.fake();
    let Ok(file) = read(&without_check(&vendor, &fake)) else { panic!("a file") };
    fake.next(Answer::Status(401, "", "{}".to_owned()));
    let sent = file.provider.send(&Draft::to(NUMBER).message()).await;
    assert_eq!(sent, Err(refused(Scope::Unrecognised, None)));
    let unchecked = file.provider.check_credentials().await;
    assert!(matches!(unchecked, Err(CredentialError::NotShown { status: None })), "{unchecked:?}");
    assert_eq!(fake.requests().len(), 1, "nothing is asked without a check");
}

#[tokio::test]
async fn a_check_that_shows_nothing_of_the_account_is_neither_good_nor_a_refusal() {
    let vendor = Vendor::named("telnyx");
    let fake = vendor.fake();
    let provider = vendor.described(&fake, NO_ONES_KEY).provider;
    for (status, expected) in [
        (401, "refuses the credentials"),
        (403, "refuses the credentials"),
        (404, "nothing shows if the credentials are valid"),
        (405, "nothing shows if the credentials are valid"),
        (302, "nothing shows if the credentials are valid"),
        (429, "could not be checked"),
        (503, "could not be checked"),
    ] {
        fake.next(Answer::Status(status, "", String::new()));
        let error = provider.check_credentials().await.expect_err("no 2xx");
        assert!(error.to_string().contains(expected), "{status}: {error}");
        assert_eq!(error.is_refusal(), matches!(status, 401 | 403), "{status}");
    }
    fake.next(Answer::Close);
    let error = provider.check_credentials().await.expect_err("no answer");
    assert!(error.to_string().contains("could not be checked"), "{error}");
}

#[tokio::test]
async fn a_text_whose_second_part_may_have_been_accepted_is_in_doubt() {
    let body = r#"{"message-count":"2","messages":[{"status":"1"},{"status":"0"}]}"#;
    let in_doubt = SendFailure::InDoubt { detail: "answered with HTTP 200, code 1".to_owned() };
    check("vonage", 200, body, in_doubt).await;
}

#[tokio::test]
async fn a_throttled_send_waits_as_long_as_the_vendor_asks() {
    let throttled =
        |provider_code| SendFailure::Throttled { provider_code, retry_after: Some(Duration::from_secs(7)) };
    check("infobip", 429, "{}", throttled(None)).await;
    check("telnyx", 429, r#"{"errors":[{"code":"10011"}]}"#, throttled(Some(10_011))).await;
    check("vonage", 200, r#"{"messages":[{"status":"1"}]}"#, throttled(Some(1))).await;
    check("jasmin", 403, "Error \"User throughput exceeded\"", throttled(None)).await;
    check("webhook", 429, "", throttled(None)).await;
}

#[tokio::test]
async fn an_answer_without_a_meaning_leaves_the_message_in_doubt() {
    for vendor in VENDORS {
        let fake = vendor.fake();
        let provider = vendor.described(&fake, NO_ONES_KEY).provider;
        let whole = vendor.accepted.1;
        let answers = [
            (Answer::Status(500, "", "oops".to_owned()), false),
            (Answer::Status(302, "Location: /elsewhere\r\n", String::new()), false),
            (Answer::Status(504, "", whole.to_owned()), false),
            (Answer::Close, false),
            (Answer::Cut(vendor.accepted.0, whole[..whole.len() / 2].to_owned()), vendor.accepted_by_status),
        ];
        for (answer, is_accepted) in answers {
            fake.next(answer.clone());
            match provider.send(&Draft::to(NUMBER).message()).await {
                Ok(accepted) if is_accepted => assert_eq!(accepted.message_id, None),
                Err(SendFailure::InDoubt { detail }) if !is_accepted => {
                    for secret in ["127.0.0.1", "http:", "573001234567", "123456", "secret-of"] {
                        assert!(!detail.contains(secret), "{detail}");
                    }
                }
                other => panic!("{}: {answer:?}: {other:?}", vendor.name),
            }
        }
    }
}
