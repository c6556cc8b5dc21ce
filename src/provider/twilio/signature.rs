//! Verifies that a call comes from Twilio.
//!
//! The signature covers the URL as Twilio was given it, then each form parameter's name and value, sorted by name, the
//! distinct values of a repeated name sorted too. HMAC-SHA1 with the account's token, base64. Every parameter takes part,
//! known or not.
//!
//! The signed text has no separators: bytes that move between the query, a name and a value leave the signature valid. So
//! [`StatusUrl`](super::status_url::StatusUrl) accepts one spelling of the query, and a name must look like one of Twilio's:
//! it starts with no digit, so it takes none from the query's end. A body that is no form is refused: Twilio sends none
//! about a message.
//!
//! Twilio: docs page "Validate requests"; checked against the vectors of Twilio's own library
//! (`tests/it/golden/twilio-signatures.json`).

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha1::Sha1;

use crate::provider::Callback;

/// More parameters than Twilio has ever sent; a call with more is not read.
const PARAMETERS_MAX: usize = 200;

/// A form's parameters, sorted by name and value.
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
        let parameters = parameters(call.body).filter(|_| is_form(call.content_type))?;
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

/// Takes a form apart and puts it in the order of signing, unless it cannot be Twilio's.
fn parameters(body: &[u8]) -> Option<Parameters<'_>> {
    let mut parameters: Parameters<'_> = form_urlencoded::parse(body).take(PARAMETERS_MAX + 1).collect();
    // Checked before duplicates go: parameters beyond the bound would be part of no signature.
    if parameters.len() > PARAMETERS_MAX || !parameters.iter().all(|(name, _)| is_name(name)) {
        return None;
    }
    parameters.sort_unstable();
    parameters.dedup();
    Some(parameters)
}

fn is_name(name: &str) -> bool {
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_word && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

fn is_form(content_type: Option<&str>) -> bool {
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::provider::twilio::status_url::StatusUrl;

    const FORM: &str = "application/x-www-form-urlencoded";

    /// A call that Twilio's own library signed.
    #[derive(Deserialize)]
    struct Vector {
        token: String,
        public_url: String,
        query: Option<String>,
        content_type: String,
        body: String,
        signature: String,
    }

    impl Vector {
        fn is_accepted(&self, more_query: &str, more_body: &str) -> bool {
            let urls = StatusUrl::parse(&self.public_url).expect("a good URL").signed_forms();
            let signatures = Signatures::new(&[self.token.as_str().into()], urls);
            let body = format!("{}{more_body}", self.body);
            let query = format!("{}{more_query}", self.query.as_deref().unwrap_or_default());
            let call = Callback {
                query: Some(query.as_str()).filter(|query| !query.is_empty()),
                content_type: Some(&self.content_type),
                signature: Some(&self.signature),
                timestamp: None,
                body: body.as_bytes(),
            };
            signatures.verified(&call).is_some()
        }

        /// The form of a status callback, with names that Twilio could choose.
        fn is_like_ours(&self) -> bool {
            let mut names = form_urlencoded::parse(self.body.as_bytes()).map(|(name, _)| name);
            self.content_type.starts_with(FORM) && names.all(|name| is_name(&name))
        }

        #[track_caller]
        fn check(&self) {
            assert_eq!(self.is_accepted("", ""), self.is_like_ours(), "{} {}", self.signature, self.body);
            assert!(!self.is_accepted("x", ""), "{}", self.signature);
            assert!(!self.is_accepted("", "&x="), "{}", self.signature);
        }
    }

    #[test]
    fn the_signatures_of_twilios_own_library_are_accepted() {
        let text = include_str!("../../../tests/it/golden/twilio-signatures.json");
        let vectors: Vec<Vector> = serde_json::from_str(text).expect("vectors");
        vectors.iter().for_each(Vector::check);
        assert!(vectors.iter().filter(|vector| vector.is_like_ours()).count() >= 13);
    }

    /// The vectors of Twilio's documentation and of the tests of its libraries, token `12345`.
    #[test]
    fn published_vectors_are_accepted() {
        for signature in ["RSOYDt4T1cUTdK1PDd93/VVr8B8=", "kvajT1Ptam85bY51eRf/AJRuM3w="] {
            let vector = Vector {
                token: "12345".to_owned(),
                public_url: "https://mycompany.com/myapp.php".to_owned(),
                query: Some("foo=1&bar=2".to_owned()),
                content_type: FORM.to_owned(),
                body: "CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212"
                    .to_owned(),
                signature: signature.to_owned(),
            };
            vector.check();
            assert!(vector.is_like_ours());
        }
    }
}
