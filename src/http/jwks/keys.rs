//! A key set: the usable keys, each with its algorithm.
//!
//! The kind of a key determines its algorithm, never a token. A key that is not certainly a public signature key is
//! ignored, and the others stay usable (RFC 7517 §5).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;

use super::fetch_error::{FetchError, KEYS_MAX};
use crate::domain::json::{Json, Shape, members};
use crate::http::token_key::{Algorithm, TokenKey};

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

impl KeySet {
    pub(super) fn read(body: &[u8]) -> Result<(KeySet, Vec<Ignored>), FetchError> {
        let (mut usable, mut ignored) = (Vec::<(Option<String>, Arc<TokenKey>)>::new(), Vec::new());
        for key in published(body)? {
            match usable_key(key) {
                // The same key again, which some issuers publish while they rotate.
                Ok((kid, key))
                    if usable.iter().any(|(known, other)| *known == kid && other.is_same(&key)) => {}
                Ok((kid, key)) => usable.push((kid, Arc::new(key))),
                Err(reason) => ignored.push(reason),
            }
        }
        let only = match &usable[..] {
            [(_, key), others @ ..] if others.iter().all(|(_, other)| other.is_same(key)) => {
                Some(key.clone())
            }
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

/// The elements of `keys`.
fn published(body: &[u8]) -> Result<Vec<Json<'_>>, FetchError> {
    let mut keys = None;
    for member in members(body) {
        let member = member.map_err(|_| FetchError::Unreadable)?;
        if member.name.as_deref() == Some("keys") && keys.replace(member.value).is_some() {
            return Err(FetchError::Unreadable);
        }
    }
    let keys = keys.ok_or(FetchError::Unreadable)?.elements().take(KEYS_MAX + 1);
    let keys: Vec<_> = keys.collect::<Result<_, _>>().map_err(|_| FetchError::Unreadable)?;
    if keys.len() > KEYS_MAX { Err(FetchError::TooMany) } else { Ok(keys) }
}

/// The parameters of a key that decide. Others may be of any type.
#[derive(Default)]
struct Jwk<'a> {
    kty: Option<Json<'a>>,
    usage: Option<Json<'a>>,
    key_ops: Option<Json<'a>>,
    alg: Option<Json<'a>>,
    kid: Option<Json<'a>>,
    crv: Option<Json<'a>>,
    n: Option<Json<'a>>,
    e: Option<Json<'a>>,
    x: Option<Json<'a>>,
    y: Option<Json<'a>>,
    k: Option<Json<'a>>,
    d: Option<Json<'a>>,
}

impl<'a> Jwk<'a> {
    /// `None` if the key is no object, or if one of the parameters is given twice.
    fn read(key: Json<'a>) -> Option<Jwk<'a>> {
        let mut jwk = Jwk::default();
        for member in key.members() {
            let member = member.ok()?;
            let slot = match member.name.as_deref() {
                Some("kty") => &mut jwk.kty,
                Some("use") => &mut jwk.usage,
                Some("key_ops") => &mut jwk.key_ops,
                Some("alg") => &mut jwk.alg,
                Some("kid") => &mut jwk.kid,
                Some("crv") => &mut jwk.crv,
                Some("n") => &mut jwk.n,
                Some("e") => &mut jwk.e,
                Some("x") => &mut jwk.x,
                Some("y") => &mut jwk.y,
                Some("k") => &mut jwk.k,
                Some("d") => &mut jwk.d,
                _ => continue,
            };
            if slot.replace(member.value).is_some() {
                return None;
            }
        }
        Some(jwk)
    }

    fn is_for_signatures(&self) -> Result<bool, Ignored> {
        let for_signatures = optional_text(self.usage)?.is_none_or(|usage| usage == "sig");
        let Some(operations) = self.key_ops.filter(|value| !value.is_null()) else {
            return Ok(for_signatures);
        };
        if operations.shape() != Shape::Array {
            return Err(Ignored::Unfit);
        }
        let mut operations = operations.elements().map_while(Result::ok);
        Ok(for_signatures
            && operations.any(|operation| operation.text().is_some_and(|text| text == "verify")))
    }

    fn algorithm(&self) -> Result<Algorithm, Ignored> {
        let algorithm = match (optional_text(self.kty)?.as_deref(), optional_text(self.crv)?.as_deref()) {
            (Some("RSA"), _) => Algorithm::RS256,
            (Some("EC"), Some("P-256")) => Algorithm::ES256,
            (Some("OKP"), Some("Ed25519")) => Algorithm::EdDSA,
            _ => return Err(Ignored::Unsupported),
        };
        match optional_text(self.alg)? {
            Some(declared) if declared != algorithm.name() => Err(Ignored::Unsupported),
            _ => Ok(algorithm),
        }
    }
}

/// The `kid` and the key, if it can verify signatures.
fn usable_key(key: Json<'_>) -> Result<(Option<String>, TokenKey), Ignored> {
    let jwk = Jwk::read(key).ok_or(Ignored::Unfit)?;
    if jwk.k.is_some() || jwk.kty.and_then(Json::text).is_some_and(|kind| kind == "oct") {
        return Err(Ignored::Symmetric);
    }
    if jwk.d.is_some() {
        return Err(Ignored::Private);
    }
    if !jwk.is_for_signatures()? {
        return Err(Ignored::OtherUse);
    }
    let kid = optional_text(jwk.kid)?.map(Cow::into_owned);
    let bytes = |value: Option<Json<'_>>| BASE64URL.decode(&*value?.text()?).ok();
    let key = match jwk.algorithm()? {
        Algorithm::HS256 => None,
        Algorithm::RS256 => bytes(jwk.n).zip(bytes(jwk.e)).and_then(|(n, e)| TokenKey::rsa(&n, &e)),
        Algorithm::ES256 => bytes(jwk.x).zip(bytes(jwk.y)).and_then(|(x, y)| TokenKey::p256(&x, &y)),
        Algorithm::EdDSA => bytes(jwk.x).and_then(|x| TokenKey::ed25519(&x)),
    };
    Ok((kid, key.ok_or(Ignored::Unfit)?))
}

/// `null` counts as absent.
fn optional_text(value: Option<Json<'_>>) -> Result<Option<Cow<'_, str>>, Ignored> {
    let given = value.filter(|value| !value.is_null());
    given.map(|value| value.text().ok_or(Ignored::Unfit)).transpose()
}
