//! One-time codes: derived from a secret, never stored, never printed.
//!
//! A code is a function of a key and its challenge. A resend, a redelivery or another worker thus makes the same code,
//! and the store holds only a keyed digest, useless for guessing without the key. Codes have neither `Debug` nor
//! `Display`: [`Code::expose`] is the only access to the digits.
//!
//! Derivation follows HOTP (RFC 4226), but with HMAC-SHA256, and rejection sampling instead of truncation, so that every
//! code is equally likely.

use zeroize::Zeroize;

use super::challenge::ChallengeId;
use super::channel::Channel;
use super::key_check::{KeyCheck, KeyFingerprint, KeyUse};
use super::keyed_digest::{Digest16, MacKey};
use super::purpose::Purpose;
use super::request_id::RequestId;
use super::time::UnixMillis;

/// Four to ten decimal digits.
pub struct Code {
    digits: [u8; CODE_DIGITS_MAX],
    length: usize,
}

pub const CODE_DIGITS_MAX: usize = 10;
pub const CODE_DIGITS_MIN: usize = 4;

impl Code {
    /// Parses the code of a caller: four to ten ASCII digits. [`Code::parse_typed`] reads the code of a person.
    pub fn parse(text: &str) -> Option<Code> {
        let length = text.len();
        let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
        if !(CODE_DIGITS_MIN..=CODE_DIGITS_MAX).contains(&length) || !digits_only {
            return None;
        }
        let mut digits = [0; CODE_DIGITS_MAX];
        digits[..length].copy_from_slice(text.as_bytes());
        Some(Code { digits, length })
    }

    /// A code is not `Clone`, so that every copy is seen.
    pub fn copy(&self) -> Code {
        Code { digits: self.digits, length: self.length }
    }

    /// The digits, only for the text of a message.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&self.digits[..self.length]).expect("a code is ASCII digits")
    }

    fn from_number(number: u64, length: CodeLength) -> Code {
        let mut digits = [b'0'; CODE_DIGITS_MAX];
        let mut rest = number;
        for digit in digits[..length.get()].iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).expect("a remainder of ten is a digit");
            rest /= 10;
        }
        Code { digits, length: length.get() }
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        self.digits.zeroize();
    }
}

/// The number of digits of the codes that we make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeLength(usize);

impl CodeLength {
    pub fn new(length: usize) -> Option<CodeLength> {
        (CODE_DIGITS_MIN..=CODE_DIGITS_MAX).contains(&length).then_some(CodeLength(length))
    }

    pub fn get(self) -> usize {
        self.0
    }
}

/// The id of a code key: 1 to 16 letters, digits, `-` or `_`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kid(Box<str>);

