//! Tokens for whoever tries the page: what an issuer would sign once somebody has logged in.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;

use super::Page;
use crate::clock::Clock;
use crate::config::{Jwt, signing_secret};
use crate::http::body::Body;
use crate::http::problem::Problem;

/// How long a token is good for.
const LIFE: Duration = Duration::from_secs(3_600);
/// No address is longer.
const ADDRESS_BYTES_MAX: usize = 254;

/// Signs tokens with the development key, and with no other: there is none where a key is set.
pub(super) struct Minter {
    key: EncodingKey,
    issuer: Option<String>,
    audience: Option<String>,
}

/// What a token says of its person.
#[derive(Serialize)]
struct Claims<'a> {
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

/// The answer.
#[derive(Serialize)]
pub(super) struct TokenAnswer {
    token: String,
    expires_in: u64,
}

impl Minter {
    pub(super) fn new(jwt: &Jwt) -> Option<Minter> {
        let key = EncodingKey::from_secret(signing_secret(jwt)?.as_bytes());
        Some(Minter { key, issuer: jwt.issuer.clone(), audience: jwt.audience.clone() })
    }
}

/// `POST /dev/token`: a token for a person with this number and this e-mail address, whatever they are.
pub(super) async fn token(
    State(page): State<Arc<Page>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Json<TokenAnswer>, Problem> {
    let body = Body::read(&headers, &bytes)?;
    let text = |field| {
        let rule = format!("must be a string of at most {ADDRESS_BYTES_MAX} bytes");
        body.optional(field, &rule, |text| (text.len() <= ADDRESS_BYTES_MAX).then(|| text.to_owned()))
    };
    let (phone_number, email, locale) = (text("phone_number")?, text("email")?, text("locale")?);
    let minter = page.minter.as_ref().ok_or_else(|| {
        Problem::new(StatusCode::CONFLICT, "no_signing_key")
            .detail("tokens are checked with a key of your own here, and it signs none for this page")
    })?;
    let claims = Claims {
        sub: subject(phone_number.as_deref(), email.as_deref()),
        name: "Ana",
        phone_number,
        email,
        locale,
        iss: minter.issuer.as_deref(),
        aud: minter.audience.as_deref(),
        exp: Clock::System.now().plus(LIFE).as_seconds(),
    };
    let token = encode(&Header::new(Algorithm::HS256), &claims, &minter.key)
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal"))?;
    Ok(Json(TokenAnswer { token, expires_in: LIFE.as_secs() }))
}

/// Another number is another person, with limits of their own: the eleventh outcome that somebody tries within an hour is
/// not refused for the ten before. An address is in no token's `sub` as it is.
fn subject(phone_number: Option<&str>, email: Option<&str>) -> String {
    let mut digest = DefaultHasher::new();
    (phone_number, email).hash(&mut digest);
    format!("development-user-{:016x}", digest.finish())
}
