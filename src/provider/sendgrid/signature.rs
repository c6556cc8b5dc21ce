//! Verifies that a call comes from SendGrid and is recent.
//!
//! The signature covers the timestamp header and the body, byte for byte: ECDSA on P-256 with SHA-256, DER in base64. The
//! key belongs to the account, whose settings page shows it.
//!
//! SendGrid repeats a call for a day until it gets a 2xx, and does not document if a repeat is signed anew. So a signature
//! is valid as long: with a shorter time, events during an outage of ours would be refused for good. An attacker who
//! replays a call within that time changes nothing: the events are known and suppress no recipient again, even after an
//! operator removed the suppression. Once the record has expired, the store drops them.
//!
//! The signed text has no separator between the time and the body. A digit that moves makes the time too old.
//!
//! SendGrid: docs page "Event Webhook security features"; checked against the vector of its own libraries.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::domain::time::UnixMillis;
use crate::provider::Callback;
use crate::provider::http_client::{InvalidSettings, fault};

/// A day of repeats, and an hour for the last of them to come.
const AGE_MAX: Duration = Duration::from_secs(25 * 3_600);
/// The largest lead of SendGrid's clock over ours.
const AHEAD_MAX: Duration = Duration::from_secs(5 * 60);
/// Longer than any time in seconds.
const TIMESTAMP_DIGITS_MAX: usize = 12;

/// The key that calls are signed with.
pub(super) struct Signature {
    key: ParsedPublicKey,
}

impl Signature {
    /// For a key in base64.
    pub(super) fn new(key: &str) -> Result<Signature, InvalidSettings> {
        let der = BASE64_STANDARD.decode(key.trim()).map_err(|_| fault("the key must be base64"))?;
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, der)
            .map_err(|_| fault("the key must be a public key on the curve P-256, as SendGrid shows it"))?;
        Ok(Signature { key })
    }

    /// True if SendGrid signed the call, and recently.
    pub(super) fn proves(&self, call: &Callback<'_>, now: UnixMillis) -> bool {
        let Some((signature, timestamp)) = recent_signature(call, now) else {
            return false;
        };
        let mut signed = Context::new(&SHA256);
        signed.update(timestamp.as_bytes());
        signed.update(call.body);
        self.key.verify_digest_sig(&signed.finish(), &signature).is_ok()
    }
}

/// The signature and the timestamp, unless they are missing, unreadable or too old. The body is not read.
pub(super) fn recent_signature<'c>(call: &Callback<'c>, now: UnixMillis) -> Option<(Vec<u8>, &'c str)> {
    let signature = BASE64_STANDARD.decode(call.signature?).ok()?;
    let timestamp = call.timestamp?;
    let at = signed_at(timestamp)?;
    (at.plus(AGE_MAX) >= now && at <= now.plus(AHEAD_MAX)).then_some((signature, timestamp))
}

fn signed_at(timestamp: &str) -> Option<UnixMillis> {
    let digits = timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: u64 =
        (digits && timestamp.len() <= TIMESTAMP_DIGITS_MAX).then(|| timestamp.parse().ok())??;
    Some(UnixMillis(seconds * 1_000))
}
