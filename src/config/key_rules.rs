//! Keys that production refuses: those that this repository publishes, those with a pattern, and one key in two places.
//!
//! Bytes are compared, in every form that a text may stand for: another encoding makes no new key.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::reader::Reader;
use super::validators::parts;
use super::{reader, tokens};

/// The settings that hold keys, and the tokens that sign callbacks. A fault is reported for the later one of two.
const CODE_KEYS: &str = "OTP_SECRET_KEYS";
const OWN: [&str; 3] = [CODE_KEYS, "OTP_RECIPIENT_KEY", "JWT_SECRET"];
const OTHERS: [&str; 3] = ["TWILIO_AUTH_TOKEN", "TWILIO_API_KEY_SECRET", "SENDGRID_API_KEY"];

/// Shorter values are no keys: they are part of an accidental form.
const KEY_BYTES_MIN: usize = 16;
/// Sixteen random bytes never have fewer different ones.
const DIFFERENT_BYTES_MIN: usize = 5;
/// A text in quotes, in base64 of base64.
const DEPTH: usize = 3;

/// Everything that one value may stand for.
struct Forms(Vec<Zeroizing<Vec<u8>>>);

impl Forms {
    fn of(text: &str) -> Forms {
        let mut forms = Forms(Vec::new());
        forms.add(text.as_bytes(), DEPTH);
        forms
    }

    fn add(&mut self, bytes: &[u8], depth: usize) {
        if bytes.len() < KEY_BYTES_MIN || self.0.iter().any(|known| known.as_slice() == bytes) {
            return;
        }
        self.0.push(Zeroizing::new(bytes.to_vec()));
        let Some(depth) = depth.checked_sub(1) else { return };
        for form in decoded(bytes) {
            self.add(&form, depth);
        }
    }

    fn meets(&self, other: &Forms) -> bool {
        self.0.iter().any(|form| other.0.contains(form))
    }

    fn has_pattern(&self) -> bool {
        self.0.iter().any(|form| has_pattern(form))
    }
}

/// The bytes without quotes and spaces around them, without a key id in front, and as hexadecimal digits or either kind of
/// base64.
fn decoded(bytes: &[u8]) -> impl Iterator<Item = Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let bare = text.trim_matches(|char: char| char.is_whitespace() || matches!(char, '"' | '\''));
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let base64 =
        [STANDARD, URL_SAFE].map(|alphabet| GeneralPurpose::new(&alphabet, config).decode(bare).ok());
    let without_id = bare.split_once(':').map(|(_, key)| key.as_bytes().to_vec());
    [Some(bare.as_bytes().to_vec()), without_id, hex::decode(bare).ok()]
        .into_iter()
        .chain(base64)
        .flatten()
        .map(Zeroizing::new)
}

/// Few different bytes, or bytes at one distance from each other.
fn has_pattern(bytes: &[u8]) -> bool {
    let mut seen = [false; 256];
    bytes.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    let step = |pair: &[u8]| pair[1].wrapping_sub(pair[0]);
    seen.iter().filter(|seen| **seen).count() < DIFFERENT_BYTES_MIN
        || bytes.windows(2).all(|pair| step(pair) == step(&bytes[..2]))
}

impl Reader<'_> {
    /// Reports every setting with a key that others may know.
    pub(super) fn check_keys(&mut self) {
        let published = [
            reader::development::OTP_SECRET_KEYS,
            reader::development::OTP_RECIPIENT_KEY,
            tokens::development::JWT_SECRET,
        ];
        let published = published.map(|key| Forms::of(key.trim_start_matches("dev:")));
        let mut before: Vec<(&str, Forms)> = Vec::new();
        for name in OWN.into_iter().chain(OTHERS) {
            let keys: Vec<Forms> =
                values(name, self.raw.get(name).unwrap_or_default()).map(Forms::of).collect();
            let problem = keys.iter().enumerate().find_map(|(at, key)| {
                let equals = |other: &&(&str, Forms)| other.1.meets(key);
                if published.iter().any(|known| known.meets(key)) {
                    Some("is the public development key; production needs its own".to_owned())
                } else if OWN.contains(&name) && key.has_pattern() {
                    Some("is a key with a pattern, which can be guessed: openssl rand -base64 32".to_owned())
                } else if let Some((other, _)) = before.iter().find(equals) {
                    Some(format!("holds the key of {other}: each needs its own"))
                } else if name == CODE_KEYS && keys[..at].iter().any(|other| other.meets(key)) {
                    Some("holds one key under two ids".to_owned())
                } else {
                    None
                }
            });
            // A setting that breaks another rule holds no key.
            if self.errors.iter().any(|known| known.name == name) {
                continue;
            }
            before.extend(keys.into_iter().map(|key| (name, key)));
            if let Some(problem) = problem {
                self.error(name, problem);
            }
        }
    }
}

/// The whole value, and the parts of a list: a key ring has `kid:` before each key.
fn values<'a>(name: &str, text: &'a str) -> impl Iterator<Item = &'a str> {
    let is_ring = name == CODE_KEYS;
    let key =
        move |part: &'a str| part.split_once(':').filter(|_| is_ring).map_or(part, |(_, key)| key.trim());
    Some(text).filter(|text| !is_ring && text.contains(',')).into_iter().chain(parts(text).map(key))
}
