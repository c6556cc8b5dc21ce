//! Texts and numbers that Twilio does not keep: by the settings of a message, and by redaction afterwards.

use otpost::clock::Clock;
use otpost::domain::time::UnixMillis;
use otpost::provider::twilio::{Retention, Sender, TwilioSettings};
use otpost::provider::{LookupError, Provider, Redacted, UnredactedMessages};
use serde_json::json;

use super::{ALICE, SENDER, adapter, assert_has_no_secret, send, settings};
use crate::contract::provider::Draft;
use crate::fake_twilio::{Answer, FakeTwilio};

fn discarding(twilio: &FakeTwilio) -> TwilioSettings {
    TwilioSettings { retention: Retention { keeps_texts: false, keeps_addresses: true }, ..settings(twilio) }
}

fn obfuscating(twilio: &FakeTwilio) -> TwilioSettings {
    TwilioSettings { retention: Retention { keeps_texts: true, keeps_addresses: false }, ..settings(twilio) }
}

fn delivered(twilio: &FakeTwilio, body: &str) -> String {
    twilio.add(ALICE, SENDER, body, |message| message["status"] = "delivered".into())
}

fn body(twilio: &FakeTwilio, sid: &str) -> String {
    let mut body = String::new();
    twilio.change(sid, |message| body = message["body"].as_str().expect("a text").to_owned());
    body
}

#[tokio::test]
async fn a_discarded_text_is_not_kept_and_its_message_matches_by_time_and_sender() {
    let twilio = FakeTwilio::start();
    let sent = send(&discarding(&twilio)).await.expect("accepted").message_id.expect("named");
    let request = twilio.only_request();
    assert_eq!(request.field("ContentRetention"), Some("discard"));
    assert_eq!(request.field("AddressRetention"), None);
    assert_eq!(body(&twilio, &sent), "");
    twilio.add(ALICE, "+15005550999", "", |_| {});
    let since = UnixMillis(Clock::System.now().0 - 5_000);
    let found = adapter(&discarding(&twilio)).find(&Draft::to(ALICE).to, since).await.expect("an answer");
    let found: Vec<_> = found.into_iter().map(|message| (message.message_id, message.text)).collect();
    assert_eq!(found, [(sent, None)], "of our sender alone");
}

#[tokio::test]
async fn without_numbers_at_twilio_no_lookup_is_made_by_number() {
    let twilio = FakeTwilio::start();
    let settings = obfuscating(&twilio);
    let sent = send(&settings).await.expect("accepted").message_id.expect("named");
    assert_eq!(twilio.only_request().field("AddressRetention"), Some("obfuscate"));
    let adapter = adapter(&settings);
    let lookup = adapter.find(&Draft::to(ALICE).to, UnixMillis(0)).await.map(|found| found.len());
    assert_eq!(lookup, Err(LookupError::Refused { status: 0, provider_code: None }));
    assert_eq!(twilio.requests().len(), 1);
    let fetched = adapter.fetch(&sent).await.expect("its SID finds it");
    assert_eq!(fetched.to, None, "its last digits are masked");
}

#[tokio::test]
async fn only_kept_texts_of_our_senders_are_listed_over_all_pages() {
    let twilio = FakeTwilio::start();
    twilio.page_rows(2);
    let kept: Vec<String> = (0..5).map(|nth| delivered(&twilio, &format!("tu codigo es {nth}"))).collect();
    delivered(&twilio, "");
    twilio.add(ALICE, "+15005550999", "of another program", |_| {});
    twilio.add("+573109876543", SENDER, "to another person", |_| {});
    let listed = adapter(&settings(&twilio)).list_unredacted(&Draft::to(ALICE).to).await.expect("an answer");
    let newest_first = kept.into_iter().rev().collect();
    assert_eq!(listed, UnredactedMessages { message_ids: newest_first, are_all: true });
}

