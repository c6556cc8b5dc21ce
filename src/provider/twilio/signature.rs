//! Proves that a call comes from Twilio.
//!
//! What is signed is the URL as Twilio was told it, then each form parameter's name and value, sorted by name, the
//! distinct values of a repeated name sorted too. A body that is no form is told by its SHA-256 in the URL's
//! `bodySHA256`, and only the URL is signed. HMAC-SHA1 with the account's token, base64.
//!
//! Nothing else of a call is looked at before. Every parameter takes part, also those that nobody here knows.
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

    /// The parameters of a call that is proven to be Twilio's.
    pub(super) fn proven<'a>(&self, call: &Callback<'a>) -> Option<Parameters<'a>> {
        let signature = BASE64_STANDARD.decode(call.signature?).ok()?;
        let parameters = match (is_form(call.content_type), body_hash(call.query)) {
            (true, _) => parameters(call.body)?,
            (false, Some(hash)) if same(&hash, &hex::encode(Sha256::digest(call.body))) => Vec::new(),
            (false, None) if call.body.is_empty() => Vec::new(),
            // Nothing would prove the body.
            (false, _) => return None,
        };
        let signed = |key: &Hmac<Sha1>, url: &str| {
            let mac = digested(key, url, call.query, &parameters);
            // In constant time: how much of a guess was right must not show.
            mac.verify_slice(&signature).is_ok()
        };
        let proven = self.keys.iter().any(|key| self.urls.iter().any(|url| signed(key, url)));
        proven.then_some(parameters)
    }
}

fn digested(key: &Hmac<Sha1>, url: &str, query: Option<&str>, parameters: &Parameters<'_>) -> Hmac<Sha1> {
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
    // Before repeats go: what comes after the last one that is looked at would be part of no signature.
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

/// Whether two digests are the same, in a time that does not tell where they differ.
fn same(told: &str, made: &str) -> bool {
    let differing = told.bytes().zip(made.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b));
    told.len() == made.len() && differing == 0
}
