//! Who asks: bearer tokens (RFC 6750) that are JSON Web Tokens (RFC 7519).
//!
//! The algorithm is that of the key, whatever a token says, and the key is one of ours or of the issuer's published ones:
//! no key and no address in a token is ever looked at. `exp` must be there; issuer and audience must match where they are
//! configured. A token is never logged, and a refusal tells a client only that it was refused.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use super::jwks::endpoint::HttpEndpoint;
use super::jwks::{self, Jwks, NoKey};
use super::problem::Problem;
use crate::config::{Jwt, JwtKey, signing_secret};
use crate::domain::time::UnixMillis;
use crate::telemetry::events;

/// A longer token than this is not even looked at.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How far the clocks of whoever makes tokens may differ from ours.
const LEEWAY_SECONDS: u64 = 10;

/// When a key that is not here may be.
const KEY_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Checks tokens with the keys of the one configured source.
pub struct Tokens(Keys);

enum Keys {
    One(Box<Key>),
    Published(Arc<Jwks>),
}

/// A key, and what is asked of the tokens that it signs: its algorithm among other things.
pub(super) struct Key {
    pub(super) key: DecodingKey,
    pub(super) validation: Validation,
}

/// The source of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenSettingsError {
    /// The key cannot check tokens.
    #[error("must be a public key in PEM: RSA of 2048 bits or more, P-256 or Ed25519")]
    PublicKey,
    /// Nothing can be fetched from there.
    #[error("must be a URL without user or fragment")]
    JwksUrl,
    /// The machine lacks something, as certificates.
    #[error("cannot be used: the HTTP client could not be set up")]
    HttpClient,
}

impl TokenSettingsError {
    /// The variable that is at fault.
    pub fn setting(&self) -> &'static str {
        match self {
            TokenSettingsError::PublicKey => "JWT_PUBLIC_KEY",
            TokenSettingsError::JwksUrl | TokenSettingsError::HttpClient => "JWT_JWKS_URL",
        }
    }
}

/// What a token says of whom it was given to: OpenID Connect's standard claims, and OAuth's scope.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Claims {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) phone_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) locale: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) zoneinfo: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<serde_json::Value>,
    /// Only written. A token's own is checked before its claims are read, and may have a fraction (RFC 7519 §2).
    #[serde(skip_deserializing)]
    exp: u64,
}

/// A person, as a token tells.
pub(super) struct User {
    pub(super) sub: String,
    pub(super) claims: Claims,
}

impl Tokens {
    /// A checker for the configured source. Published keys are not there before somebody [follows](Tokens::follow) them.
    pub fn new(settings: &Jwt) -> Result<Tokens, TokenSettingsError> {
        let one =
            |key, algorithm| Keys::One(Box::new(Key { key, validation: validation(settings, algorithm) }));
        Ok(Tokens(match &settings.key {
            JwtKey::Secret(secret) => {
                one(DecodingKey::from_secret(secret.expose_secret().as_bytes()), Algorithm::HS256)
            }
            JwtKey::Pem(pem) => {
                let (key, algorithm) = public_key(pem).ok_or(TokenSettingsError::PublicKey)?;
                one(key, algorithm)
            }
            JwtKey::Jwks(url) => {
                // Each key names its own algorithm instead.
                let validation = validation(settings, Algorithm::RS256);
                Keys::Published(Arc::new(Jwks::new(Box::new(HttpEndpoint::new(url)?), validation)))
            }
        }))
    }

    /// Keeps published keys fresh, for ever; with a key of our own there is nothing to do.
    pub fn follow(&self) -> impl Future<Output = ()> + Send + 'static {
        let jwks = match &self.0 {
            Keys::One(_) => None,
            Keys::Published(jwks) => Some(jwks.clone()),
        };
        async {
            match jwks {
                Some(jwks) => jwks.follow().await,
                None => std::future::pending().await,
            }
        }
    }

    /// The person who asks.
    pub(super) async fn user(&self, headers: &HeaderMap) -> Result<User, Problem> {
        let claims = self.claims(headers).await?;
        Ok(User { sub: subject(&claims)?, claims })
    }

    /// A service that was given this scope.
    pub(super) async fn service(&self, headers: &HeaderMap, scope: &str) -> Result<(), Problem> {
        self.scoped(headers, scope).await.map(drop)
    }

    /// Who operates the gateway, by name: what they look at is written down.
    pub(super) async fn admin(&self, headers: &HeaderMap) -> Result<String, Problem> {
        subject(&self.scoped(headers, "otp:admin").await?)
    }

    async fn scoped(&self, headers: &HeaderMap, scope: &str) -> Result<Claims, Problem> {
        let claims = self.claims(headers).await?;
        if claims.scope.as_deref().unwrap_or_default().split(' ').any(|given| given == scope) {
            return Ok(claims);
        }
        events::token_refused("scope");
        Err(Problem::new(StatusCode::FORBIDDEN, "insufficient_scope")
            .detail(format!("the token lacks `{scope}`")))
    }

    async fn claims(&self, headers: &HeaderMap) -> Result<Claims, Problem> {
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let bearer = given.next().and_then(|value| value.to_str().ok());
        // Whoever stands between may go by the other one.
        if given.next().is_some() {
            return Err(unauthenticated("one bearer token is needed: `Authorization` stands there twice"));
        }
        let token = bearer.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let Some(token) = token.filter(|token| token.len() <= TOKEN_BYTES_MAX) else {
            return Err(unauthenticated("a bearer token is needed"));
        };
        match &self.0 {
            Keys::One(key) => key.claims(token),
            Keys::Published(jwks) => published_key(jwks, token).await?.claims(token),
        }
    }
}

