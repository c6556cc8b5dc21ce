//! A signed token, taken apart (RFC 7515 §3.1): three parts in base64url, of which the first is the header.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;

use super::proof::PROOF_TYPE;
use super::token_key::{Algorithm, TokenKey};
use crate::domain::json::{Json, members};

/// Nothing of it is verified yet.
pub(super) struct Token<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// The part that is signed: header and payload.
    signed: &'t [u8],
    signature: Vec<u8>,
    payload: &'t str,
}

impl<'t> Token<'t> {
    /// `None` for an algorithm or a critical extension that is not supported, or if the header cannot be read. Only the
    /// parameters that decide are read: a key or URL in a header is never used.
    pub(super) fn parse(text: &'t str) -> Option<Token<'t>> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.').filter(|(_, payload)| !payload.contains('.'))?;
        let header = BASE64URL.decode(header).ok()?;
        let (mut algorithm, mut kid) = (None, None);
        for parameter in members(&header) {
            let parameter = parameter.ok()?;
            // A name is unique (RFC 7515 §4).
            let repeated = match parameter.name.as_deref() {
                Some("alg") => algorithm.replace(Algorithm::named(&parameter.value.text()?)?).is_some(),
                Some("kid") if parameter.value.is_null() => false,
                Some("kid") => kid.replace(parameter.value.text()?.into_owned()).is_some(),
                // A proof is for other services, and no token here (RFC 8725 §3.11).
                Some("typ") if is_proof(parameter.value) => return None,
                // An extension that is not understood makes a token invalid (RFC 7515 §4.1.11). None is implemented.
                Some("crit") => return None,
                _ => false,
            };
            if repeated {
                return None;
            }
        }
        let signature = BASE64URL.decode(signature).ok()?;
        Some(Token { algorithm: algorithm?, kid, signed: signed.as_bytes(), signature, payload })
    }

    /// The claims, if this key signed them.
    pub(super) fn signed_by(&self, key: &TokenKey) -> Option<Vec<u8>> {
        let verified = key.verifies(self.algorithm, self.signed, &self.signature);
        verified.then(|| BASE64URL.decode(self.payload).ok())?
    }
}

/// The type may be written in full, as a media type, and in any case (RFC 7515 §4.1.9).
fn is_proof(value: Json<'_>) -> bool {
    value.text().is_some_and(|text| {
        let text = text.to_ascii_lowercase();
        text.strip_prefix("application/").unwrap_or(&text) == PROOF_TYPE
    })
}
