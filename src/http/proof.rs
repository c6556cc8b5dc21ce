//! Proofs: signed tokens (RFC 7519) that say which recipient was verified. Any service checks them with the published keys.
//!
//! The first key signs, and all are published: receivers know the next key before it signs, and the last one after that.
//! The `kid` of a key is its thumbprint (RFC 7638). No key of proofs checks a caller's token.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use secrecy::ExposeSecret as _;
use serde::Serialize;

use super::json::json_line;
use super::token_key::TokenKey;
use crate::config::ProofSettings;
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::domain::purpose::Purpose;
use crate::domain::request_id::RequestId;
use crate::domain::time::UnixMillis;

/// The `typ` of a proof (RFC 8725 §3.11): no other token of this gateway or its issuer has it.
pub(super) const PROOF_TYPE: &str = "otp-proof+jwt";
const LIFE: Duration = Duration::from_secs(5 * 60);
const KEYS_MAX: usize = 4;
const NONCE_BYTES_MAX: usize = 128;
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// The `x` of keys that standards and tools publish with their private halves: RFC 7515 A.3, RFC 7517 A.2, RFC 8037 A.1
/// and jwt.io.
const PUBLISHED: [&str; 4] = [
    "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    "EVs_o5-uQbTjL3chynL4wXgUg2R9q9UU8I5mEovUf84",
];

pub struct ProofSigner {
    header: Header,
    key: EncodingKey,
    issuer: String,
    audience: String,
    /// The JSON Web Key Set (RFC 7517).
    key_set: Bytes,
    public_keys: Vec<Arc<TokenKey>>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProofKeyError {
    #[error("must be 1 to {KEYS_MAX} private keys in PEM (PKCS#8), each P-256 or Ed25519, and nothing else")]
    Unusable,
    #[error("holds one key twice")]
    Repeated,
    #[error("is a key that a standard or a tool publishes; take your own")]
    Published,
    #[error("holds the key of JWT_PUBLIC_KEY: each needs its own")]
    ChecksTokens,
}

/// A recipient that was verified.
pub(super) struct Verified<'a> {
    pub(super) to: &'a Address,
    pub(super) purpose: &'a Purpose,
    pub(super) request_id: &'a RequestId,
    /// The caller's own text.
    pub(super) nonce: Option<&'a str>,
    /// The person of the caller's token.
    pub(super) sub: Option<&'a str>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    jti: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    purpose: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
}

struct SigningKey {
    algorithm: Algorithm,
    key: EncodingKey,
    jwk: Jwk,
    public: TokenKey,
}

impl ProofSigner {
    pub fn new(settings: &ProofSettings) -> Result<ProofSigner, ProofKeyError> {
        let keys = keys(settings.keys.expose_secret()).ok_or(ProofKeyError::Unusable)?;
        for (at, key) in keys.iter().enumerate() {
            if PUBLISHED.contains(&key.x()) {
                return Err(ProofKeyError::Published);
            }
            if keys[..at].iter().any(|other| other.public.is_same(&key.public)) {
                return Err(ProofKeyError::Repeated);
            }
        }
        let key_set = JwkSet { keys: keys.iter().map(|key| key.jwk.clone()).collect() };
        let first = keys.first().ok_or(ProofKeyError::Unusable)?;
        let mut header = Header::new(first.algorithm);
        header.typ = Some(PROOF_TYPE.to_owned());
        header.kid.clone_from(&first.jwk.common.key_id);
        let signer = ProofSigner {
            header,
            key: first.key.clone(),
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            key_set: json_line(&key_set).into(),
            public_keys: keys.into_iter().map(|key| Arc::new(key.public)).collect(),
        };
        // A key that signs now signs later, too: then its code is used up.
        encode(&signer.header, &(), &signer.key).map_err(|_| ProofKeyError::Unusable)?;
        Ok(signer)
    }

    pub(super) fn sign(&self, verified: &Verified<'_>, now: UnixMillis) -> String {
        let mut jti = [0; 16];
        getrandom::fill(&mut jti).expect("the operating system gives random bytes");
        let recipient_of = |channel| Some(verified.to.as_str()).filter(|_| verified.to.channel() == channel);
        let claims = Claims {
            iss: &self.issuer,
            aud: &self.audience,
            iat: now.as_seconds(),
            exp: now.plus(LIFE).as_seconds(),
            jti: &BASE64URL.encode(jti),
            sub: verified.sub,
            nonce: verified.nonce,
            purpose: verified.purpose.as_str(),
            request_id: verified.request_id.as_str(),
            phone_number: recipient_of(Channel::Sms),
            email: recipient_of(Channel::Email),
        };
        encode(&self.header, &claims, &self.key).expect("the key has signed at the start")
    }

    /// The public keys as JSON.
    pub(super) fn key_set(&self) -> Bytes {
        self.key_set.clone()
    }

    /// True if a proof could be signed with this key.
    pub(super) fn has(&self, key: &TokenKey) -> bool {
        self.public_keys.iter().any(|own| own.is_same(key))
    }

    pub(super) fn public_keys(&self) -> Vec<Arc<TokenKey>> {
        self.public_keys.clone()
    }
}

/// The caller's text that a proof repeats, so that the caller knows the proof as the answer to its own check.
pub(super) const NONCE_RULE: &str = "must be 1 to 128 visible ASCII characters";

pub(super) fn nonce(text: &str) -> Option<String> {
    let is_nonce =
        (1..=NONCE_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_nonce.then(|| text.to_owned())
}

impl SigningKey {
    fn read(pem: &str) -> Option<SigningKey> {
        let (algorithm, key) = match EncodingKey::from_ec_pem(pem.as_bytes()) {
            Ok(key) => (Algorithm::ES256, key),
            Err(_) => (Algorithm::EdDSA, EncodingKey::from_ed_pem(pem.as_bytes()).ok()?),
        };
        let mut jwk = Jwk::from_encoding_key(&key, algorithm).ok()?;
        jwk.common.key_id = Some(jwk.thumbprint(ThumbprintHash::SHA256).ok()?);
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let bytes = |text: &str| BASE64URL.decode(text).ok();
        let public = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(point) => TokenKey::p256(&bytes(&point.x)?, &bytes(&point.y)?),
            AlgorithmParameters::OctetKeyPair(point) => TokenKey::ed25519(&bytes(&point.x)?),
            _ => None,
        };
        Some(SigningKey { algorithm, key, public: public?, jwk })
    }

    fn x(&self) -> &str {
        match &self.jwk.algorithm {
            AlgorithmParameters::EllipticCurve(point) => &point.x,
            AlgorithmParameters::OctetKeyPair(point) => &point.x,
            _ => "",
        }
    }
}

/// The keys of a text of PEMs, one behind the other; `None` if there is anything else.
fn keys(text: &str) -> Option<Vec<SigningKey>> {
    let (mut keys, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        if keys.len() == KEYS_MAX || !rest.starts_with(BEGIN) {
            return None;
        }
        let (pem, after) = rest.split_at(rest.find(END)? + END.len());
        keys.push(SigningKey::read(pem)?);
        rest = after.trim_start();
    }
    Some(keys)
}
