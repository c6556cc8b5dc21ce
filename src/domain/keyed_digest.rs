//! Keyed digests: HMAC-SHA256 (RFC 2104) over length-prefixed fields.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;

/// A secret for keyed digests, with the HMAC state prepared once.
#[derive(Clone)]
pub(super) struct MacKey(Hmac<Sha256>);

impl MacKey {
    pub(super) fn new(secret: &[u8]) -> MacKey {
        MacKey(Hmac::new_from_slice(secret).expect("HMAC takes a key of any length"))
    }

    /// Derives a key for one use, so that digests of two uses never coincide.
    pub(super) fn derived(secret: &[u8; 32], label: &str) -> MacKey {
        MacKey::new(&MacKey::new(secret).digest(&[label.as_bytes()]))
    }

    /// A digest over the fields. Each is preceded by its length, so that two lists of fields never collide.
    pub(super) fn digest(&self, fields: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for field in fields {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field);
        }
        mac.finalize().into_bytes().into()
    }
}

/// Sixteen bytes of a keyed digest, as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest16([u8; 32]);

impl Digest16 {
    /// Stands for a value that does not exist.
    pub const NONE: Digest16 = Digest16([b'0'; 32]);

    /// From the first sixteen bytes.
    pub fn of(bytes: &[u8; 32]) -> Digest16 {
        let mut text = [0; 32];
        hex::encode_to_slice(&bytes[..16], &mut text).expect("sixteen bytes are 32 digits");
        Digest16(text)
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Digest16 {
        let mut text = [0; 32];
        hex::encode_to_slice(bytes, &mut text).expect("sixteen bytes are 32 digits");
        Digest16(text)
    }

    pub fn parse(text: &str) -> Option<Digest16> {
        let bytes: [u8; 32] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_hexdigit).then_some(Digest16(bytes))
    }

    /// The sixteen bytes.
    pub fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        hex::decode_to_slice(self.0, &mut bytes).expect("32 hexadecimal digits");
        bytes
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits are ASCII")
    }
}

impl fmt::Debug for Digest16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Digest16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_the_one_of_rfc_4231() {
        // Test case 2, key "Jefe", one field without its length prefix.
        let mut mac = MacKey::new(b"Jefe").0;
        mac.update(b"what do ya want for nothing?");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex::encode(mac.finalize().into_bytes()), expected);
    }

    #[test]
    fn moving_a_byte_between_fields_changes_the_digest() {
        let key = MacKey::new(b"k");
        assert_ne!(key.digest(&[b"ab", b"c"]), key.digest(&[b"a", b"bc"]));
        assert_ne!(key.digest(&[b"abc"]), key.digest(&[b"abc", b""]));
    }
}
