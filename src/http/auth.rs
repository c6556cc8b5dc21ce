//! Authentication: bearer tokens (RFC 6750) that are JSON Web Tokens (RFC 7519).
//!
//! The key determines the algorithm, whatever a token claims. The key is a configured one or one that the issuer
//! publishes; a key or URL inside a token is never used. `exp` is required; issuer and audience must match if they are
//! configured. A token is never logged. A response names only expiry and a missing subject or scope as its reason.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use super::jwks::endpoint::{HttpEndpoint, InvalidEndpoint};
use super::jwks::{self, Jwks, NoKey};
use super::problem::Problem;
use super::token_key::TokenKey;
use crate::config::{Jwt, JwtKey, signing_secret};
use crate::domain::time::UnixMillis;
use crate::telemetry::events;

/// A longer token is refused unread.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Tolerated clock difference between issuer and gateway.
const LEEWAY_SECONDS: u64 = 10;

const KEY_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Verifies tokens with the keys of the one configured source.
pub struct Tokens(Keys);

enum Keys {
    Configured(Box<TokenKey>),
    Published(Arc<Jwks>),
}

#[derive(Debug, thiserror::Error)]
pub enum TokenSettingsError {
    #[error("must be a public key in PEM: RSA of 2048 bits or more, P-256 or Ed25519")]
    PublicKey,
    #[error("must be a URL without user or fragment")]
    JwksUrl,
    /// For example, the machine has no CA certificates.
    #[error("cannot be used: the HTTP client could not be set up")]
    HttpClient,
}

impl From<InvalidEndpoint> for TokenSettingsError {
    fn from(error: InvalidEndpoint) -> TokenSettingsError {
        match error {
            InvalidEndpoint::Url => TokenSettingsError::JwksUrl,
            InvalidEndpoint::HttpClient => TokenSettingsError::HttpClient,
        }
    }
}

impl TokenSettingsError {
    pub fn setting(&self) -> &'static str {
        match self {
            TokenSettingsError::PublicKey => "JWT_PUBLIC_KEY",
            TokenSettingsError::JwksUrl | TokenSettingsError::HttpClient => "JWT_JWKS_URL",
        }
    }
}

/// OpenID Connect's standard claims, and OAuth's scope.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Claims {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sub: Option<String>,
    /// OAuth's client (RFC 9068 §2.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
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
    /// For development tokens only. `decode` has verified a received `exp`, which may have a fraction (RFC 7519 §2).
    #[serde(skip_deserializing)]
    exp: u64,
}

pub(super) struct User {
    pub(super) sub: String,
    pub(super) claims: Claims,
}

/// The back end that a token identifies.
pub(super) struct Service {
    /// Empty if the token names none.
    pub(super) issuer: String,
    /// The claim that holds the id: `sub`, or without it `client_id`.
    pub(super) claim: &'static str,
    pub(super) id: String,
}

impl Tokens {
    /// Published keys are available only while [`Tokens::refresh_keys`] runs.
    pub fn new(settings: &Jwt) -> Result<Tokens, TokenSettingsError> {
        let configured = |key, algorithm| {
            Keys::Configured(Box::new(TokenKey { key, validation: validation(settings, algorithm) }))
        };
        Ok(Tokens(match &settings.key {
            JwtKey::Secret(secret) => {
                configured(DecodingKey::from_secret(secret.expose_secret().as_bytes()), Algorithm::HS256)
            }
            JwtKey::Pem(pem) => {
                let (key, algorithm) = public_key(pem).ok_or(TokenSettingsError::PublicKey)?;
                configured(key, algorithm)
            }
            JwtKey::Jwks(url) => {
                // Each published key replaces the algorithm by its own.
                let validation = validation(settings, Algorithm::RS256);
                Keys::Published(Arc::new(Jwks::new(Box::new(HttpEndpoint::new(url)?), validation)))
            }
        }))
    }

