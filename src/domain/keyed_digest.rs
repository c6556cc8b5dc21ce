//! Keyed digests: HMAC-SHA256 (RFC 2104) over length-prefixed fields.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;

/// A secret from which keyed digests are made, with its inner state prepared once.
#[derive(Clone)]
pub(super) struct MacKey(Hmac<Sha256>);

impl MacKey {
    pub(super) fn new(secret: &[u8]) -> MacKey {
        MacKey(Hmac::new_from_slice(secret).expect("HMAC takes a key of any length"))
    }

    /// A key for one use only, so that no digest of one kind is ever one of another kind.
    pub(super) fn derived(secret: &[u8; 32], label: &str) -> MacKey {
        MacKey::new(&MacKey::new(secret).digest(&[label.as_bytes()]))
    }

    /// HMAC-SHA256 (RFC 2104) over the fields, each with its length before it: no two lists of fields collide.
    pub(super) fn digest(&self, fields: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for field in fields {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field);
        }
        mac.finalize().into_bytes().into()
    }
}

/// Sixteen bytes of a keyed digest, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest16([u8; 32]);

impl Digest16 {
    /// Stands where there is nothing to make one of.
    pub const NONE: Digest16 = Digest16([b'0'; 32]);

    /// Of the first sixteen of these bytes.
    pub fn of(bytes: &[u8; 32]) -> Digest16 {
        let mut text = [0; 32];
        hex::encode_to_slice(&bytes[..16], &mut text).expect("sixteen bytes are 32 digits");
        Digest16(text)
    }

    /// Of sixteen bytes that chance gave.
    pub fn from_random(bytes: [u8; 16]) -> Digest16 {
        let mut text = [0; 32];
        hex::encode_to_slice(bytes, &mut text).expect("sixteen bytes are 32 digits");
        Digest16(text)
    }

    /// Reads 32 hexadecimal digits back.
    pub fn parse(text: &str) -> Option<Digest16> {
        let bytes: [u8; 32] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_hexdigit).then_some(Digest16(bytes))
    }

    /// The 32 digits.
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
        // Test case 2, keyed "Jefe", over one field without its length prefix.
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
