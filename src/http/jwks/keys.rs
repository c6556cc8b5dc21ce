//! A set of published keys as tokens are checked with it: which keys are usable, and for what algorithm.
//!
//! The kind of a key decides its algorithm, never a token. A key that is not surely a public key for checking
//! signatures is left out, and does not spoil the others (RFC 7517 §5).

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

use super::endpoint::Fault;
use crate::http::auth::Key;

/// Issuers publish two to ten.
pub(super) const KEYS_MAX: usize = 64;
const RSA_BITS_MIN: usize = 2_048;
/// What the library checks at most.
const RSA_BITS_MAX: usize = 8_192;
/// A coordinate of a point of P-256, and a public key of Ed25519.
const POINT_BYTES: usize = 32;

/// Keys by their names.
pub(super) struct KeySet {
    /// Nothing under a name that two keys have: a token could mean either.
    named: HashMap<String, Option<Arc<Key>>>,
    /// The one usable key of a set that has no other.
    only: Option<Arc<Key>>,
    usable: usize,
}

/// Why a key is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    /// A secret that is published is none.
    Symmetric,
    /// A private half that is published: anybody can sign with it.
    Private,
    /// It is meant for encryption, or for something else.
    OtherUse,
    /// Another kind, curve or algorithm.
    Unsupported,
    /// Too short, too long, or no such key.
    Unfit,
    /// Two keys have its name.
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
    /// Reads a document; `validation` is what is asked of every token. Also answers why keys were left out.
    pub(super) fn read(body: &[u8], validation: &Validation) -> Result<(KeySet, Vec<Ignored>), Fault> {
        let Document { keys } = serde_json::from_slice(body).map_err(|_| Fault::Unreadable)?;
        if keys.len() > KEYS_MAX {
            return Err(Fault::TooMany);
        }
        let (mut usable, mut ignored) = (Vec::new(), Vec::new());
        for key in keys {
            match usable_key(key) {
                Ok((kid, key, algorithm)) => {
                    let validation = Validation { algorithms: vec![algorithm], ..validation.clone() };
                    usable.push((kid, Arc::new(Key { key, validation })));
                }
                Err(why) => ignored.push(why),
            }
        }
        let only = match &usable[..] {
            [(_, key)] => Some(key.clone()),
            _ => None,
        };
        let mut named = HashMap::new();
        let mut count = usable.len();
        for (kid, key) in usable {
            let Some(kid) = kid else { continue };
            named
                .entry(kid)
                .and_modify(|known: &mut Option<Arc<Key>>| {
                    let left_out = if known.take().is_some() { 2 } else { 1 };
                    ignored.extend(std::iter::repeat_n(Ignored::Duplicate, left_out));
                    count -= left_out;
                })
                .or_insert(Some(key));
        }
        Ok((KeySet { named, only, usable: count }, ignored))
    }

    /// The key of a name, or the only one for who names none.
    pub(super) fn find(&self, kid: Option<&str>) -> Option<&Arc<Key>> {
        match kid {
            Some(kid) => self.named.get(kid)?.as_ref(),
            None => self.only.as_ref(),
        }
    }

    pub(super) fn usable(&self) -> usize {
        self.usable
    }
}

/// A key that can check signatures, with its name and its algorithm.
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
    if key.common.key_algorithm.is_some_and(|said| said != named) {
        return Err(Ignored::Unsupported);
    }
    match DecodingKey::from_jwk(&key) {
        Ok(usable) if fit => Ok((key.common.key_id, usable, algorithm)),
        _ => Err(Ignored::Unfit),
    }
}

fn is_for_signatures(key: &CommonParameters) -> bool {
    let meant_for = key.public_key_use.as_ref().is_none_or(|meant| *meant == PublicKeyUse::Signature);
    let operations = key.key_operations.as_ref();
    meant_for && operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify))
}

/// With an exponent of one every message would be its own signature.
fn is_fit(rsa: &RSAKeyParameters) -> bool {
    let Some((modulus, exponent)) = bytes(&rsa.n).zip(bytes(&rsa.e)) else {
        return false;
    };
    let bits = significant(&modulus).first().map_or(0, |first| {
        8 * significant(&modulus).len() - usize::try_from(first.leading_zeros()).unwrap_or_default()
    });
    (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) && !matches!(significant(&exponent), [] | [1])
}

/// A number without the zeros in front.
fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    BASE64URL.decode(text).ok()
}
