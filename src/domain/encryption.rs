//! Encryption with keys derived from `OTP_RECIPIENT_KEY`: of dead letters' bodies, whose replay needs the same key, and of
//! the references by which vendors name messages.
//!
//! XChaCha20-Poly1305: its nonce is long enough to be random, or a digest of the text. The message id of a dead letter is
//! authenticated, so that a body cannot be moved to another dead letter.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use super::keyed_digest::MacKey;

/// The random bytes that each encryption needs.
pub const NONCE_BYTES: usize = 24;

#[derive(Clone)]
pub struct DeadLetterKey(XChaCha20Poly1305);

impl DeadLetterKey {
    /// Derives the key from the secret of the keyring.
    pub(super) fn derived(secret: &[u8; 32]) -> DeadLetterKey {
        let key = MacKey::new(secret).digest(&[b"otpost dead letter"]);
        DeadLetterKey(XChaCha20Poly1305::new(&key.into()))
    }

    /// Encrypts a body for the dead letter with this message id: nonce and ciphertext, as base64.
    ///
    /// The nonce must be unique; random bytes are.
    pub fn seal(&self, message_id: &str, body: &[u8], nonce: [u8; NONCE_BYTES]) -> String {
        let bound = bound_to(message_id);
        let payload = Payload { msg: body, aad: &bound };
        let encrypted = self.0.encrypt(&XNonce::from(nonce), payload);
        let encrypted = encrypted.expect("a body is far shorter than the cipher's limit of 256 GiB");
        BASE64.encode([nonce.as_slice(), &encrypted].concat())
    }

    /// Decrypts; `None` if this key did not encrypt the body for the dead letter with this message id.
    pub fn open(&self, message_id: &str, sealed: &str) -> Option<Vec<u8>> {
        let sealed = BASE64.decode(sealed).ok()?;
        let (nonce, encrypted) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let bound = bound_to(message_id);
        self.0.decrypt(&XNonce::from(*nonce), Payload { msg: encrypted, aad: &bound }).ok()
    }
}

/// Seals references of messages. The same text has the same reference, so that a repeated attempt shows nothing new.
#[derive(Clone)]
pub struct ReferenceKey {
    cipher: XChaCha20Poly1305,
    nonces: MacKey,
    repeats: MacKey,
}

impl ReferenceKey {
    /// Derives the key from the secret of the keyring.
    pub(super) fn derived(secret: &[u8; 32]) -> ReferenceKey {
        let key = MacKey::new(secret).digest(&[b"otpost message reference"]);
        ReferenceKey {
            cipher: XChaCha20Poly1305::new(&key.into()),
            nonces: MacKey::derived(secret, "otpost nonces of message references"),
            repeats: MacKey::derived(secret, "otpost idempotency keys of messages"),
        }
    }

    /// The same for the same fields, in the form of a UUID (RFC 9562, version 8). It shows nothing of them.
    pub fn idempotency_key(&self, fields: &[&[u8]]) -> String {
        let digest = self.repeats.digest(fields);
        let mut bytes: [u8; 16] = *digest.first_chunk().expect("a digest of 32 bytes");
        bytes[6] = 0x80 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        let digits = hex::encode(bytes);
        let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
        parts.join("-")
    }

    /// Letters, digits, `-` and `_`.
    pub fn seal(&self, text: &str) -> String {
        let digest = self.nonces.digest(&[text.as_bytes()]);
        let nonce: &[u8; NONCE_BYTES] = digest.first_chunk().expect("a digest of 32 bytes");
        let sealed = self.cipher.encrypt(&XNonce::from(*nonce), text.as_bytes());
        let sealed = sealed.expect("a reference is far shorter than the cipher's limit of 256 GiB");
        URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat())
    }

    /// `None` if this key did not seal the reference.
    pub fn open(&self, reference: &str) -> Option<String> {
        let sealed = URL_SAFE_NO_PAD.decode(reference).ok()?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        String::from_utf8(self.cipher.decrypt(&XNonce::from(*nonce), sealed).ok()?).ok()
    }
}

/// The associated data.
fn bound_to(message_id: &str) -> Vec<u8> {
    [b"otpost sealed body 1\0", message_id.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_body_opens_with_the_same_key_and_message_id_only() {
        let (key, other) = (DeadLetterKey::derived(&[1; 32]), DeadLetterKey::derived(&[2; 32]));
        let sealed = key.seal("dead:1", b"body", [7; NONCE_BYTES]);
        assert_eq!(key.open("dead:1", &sealed).as_deref(), Some(b"body".as_slice()));
        assert_eq!(other.open("dead:1", &sealed), None);
        assert_eq!(key.open("dead:2", &sealed), None);
        assert_ne!(sealed, key.seal("dead:1", b"body", [8; NONCE_BYTES]));
    }

    #[test]
    fn a_reference_opens_whole_and_with_its_key_only() {
        let (key, other) = (ReferenceKey::derived(&[1; 32]), ReferenceKey::derived(&[2; 32]));
        let reference = key.seal("+573001234567 r1");
        assert_eq!(key.open(&reference).as_deref(), Some("+573001234567 r1"));
        assert_eq!(reference, key.seal("+573001234567 r1"));
        assert_ne!(reference, key.seal("+573001234567 r2"));
        assert_eq!(other.open(&reference), None);
        for at in 0..reference.len() {
            assert_eq!(key.open(&reference[..at]), None);
        }
    }

    #[test]
    fn an_idempotency_key_is_a_uuid_of_its_fields_and_its_secret() {
        let (key, other) = (ReferenceKey::derived(&[1; 32]), ReferenceKey::derived(&[2; 32]));
        let made = key.idempotency_key(&[b"acme", b"r1"]);
        assert_eq!(made, key.idempotency_key(&[b"acme", b"r1"]));
        assert_ne!(made, key.idempotency_key(&[b"acmer", b"1"]));
        assert_ne!(made, other.idempotency_key(&[b"acme", b"r1"]));
        let lengths: Vec<usize> = made.split('-').map(str::len).collect();
        assert_eq!((lengths, &made[14..15]), (vec![8, 4, 4, 4, 12], "8"));
    }

    #[test]
    fn a_changed_or_cut_body_does_not_open() {
        let key = DeadLetterKey::derived(&[1; 32]);
        let sealed = BASE64.decode(key.seal("dead:1", b"body", [7; NONCE_BYTES])).expect("base64");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.open("dead:1", &BASE64.encode(&changed)), None);
            assert_eq!(key.open("dead:1", &BASE64.encode(&sealed[..at])), None);
        }
        assert_eq!(key.open("dead:1", "no base64!"), None);
    }
}
