//! The adapter for Twilio Verify over HTTP.

mod attempts;
mod checks;
mod run;
mod sends;

use std::time::Duration;

use otpost::provider::twilio::Authentication;
use otpost::provider::twilio::verify::{TwilioVerify, VerifySettings};

use crate::fake_twilio::{ACCOUNT_SID, AUTH_TOKEN};
use crate::fake_verify::{FakeVerify, SERVICE_SID};
use crate::real::install_crypto;

const ALICE: &str = "+573001234567";

fn adapter(fake: &FakeVerify) -> TwilioVerify {
    adapter_at(fake.base_url(), Duration::from_secs(5))
}

fn adapter_at(base_url: String, timeout: Duration) -> TwilioVerify {
    TwilioVerify::new(&settings(base_url, timeout)).expect("the settings should do")
}

fn settings(base_url: String, timeout: Duration) -> VerifySettings {
    install_crypto();
    VerifySettings {
        account_sid: ACCOUNT_SID.to_owned(),
        authentication: Authentication { user: ACCOUNT_SID.to_owned(), password: AUTH_TOKEN.into() },
        service_sid: SERVICE_SID.to_owned(),
        base_url,
        timeout,
    }
}

/// No URL, no number, no code, no credential.
#[track_caller]
fn assert_has_no_secret(text: &str) {
    for secret in ["127.0.0.1", "http:", "/v2", "57300", "482913", SERVICE_SID, ACCOUNT_SID, AUTH_TOKEN] {
        assert!(!text.contains(secret), "{text:?} contains {secret:?}");
    }
}
