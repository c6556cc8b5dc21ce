//! Keyed digests by which the store names recipients, users and client IPs.

use std::net::{IpAddr, Ipv4Addr};

use super::channel::Channel;
use super::encryption::{DeadLetterKey, ReferenceKey};
use super::key_check::{KeyCheck, KeyFingerprint, KeyUse};
use super::keyed_digest::{Digest16, MacKey};

/// Derives the digests that stand for people in the store. With another key, the store's data is lost.
#[derive(Clone)]
pub struct RecipientKeyring {
    address: MacKey,
    user: MacKey,
    user_in_ids: MacKey,
    ip: MacKey,
    network: MacKey,
    idempotency: MacKey,
    service: MacKey,
    service_key: MacKey,
    service_request: MacKey,
    dead_letters: DeadLetterKey,
    references: ReferenceKey,
    fingerprint: KeyFingerprint,
}

impl RecipientKeyring {
    /// `secret` is `OTP_RECIPIENT_KEY`.
    pub fn new(secret: &[u8; 32]) -> RecipientKeyring {
        RecipientKeyring {
            address: MacKey::derived(secret, "otpost recipient"),
            user: MacKey::derived(secret, "otpost user"),
            user_in_ids: MacKey::derived(secret, "otpost user in request ids"),
            ip: MacKey::derived(secret, "otpost ip"),
            network: MacKey::derived(secret, "otpost network"),
            idempotency: MacKey::derived(secret, "otpost idempotency"),
            service: MacKey::derived(secret, "otpost service in request ids"),
            service_key: MacKey::derived(secret, "otpost service's idempotency"),
            service_request: MacKey::derived(secret, "otpost service's request"),
            dead_letters: DeadLetterKey::derived(secret),
            references: ReferenceKey::derived(secret),
            fingerprint: KeyFingerprint::of(secret, "otpost recipient key check"),
        }
    }

    pub fn key_check(&self) -> KeyCheck {
        KeyCheck { key_use: KeyUse::Recipient, kid: String::new(), fingerprint: self.fingerprint }
    }

    pub fn dead_letter_key(&self) -> &DeadLetterKey {
        &self.dead_letters
    }

    pub fn reference_key(&self) -> &ReferenceKey {
        &self.references
    }

    pub fn address(&self, channel: Channel, address: &str) -> Digest16 {
        Digest16::of(&self.address.digest(&[channel.as_str().as_bytes(), address.as_bytes()]))
    }

    pub fn user(&self, user_id: &str) -> Digest16 {
        Digest16::of(&self.user.digest(&[user_id.as_bytes()]))
    }

    /// A user in request ids. Others see those, so the digest differs from the store's.
    pub fn user_in_ids(&self, user_id: &str) -> Digest16 {
        Digest16::of(&self.user_in_ids.digest(&[user_id.as_bytes()]))
    }

    /// A client's IP. A household or server has a whole IPv6 network of 64 bits, which counts as one client.
    pub fn ip(&self, ip: IpAddr) -> Digest16 {
        Digest16::of(&self.ip.digest(&[&prefix(ip, 32, 64)]))
    }

    /// The network around a client's IP. One customer may have all of an IPv6 network of 48 bits, or of an IPv4 one of 24.
    pub fn network(&self, ip: IpAddr) -> Digest16 {
        Digest16::of(&self.network.digest(&[&prefix(ip, 24, 48)]))
    }

    /// A user's idempotency key for one recipient. With another number or channel, the same key has another digest.
    pub fn idempotency_key(&self, user_id: &str, recipient: Digest16, key: &str) -> Digest16 {
        let fields = [user_id.as_bytes(), recipient.as_str().as_bytes(), key.as_bytes()];
        Digest16::of(&self.idempotency.digest(&fields))
    }

    /// A service in request ids. The same id from another issuer, or in another claim, is another service.
    pub fn service_in_ids(&self, issuer: &str, claim: &str, id: &str) -> Digest16 {
        Digest16::of(&self.service.digest(&[issuer.as_bytes(), claim.as_bytes(), id.as_bytes()]))
    }

    /// A service's idempotency key for one recipient.
    pub fn service_key(&self, service: Digest16, recipient: Digest16, key: &str) -> Digest16 {
        let fields = [service.as_str().as_bytes(), recipient.as_str().as_bytes(), key.as_bytes()];
        Digest16::of(&self.service_key.digest(&fields))
    }

    /// A request under a service's idempotency key, by the values of its fields.
    pub fn service_request(&self, key: Digest16, values: &[&str]) -> Digest16 {
        let mut fields = vec![key.as_str().as_bytes()];
        fields.extend(values.iter().map(|value| value.as_bytes()));
        Digest16::of(&self.service_request.digest(&fields))
    }
}

/// The first bits of an address, which are other ones for IPv4.
fn prefix(ip: IpAddr, bits_of_v4: u32, bits_of_v6: u32) -> [u8; 16] {
    let prefix = match in_ipv4(ip) {
        IpAddr::V4(ip) => u128::from(ip.to_bits() & (u32::MAX << (32 - bits_of_v4))),
        IpAddr::V6(ip) => ip.to_bits() & (u128::MAX << (128 - bits_of_v6)),
    };
    prefix.to_be_bytes()
}

/// The IPv4 address that an IPv6 one stands for, mapped, behind 6to4 (RFC 3056) or NAT64 (RFC 6052); else the address.
fn in_ipv4(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip.to_canonical() else {
        return ip.to_canonical();
    };
    match v6.segments() {
        [0x2002, high, low, ..] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => IpAddr::V6(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let digest = |ip: &str| keyring.ip(ip.parse().expect("an address"));
        assert_eq!(digest("2001:db8::1"), digest("2001:db8::ffff:1"));
        assert_ne!(digest("2001:db8::1"), digest("2001:db8:0:1::1"));
        assert_eq!(digest("::ffff:10.0.0.1"), digest("10.0.0.1"));
        assert_ne!(digest("10.0.0.2"), digest("10.0.0.1"));
        for stands_for in ["2002:a00:1::1", "2002:a00:1:7::9", "64:ff9b::10.0.0.1"] {
            assert_eq!(digest(stands_for), digest("10.0.0.1"), "{stands_for}");
        }
    }

    #[test]
    fn the_network_of_a_client_is_48_bits_of_ipv6_and_24_of_ipv4() {
        let keyring = RecipientKeyring::new(&[7; 32]);
        let digest = |ip: &str| keyring.network(ip.parse().expect("an address"));
        assert_eq!(digest("2001:db8:1::1"), digest("2001:db8:1:ffff:ffff::1"));
        assert_ne!(digest("2001:db8:1::1"), digest("2001:db8:2::1"));
        assert_ne!(digest("10.0.0.1"), digest("10.0.1.1"));
        for inside in ["10.0.0.255", "::ffff:10.0.0.2", "2002:a00:3:7::1", "64:ff9b::10.0.0.4"] {
            assert_eq!(digest(inside), digest("10.0.0.1"), "{inside}");
        }
        assert_ne!(digest("10.0.0.0"), keyring.ip("10.0.0.0".parse().expect("an address")));
    }
}
