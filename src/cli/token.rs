//! `otpost token`: a token to try things out with.

use std::time::Duration;

use super::{Exit, say};
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::phone::PhoneNumber;
use crate::http::development_token;

pub(super) fn run(settings: &Settings, phone: &str, scope: Option<&str>, minutes: u32) -> Exit {
    if !settings.is_development() {
        eprintln!("otpost: tokens are made in development only; set ENVIRONMENT=development");
        return Exit::Unusable;
    }
    if let Err(fault) = PhoneNumber::parse(phone, settings.default_region) {
        eprintln!("otpost: --phone {fault}");
        return Exit::Unusable;
    }
    let expires = Clock::System.now().plus(Duration::from_secs(60 * u64::from(minutes)));
    let phone = scope.is_none().then_some(phone);
    let token = settings.jwt.as_ref().and_then(|jwt| development_token(jwt, phone, scope, expires));
    match token {
        Some(token) => {
            say(&token);
            Exit::Done
        }
        None => {
            eprintln!(
                "otpost: tokens are checked with a public key (JWT_PUBLIC_KEY or JWT_JWKS_URL); \
                 whoever has the private one makes them"
            );
            Exit::Unusable
        }
    }
}
