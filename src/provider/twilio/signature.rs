//! Verifies that a call comes from Twilio.
//!
//! The signature covers the URL as Twilio was given it, then each form parameter's name and value, sorted by name, the
//! distinct values of a repeated name sorted too. For another body the URL's `bodySHA256` holds its SHA-256, and only the
//! URL is signed. HMAC-SHA1 with the account's token, base64.
//!
//! Every parameter takes part, known or not.
//!
//! Twilio: docs page "Validate requests"; checked against the vectors of Twilio's own library
//! (`tests/it/golden/twilio-signatures.json`).

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::provider::Callback;

/// More parameters than Twilio has ever sent; a call with more is not read.
const PARAMETERS_MAX: usize = 200;

/// A form's parameters, sorted by name and value. Of a call with another body there are none.
pub(super) type Parameters<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// The tokens that a call may be signed with, and the URLs it may be for. It holds secrets, hence no `Debug`.
pub(super) struct Signatures {
    keys: Vec<Hmac<Sha1>>,
    /// Each form of the URL, up to its query.
    urls: Vec<String>,
}

impl Signatures {
    pub(super) fn new(tokens: &[SecretString], urls: Vec<String>) -> Signatures {
        let key = |token: &SecretString| {
            Hmac::new_from_slice(token.expose_secret().as_bytes()).expect("HMAC takes a key of any length")
        };
        Signatures { keys: tokens.iter().map(key).collect(), urls }
    }

    /// The parameters of a call whose signature is valid.
    pub(super) fn verified<'a>(&self, call: &Callback<'a>) -> Option<Parameters<'a>> {
        let signature = BASE64_STANDARD.decode(call.signature?).ok()?;
        let parameters = match (is_form(call.content_type), body_hash(call.query)) {
            (true, _) => parameters(call.body)?,
            (false, Some(hash)) if same(&hash, &hex::encode(Sha256::digest(call.body))) => Vec::new(),
            (false, None) if call.body.is_empty() => Vec::new(),
            // The signature would not cover the body.
            (false, _) => return None,
        };
        let is_signed = |key: &Hmac<Sha1>, url: &str| {
            let mac = mac_of(key, url, call.query, &parameters);
            // In constant time: the duration must not show how much of a guess was right.
            mac.verify_slice(&signature).is_ok()
        };
        let is_verified = self.keys.iter().any(|key| self.urls.iter().any(|url| is_signed(key, url)));
        is_verified.then_some(parameters)
    }
}

fn mac_of(key: &Hmac<Sha1>, url: &str, query: Option<&str>, parameters: &Parameters<'_>) -> Hmac<Sha1> {
    let mut mac = key.clone();
    mac.update(url.as_bytes());
    if let Some(query) = query {
        mac.update(b"?");
        mac.update(query.as_bytes());
    }
    for (name, value) in parameters {
        mac.update(name.as_bytes());
        mac.update(value.as_bytes());
    }
    mac
}

/// Takes a form apart and puts it in the order of signing, unless it is too long to be Twilio's.
fn parameters(body: &[u8]) -> Option<Parameters<'_>> {
    let mut parameters: Parameters<'_> = form_urlencoded::parse(body).take(PARAMETERS_MAX + 1).collect();
    // Checked before duplicates go: parameters beyond the bound would be part of no signature.
    if parameters.len() > PARAMETERS_MAX {
        return None;
    }
    parameters.sort_unstable();
    parameters.dedup();
    Some(parameters)
}

fn is_form(content_type: Option<&str>) -> bool {
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn body_hash(query: Option<&str>) -> Option<Cow<'_, str>> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.find(|(name, _)| name == "bodySHA256").map(|(_, hash)| hash)
}

/// Compares two digests in a time that does not depend on the position of a difference.
fn same(received: &str, computed: &str) -> bool {
    let differing = received.bytes().zip(computed.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b));
    received.len() == computed.len() && differing == 0
}
