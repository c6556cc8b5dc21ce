//! The SendGrid adapter over HTTP.

mod answers;
mod events;
mod requests;
mod run;

use std::time::Duration;

use otpost::domain::address::Address;
use otpost::domain::code::Code;
use otpost::domain::email::EmailAddress;
use otpost::domain::request_id::RequestId;
use otpost::domain::send_failure::SendFailure;
use otpost::provider::sendgrid::{SendGridMail, SendGridSettings};
use otpost::provider::{Accepted, Mail, Message, Provider as _};

use crate::fake_sendgrid::{API_KEY, FakeSendGrid};
use crate::real;

const ANA: &str = "ana@shop.example";
const TEXT: &str = "MeStore: Hola Ana & Co, tu código es 123456.\nNo compartir. \u{1f512}";
const HTML: &str = "<p>tu c\u{f3}digo es <b>123456</b></p>";

pub fn settings_at(base_url: String) -> SendGridSettings {
    real::install_crypto();
    SendGridSettings {
        api_key: API_KEY.into(),
        from: "MeStore Señal <codes@shop.example>".parse().expect("a sender"),
        base_url,
        timeout: Duration::from_secs(5),
    }
}

fn adapter(settings: SendGridSettings) -> SendGridMail {
    SendGridMail::new(settings).expect("the settings should do")
}

async fn send_by(adapter: &SendGridMail, subject: &str) -> Result<Accepted, SendFailure> {
    let to: Address = EmailAddress::parse(ANA).expect("an address").into();
    let message = Message {
        request_id: &RequestId::parse("order-7/\"r\"").expect("valid"),
        to: &to,
        sender: 0,
        body: TEXT,
        mail: Some(Mail { subject, html: HTML }),
        code: Some(&Code::parse("123456").expect("valid")),
        locale: None,
        user_name: Some("Ana"),
        validity: Duration::from_secs(600),
        attempt: 2,
    };
    adapter.send(&message).await
}

async fn send(fake: &FakeSendGrid) -> Result<Accepted, SendFailure> {
    send_by(&adapter(settings_at(fake.base_url())), "Tu código de MeStore").await
}

/// No URL, no address, no text, no credential.
#[track_caller]
fn assert_has_no_secret(text: &str) {
    for secret in ["127.0.0.1", "http:", "/v3", "shop.example", "123456", "Hola", API_KEY] {
        assert!(!text.contains(secret), "{text:?} contains {secret:?}");
    }
}
