//! Reads the settings of proofs: the keys that sign them, their audience and their issuer.

use super::reader::Reader;
use super::settings::{Jwt, JwtKey, ProofSettings, signing_secret};

const KEY: &str = "PROOF_KEY";
const AUDIENCE: &str = "PROOF_AUDIENCE";
const ISSUER: &str = "PROOF_ISSUER";
/// Of an audience and an issuer.
const NAME_BYTES_MAX: usize = 255;

impl Reader<'_> {
    /// `None` without a key: then no proof is made.
    pub(super) fn proofs(&mut self, jwt: Option<&Jwt>) -> Option<ProofSettings> {
        let key = self.secret(KEY);
        let issuer = self.name(ISSUER, "otpost");
        let audience = self.name(AUDIENCE, "");
        if !self.needs("PROOFS") {
            return None;
        }
        let Some(key) = key else {
            if !audience.is_empty() {
                self.notices.push(format!("{AUDIENCE} has no effect without {KEY}"));
            }
            return None;
        };
        if audience.is_empty() {
            self.error(
                AUDIENCE,
                format!("must be set beside {KEY}: a proof names the service that it is for"),
            );
        }
        if let Some(other) = jwt.and_then(|jwt| setting_with(jwt, &key)) {
            self.error(KEY, format!("holds the key of {other}: each needs its own"));
        }
        Some(ProofSettings { keys: key.into(), issuer, audience })
    }

    fn name(&mut self, name: &'static str, default: &str) -> String {
        let text = self.text(name, default);
        if text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
            self.error(name, format!("must be at most {NAME_BYTES_MAX} bytes without a control character"));
        }
        text
    }
}

/// The setting that checks tokens with the same text. The same key in another form is found where keys are parsed.
fn setting_with(jwt: &Jwt, key: &str) -> Option<&'static str> {
    match &jwt.key {
        JwtKey::Secret(_) if signing_secret(jwt).is_some_and(|secret| key.contains(secret)) => {
            Some("JWT_SECRET")
        }
        JwtKey::Pem(pem) if key.contains(pem.as_str()) => Some("JWT_PUBLIC_KEY"),
        _ => None,
    }
}
