//! The ways in which a vendor proves that a call is its own. Secrets are compared in constant time.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use minijinja::context;
use reqwest::header::{AUTHORIZATION, HeaderName};
use secrecy::{ExposeSecret as _, SecretString};

use super::authentication::{basic_credentials, header_name};
use super::digest::{Algorithm, Encoding};
use super::place::{Parts, Place};
use super::request;
use super::secrets::{self, ReadSecret};
use super::table::{Faults, Table};
use super::template::Template;
use super::variables;
use crate::provider::Callback;

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
}

/// A proof, and the headers that hold it.
pub(super) struct ProofOfCalls {
    pub(super) proof: Proof,
    pub(super) header: Option<HeaderName>,
    pub(super) timestamp_header: Option<HeaderName>,
}

const KINDS: [&str; 5] = ["reference", "basic", "token", "hmac", "ed25519"];

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
            kind => signed(kind, table, read, faults),
        }
    }

    /// True if the signature covers `variable`, or the proof is no signature.
    pub(super) fn covers(&self, variable: &str) -> bool {
        match &self.proof {
            Proof::Hmac { text, .. } | Proof::Ed25519 { text, .. } => text.uses(variable),
            Proof::Reference | Proof::Header(_) | Proof::Query(..) => true,
        }
    }

    /// The checks that need no body.
    pub(super) fn may_hold(&self, call: &Callback<'_>) -> bool {
        match &self.proof {
            Proof::Reference => true,
            Proof::Query(place, secret) => is_in_query(place, secret, call),
            Proof::Header(secret) => call.signature.is_some_and(|given| is_equal(given, secret)),
            Proof::Hmac { .. } | Proof::Ed25519 { .. } => call.signature.is_some(),
        }
    }

    pub(super) fn holds(&self, call: &Callback<'_>) -> bool {
        match &self.proof {
            Proof::Hmac { algorithm, encoding, prefix, secret, text } => {
                let given =
                    call.signature.and_then(|given| encoding.decode(given.strip_prefix(prefix.as_str())?));
                let signed = signed_text(text, call);
                let (Some(given), Some(signed)) = (given, signed) else { return false };
                let mac = algorithm.mac(secret.expose_secret().as_bytes(), signed.as_bytes());
                verify_slices_are_equal(&mac, &given).is_ok()
            }
            Proof::Ed25519 { key, text } => {
                let given = call.signature.and_then(|given| BASE64_STANDARD.decode(given).ok());
                let (Some(given), Some(signed)) = (given, signed_text(text, call)) else { return false };
                UnparsedPublicKey::new(&ED25519, key).verify(signed.as_bytes(), &given).is_ok()
            }
            Proof::Reference | Proof::Query(..) | Proof::Header(_) => self.may_hold(call),
        }
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
    let timestamp_header = match table.take("timestamp_header") {
        None => None,
        Some(item) => {
            let name = item.text("timestamp_header", faults)?;
            let parsed = HeaderName::try_from(name.text);
            faults.ok(name.at, parsed.map_err(|_| "`timestamp_header` must be the name of a header"))
        }
    };
    let text = table.required("text", faults);
    let text = text.and_then(|text| request::template(text, "text", &variables::OF_SIGNED_CALLS, faults));
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

fn signed_text(text: &Template, call: &Callback<'_>) -> Option<String> {
    let values = context! {
        body => std::str::from_utf8(call.body).ok()?,
        query => call.query.unwrap_or_default(),
        timestamp => call.timestamp.unwrap_or_default(),
    };
    text.text(&values).ok()?
}

fn is_in_query(place: &Place, secret: &SecretString, call: &Callback<'_>) -> bool {
    let parts = Parts { json: None, body: &[], headers: None, query: call.query.unwrap_or_default() };
    place.read(&parts).is_some_and(|given| is_equal(&given, secret))
}

fn is_equal(given: &str, secret: &SecretString) -> bool {
    verify_slices_are_equal(given.as_bytes(), secret.expose_secret().as_bytes()).is_ok()
}
