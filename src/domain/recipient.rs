//! Whom a code is for: the channel it takes, the address, and the key that names the address in the store.

use std::fmt;
use std::net::IpAddr;

use hmac::{Hmac, KeyInit, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::sealed::SealKey;

/// How a code reaches a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// A text message to a phone.
    #[default]
    Sms,
    /// An e-mail.
    Email,
}

impl Channel {
    /// Every one.
    pub const ALL: [Channel; 2] = [Channel::Sms, Channel::Email];

    /// The word used in routing keys, results and keyed digests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Channel::Sms => "sms",
            Channel::Email => "email",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Channel> {
        Channel::ALL.into_iter().find(|channel| channel.as_str() == word)
    }

    /// Whether a provider can be asked what became of one message. Those of e-mails tell by themselves, or not at all.
    pub const fn is_asked_about(self) -> bool {
        matches!(self, Channel::Sms)
    }
}

/// What a code is good for: `[a-z0-9_-]{1,32}`. A code for one purpose does not verify another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Purpose(Box<str>);

impl Purpose {
    /// The rule, for messages.
    pub const RULE_SENTENCE: &'static str = "must be 1 to 32 of a-z, 0-9, _ and -";

    /// Reads a purpose, or `None` if it breaks [`Purpose::RULE_SENTENCE`].
    pub fn parse(text: &str) -> Option<Purpose> {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        ((1..=32).contains(&text.len()) && text.bytes().all(allowed)).then(|| Purpose(text.into()))
    }

    /// The purpose as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Purpose {
    fn default() -> Self {
        Purpose("verification".into())
    }
}

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

/// Names people in the store without telling who they are. Changing it is like losing the store.
#[derive(Clone)]
pub struct RecipientKeyring {
    address: MacKey,
    user: MacKey,
    user_in_ids: MacKey,
    ip: MacKey,
    idempotency: MacKey,
    letters: SealKey,
}

impl RecipientKeyring {
    /// From the 32 bytes of `OTP_RECIPIENT_KEY`.
    pub fn new(secret: &[u8; 32]) -> RecipientKeyring {
        RecipientKeyring {
            address: MacKey::derived(secret, "otpost recipient"),
            user: MacKey::derived(secret, "otpost user"),
            user_in_ids: MacKey::derived(secret, "otpost user in request ids"),
            ip: MacKey::derived(secret, "otpost ip"),
            idempotency: MacKey::derived(secret, "otpost idempotency"),
            letters: SealKey::derived(secret),
        }
    }

    /// What seals the bodies of dead letters.
    pub fn letters(&self) -> &SealKey {
        &self.letters
    }

    /// The name of an address: the same for every worker, and of no use to who reads it.
    pub fn address(&self, channel: Channel, address: &str) -> Digest16 {
        Digest16::of(&self.address.digest(&[channel.as_str().as_bytes(), address.as_bytes()]))
    }

    /// The name of a caller's user.
    pub fn user(&self, user_id: &str) -> Digest16 {
        Digest16::of(&self.user.digest(&[user_id.as_bytes()]))
    }

    /// The name of a user in the ids of its requests: another one than in the store, because others see it.
    pub fn user_in_ids(&self, user_id: &str) -> Digest16 {
        Digest16::of(&self.user_in_ids.digest(&[user_id.as_bytes()]))
    }

    /// The name of a client's address. One household or server has a whole IPv6 network of 64 bits, so that is one name.
    pub fn ip(&self, ip: IpAddr) -> Digest16 {
        let network = match ip.to_canonical() {
            IpAddr::V4(ip) => u128::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.to_bits() >> 64 << 64,
        };
        Digest16::of(&self.ip.digest(&[&network.to_be_bytes()]))
    }

    /// The name of one user's own idempotency key for one recipient: the same key for another number, or by another
    /// channel, is another one.
    pub fn idempotency_key(&self, user_id: &str, recipient: Digest16, key: &str) -> Digest16 {
        let fields = [user_id.as_bytes(), recipient.as_str().as_bytes(), key.as_bytes()];
        Digest16::of(&self.idempotency.digest(&fields))
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

    #[test]
    fn a_user_named_like_a_number_is_not_that_number() {
        let keyring = RecipientKeyring::new(&[7; 32]);
        assert_ne!(keyring.user("+573001234567"), keyring.address(Channel::Sms, "+573001234567"));
        let recipient = keyring.address(Channel::Sms, "+573001234567");
        assert_ne!(keyring.user("a"), keyring.idempotency_key("a", recipient, ""));
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_a_mapped_address_is_the_ipv4_one() {
        let keyring = RecipientKeyring::new(&[7; 32]);
        let named = |ip: &str| keyring.ip(ip.parse().expect("an address"));
        assert_eq!(named("2001:db8::1"), named("2001:db8::ffff:1"));
        assert_ne!(named("2001:db8::1"), named("2001:db8:0:1::1"));
        assert_eq!(named("::ffff:10.0.0.1"), named("10.0.0.1"));
        assert_ne!(named("10.0.0.2"), named("10.0.0.1"));
    }

    #[test]
    fn a_purpose_is_a_short_plain_word() {
        for good in ["verification", "a", "log-in_2", &"x".repeat(32)] {
            assert!(Purpose::parse(good).is_some(), "{good}");
        }
        for bad in ["", "Login", "a b", "ñ", "a:b", &"x".repeat(33)] {
            assert!(Purpose::parse(bad).is_none(), "{bad}");
        }
    }
}
