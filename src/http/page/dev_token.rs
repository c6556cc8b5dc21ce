//! Tokens for the page. In production, an issuer signs them after a login.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;

use crate::clock::Clock;
use crate::config::{Jwt, signing_secret};
use crate::domain::email::EmailAddress;
use crate::domain::phone::{PhoneNumber, Region};
use crate::http::body::Body;
use crate::http::problem::Problem;

const LIFETIME: Duration = Duration::from_secs(3_600);
/// The longest e-mail address (RFC 5321).
const ADDRESS_BYTES_MAX: usize = 254;

/// Signs tokens with the development key. If a key is configured, there is no signer.
pub(super) struct TokenSigner {
    key: EncodingKey,
    issuer: Option<String>,
    audience: Option<String>,
    /// The region of numbers without a country code.
    region: Region,
}

#[derive(Serialize)]
struct DevClaims<'a> {
    sub: String,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    exp: u64,
}

#[derive(Serialize)]
pub(super) struct DevTokenResponse {
    token: String,
    expires_in: u64,
    to: MaskedAddresses,
}

/// The addresses as all answers show them; `None` for an invalid one.
#[derive(Serialize)]
struct MaskedAddresses {
    phone_number: Option<String>,
    email: Option<String>,
}

impl TokenSigner {
    pub(super) fn new(jwt: &Jwt, region: Region) -> Option<TokenSigner> {
        let key = EncodingKey::from_secret(signing_secret(jwt)?.as_bytes());
        Some(TokenSigner { key, issuer: jwt.issuer.clone(), audience: jwt.audience.clone(), region })
    }
}

/// `POST /dev/token`: a token for a person with any number and e-mail address.
pub(super) async fn token(
    State(signer): State<Arc<Option<TokenSigner>>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Json<DevTokenResponse>, Problem> {
    let body = Body::read(&headers, &bytes)?;
    let text = |field| {
        let rule = format!("must be a string of at most {ADDRESS_BYTES_MAX} bytes");
        body.optional(field, &rule, |text| (text.len() <= ADDRESS_BYTES_MAX).then(|| text.to_owned()))
    };
    let (phone_number, email, locale) = (text("phone_number")?, text("email")?, text("locale")?);
    let signer = signer.as_ref().as_ref().ok_or_else(|| {
        Problem::new(StatusCode::CONFLICT, "no_signing_key")
            .detail("tokens are verified with your own key, so this page cannot sign any")
    })?;
    let masked_phone = phone_number.as_deref().and_then(|text| PhoneNumber::parse(text, signer.region).ok());
    let to = MaskedAddresses {
        phone_number: masked_phone.map(|number| number.to_string()),
        email: email
            .as_deref()
            .and_then(|text| EmailAddress::parse(text).ok())
            .map(|email| email.to_string()),
    };
    let claims = DevClaims {
        sub: subject(phone_number.as_deref(), email.as_deref()),
        name: "Ana",
        phone_number,
        email,
        locale,
        iss: signer.issuer.as_deref(),
        aud: signer.audience.as_deref(),
        exp: Clock::System.now().plus(LIFETIME).as_seconds(),
    };
    let token = encode(&Header::new(Algorithm::HS256), &claims, &signer.key)
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal"))?;
    Ok(Json(DevTokenResponse { token, expires_in: LIFETIME.as_secs(), to }))
}

/// Each pair of addresses is another person with separate limits, so that trying many scenarios does not reach the limit by
/// user. The digest keeps addresses out of `sub`.
fn subject(phone_number: Option<&str>, email: Option<&str>) -> String {
    let mut digest = DefaultHasher::new();
    (phone_number, email).hash(&mut digest);
    format!("development-user-{:016x}", digest.finish())
}
