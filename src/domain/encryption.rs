//! Encryption of dead letters' bodies, with a key derived from `OTP_RECIPIENT_KEY`. A replay needs the same key.
//!
//! XChaCha20-Poly1305: its nonce is long enough to be random. The message id of the dead letter is authenticated, so that
//! a body cannot be moved to another dead letter.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
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
