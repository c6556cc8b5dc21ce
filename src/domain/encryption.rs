//! The body of a dead letter, encrypted so that only who has the key of recipients can read it, as a replay must.
//!
//! XChaCha20-Poly1305: its nonce is long enough to be drawn at random for every letter. Each text is bound to its own
//! letter, so that one cannot be passed off as another's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use super::keyed_digest::MacKey;

/// How many bytes of chance each text takes.
pub const NONCE_BYTES: usize = 24;

/// Seals and opens the bodies of dead letters.
#[derive(Clone)]
pub struct DeadLetterKey(XChaCha20Poly1305);

impl DeadLetterKey {
    /// The key of letters among those that one secret makes.
    pub(super) fn derived(secret: &[u8; 32]) -> DeadLetterKey {
        let key = MacKey::new(secret).digest(&[b"otpost dead letter"]);
        DeadLetterKey(XChaCha20Poly1305::new(&key.into()))
    }

    /// Encrypts the body of the letter with this message id: the nonce and what follows from it, as base64.
    ///
    /// The nonce must never have been used before, as one of so many random bytes has not.
    pub fn seal(&self, letter: &str, body: &[u8], nonce: [u8; NONCE_BYTES]) -> String {
        let bound = bound_to(letter);
        let payload = Payload { msg: body, aad: &bound };
        let encrypted = self.0.encrypt(&XNonce::from(nonce), payload);
        let encrypted = encrypted.expect("a body is far shorter than the cipher's limit of 256 GiB");
        BASE64.encode([nonce.as_slice(), &encrypted].concat())
    }

    /// The body of the letter with this message id; nothing if this key did not seal it for that letter.
    pub fn open(&self, letter: &str, sealed: &str) -> Option<Vec<u8>> {
        let sealed = BASE64.decode(sealed).ok()?;
        let (nonce, encrypted) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let bound = bound_to(letter);
        self.0.decrypt(&XNonce::from(*nonce), Payload { msg: encrypted, aad: &bound }).ok()
    }
}

/// What the text is authenticated with besides its key.
fn bound_to(letter: &str) -> Vec<u8> {
    [b"otpost sealed body 1\0", letter.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_opened_by_the_same_key_for_the_same_letter_only() {
        let (key, other) = (DeadLetterKey::derived(&[1; 32]), DeadLetterKey::derived(&[2; 32]));
        let sealed = key.seal("dead:1", b"body", [7; NONCE_BYTES]);
        assert_eq!(key.open("dead:1", &sealed).as_deref(), Some(b"body".as_slice()));
        assert_eq!(other.open("dead:1", &sealed), None);
        assert_eq!(key.open("dead:2", &sealed), None);
        assert_ne!(sealed, key.seal("dead:1", b"body", [8; NONCE_BYTES]));
    }

    #[test]
    fn what_was_changed_or_cut_is_not_opened() {
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