    /// Refreshes published keys forever. Pending forever if the key is configured.
    pub fn refresh_keys(&self) -> impl Future<Output = ()> + Send + 'static {
        let jwks = match &self.0 {
            Keys::Configured(_) => None,
            Keys::Published(jwks) => Some(jwks.clone()),
        };
        async {
            match jwks {
                Some(jwks) => jwks.refresh().await,
                None => std::future::pending().await,
            }
        }
    }

    pub(super) async fn user(&self, headers: &HeaderMap) -> Result<User, Problem> {
        let claims = self.claims(headers).await?;
        Ok(User { sub: subject(&claims)?, claims })
    }

    /// Requires the scope of a service.
    pub(super) async fn service(&self, headers: &HeaderMap, scope: &str) -> Result<(), Problem> {
        self.claims_with_scope(headers, scope).await.map(drop)
    }

    /// Requires the scope of a service, and its identity.
    pub(super) async fn named_service(&self, headers: &HeaderMap, scope: &str) -> Result<Service, Problem> {
        let claims = self.claims_with_scope(headers, scope).await?;
        let id = |claim, id: Option<String>| Some((claim, id.filter(|id| is_identity(id))?));
        let (claim, id) = id("sub", claims.sub)
            .or_else(|| id("client_id", claims.client_id))
            .ok_or_else(|| refused("sub", "the token has no subject (`sub`) and no client (`client_id`)"))?;
        Ok(Service { issuer: claims.iss.unwrap_or_default(), claim, id })
    }

    /// Requires the scope of an operator. Returns the subject, for the audit log.
    pub(super) async fn admin(&self, headers: &HeaderMap) -> Result<String, Problem> {
        subject(&self.claims_with_scope(headers, "otp:admin").await?)
    }

    async fn claims_with_scope(&self, headers: &HeaderMap, scope: &str) -> Result<Claims, Problem> {
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
        // A proxy may have checked the other one.
        if given.next().is_some() {
            return Err(unauthenticated("one bearer token is needed: `Authorization` is given twice"));
        }
        let token = bearer.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let Some(token) = token.filter(|token| token.len() <= TOKEN_BYTES_MAX) else {
            return Err(unauthenticated("a bearer token is needed"));
        };
        match &self.0 {
            Keys::Configured(key) => verified_claims(key, token),
            Keys::Published(jwks) => verified_claims(&*published_key(jwks, token).await?, token),
        }
    }
}

fn verified_claims(TokenKey { key, validation }: &TokenKey, token: &str) -> Result<Claims, Problem> {
    match decode::<Claims>(token, key, validation) {
        // A critical extension that is not understood makes a token invalid (RFC 7515 §4.1.11). None is implemented.
        Ok(token) if token.header.crit.is_none() => Ok(token.claims),
        Err(error) if matches!(error.kind(), ErrorKind::ExpiredSignature) => {
            Err(refused("expired", "the token has expired"))
        }
        Ok(_) | Err(_) => Err(invalid()),
    }
}

/// The key that the token names by `kid`. The header is not verified yet: `alg` is only a filter, and a key or URL in
/// it is ignored.
async fn published_key(jwks: &Jwks, token: &str) -> Result<Arc<TokenKey>, Problem> {
    let kid = match decode_header(token) {
        Ok(header) if jwks::ALGORITHMS.contains(&header.alg) => header.kid,
        Ok(_) | Err(_) => return Err(invalid()),
    };
    jwks.find(kid.as_deref()).await.map_err(|no_key| match no_key {
        NoKey::Unknown => refused("kid", INVALID),
        NoKey::Unavailable => {
            events::token_refused("key_unavailable");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "key_unavailable")
                .detail("the key of this token is not available now; no attempt was counted")
                .retry_after(KEY_RETRY_AFTER)
        }
    })
}

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

fn subject(claims: &Claims) -> Result<String, Problem> {
    let named = claims.sub.clone().filter(|sub| is_identity(sub));
    named.ok_or_else(|| refused("sub", "the token has no subject (`sub`)"))
}

fn is_identity(text: &str) -> bool {
    (1..=255).contains(&text.len())
}

fn unauthenticated(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated").detail(detail)
}

fn refused(reason: &'static str, detail: &str) -> Problem {
    events::token_refused(reason);
    Problem::new(StatusCode::UNAUTHORIZED, "invalid_token").detail(detail)
}

/// The kind of key determines the algorithm. An unusable key is an error at startup, not at each token.
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

/// A token for development: for a person with this number and e-mail address, or for a service if both are absent.
///
/// `None` if tokens are verified with a public key: the gateway has no private one.
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
