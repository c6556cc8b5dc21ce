//! Authentication: bearer tokens (RFC 6750) that are JSON Web Tokens (RFC 7519).
//!
//! The key determines the algorithm, whatever a token claims. The key is a configured one or one that the issuer
//! publishes; a key or URL inside a token is never used. `exp` is required; issuer and audience must match if they are
//! configured. A token is never logged. A response names only expiry and a missing subject or scope as its reason.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use jsonwebtoken::{DecodingKey, EncodingKey, Header, encode};
use secrecy::ExposeSecret as _;
use serde::Serialize;

use super::jwks::endpoint::{HttpEndpoint, InvalidEndpoint};
use super::jwks::{Jwks, NoKey};
use super::problem::Problem;
use super::proof::{ProofKeyError, ProofSigner};
use super::token::Token;
use super::token_claims::{Claims, InvalidClaims, Required};
use super::token_key::{Algorithm, POINT_BYTES, TokenKey};
use crate::clock::Clock;
use crate::config::{Jwt, JwtKey, signing_secret};
use crate::domain::time::UnixMillis;
use crate::telemetry::TokenRefusal;

/// A longer token is refused unread.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

const KEY_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Verifies tokens with the keys of the one configured source.
pub struct Tokens {
    keys: Keys,
    required: Required,
    /// They never check a token, even if the issuer publishes them.
    proof_keys: Vec<Arc<TokenKey>>,
}

enum Keys {
    Configured(Arc<TokenKey>),
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

pub(super) struct User {
    pub(super) sub: String,
    pub(super) claims: Claims,
}

/// An operator, for the audit log.
pub(super) struct Admin {
    pub(super) sub: String,
    pub(super) jti: Option<String>,
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
        let keys = match &settings.key {
            JwtKey::Secret(secret) => {
                Keys::Configured(Arc::new(TokenKey::secret(secret.expose_secret().as_bytes())))
            }
            JwtKey::Pem(pem) => {
                Keys::Configured(Arc::new(public_key(pem).ok_or(TokenSettingsError::PublicKey)?))
            }
            JwtKey::Jwks(url) => Keys::Published(Arc::new(Jwks::new(Box::new(HttpEndpoint::new(url)?)))),
        };
        let required = Required { issuer: settings.issuer.clone(), audience: settings.audience.clone() };
        Ok(Tokens { keys, required, proof_keys: Vec::new() })
    }

    /// Tells the keys of proofs, which check no token: else each proof would be one.
    pub fn apart_from(self, proofs: &ProofSigner) -> Result<Tokens, ProofKeyError> {
        match &self.keys {
            Keys::Configured(key) if proofs.has(key) => Err(ProofKeyError::ChecksTokens),
            Keys::Configured(_) | Keys::Published(_) => {
                Ok(Tokens { proof_keys: proofs.public_keys(), ..self })
            }
        }
    }

    /// Refreshes published keys forever. Pending forever if the key is configured.
    pub fn refresh_keys(&self) -> impl Future<Output = ()> + Send + 'static {
        let jwks = match &self.keys {
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
        let user = async {
            let claims = self.claims(headers).await?;
            Ok(User { sub: subject(&claims)?, claims })
        };
        user.await.map_err(|problem: Problem| problem.of_client(headers))
    }

    /// Requires the scope of a service.
    pub(super) async fn service(&self, headers: &HeaderMap, scope: &str) -> Result<(), Problem> {
        self.claims_with_scope(headers, scope).await.map(drop).map_err(|problem| problem.of_client(headers))
    }

    /// Requires the scope of a service, and its identity.
    pub(super) async fn named_service(&self, headers: &HeaderMap, scope: &str) -> Result<Service, Problem> {
        let claims = self.claims_with_scope(headers, scope).await;
        claims.and_then(identity).map_err(|problem| problem.of_client(headers))
    }

    /// Requires the scope of an operator.
    pub(super) async fn admin(&self, headers: &HeaderMap) -> Result<Admin, Problem> {
        let claims = self.claims_with_scope(headers, "otp:admin").await;
        let admin = claims.and_then(|claims| Ok(Admin { sub: subject(&claims)?, jti: claims.jti }));
        admin.map_err(|problem| problem.of_client(headers))
    }

