//! Key check values: keyed digests by which processes find out whether they have the same keys. They reveal nothing of a key.

use std::fmt;

use super::keyed_digest::MacKey;

/// The use of a key, and the setting that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyUse {
    Recipient,
    Code,
}

/// The first eight bytes of an HMAC of a fixed text under the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyFingerprint(pub [u8; 8]);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyCheck {
    pub key_use: KeyUse,
    /// Empty for the recipient key, which has no id.
    pub kid: String,
    pub fingerprint: KeyFingerprint,
}

impl KeyUse {
    pub const ALL: [KeyUse; 2] = [KeyUse::Recipient, KeyUse::Code];

    pub const fn as_str(self) -> &'static str {
        match self {
            KeyUse::Recipient => "recipient",
            KeyUse::Code => "code",
        }
    }

    pub const fn setting(self) -> &'static str {
        match self {
            KeyUse::Recipient => "OTP_RECIPIENT_KEY",
            KeyUse::Code => "OTP_SECRET_KEYS",
        }
    }

    const fn tag(self) -> u8 {
        match self {
            KeyUse::Recipient => b'r',
            KeyUse::Code => b'c',
        }
    }
}

impl KeyFingerprint {
    pub(super) fn of(secret: &[u8; 32], label: &str) -> KeyFingerprint {
        let digest = MacKey::derived(secret, label).digest(&[b"fingerprint"]);
        KeyFingerprint(digest[..8].try_into().expect("eight of 32 bytes"))
    }
}

impl KeyCheck {
    /// The name in the store: a letter of the use, and the id.
    pub fn name(&self) -> Vec<u8> {
        [&[self.key_use.tag()], self.kid.as_bytes()].concat()
    }

    pub fn from_name(name: &[u8], fingerprint: KeyFingerprint) -> Option<KeyCheck> {
        let (tag, kid) = name.split_first()?;
        let key_use = KeyUse::ALL.into_iter().find(|known| known.tag() == *tag)?;
        Some(KeyCheck { key_use, kid: std::str::from_utf8(kid).ok()?.to_owned(), fingerprint })
    }

    pub(super) fn pack(&self) -> Vec<u8> {
        [&self.fingerprint.0, self.name().as_slice()].concat()
    }

    pub(super) fn unpack(packed: &[u8]) -> Option<KeyCheck> {
        let (fingerprint, name) = packed.split_first_chunk()?;
        KeyCheck::from_name(name, KeyFingerprint(*fingerprint))
    }
}

/// `code key k1`, `recipient key`.
impl fmt::Display for KeyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeyCheck { key_use, kid, .. } = self;
        match kid.as_str() {
            "" => write!(f, "{} key", key_use.as_str()),
            kid => write!(f, "{} key {kid}", key_use.as_str()),
        }
    }
}

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::code::{CodeKey, Kid};
    use crate::domain::recipient_keyring::RecipientKeyring;

    #[test]
    fn a_fingerprint_follows_from_the_key_and_its_use_alone() {
        let code =
            |kid: &str, secret| CodeKey::new(Kid::parse(kid).expect("valid"), &[secret; 32]).key_check();
        assert_eq!(code("k1", 3).fingerprint, code("k2", 3).fingerprint);
        assert_ne!(code("k1", 3).fingerprint, code("k1", 4).fingerprint);
        let recipient = RecipientKeyring::new(&[3; 32]).key_check();
        assert_ne!(recipient.fingerprint, code("k1", 3).fingerprint);
        assert_eq!(
            (recipient.to_string().as_str(), code("k1", 3).to_string().as_str()),
            ("recipient key", "code key k1")
        );
    }

    #[test]
    fn a_packed_check_reads_back_and_an_unknown_use_is_left_out() {
        let check = RecipientKeyring::new(&[3; 32]).key_check();
        assert_eq!(KeyCheck::unpack(&check.pack()), Some(check.clone()));
        let mut later = check.pack();
        later[8] = b'z';
        assert_eq!(KeyCheck::unpack(&later), None);
        assert_eq!(KeyCheck::unpack(&later[..8]), None);
    }
}
