//! Keys that production refuses: those that are published, those with a pattern, and one key in two places.
//!
//! Bytes are compared, in every form that a text may stand for: another encoding makes no new key.

use std::sync::LazyLock;

use zeroize::Zeroizing;

use super::key_patterns::{Pattern, is_placeholder, is_text, pattern};
use super::published_keys::{KEY_BYTES_MIN, PUBLISHED, is_digest_of_a_word};
use super::reader::Reader;
use super::validators::parts;
use super::{reader, tokens};

/// The settings that hold keys, and the tokens that sign callbacks. A fault is reported for the later one of two.
const CODE_KEYS: &str = "OTP_SECRET_KEYS";
const OWN: [&str; 3] = [CODE_KEYS, "OTP_RECIPIENT_KEY", "JWT_SECRET"];
const OTHERS: [&str; 3] = ["TWILIO_AUTH_TOKEN", "TWILIO_API_KEY_SECRET", "SENDGRID_API_KEY"];

/// Of a key that a setting holds as base64.
const KEY_BYTES: usize = 32;
/// A text in quotes, in base64 of base64 of hexadecimal digits.
const DEPTH: usize = 4;

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

    /// True if a form is the other's, or its beginning.
    fn begins(&self, other: &Forms) -> bool {
        self.0.iter().any(|form| other.0.iter().any(|known| known.starts_with(form)))
    }

    fn is_digest_of_a_word(&self) -> bool {
        self.0.iter().any(|form| is_digest_of_a_word(form))
    }

    /// The first pattern, and the size of the form that has it.
    fn pattern(&self) -> Option<(Pattern, usize)> {
        self.0.iter().find_map(|form| Some((pattern(form)?, form.len())))
    }

    /// The raw key, which is the form after the text itself.
    fn has_readable_bytes(&self) -> bool {
        self.0.get(1).is_some_and(|form| is_text(form))
    }
}

/// The bytes without quotes and spaces around them, without a key id in front, and those that the text encodes.
fn decoded(bytes: &[u8]) -> impl Iterator<Item = Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let bare = text.trim_matches(|char: char| char.is_whitespace() || matches!(char, '"' | '\''));
    let without_id = bare.split_once(':').map(|(_, key)| key.as_bytes().to_vec());
    // The encoded bytes come first: a raw key is the second form of its text.
    [from_encoding(bare), Some(bare.as_bytes().to_vec()), without_id]
        .into_iter()
        .flatten()
        .map(Zeroizing::new)
}

/// The bytes of hexadecimal digits, base32 or either kind of base64 (RFC 4648), whichever is the narrowest. Spaces, colons
/// and hyphens separate digits; padding and bits at the end do not count.
fn from_encoding(text: &str) -> Option<Vec<u8>> {
    const HEX: &[u8] = b"0123456789abcdef";
    const BASE32: &[u8] = b"abcdefghijklmnopqrstuvwxyz234567";
    const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let one_line: String = text.split_whitespace().collect();
    let unpadded = one_line.trim_end_matches('=');
    let lower = unpadded.to_ascii_lowercase();
    let is_one_case = unpadded == lower || unpadded == lower.to_ascii_uppercase();
    let digits: String = lower.strip_prefix("0x").unwrap_or(&lower).split([':', '-']).collect();
    bytes_in(&digits, HEX, 4)
        .or_else(|| is_one_case.then(|| bytes_in(&lower, BASE32, 5)).flatten())
        .or_else(|| bytes_in(&unpadded.replace('-', "+").replace('_', "/"), BASE64, 6))
}

fn bytes_in(text: &str, alphabet: &[u8], bits: u32) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut pending, mut held) = (0_u32, 0);
    for character in text.bytes() {
        let value = alphabet.iter().position(|known| *known == character)?;
        pending = (pending << bits | u32::try_from(value).ok()?) & 0xffff;
        held += bits;
        if held >= 8 {
            held -= 8;
            bytes.push((pending >> held & 0xff) as u8);
        }
    }
    Some(bytes)
}

static DEVELOPMENT_FORMS: LazyLock<Vec<Forms>> = LazyLock::new(|| {
    let keys = [
        reader::development::OTP_SECRET_KEYS.trim_start_matches("dev:"),
        reader::development::OTP_RECIPIENT_KEY,
        tokens::development::JWT_SECRET,
    ];
    keys.into_iter().map(Forms::of).collect()
});

static PUBLISHED_FORMS: LazyLock<Vec<Forms>> =
    LazyLock::new(|| PUBLISHED.iter().map(|key| Forms::of(key)).collect());

impl Reader<'_> {
    /// Reports every setting with a key that others may know.
    pub(super) fn check_keys(&mut self) {
        let (own, published) = (&*DEVELOPMENT_FORMS, &*PUBLISHED_FORMS);
        let mut before: Vec<(&str, Forms)> = Vec::new();
        for name in OWN.into_iter().chain(OTHERS) {
            let texts: Vec<&str> = values(name, self.raw.get(name).unwrap_or_default()).collect();
            let keys: Vec<Forms> = texts.iter().copied().map(Forms::of).collect();
            let problem = keys.iter().enumerate().find_map(|(at, key)| {
                let equals = |other: &&(&str, Forms)| other.1.meets(key);
                if own.iter().any(|known| known.meets(key)) {
                    Some("is the public development key; production needs its own".to_owned())
                } else if published.iter().any(|known| key.begins(known)) {
                    Some("is a key that a standard or a tool publishes; production needs its own".to_owned())
                } else if key.is_digest_of_a_word() {
                    Some("is the digest of a common word; production needs a random key".to_owned())
                } else if let Some((pattern, length)) = guessable(name, texts[at], key) {
                    Some(format!("is a key that can be guessed: it {pattern} ({length} bytes)"))
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

/// The pattern of a key. A key of ours that is read as bytes is no text. A provider's token may be short.
fn guessable(name: &str, text: &str, key: &Forms) -> Option<(Pattern, usize)> {
    if OTHERS.contains(&name) {
        let is_one = text.len() > 3 && text.bytes().all(|byte| byte == text.as_bytes()[0]);
        if is_one || is_placeholder(text.as_bytes()) {
            let pattern = if is_one { Pattern::Repeats { period: 1 } } else { Pattern::Placeholder };
            return Some((pattern, text.len()));
        }
    }
    let is_readable = || name != "JWT_SECRET" && OWN.contains(&name) && key.has_readable_bytes();
    key.pattern().or_else(|| is_readable().then_some((Pattern::Text, KEY_BYTES)))
}
