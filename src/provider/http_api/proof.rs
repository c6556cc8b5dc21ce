//! The ways in which a vendor proves that a call is its own. Secrets are compared in constant time.
//!
//! A time that a vendor signs must be of these minutes, so that an old call is worth nothing.

use std::time::Duration;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use minijinja::context;
use reqwest::header::{AUTHORIZATION, HeaderName};
use secrecy::{ExposeSecret as _, SecretString};

use super::authentication::{basic_credentials, header_name};
use super::digest::{Algorithm, Encoding, equal};
use super::jwt::Jwt;
use super::place::{Parts, Place};
use super::request;
use super::secrets::{self, ReadSecret};
use super::table::{Faults, Table};
use super::template::Template;
use super::variables::{self, TIMESTAMP};
use super::vendor_time;
use crate::domain::time::UnixMillis;
use crate::provider::Callback;

/// Also the largest lead of the vendor's clock over ours.
const AGE_MAX: Duration = Duration::from_secs(300);

/// It holds secrets: no `Debug`.
pub(super) enum Proof {
    /// The sealed reference of each receipt.
    Reference,
    /// The value of a header.
    Header(SecretString),
    /// A parameter of the query.
    Query(Place, SecretString),
    Hmac {
        algorithm: Algorithm,
        encoding: Encoding,
        prefix: String,
        secret: SecretString,
        text: Template,
    },
    Ed25519 {
        key: [u8; 32],
        text: Template,
    },
    Jwt(Jwt),
}

/// A proof, and the headers that hold it.
pub(super) struct ProofOfCalls {
    pub(super) proof: Proof,
    pub(super) header: Option<HeaderName>,
    pub(super) timestamp_header: Option<HeaderName>,
}

const KINDS: [&str; 6] = ["reference", "basic", "token", "hmac", "ed25519", "jwt"];

impl ProofOfCalls {
    pub(super) fn read(
        table: &mut Table<'_>,
        read: &ReadSecret<'_>,
        faults: &mut Faults<'_>,
    ) -> Option<ProofOfCalls> {
        let in_header =
            |proof, header| Some(ProofOfCalls { proof, header: Some(header), timestamp_header: None });
        match KINDS[table.choice("kind", &KINDS, faults)?] {
            "reference" => {
                Some(ProofOfCalls { proof: Proof::Reference, header: None, timestamp_header: None })
            }
            "basic" => {
                let user = table.required("user", faults);
                let user = user.and_then(|user| secrets::plain_or_secret(user, read, faults));
                let secret = secrets::required(table, "secret", read, faults);
                in_header(Proof::Header(basic_credentials(&user?, &secret?).into()), AUTHORIZATION)
            }
            "token" => {
                let query = table.text("query", faults);
                let secret = secrets::required(table, "secret", read, faults);
                match query {
                    Some(name) => {
                        let place = Place::parse(&format!("query:{}", name.text), &["query"]).ok()?;
                        let proof = Proof::Query(place, secret?);
                        Some(ProofOfCalls { proof, header: None, timestamp_header: None })
                    }
                    None => {
                        let header = header_name(table, "header", faults);
                        in_header(Proof::Header(secret?), header?)
                    }
                }
            }
            "jwt" => {
                let header = optional_header(table, "header", faults)?.unwrap_or(AUTHORIZATION);
                in_header(Proof::Jwt(Jwt::read(table, read, faults)?), header)
            }
            kind => signed(kind, table, read, faults),
        }
    }

    /// True if the signature covers `variable`, or the proof is no signature of a text.
    pub(super) fn covers(&self, variable: &str) -> bool {
        match &self.proof {
            Proof::Hmac { text, .. } | Proof::Ed25519 { text, .. } => text.uses(variable),
            Proof::Reference | Proof::Header(_) | Proof::Query(..) | Proof::Jwt(_) => true,
        }
    }

    /// The checks that need no body.
    pub(super) fn may_hold(&self, call: &Callback<'_>, now: UnixMillis) -> bool {
        match &self.proof {
            Proof::Reference => true,
            Proof::Query(place, secret) => is_in_query(place, secret, call),
            Proof::Header(secret) => call.signature.is_some_and(|given| is_equal(given, secret)),
            Proof::Jwt(_) => call.signature.is_some(),
            Proof::Hmac { .. } | Proof::Ed25519 { .. } => {
                call.signature.is_some() && self.is_recent(call, now)
            }
        }
    }

