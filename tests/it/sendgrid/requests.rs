//! The requests to SendGrid.

use std::time::Duration;

use otpost::domain::send_failure::{Scope, SendFailure};
use otpost::provider::sendgrid::{SendGridMail, SendGridSettings};
use otpost::provider::{LookupError, Provider as _};
use serde_json::json;

use super::{ANA, HTML, TEXT, adapter, send, send_by, settings_at};
use crate::contract::provider::Draft;
use crate::fake_sendgrid::{API_KEY, FakeSendGrid};

#[tokio::test]
async fn an_email_is_one_json_body_with_only_the_needed_fields() {
    let fake = FakeSendGrid::start();
    send(&fake).await.expect("accepted");
    let [request] = fake.requests().try_into().expect("one request");
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v3/mail/send"));
    assert_eq!(request.headers["authorization"], format!("Bearer {API_KEY}"));
    assert_eq!(request.headers["content-type"], "application/json");
    let off = json!({"enable": false});
    let expected = json!({
        "personalizations": [{
            "to": [{"email": ANA}],
            "custom_args": {"otpost_request": "order-7/\"r\"", "otpost_attempt": "2"},
        }],
        "from": {"email": "codes@shop.example", "name": "MeStore Señal"},
        "subject": "Tu código de MeStore",
        "content": [{"type": "text/plain", "value": TEXT}, {"type": "text/html", "value": HTML}],
        "tracking_settings": {
            "click_tracking": {"enable": false, "enable_text": false},
            "open_tracking": off, "subscription_tracking": off, "ganalytics": off,
        },
    });
    assert_eq!(request.json(), expected);
    let other_fields =
        json!([expected["personalizations"], expected["subject"], expected["from"]]).to_string();
    assert!(!other_fields.contains("123456"), "the code is in the text alone");
}

#[tokio::test]
async fn a_sender_without_a_name_has_none_and_a_subject_stays_one_string() {
    let fake = FakeSendGrid::start();
    let from = "codes@shop.example".parse().expect("a sender");
    let adapter = adapter(SendGridSettings { from, ..settings_at(format!("{}/", fake.base_url())) });
    let subject = "a\r\nBcc: bob@shop.example";
    send_by(&adapter, subject).await.expect("accepted");
    let [mail] = fake.mails().try_into().expect("one e-mail");
    assert_eq!(mail.json()["from"], json!({"email": "codes@shop.example"}));
    assert_eq!(mail.json()["subject"], subject, "SendGrid gets it as text, and not as lines");
    assert!(!String::from_utf8_lossy(&mail.body).contains('\n'));
}

#[tokio::test]
async fn a_text_message_is_refused_without_a_request() {
    let fake = FakeSendGrid::start();
    let adapter = adapter(settings_at(fake.base_url()));
    let refused = adapter.send(&Draft::to("+573001234567").message()).await;
    assert_eq!(refused, Err(SendFailure::refused(Scope::Request, None)));
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn a_sent_email_cannot_be_looked_up() {
    let fake = FakeSendGrid::start();
    let adapter = adapter(settings_at(fake.base_url()));
    let not_shown = LookupError::Refused { status: 0, provider_code: None };
    assert_eq!(
        adapter.find(&Draft::to("+573001234567").to, Default::default()).await.err(),
        Some(not_shown.clone())
    );
    assert_eq!(adapter.fetch("LRzXl_NHStOGhQ4kofSm_A").await, Err(not_shown));
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_without_their_values() {
    let changes: [fn(&mut SendGridSettings); 6] = [
        |s| s.api_key = "".into(),
        |s| s.api_key = "SG.hunter2\r\nX: y".into(),
        |s| s.base_url = "hunter2".to_owned(),
        |s| s.base_url = "https://user:hunter2@api.sendgrid.com".to_owned(),
        |s| s.base_url = "https://api.sendgrid.com?hunter2".to_owned(),
        |s| s.timeout = Duration::ZERO,
    ];
    for (nth, change) in changes.into_iter().enumerate() {
        let mut settings = settings_at("https://api.sendgrid.com".to_owned());
        change(&mut settings);
        let Err(fault) = SendGridMail::new(settings) else { panic!("setting {nth} was taken") };
        let said = format!("{fault} {fault:?}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}
