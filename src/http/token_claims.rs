//! The claims of a token (RFC 7519 §4): what makes it valid here, and what it says of a person.
//!
//! Each claim is read for itself. One that does not decide is left out if it has another type, is not Unicode or is given
//! twice, and the rest counts. One that decides, given twice, makes the token invalid: two readers could take different
//! ones.

use crate::domain::json::{Json, members};
use crate::domain::time::UnixMillis;

/// Tolerated clock difference between issuer and gateway.
const LEEWAY_SECONDS: f64 = 10.0;
/// 2^64: no later time is one.
const SECONDS_END: f64 = 18_446_744_073_709_551_616.0;

/// The claims that every token needs.
pub(super) struct Required {
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
}

/// OpenID Connect's standard claims, and OAuth's scope. Each is absent if it is no string.
#[derive(Default)]
pub(super) struct Claims {
    pub(super) iss: Option<String>,
    pub(super) sub: Option<String>,
    /// OAuth's client (RFC 9068 §2.2).
    pub(super) client_id: Option<String>,
    pub(super) phone_number: Option<String>,
    pub(super) email: Option<String>,
    pub(super) name: Option<String>,
    pub(super) locale: Option<String>,
    pub(super) zoneinfo: Option<String>,
    pub(super) scope: Option<String>,
    /// The token's own id, for the audit log.
    pub(super) jti: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum InvalidClaims {
    Expired,
    NotYetValid,
    Issuer,
    Audience,
    /// A claim that decides is missing, given twice or of another type, or the payload is no JSON object.
    Unreadable,
}

/// A claim as far as it is read.
#[derive(Clone, Copy, Default)]
enum Claim<'a> {
    #[default]
    Absent,
    Given(Json<'a>),
    Repeated,
}

#[derive(Default)]
struct Read<'a> {
    exp: Claim<'a>,
    nbf: Claim<'a>,
    iss: Claim<'a>,
    aud: Claim<'a>,
    sub: Claim<'a>,
    client_id: Claim<'a>,
    phone_number: Claim<'a>,
    email: Claim<'a>,
    scope: Claim<'a>,
    jti: Claim<'a>,
    name: Claim<'a>,
    locale: Claim<'a>,
    zoneinfo: Claim<'a>,
}

impl Required {
    /// The claims of a verified token, if it is valid now.
    pub(super) fn check(&self, payload: &[u8], now: UnixMillis) -> Result<Claims, InvalidClaims> {
        let read = Read::of(payload).ok_or(InvalidClaims::Unreadable)?;
        let valid = self.times(&read)?;
        let now = now.as_seconds() as f64;
        match valid {
            Times { expires, .. } if expires < now - LEEWAY_SECONDS => Err(InvalidClaims::Expired),
            Times { begins, .. } if begins > now + LEEWAY_SECONDS => Err(InvalidClaims::NotYetValid),
            _ => Ok(read.claims()),
        }
    }

    /// The times of a token from the right issuer for this audience.
    fn times(&self, read: &Read<'_>) -> Result<Times, InvalidClaims> {
        let decides = [
            read.exp,
            read.nbf,
            read.iss,
            read.aud,
            read.sub,
            read.client_id,
            read.phone_number,
            read.email,
            read.scope,
        ];
        if decides.iter().any(|claim| matches!(claim, Claim::Repeated)) {
            return Err(InvalidClaims::Unreadable);
        }
        let is = |value: Json<'_>, wanted: &str| value.text().is_some_and(|text| text == wanted);
        if let Some(issuer) = &self.issuer {
            read.iss.given().filter(|value| is(*value, issuer)).ok_or(InvalidClaims::Issuer)?;
        }
        if let Some(audience) = &self.audience {
            let value = read.aud.given().ok_or(InvalidClaims::Audience)?;
            let in_list = || value.elements().map_while(Result::ok).any(|value| is(value, audience));
            if !is(value, audience) && !in_list() {
                return Err(InvalidClaims::Audience);
            }
        }
        let expires = read.exp.given().and_then(seconds).ok_or(InvalidClaims::Unreadable)?;
        // Any time in the past allows the same, also one before 1970.
        let begins = read.nbf.given().filter(|value| !value.is_null()).map_or(Some(0.0), Json::number);
        Ok(Times { expires, begins: begins.ok_or(InvalidClaims::Unreadable)? })
    }
}

struct Times {
    expires: f64,
    begins: f64,
}

/// Seconds since 1970, which may have a fraction (RFC 7519 §2).
fn seconds(value: Json<'_>) -> Option<f64> {
    value.number().filter(|seconds| (0.0..SECONDS_END).contains(seconds))
}

impl<'a> Claim<'a> {
    fn given(self) -> Option<Json<'a>> {
        match self {
            Claim::Given(value) => Some(value),
            Claim::Absent | Claim::Repeated => None,
        }
    }

    fn text(self) -> Option<String> {
        Some(self.given()?.text()?.into_owned())
    }
}

impl<'a> Read<'a> {
    fn of(payload: &'a [u8]) -> Option<Read<'a>> {
        let mut read = Read::default();
        for member in members(payload) {
            let member = member.ok()?;
            let slot = match member.name.as_deref() {
                Some("exp") => &mut read.exp,
                Some("nbf") => &mut read.nbf,
                Some("iss") => &mut read.iss,
                Some("aud") => &mut read.aud,
                Some("sub") => &mut read.sub,
                Some("client_id") => &mut read.client_id,
                Some("phone_number") => &mut read.phone_number,
                Some("email") => &mut read.email,
                Some("scope") => &mut read.scope,
                Some("jti") => &mut read.jti,
                Some("name") => &mut read.name,
                Some("locale") => &mut read.locale,
                Some("zoneinfo") => &mut read.zoneinfo,
                _ => continue,
            };
            *slot = match slot {
                Claim::Absent => Claim::Given(member.value),
                Claim::Given(_) | Claim::Repeated => Claim::Repeated,
            };
        }
        Some(read)
    }

    fn claims(&self) -> Claims {
        Claims {
            iss: self.iss.text(),
            sub: self.sub.text(),
            client_id: self.client_id.text(),
            phone_number: self.phone_number.text(),
            email: self.email.text(),
            name: self.name.text(),
            locale: self.locale.text(),
            zoneinfo: self.zoneinfo.text(),
            scope: self.scope.text(),
            jti: self.jti.text(),
        }
    }
}
