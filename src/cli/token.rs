//! `otpost token`: a token for development.

use std::time::Duration;

use super::output::{Exit, print_json, say};
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::http::development_token;

const DEFAULT_PHONE: &str = "+573001234567";

/// The scopes that otpost knows.
const SCOPES: [&str; 3] = ["otp:send", "otp:verify", "otp:admin"];

#[derive(serde::Serialize)]
struct TokenRow<'a> {
    token: &'a str,
    expires_at: String,
}

/// Refuses a misspelt scope: its token would be refused by every endpoint.
pub(super) fn scopes(text: &str) -> Result<String, String> {
    match text.split_whitespace().find(|word| !SCOPES.contains(word)) {
        Some(word) => Err(format!("`{word}` is no scope of otpost; there are {}", SCOPES.join(", "))),
        None => Ok(text.split_whitespace().collect::<Vec<_>>().join(" ")),
    }
}

pub(super) fn run(
    settings: &Settings,
    phone: Option<&str>,
    email: Option<&str>,
    scope: Option<&str>,
    minutes: u32,
    json: bool,
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
            if json {
                print_json(&[TokenRow { token: &token, expires_at: expires.to_string() }]);
            } else {
                say(&token);
            }
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
