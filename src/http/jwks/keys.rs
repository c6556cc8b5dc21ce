//! A key set: the usable keys, each with its algorithm.
//!
//! The kind of a key determines its algorithm, never a token. A key that is not certainly a public signature key is
//! ignored, and the others stay usable (RFC 7517 §5).

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
    RSAKeyParameters,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;

use super::fetch_error::{FetchError, KEYS_MAX};
use crate::http::token_key::TokenKey;

const RSA_BITS_MIN: usize = 2_048;
/// The longest key that the library verifies with.
const RSA_BITS_MAX: usize = 8_192;
/// Of a coordinate on P-256, and of a public key of Ed25519.
const POINT_BYTES: usize = 32;

pub(super) struct KeySet {
    /// `None` if two keys share the `kid`: a token could mean either.
    by_kid: HashMap<String, Option<Arc<TokenKey>>>,
    /// The usable key of a set with exactly one.
    only: Option<Arc<TokenKey>>,
    usable: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    /// A published secret is not secret.
    Symmetric,
    /// With a published private key, anyone can sign.
    Private,
    OtherUse,
    /// The kind, curve or algorithm is not supported.
    Unsupported,
    /// Too short, too long, or malformed.
    Unfit,
    /// Two keys share its `kid`.
    Duplicate,
}

impl Ignored {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Ignored::Symmetric => "symmetric",
            Ignored::Private => "private",
            Ignored::OtherUse => "other_use",
            Ignored::Unsupported => "unsupported",
            Ignored::Unfit => "unfit",
            Ignored::Duplicate => "duplicate",
        }
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Parses a key set. `validation` has the rules for every token.
    pub(super) fn read(body: &[u8], validation: &Validation) -> Result<(KeySet, Vec<Ignored>), FetchError> {
        let Document { keys } = serde_json::from_slice(body).map_err(|_| FetchError::Unreadable)?;
        if keys.len() > KEYS_MAX {
            return Err(FetchError::TooMany);
        }
        let (mut usable, mut ignored) = (Vec::new(), Vec::new());
        for key in keys {
            match usable_key(key) {
                Ok((kid, key, algorithm)) => {
                    let validation = Validation { algorithms: vec![algorithm], ..validation.clone() };
                    usable.push((kid, Arc::new(TokenKey { key, validation })));
                }
                Err(reason) => ignored.push(reason),
            }
        }
        let only = match &usable[..] {
            [(_, key)] => Some(key.clone()),
            _ => None,
        };
        let mut by_kid = HashMap::new();
        let mut count = usable.len();
        for (kid, key) in usable {
            let Some(kid) = kid else { continue };
            by_kid
                .entry(kid)
                .and_modify(|known: &mut Option<Arc<TokenKey>>| {
                    let duplicates = if known.take().is_some() { 2 } else { 1 };
                    ignored.extend(std::iter::repeat_n(Ignored::Duplicate, duplicates));
                    count -= duplicates;
                })
                .or_insert(Some(key));
        }
        Ok((KeySet { by_kid, only, usable: count }, ignored))
    }

    /// The key with this `kid`. Without a `kid`, the only usable key.
    pub(super) fn find(&self, kid: Option<&str>) -> Option<&Arc<TokenKey>> {
        match kid {
            Some(kid) => self.by_kid.get(kid)?.as_ref(),
            None => self.only.as_ref(),
        }
    }

    pub(super) fn usable(&self) -> usize {
        self.usable
    }
}

/// The `kid`, key and algorithm, if the key can verify signatures.
fn usable_key(key: Value) -> Result<(Option<String>, DecodingKey, Algorithm), Ignored> {
    if key.get("kty").is_some_and(|kind| kind == "oct") || key.get("k").is_some() {
        return Err(Ignored::Symmetric);
    }
    if key.get("d").is_some() {
        return Err(Ignored::Private);
    }
    let key: Jwk = serde_json::from_value(key).map_err(|_| Ignored::Unfit)?;
    if !is_for_signatures(&key.common) {
        return Err(Ignored::OtherUse);
    }
    let is_point = |coordinate: &str| bytes(coordinate).is_some_and(|bytes| bytes.len() == POINT_BYTES);
    let (algorithm, named, fit) = match &key.algorithm {
        AlgorithmParameters::RSA(rsa) => (Algorithm::RS256, KeyAlgorithm::RS256, is_fit(rsa)),
        AlgorithmParameters::EllipticCurve(point) if point.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256, is_point(&point.x) && is_point(&point.y))
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA, is_point(&pair.x))
        }
        _ => return Err(Ignored::Unsupported),
    };
    if key.common.key_algorithm.is_some_and(|declared| declared != named) {
        return Err(Ignored::Unsupported);
    }
    match DecodingKey::from_jwk(&key) {
        Ok(usable) if fit => Ok((key.common.key_id, usable, algorithm)),
        _ => Err(Ignored::Unfit),
    }
}

fn is_for_signatures(key: &CommonParameters) -> bool {
    let for_signatures = key.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
    let operations = key.key_operations.as_ref();
    for_signatures && operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify))
}

/// An exponent of one is refused: every message would be its own signature.
fn is_fit(rsa: &RSAKeyParameters) -> bool {
    let Some((modulus, exponent)) = bytes(&rsa.n).zip(bytes(&rsa.e)) else {
        return false;
    };
    let bits = significant(&modulus).first().map_or(0, |first| {
        8 * significant(&modulus).len() - usize::try_from(first.leading_zeros()).unwrap_or_default()
    });
    (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) && !matches!(significant(&exponent), [] | [1])
}

/// A number without leading zeros.
fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    BASE64URL.decode(text).ok()
}
