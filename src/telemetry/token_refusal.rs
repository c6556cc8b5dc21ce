//! The check that refused a token, for logs and metrics. Nothing of the token is kept.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRefusal {
    Expired,
    NotYetValid,
    Audience,
    Issuer,
    Signature,
    /// No key has the id that the token names.
    Kid,
    /// A claim that decides is missing, given twice or cannot be read.
    Claims,
    Malformed,
    Scope,
    /// The issuer's keys are not available now, so the token could not be checked.
    KeyUnavailable,
}

impl TokenRefusal {
    pub const ALL: [TokenRefusal; 10] = [
        TokenRefusal::Expired,
        TokenRefusal::NotYetValid,
        TokenRefusal::Audience,
        TokenRefusal::Issuer,
        TokenRefusal::Signature,
        TokenRefusal::Kid,
        TokenRefusal::Claims,
        TokenRefusal::Malformed,
        TokenRefusal::Scope,
        TokenRefusal::KeyUnavailable,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            TokenRefusal::Expired => "expired",
            TokenRefusal::NotYetValid => "not_yet_valid",
            TokenRefusal::Audience => "audience",
            TokenRefusal::Issuer => "issuer",
            TokenRefusal::Signature => "signature",
            TokenRefusal::Kid => "kid",
            TokenRefusal::Claims => "claims",
            TokenRefusal::Malformed => "malformed",
            TokenRefusal::Scope => "scope",
            TokenRefusal::KeyUnavailable => "key_unavailable",
        }
    }
}