#[tokio::test]
async fn a_listing_ends_after_a_thousand_messages_and_an_unusable_one_is_unanswered() {
    let twilio = FakeTwilio::start();
    for nth in 0..1_001 {
        delivered(&twilio, &format!("tu codigo es {nth}"));
    }
    let adapter = adapter(&settings(&twilio));
    let to = Draft::to(ALICE).to;
    let listed = adapter.list_unredacted(&to).await.expect("an answer");
    assert_eq!((listed.message_ids.len(), listed.are_all), (1_000, false));
    listed.message_ids.iter().for_each(|sid| twilio.redact(sid));
    let rest = adapter.list_unredacted(&to).await.expect("an answer");
    assert_eq!((rest.message_ids.len(), rest.are_all), (1, true), "the next call reaches the others");
    for answer in [Answer::Throttle(None), Answer::error(500, 20500), Answer::Status(200, json!({}))] {
        twilio.next([answer]);
        let fault = adapter.list_unredacted(&to).await.expect_err("no list");
        assert!(matches!(fault, LookupError::Unanswered(_)), "{fault:?}");
        assert_has_no_secret(&format!("{fault} {fault:?}"));
    }
    twilio.next([Answer::error(401, 20003)]);
    let refused = Err(LookupError::Refused { status: 401, provider_code: Some(20003) });
    assert_eq!(adapter.list_unredacted(&to).await, refused);
}

#[tokio::test]
async fn a_text_goes_once_its_message_is_sent_and_not_before() {
    let twilio = FakeTwilio::start();
    let adapter = adapter(&settings(&twilio));
    let sid = twilio.add(ALICE, SENDER, "tu codigo es 123456", |_| {});
    for (status, expected) in [
        ("queued", Redacted::TooEarly),
        ("sending", Redacted::TooEarly),
        ("sent", Redacted::Done),
        ("delivered", Redacted::Done),
    ] {
        twilio.change(&sid, |message| message["status"] = status.into());
        assert_eq!(adapter.redact(&sid).await, Ok(expected), "{status}");
        assert_eq!(body(&twilio, &sid).is_empty(), expected == Redacted::Done, "{status}");
    }
    assert!(twilio.sids().contains(&sid), "the message itself stays");
}

#[tokio::test]
async fn a_message_that_twilio_has_not_finished_comes_again_and_an_unknown_one_is_not_deleted() {
    let twilio = FakeTwilio::start();
    let adapter = adapter(&settings(&twilio));
    let sid = delivered(&twilio, "tu codigo es 123456");
    twilio.next([Answer::Normal, Answer::error(409, 20009)]);
    assert_eq!(adapter.redact(&sid).await, Ok(Redacted::TooEarly));
    twilio.next([Answer::Normal, Answer::Throttle(Some("3".to_owned()))]);
    let fault = adapter.redact(&sid).await.expect_err("throttled");
    assert!(matches!(fault, LookupError::Unanswered(_)), "{fault:?}");
    assert_has_no_secret(&format!("{fault} {fault:?}"));
    twilio.next([Answer::Normal, Answer::error(403, 20403)]);
    let refused = Err(LookupError::Refused { status: 403, provider_code: Some(20403) });
    assert_eq!(adapter.redact(&sid).await, refused);
    let unknown = adapter.redact("SM000000000000000000000000000000ff").await;
    assert_eq!(unknown, Err(LookupError::NotFound), "it may be another account's");
    let asked = twilio.requests().len();
    assert_eq!(adapter.redact("../Accounts").await, Err(LookupError::NotFound));
    assert_eq!(twilio.requests().len(), asked, "another text would change the path");
    twilio.next([Answer::Normal, Answer::error(404, 20404)]);
    assert_eq!(adapter.redact(&sid).await, Ok(Redacted::Done), "this account had it a moment ago");
    assert_eq!(adapter.redact(&sid).await, Ok(Redacted::Done));
}

#[tokio::test]
async fn a_messaging_service_lists_its_own_messages_alone() {
    let twilio = FakeTwilio::start();
    let service = "MG00000000000000000000000000000003";
    let sender = Sender::MessagingService(service.to_owned());
    let ours = twilio.add(ALICE, SENDER, "ours", |message| message["messaging_service_sid"] = service.into());
    delivered(&twilio, "of a number");
    let adapter = adapter(&TwilioSettings { sender, ..settings(&twilio) });
    let listed = adapter.list_unredacted(&Draft::to(ALICE).to).await.expect("an answer");
    assert_eq!(listed.message_ids, [ours]);
}