    pub(super) fn holds(&self, call: &Callback<'_>, now: UnixMillis) -> bool {
        let is_signed = match &self.proof {
            Proof::Hmac { algorithm, encoding, prefix, secret, text } => {
                let given =
                    call.signature.and_then(|given| encoding.decode(given.strip_prefix(prefix.as_str())?));
                let signed = signed_text(text, call);
                let (Some(given), Some(signed)) = (given, signed) else { return false };
                let mac = algorithm.mac(secret.expose_secret().as_bytes(), signed.as_bytes());
                equal(&mac, &given)
            }
            Proof::Ed25519 { key, text } => {
                let given = call.signature.and_then(|given| BASE64_STANDARD.decode(given).ok());
                let (Some(given), Some(signed)) = (given, signed_text(text, call)) else { return false };
                UnparsedPublicKey::new(&ED25519, key).verify(signed.as_bytes(), &given).is_ok()
            }
            Proof::Jwt(jwt) => call.signature.is_some_and(|token| jwt.proves(token, call.body, now)),
            Proof::Reference | Proof::Query(..) | Proof::Header(_) => true,
        };
        is_signed && self.may_hold(call, now)
    }

    /// True without a time to check.
    fn is_recent(&self, call: &Callback<'_>, now: UnixMillis) -> bool {
        let is_recent = |at: UnixMillis| now.0.abs_diff(at.0) <= crate::domain::time::millis(AGE_MAX);
        self.timestamp_header.is_none() || call.timestamp.and_then(vendor_time::parse).is_some_and(is_recent)
    }
}

/// A signature over a described text.
fn signed(
    kind: &str,
    table: &mut Table<'_>,
    read: &ReadSecret<'_>,
    faults: &mut Faults<'_>,
) -> Option<ProofOfCalls> {
    let header = header_name(table, "header", faults);
    let timestamp_header = optional_header(table, "timestamp_header", faults)?;
    let text = table.required("text", faults);
    let text_at = text.map(|text| text.at);
    let text = text.and_then(|text| request::template(text, "text", &variables::OF_SIGNED_CALLS, faults));
    if let (Some(text), Some(at)) = (&text, text_at) {
        match (text.uses(TIMESTAMP), timestamp_header.is_some()) {
            (true, false) => faults.add(at, "`text` with {{ timestamp }} needs `timestamp_header`"),
            (false, true) => {
                faults.add(at, "`text` needs {{ timestamp }}: a time that is not signed proves nothing");
            }
            _ => {}
        }
    }
    let proof = if kind == "hmac" {
        let (algorithm, encoding) = (Algorithm::read(table, faults), Encoding::read(table, faults));
        let prefix = table.text("prefix", faults).map_or("", |prefix| prefix.text).to_owned();
        let secret = secrets::required(table, "secret", read, faults);
        Proof::Hmac { algorithm: algorithm?, encoding: encoding?, prefix, secret: secret?, text: text? }
    } else {
        let key = table.required("public_key", faults);
        let key = key.and_then(|key| {
            let text = secrets::plain_or_secret(key, read, faults)?;
            let bytes = BASE64_STANDARD.decode(text.expose_secret()).ok().and_then(|key| key.try_into().ok());
            faults.ok(key.at, bytes.ok_or("`public_key` must be 32 bytes in base64"))
        });
        Proof::Ed25519 { key: key?, text: text? }
    };
    Some(ProofOfCalls { proof, header: Some(header?), timestamp_header })
}

/// `None` for a fault.
fn optional_header(table: &mut Table<'_>, key: &str, faults: &mut Faults<'_>) -> Option<Option<HeaderName>> {
    let Some(item) = table.take(key) else { return Some(None) };
    let name = item.text(key, faults)?;
    let parsed = HeaderName::try_from(name.text).map_err(|_| format!("`{key}` must be the name of a header"));
    faults.ok(name.at, parsed).map(Some)
}

fn signed_text(text: &Template, call: &Callback<'_>) -> Option<String> {
    let values = context! {
        body => std::str::from_utf8(call.body).ok()?,
        query => call.query.unwrap_or_default(),
        timestamp => call.timestamp.unwrap_or_default(),
    };
    text.text(&values).ok()?
}

pub(super) fn is_in_query(place: &Place, secret: &SecretString, call: &Callback<'_>) -> bool {
    let parts = Parts { json: None, body: &[], headers: None, query: call.query.unwrap_or_default() };
    place.read(&parts).is_some_and(|given| is_equal(&given, secret))
}

fn is_equal(given: &str, secret: &SecretString) -> bool {
    equal(given.as_bytes(), secret.expose_secret().as_bytes())
}
