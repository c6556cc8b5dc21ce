//! The adapter for Twilio's Messages API over HTTP.

mod answers;
mod callbacks;
mod credentials;
mod lookups;
mod redaction;
mod requests;

use std::time::Duration;

use otpost::domain::send_failure::SendFailure;
use otpost::provider::twilio::messages::TwilioMessages;
use otpost::provider::twilio::{Authentication, Retention, Sender, TwilioSettings};
use otpost::provider::{Accepted, Provider};

use crate::contract::provider::Draft;
use crate::fake_twilio::{ACCOUNT_SID, API_KEY, AUTH_TOKEN, FakeTwilio};

const ALICE: &str = "+573001234567";
const SENDER: &str = "+15005550006";

/// Settings that work with the fake.
pub fn settings(twilio: &FakeTwilio) -> TwilioSettings {
    settings_at(twilio.base_url())
}

fn settings_at(base_url: String) -> TwilioSettings {
    // Fails harmlessly if another test installed it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    TwilioSettings {
        account_sid: ACCOUNT_SID.to_owned(),
        authentication: token(),
        sender: Sender::Numbers(vec![SENDER.to_owned()]),
        base_url,
        timeout: Duration::from_secs(5),
        status_callback: None,
        retention: Retention::ALL,
    }
}

fn token() -> Authentication {
    Authentication { user: ACCOUNT_SID.to_owned(), password: AUTH_TOKEN.into() }
}

fn api_key() -> Authentication {
    Authentication { user: API_KEY.0.to_owned(), password: API_KEY.1.into() }
}

fn adapter(settings: &TwilioSettings) -> TwilioMessages {
    TwilioMessages::new(settings.clone()).expect("the settings should do")
}

async fn send(settings: &TwilioSettings) -> Result<Accepted, SendFailure> {
    adapter(settings).send(&Draft::to(ALICE).message()).await
}

/// No URL, no number, no text, no credential.
#[track_caller]
fn assert_has_no_secret(text: &str) {
    for secret in
        ["127.0.0.1", "http:", "/2010", "57300", "123456", "Hola", ACCOUNT_SID, AUTH_TOKEN, API_KEY.1, SENDER]
    {
        assert!(!text.contains(secret), "{text:?} contains {secret:?}");
    }
}