    async fn claims_with_scope(&self, headers: &HeaderMap, scope: &str) -> Result<Claims, Problem> {
        let claims = self.claims(headers).await?;
        if claims.scope.as_deref().unwrap_or_default().split(' ').any(|given| given == scope) {
            return Ok(claims);
        }
        Err(Problem::new(StatusCode::FORBIDDEN, "insufficient_scope")
            .detail(format!("the token lacks `{scope}`"))
            .token_refused(TokenRefusal::Scope))
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
        let token = Token::parse(token).ok_or_else(|| invalid(TokenRefusal::Malformed))?;
        let key = match &self.keys {
            Keys::Configured(key) => key.clone(),
            Keys::Published(jwks) => published_key(jwks, &token).await?,
        };
        if self.proof_keys.iter().any(|own| own.is_same(&key)) {
            return Err(invalid(TokenRefusal::Kid));
        }
        let payload = token.signed_by(&key).ok_or_else(|| invalid(TokenRefusal::Signature))?;
        self.required.check(&payload, Clock::System.now()).map_err(|error| match error {
            InvalidClaims::Expired => refused(TokenRefusal::Expired, "the token has expired"),
            InvalidClaims::NotYetValid => invalid(TokenRefusal::NotYetValid),
            InvalidClaims::Issuer => invalid(TokenRefusal::Issuer),
            InvalidClaims::Audience => invalid(TokenRefusal::Audience),
            InvalidClaims::Unreadable => invalid(TokenRefusal::Claims),
        })
    }
}

/// The key that the token names by `kid`. Nothing of the token is verified yet: `alg` is only a filter, so that a token
/// that no published key can verify causes no fetch.
async fn published_key(jwks: &Jwks, token: &Token<'_>) -> Result<Arc<TokenKey>, Problem> {
    if token.algorithm == Algorithm::HS256 {
        return Err(invalid(TokenRefusal::Signature));
    }
    jwks.find(token.kid.as_deref()).await.map_err(|no_key| match no_key {
        NoKey::Unknown => invalid(TokenRefusal::Kid),
        NoKey::Unavailable => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "key_unavailable")
            .detail("the key of this token is not available now; no attempt was counted")
            .retry_after(KEY_RETRY_AFTER)
            .token_refused(TokenRefusal::KeyUnavailable),
    })
}

fn invalid(refusal: TokenRefusal) -> Problem {
    refused(refusal, "the token is not valid here")
}

fn identity(claims: Claims) -> Result<Service, Problem> {
    let id = |claim, id: Option<String>| Some((claim, id.filter(|id| is_identity(id))?));
    let (claim, id) =
        id("sub", claims.sub).or_else(|| id("client_id", claims.client_id)).ok_or_else(|| {
            refused(TokenRefusal::Claims, "the token has no subject (`sub`) and no client (`client_id`)")
        })?;
    Ok(Service { issuer: claims.iss.unwrap_or_default(), claim, id })
}

fn subject(claims: &Claims) -> Result<String, Problem> {
    let named = claims.sub.clone().filter(|sub| is_identity(sub));
    named.ok_or_else(|| refused(TokenRefusal::Claims, "the token has no subject (`sub`)"))
}

fn is_identity(text: &str) -> bool {
    (1..=255).contains(&text.len())
}

fn unauthenticated(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated").detail(detail)
}

fn refused(refusal: TokenRefusal, detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "invalid_token").detail(detail).token_refused(refusal)
}

/// The kind of key determines the algorithm. An unusable key is an error at startup, not at each token.
fn public_key(pem: &str) -> Option<TokenKey> {
    if !pem.contains("PUBLIC KEY-----") {
        return None;
    }
    let pem = pem.as_bytes();
    if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
        let components =
            jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key;
        let (modulus, exponent) = components(key.try_get_as_bytes().ok()?).ok()?;
        return TokenKey::rsa(&modulus, &exponent);
    }
    if let Ok(key) = DecodingKey::from_ec_pem(pem) {
        let (_, point) = key.try_get_as_bytes().ok()?.split_first()?;
        let (x, y) = point.split_at_checked(POINT_BYTES)?;
        return TokenKey::p256(x, y);
    }
    TokenKey::ed25519(DecodingKey::from_ed_pem(pem).ok()?.try_get_as_bytes().ok()?)
}

#[derive(Serialize)]
struct DevelopmentClaims<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    exp: u64,
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
    let claims = DevelopmentClaims {
        sub: if is_person { "development-user" } else { "development-service" },
        phone_number,
        email,
        name: is_person.then_some("Ana"),
        scope,
        iss: settings.issuer.as_deref(),
        aud: settings.audience.as_deref(),
        exp: expires.as_seconds(),
    };
    let key = EncodingKey::from_secret(signing_secret(settings)?.as_bytes());
    encode(&Header::new(jsonwebtoken::Algorithm::HS256), &claims, &key).ok()
}
