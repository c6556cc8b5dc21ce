//! A JSON Web Token (RFC 7519) as the proof of a call.
//!
//! The algorithm is that of the file: a token whose header names another one is refused. A token counts for five minutes
//! from `iat`, and no longer than until `exp`; one with neither is refused. A claim can hold a digest of the body.

use std::time::Duration;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::digest::{Algorithm, equal};
use super::secrets::{self, ReadSecret};
use super::table::{Faults, Table};
use crate::domain::json::Json;
use crate::domain::time::UnixMillis;

/// Also the largest lead of the vendor's clock over ours.
const AGE_MAX: Duration = Duration::from_secs(300);
/// More than a token of a webhook has.
const BYTES_MAX: usize = 8 * 1024;

const ALGORITHMS: [&str; 4] = ["HS256", "RS256", "ES256", "EdDSA"];

/// It holds a secret: no `Debug`.
pub(super) struct Jwt {
    algorithm: &'static str,
    key: Key,
    /// The claim that holds the SHA-256 of the body, in hexadecimal digits.
    body_claim: Option<String>,
}

enum Key {
    Secret(SecretString),
    Public(ParsedPublicKey),
}

impl Jwt {
    pub(super) fn read(table: &mut Table<'_>, read: &ReadSecret<'_>, faults: &mut Faults<'_>) -> Option<Jwt> {
        let algorithm = table.choice("algorithm", &ALGORITHMS, faults).map(|place| ALGORITHMS[place]);
        let body_claim = table.text("body_claim", faults).map(|claim| claim.text.to_owned());
        let key = match algorithm? {
            "HS256" => Key::Secret(secrets::required(table, "secret", read, faults)?),
            algorithm => {
                let key = table.required("public_key", faults)?;
                let text = secrets::plain_or_secret(key, read, faults)?;
                Key::Public(faults.ok(key.at, public_key(algorithm, text.expose_secret()))?)
            }
        };
        Some(Jwt { algorithm: algorithm?, key, body_claim })
    }

    /// True if the token is signed with the key, is of these minutes, and belongs to the body.
    pub(super) fn proves(&self, token: &str, body: &[u8], now: UnixMillis) -> bool {
        self.claims(token).is_some_and(|claims| is_recent(&claims, now) && self.belongs_to(&claims, body))
    }

    /// The claims of a token whose signature is valid.
    fn claims(&self, token: &str) -> Option<Vec<u8>> {
        let token = token.strip_prefix("Bearer ").unwrap_or(token).trim();
        let (signed, signature) = token.rsplit_once('.').filter(|_| token.len() <= BYTES_MAX)?;
        let (header, claims) = signed.split_once('.')?;
        let header = BASE64_URL_SAFE_NO_PAD.decode(header).ok()?;
        let [algorithm, critical] = Json::read(&header).ok()?.pick(["alg", "crit"]);
        // An extension that must be understood is not.
        let is_expected = algorithm?.text()? == self.algorithm && critical.is_none();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok().filter(|_| is_expected)?;
        let is_signed = match &self.key {
            Key::Secret(secret) => {
                let mac = Algorithm::Sha256.mac(secret.expose_secret().as_bytes(), signed.as_bytes());
                equal(&mac, &signature)
            }
            Key::Public(key) => key.verify_sig(signed.as_bytes(), &signature).is_ok(),
        };
        BASE64_URL_SAFE_NO_PAD.decode(claims).ok().filter(|_| is_signed)
    }

    fn belongs_to(&self, claims: &[u8], body: &[u8]) -> bool {
        let Some(name) = &self.body_claim else { return true };
        let [claim] = Json::read(claims).map_or([None], |claims| claims.pick([name.as_str()]));
        let claimed = claim.and_then(Json::text).and_then(|digest| hex::decode(digest.trim()).ok());
        claimed.is_some_and(|claimed| equal(&Sha256::digest(body), &claimed))
    }
}

fn is_recent(claims: &[u8], now: UnixMillis) -> bool {
    let Ok(claims) = Json::read(claims) else { return false };
    let [issued, expires] = claims.pick(["iat", "exp"]);
    let time = |claim: Json<'_>| claim.number().map(Duration::try_from_secs_f64);
    let now = Duration::from_millis(now.0);
    let is_issued = match issued.map(time) {
        None => expires.is_some(),
        Some(Some(Ok(issued))) => now.abs_diff(issued) <= AGE_MAX,
        Some(_) => false,
    };
    let is_in_time = match expires.map(time) {
        None => true,
        Some(Some(Ok(expires))) => now < expires,
        Some(_) => false,
    };
    is_issued && is_in_time
}

/// The key of a PEM file without its first and last line, or 32 bytes of Ed25519, in base64.
fn public_key(algorithm: &str, text: &str) -> Result<ParsedPublicKey, String> {
    let scheme: &'static dyn VerificationAlgorithm = match algorithm {
        "RS256" => &RSA_PKCS1_2048_8192_SHA256,
        "ES256" => &ECDSA_P256_SHA256_FIXED,
        _ => &ED25519,
    };
    let key = BASE64_STANDARD.decode(text).ok().and_then(|key| ParsedPublicKey::new(scheme, key).ok());
    key.ok_or_else(|| format!("`public_key` must be a public key for {algorithm}, in base64 on one line"))
}
