//! Reads the settings of tokens: exactly one source of keys, the issuer and the audience.

use super::reader::Reader;
use super::settings::{Jwt, JwtKey};
use super::validators::is_loopback;

/// Public development values. Production refuses the secret.
pub(super) mod development {
    pub(in crate::config) const JWT_SECRET: &str = "otpost development secret, known to everybody";
    pub(in crate::config) const JWT_AUDIENCE: &str = "otpost-development";
}

impl Reader<'_> {
    pub(super) fn jwt(&mut self, development: bool) -> Option<Jwt> {
        let key = self.jwt_key(development);
        let issuer = Some(self.text("JWT_ISSUER", "")).filter(|issuer| !issuer.is_empty());
        let default_audience = if development { development::JWT_AUDIENCE } else { "" };
        let audience =
            Some(self.text("JWT_AUDIENCE", default_audience)).filter(|audience| !audience.is_empty());
        if self.needs("JWT") && !development && audience.is_none() {
            self.error("JWT_AUDIENCE", "must be set: a token for another service must not be accepted here");
        }
        if self.needs("JWT") && issuer.is_none() && matches!(key, Some(JwtKey::Jwks(_))) {
            let cause = "JWT_JWKS_URL is set without JWT_ISSUER";
            self.notices.push(format!("{cause}: tokens of every issuer that uses these keys are accepted"));
        }
        Some(Jwt { key: key?, issuer, audience })
    }

    fn jwt_key(&mut self, development: bool) -> Option<JwtKey> {
        let sources = [
            ("JWT_SECRET", self.jwt_secret()),
            ("JWT_PUBLIC_KEY", self.secret("JWT_PUBLIC_KEY").map(JwtKey::Pem)),
            ("JWT_JWKS_URL", self.jwks_url(development).map(JwtKey::Jwks)),
        ];
        let mut given = sources.into_iter().filter(|(name, _)| self.raw.get(name).is_some());
        let first = given.next();
        let others: Vec<&str> = given.map(|(name, _)| name).collect();
        match first {
            Some((_, key)) if others.is_empty() => key,
            Some((first, _)) => {
                let has_error = |name: &&str| self.errors.iter().any(|error| error.name == **name);
                // One error per variable.
                let others: Vec<&str> = others.into_iter().filter(|name| !has_error(name)).collect();
                for name in others {
                    self.error(name, format!("is set beside {first}; set one of them"));
                }
                None
            }
            None if development => {
                self.show_development_default("JWT_SECRET");
                Some(JwtKey::Secret(development::JWT_SECRET.into()))
            }
            None => {
                if self.needs("JWT") {
                    self.error(
                        "JWT_SECRET",
                        "must be set (or JWT_PUBLIC_KEY or JWT_JWKS_URL): users' tokens are checked with it",
                    );
                }
                None
            }
        }
    }

    fn jwt_secret(&mut self) -> Option<JwtKey> {
        let secret = self.secret("JWT_SECRET")?;
        if secret.len() < 32 {
            self.error("JWT_SECRET", "must be at least 32 bytes long");
            return None;
        }
        Some(JwtKey::Secret(secret.into()))
    }

    /// A changed key set allows forged tokens, so it comes over TLS or from this machine.
    fn jwks_url(&mut self, development: bool) -> Option<String> {
        const NAME: &str = "JWT_JWKS_URL";
        let url = self.raw.get(NAME).map(str::to_owned);
        self.show(NAME, url.as_deref().map_or("(not set)", without_secrets));
        let url = url?;
        let ok = match url.strip_prefix("http://") {
            Some(rest) => development || is_loopback(rest),
            None => url.starts_with("https://"),
        };
        if !ok {
            self.error(
                NAME,
                "must begin with https:// (http:// only for 127.0.0.1 or localhost, or in development)",
            );
        }
        ok.then_some(url)
    }
}

/// The URL without a password, which is an error anyway, and without a query, which may hold a secret.
fn without_secrets(url: &str) -> &str {
    let shown = url.split(['?', '#']).next().unwrap_or_default();
    if shown.contains('@') { "(set)" } else { shown }
}