impl Key {
    fn claims(&self, token: &str) -> Result<Claims, Problem> {
        match decode::<Claims>(token, &self.key, &self.validation) {
            // An extension that must be understood and is not makes a token invalid (RFC 7515 §4.1.11); we have none.
            Ok(token) if token.header.crit.is_none() => Ok(token.claims),
            Err(error) if matches!(error.kind(), ErrorKind::ExpiredSignature) => {
                Err(refused("expired", "the token has expired"))
            }
            Ok(_) | Err(_) => Err(invalid()),
        }
    }
}

/// The key that a token names. Nothing else of its header counts, and all of it is anybody's claim until then.
async fn published_key(jwks: &Jwks, token: &str) -> Result<Arc<Key>, Problem> {
    let kid = match decode_header(token) {
        Ok(header) if jwks::ALGORITHMS.contains(&header.alg) => header.kid,
        Ok(_) | Err(_) => return Err(invalid()),
    };
    jwks.find(kid.as_deref()).await.map_err(|no_key| match no_key {
        NoKey::Unknown => refused("kid", INVALID),
        NoKey::Unavailable => {
            events::token_refused("key_unavailable");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "key_unavailable")
                .detail("the key of this token is not here; nothing was counted")
                .retry_after(KEY_RETRY_AFTER)
        }
    })
}

/// What is asked of every token.
fn validation(settings: &Jwt, algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = LEEWAY_SECONDS;
    validation.validate_nbf = true;
    match &settings.audience {
        Some(audience) => {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        None => validation.validate_aud = false,
    }
    if let Some(issuer) = &settings.issuer {
        validation.set_issuer(&[issuer]);
        validation.required_spec_claims.insert("iss".to_owned());
    }
    validation
}

const INVALID: &str = "the token is not valid here";

fn invalid() -> Problem {
    refused("invalid", INVALID)
}

/// Whom a token names.
fn subject(claims: &Claims) -> Result<String, Problem> {
    let named = claims.sub.clone().filter(|sub| (1..=255).contains(&sub.len()));
    named.ok_or_else(|| refused("sub", "the token names nobody (`sub`)"))
}

fn unauthenticated(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated").detail(detail)
}

fn refused(reason: &'static str, detail: &str) -> Problem {
    events::token_refused(reason);
    Problem::new(StatusCode::UNAUTHORIZED, "invalid_token").detail(detail)
}

/// The kind of key decides the algorithm. A key that could never check a token is none: better now than at each token.
fn public_key(pem: &str) -> Option<(DecodingKey, Algorithm)> {
    /// An RSA key in PKCS #1 with a modulus of 2048 bits and the shortest exponent.
    const RSA_BYTES_MIN: usize = 268;
    /// A point of P-256, uncompressed.
    const P256_BYTES: usize = 65;
    const ED25519_BYTES: usize = 32;
    if !pem.contains("PUBLIC KEY-----") {
        return None;
    }
    let pem = pem.as_bytes();
    let rsa = || DecodingKey::from_rsa_pem(pem).map(|key| (key, Algorithm::RS256));
    let ec = || DecodingKey::from_ec_pem(pem).map(|key| (key, Algorithm::ES256));
    let ed = || DecodingKey::from_ed_pem(pem).map(|key| (key, Algorithm::EdDSA));
    let (key, algorithm) = rsa().or_else(|_| ec()).or_else(|_| ed()).ok()?;
    let bytes = key.try_get_as_bytes().ok()?.len();
    let usable = match algorithm {
        Algorithm::RS256 => bytes >= RSA_BYTES_MIN,
        Algorithm::ES256 => bytes == P256_BYTES,
        _ => bytes == ED25519_BYTES,
    };
    usable.then_some((key, algorithm))
}

/// A token for trying things out, with these scopes: for a person with this number and e-mail address, or without both
/// for a service.
///
/// Answers nothing where tokens are checked with a public key: the private one is not ours.
pub fn development_token(
    settings: &Jwt,
    phone_number: Option<&str>,
    email: Option<&str>,
    scope: Option<&str>,
    expires: UnixMillis,
) -> Option<String> {
    let is_person = phone_number.is_some() || email.is_some();
    let claims = Claims {
        sub: Some(if is_person { "development-user" } else { "development-service" }.to_owned()),
        phone_number: phone_number.map(str::to_owned),
        email: email.map(str::to_owned),
        name: phone_number.or(email).map(|_| "Ana".to_owned()),
        scope: scope.map(str::to_owned),
        iss: settings.issuer.clone(),
        aud: settings.audience.clone().map(Into::into),
        exp: expires.as_seconds(),
        ..Claims::default()
    };
    let key = EncodingKey::from_secret(signing_secret(settings)?.as_bytes());
    encode(&Header::new(Algorithm::HS256), &claims, &key).ok()
}