impl Kid {
    pub fn parse(text: &str) -> Option<Kid> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        ((1..=16).contains(&text.len()) && text.bytes().all(allowed)).then(|| Kid(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The recipient and the purpose of a code. Every digest under a code key includes them.
#[derive(Clone, Copy)]
pub struct CodeScope<'a> {
    pub channel: Channel,
    /// In full: E.164 for a phone number.
    pub address: &'a str,
    pub purpose: &'a Purpose,
}

/// A secret from which codes, their digests and challenge ids are derived.
pub struct CodeKey {
    kid: Kid,
    make: MacKey,
    check: MacKey,
    challenge: MacKey,
    fingerprint: KeyFingerprint,
}

impl CodeKey {
    pub fn new(kid: Kid, secret: &[u8; 32]) -> CodeKey {
        CodeKey {
            kid,
            make: MacKey::derived(secret, "otpost code"),
            check: MacKey::derived(secret, "otpost check"),
            challenge: MacKey::derived(secret, "otpost challenge"),
            fingerprint: KeyFingerprint::of(secret, "otpost code key check"),
        }
    }

    pub fn key_check(&self) -> KeyCheck {
        KeyCheck { key_use: KeyUse::Code, kid: self.kid.as_str().to_owned(), fingerprint: self.fingerprint }
    }

    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    pub fn derive(&self, challenge: &ChallengeId, scope: CodeScope<'_>, length: CodeLength) -> Code {
        let bound = 10_u64.pow(u32::try_from(length.get()).expect("at most ten"));
        // Below this multiple of `bound` every remainder is equally frequent. A draw above it is discarded.
        let fair_below = (u64::MAX / bound) * bound;
        for round in 0_u32.. {
            let block = self.make.digest(&[
                &round.to_be_bytes(),
                challenge.as_str().as_bytes(),
                scope.channel.as_str().as_bytes(),
                scope.address.as_bytes(),
                scope.purpose.as_str().as_bytes(),
            ]);
            for draw in block.as_chunks::<8>().0 {
                let draw = u64::from_be_bytes(*draw);
                if draw < fair_below {
                    return Code::from_number(draw % bound, length);
                }
            }
        }
        unreachable!("four draws in a row are unfair once in 10^37 rounds")
    }

    /// The keyed digest of a code in this scope, which the store compares.
    pub fn digest(&self, scope: CodeScope<'_>, code: &Code) -> Digest16 {
        Digest16::of(&self.check.digest(&[
            scope.channel.as_str().as_bytes(),
            scope.purpose.as_str().as_bytes(),
            scope.address.as_bytes(),
            code.expose().as_bytes(),
        ]))
    }

    /// The id of the challenge that a request with a `requested_at` starts. Derived, so that the request gets the same code
    /// again if the store loses it.
    pub fn challenge_id(
        &self,
        request: &RequestId,
        scope: CodeScope<'_>,
        requested_at: UnixMillis,
    ) -> ChallengeId {
        ChallengeId::from_digest(Digest16::of(&self.challenge.digest(&[
            request.as_str().as_bytes(),
            scope.channel.as_str().as_bytes(),
            scope.address.as_bytes(),
            scope.purpose.as_str().as_bytes(),
            &requested_at.0.to_be_bytes(),
        ])))
    }
}

/// The keys in use. The first one makes codes; all of them check.
pub struct CodeKeyring {
    keys: Vec<CodeKey>,
    kids: String,
}

impl CodeKeyring {
    /// `None` without a key, or if two keys have the same id.
    pub fn new(keys: Vec<CodeKey>) -> Option<CodeKeyring> {
        let kids: Vec<&str> = keys.iter().map(|key| key.kid.as_str()).collect();
        let unique = kids.iter().enumerate().all(|(at, kid)| !kids[..at].contains(kid));
        let joined = format!(",{},", kids.join(","));
        (!keys.is_empty() && unique).then_some(CodeKeyring { keys, kids: joined })
    }

    pub fn first(&self) -> &CodeKey {
        &self.keys[0]
    }

    pub fn get(&self, kid: &str) -> Option<&CodeKey> {
        self.keys.iter().find(|key| key.kid.as_str() == kid)
    }

    pub fn key_checks(&self) -> impl Iterator<Item = KeyCheck> {
        self.keys.iter().map(CodeKey::key_check)
    }

    pub fn iter(&self) -> impl Iterator<Item = &CodeKey> {
        self.keys.iter()
    }

    /// The ids of all keys, each between commas: `,k2,k1,`.
    pub fn kids(&self) -> &str {
        &self.kids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> CodeKey {
        CodeKey::new(Kid::parse("k1").expect("valid"), &[3; 32])
    }

    fn scope(purpose: &Purpose) -> CodeScope<'_> {
        CodeScope { channel: Channel::Sms, address: "+573001234567", purpose }
    }

    fn challenge(number: u32) -> ChallengeId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        ChallengeId::from_digest(Digest16::from_bytes(bytes))
    }

    fn length(digits: usize) -> CodeLength {
        CodeLength::new(digits).expect("valid")
    }

    #[test]
    fn the_same_challenge_always_makes_the_same_code() {
        let purpose = Purpose::default();
        let [first, again] = [(); 2].map(|()| key().derive(&challenge(1), scope(&purpose), length(6)));
        assert_eq!(first.expose(), again.expose());
        assert_eq!(first.expose().len(), 6);
    }

    #[test]
    fn digits_are_uniform_at_every_place() {
        let purpose = Purpose::default();
        let key = key();
        let mut counts = [[0_u32; 10]; 6];
        const CODES: u32 = 20_000;
        for number in 0..CODES {
            let code = key.derive(&challenge(number), scope(&purpose), length(6));
            for (place, digit) in code.expose().bytes().enumerate() {
                counts[place][usize::from(digit - b'0')] += 1;
            }
        }
        let expected = f64::from(CODES) / 10.0;
        for place in counts {
            let chi_squared: f64 = place.iter().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum();
            // Nine degrees of freedom: above 33.7 once in 10,000 fair draws. The inputs are fixed, so this is stable.
            assert!(chi_squared < 33.7, "chi squared {chi_squared}");
        }
    }

    #[test]
    fn a_code_depends_on_everything_it_is_bound_to() {
        let purpose = Purpose::default();
        let login = Purpose::parse("login").expect("valid");
        let ten = length(10);
        let base = key().derive(&challenge(1), scope(&purpose), ten);
        let others = [
            key().derive(&challenge(2), scope(&purpose), ten),
            key().derive(&challenge(1), scope(&login), ten),
            key().derive(&challenge(1), CodeScope { address: "+573001234568", ..scope(&purpose) }, ten),
            CodeKey::new(Kid::parse("k1").expect("valid"), &[4; 32]).derive(
                &challenge(1),
                scope(&purpose),
                ten,
            ),
        ];
        for other in others {
            assert!(base.expose() != other.expose());
        }
    }

    #[test]
    fn a_digest_for_one_purpose_is_none_for_another() {
        let (purpose, login) = (Purpose::default(), Purpose::parse("login").expect("valid"));
        let code = Code::parse("123456").expect("valid");
        assert_ne!(key().digest(scope(&purpose), &code), key().digest(scope(&login), &code));
    }

    #[test]
    fn only_four_to_ten_ascii_digits_are_a_code() {
        for bad in ["", "123", "12345678901", "12345a", "١٢٣٤٥٦", "12 456", "-12345"] {
            assert!(Code::parse(bad).is_none(), "{bad}");
        }
        assert!(Code::parse("0000").is_some() && Code::parse("0123456789").is_some());
    }

    #[test]
    fn a_keyring_has_a_first_key_and_no_id_twice() {
        assert!(CodeKeyring::new(vec![]).is_none());
        assert!(CodeKeyring::new(vec![key(), key()]).is_none());
        let second = CodeKey::new(Kid::parse("k2").expect("valid"), &[9; 32]);
        let keyring = CodeKeyring::new(vec![second, key()]).expect("valid");
        assert_eq!((keyring.first().kid().as_str(), keyring.kids()), ("k2", ",k2,k1,"));
    }
}
