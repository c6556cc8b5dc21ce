//! `otpost token`: a token for development.

use std::time::Duration;

use super::output::{Exit, say};
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::http::development_token;

const DEFAULT_PHONE: &str = "+573001234567";

pub(super) fn run(
    settings: &Settings,
    phone: Option<&str>,
    email: Option<&str>,
    scope: Option<&str>,
    minutes: u32,
) -> Exit {
    if !settings.is_development() {
        eprintln!("otpost: tokens are made in development only; set ENVIRONMENT=development");
        return Exit::Unusable;
    }
    for (name, channel, given) in [("--phone", Channel::Sms, phone), ("--email", Channel::Email, email)] {
        let parsed = given.map(|text| Address::parse_for(channel, text, settings.default_region));
        if let Some(Err(error)) = parsed {
            eprintln!("otpost: {name} {error}");
            return Exit::Unusable;
        }
    }
    let expires = Clock::System.now().plus(Duration::from_secs(60 * u64::from(minutes)));
    let phone = phone.or_else(|| (email.is_none() && scope.is_none()).then_some(DEFAULT_PHONE));
    let token = settings.jwt.as_ref().and_then(|jwt| development_token(jwt, phone, email, scope, expires));
    match token {
        Some(token) => {
            say(&token);
            Exit::Done
        }
        None => {
            eprintln!(
                "otpost: tokens are verified with a public key (JWT_PUBLIC_KEY or JWT_JWKS_URL); \
                 only the holder of the private key can make one"
            );
            Exit::Unusable
        }
    }
}
