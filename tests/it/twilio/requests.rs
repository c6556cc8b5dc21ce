//! The requests to Twilio.

use std::time::Duration;

use otpost::domain::request_id::RequestId;
use otpost::provider::Provider;
use otpost::provider::twilio::{Sender, TwilioSettings};

use super::{ALICE, SENDER, adapter, api_key, send, settings, settings_at};
use crate::contract::provider::Draft;
use crate::fake_twilio::{ACCOUNT_SID, Answer, FakeTwilio};

#[tokio::test]
async fn a_message_is_requested_with_exactly_the_fields_of_the_api() {
    let twilio = FakeTwilio::start();
    let callback = "https://otp.example.co/webhooks/twilio/status?x=1&y=2#rc=5";
    let settings = TwilioSettings { status_callback: Some(callback.to_owned()), ..settings(&twilio) };
    let accepted = send(&settings).await.expect("accepted");
    assert_eq!(accepted.segments, Some(1));

    let request = twilio.only_request();
    assert_eq!(request.method, "POST");
    assert_eq!(request.path, format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json"));
    assert_eq!(request.headers["user-agent"], concat!("otpost/", env!("CARGO_PKG_VERSION")));
    let mut form = request.form.clone();
    form.sort();
    let expected = [
        ("Body", "MeStore: Hola Ana & Co, tu codigo es 123456. +100% ñ"),
        ("From", SENDER),
        ("StatusCallback", "https://otp.example.co/webhooks/twilio/status?x=1&y=2&r=r-1&a=1#rc=5"),
        ("To", ALICE),
        ("ValidityPeriod", "600"),
    ];
    assert_eq!(form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn every_attempt_of_every_request_has_its_own_callback_url() {
    let twilio = FakeTwilio::start();
    let callback = Some("https://otp.example.co/s".to_owned());
    let adapter = adapter(&TwilioSettings { status_callback: callback, ..settings(&twilio) });
    for (request, attempt, expected) in [
        ("order/17?x=1&a=9#top", 1, "https://otp.example.co/s?r=order%2F17%3Fx%3D1%26a%3D9%23top&a=1"),
        ("order", 12, "https://otp.example.co/s?r=order&a=12"),
    ] {
        let request = RequestId::parse(request).expect("an id");
        let draft = Draft { request, attempt, ..Draft::to(ALICE) };
        adapter.send(&draft.message()).await.expect("accepted");
        let last = twilio.requests().pop().expect("just sent");
        assert_eq!(last.field("StatusCallback"), Some(expected));
    }
}

#[tokio::test]
async fn a_messaging_service_stands_in_for_a_number_and_does_not_count_segments() {
    let twilio = FakeTwilio::start();
    let service = "MG00000000000000000000000000000003";
    let sender = Sender::MessagingService(service.to_owned());
    let accepted = send(&TwilioSettings { sender, ..settings(&twilio) }).await.expect("accepted");
    assert_eq!(accepted.segments, None);
    assert_eq!(twilio.only_request().field("MessagingServiceSid"), Some(service));
}

#[tokio::test]
async fn an_api_key_signs_for_the_account_in_the_path() {
    let twilio = FakeTwilio::start();
    let settings = TwilioSettings { authentication: api_key(), ..settings(&twilio) };
    send(&settings).await.expect("accepted");
    assert!(twilio.only_request().path.contains(ACCOUNT_SID));
}

#[tokio::test]
async fn a_base_url_may_have_a_path_of_its_own() {
    let twilio = FakeTwilio::start();
    for base in ["/", "/gateway", "/gateway/"] {
        let settings = settings_at(format!("{}{base}", twilio.base_url()));
        twilio.next([Answer::AcceptWith("{}".to_owned())]);
        send(&settings).await.expect("accepted");
    }
    let paths: Vec<_> = twilio.requests().into_iter().map(|request| request.path).collect();
    let end = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json");
    assert_eq!(paths, [end.clone(), format!("/gateway{end}"), format!("/gateway{end}")]);
}

#[tokio::test]
async fn a_message_is_sent_from_its_assigned_sender() {
    let twilio = FakeTwilio::start();
    // A number, a short code and a sender name; spaces around them are removed.
    let senders = ["+15005550006", " 85432", "MeStore CO"];
    let settings =
        TwilioSettings { sender: Sender::Numbers(senders.map(str::to_owned).to_vec()), ..settings(&twilio) };
    let adapter = adapter(&settings);
    assert_eq!(adapter.senders(), 3);
    for sender in [0, 2, 1, 0] {
        adapter.send(&Draft { sender, ..Draft::to(ALICE) }.message()).await.expect("accepted");
        let last = twilio.requests().pop().expect("just sent");
        assert_eq!(last.field("From"), Some(senders[sender].trim()));
        assert_eq!(last.field("MessagingServiceSid"), None);
    }
}

#[tokio::test]
async fn a_validity_is_sent_in_whole_seconds_within_twilios_bounds() {
    let twilio = FakeTwilio::start();
    let adapter = adapter(&settings(&twilio));
    for (validity, expected) in [(59_999, "59"), (400, "1"), (100_000_000, "36000")] {
        let draft = Draft { validity: Duration::from_millis(validity), ..Draft::to(ALICE) };
        adapter.send(&draft.message()).await.expect("accepted");
        let last = twilio.requests().pop().expect("just sent");
        assert_eq!(last.field("ValidityPeriod"), Some(expected));
    }
}
