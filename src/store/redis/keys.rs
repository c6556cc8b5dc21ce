//! Key names. Recipients, users and IPs appear only as keyed digests.
//!
//! Every name starts with a hash tag: `{prefix}`, so that all keys share one slot of a Redis Cluster; with more than one shard
//! `{prefix:NN}` for what one shard has. A step touches keys of one tag only. A letter after it names the kind of key, and binary
//! digests follow. `layout.lua` describes the values; the scripts derive further names.

use sha2::{Digest as _, Sha256};

use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::EventLog;
use crate::domain::request_id::RequestId;
use crate::domain::shards::Shards;
use crate::store::{Damaged, Lease};

/// A key name.
pub(super) type Key = Vec<u8>;

pub(super) struct Keys {
    /// `{prefix}:`.
    prefix: Vec<u8>,
    /// The prefix of each shard. That of a single one is the one above.
    shards: Vec<Vec<u8>>,
}

/// A request id in 17 bytes: `u` and a UUID, or `h` and the digest of another id.
pub(super) fn request_bytes(request_id: &RequestId) -> [u8; 17] {
    let mut bytes = [0; 17];
    match uuid(request_id.as_str()) {
        Some(uuid) => {
            bytes[0] = b'u';
            bytes[1..].copy_from_slice(&uuid);
        }
        None => {
            bytes[0] = b'h';
            bytes[1..].copy_from_slice(&Sha256::digest(request_id.as_str())[..16]);
        }
    }
    bytes
}

/// The text of an id that its 17 bytes do not tell: empty for a UUID.
pub(super) fn request_text(request_id: &RequestId) -> &str {
    if uuid(request_id.as_str()).is_some() { "" } else { request_id.as_str() }
}

/// A request id from its 17 bytes, and its text if it is no UUID.
pub(super) fn read_request_id(bytes: &[u8], text: &str) -> Option<RequestId> {
    match (bytes.split_first()?, text) {
        ((b'u', uuid), "") => {
            let digits = hex::encode(uuid);
            let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
            RequestId::parse(&parts.join("-"))
        }
        ((b'h', _), text) => RequestId::parse(text),
        _ => None,
    }
}

/// The bytes of a UUID in its usual form: lower case, with hyphens (RFC 9562). Any other form is another id.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.as_bytes();
    let is_hyphen = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    if text.len() != 36 {
        return None;
    }
    let (mut digits, mut count) = ([0; 32], 0);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'-' if is_hyphen(at) => {}
            b'0'..=b'9' | b'a'..=b'f' if !is_hyphen(at) => {
                digits[count] = *byte;
                count += 1;
            }
            _ => return None,
        }
    }
    let mut bytes = [0; 16];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(bytes)
}

/// Is this the name of a country's suppression?
pub(super) fn is_country(name: &str) -> bool {
    name.len() == 3 && name.starts_with('c')
}

/// Is this the name of a key that each shard has?
pub(super) fn is_of_shard(name: &str) -> bool {
    matches!(name, "due" | "suppressed" | "e") || name.len() > 1 && name.starts_with('r')
}

/// Sorts a key that a script could not read by the requests that need it: by its name, or of a key with a digest by the
/// letter of its kind.
pub(super) fn damaged(name: &str) -> Damaged {
    Damaged::Subject(match name {
        "s" => "recipient",
        "u" | "U" => "user",
        "i" | "I" => "ip",
        "w" | "W" => "network",
        "v" => "possible_checks",
        "k" => "idempotency_key",
        "m" => "claim",
        "n" => "suppression_note",
        "o" => "last_opt",
        "t" => "request_text",
        "p" => "panics",
        "outbox" | "outbox-dropped" | "outbox-lease" => "outbox",
        name if name.starts_with('x') => "conversion",
        name if name.starts_with('j') => "redactions",
        name if name.starts_with(['y', 'z']) => "defence",
        "q" | "" => return Damaged::Request,
        shared => return Damaged::Shared(shared.to_owned()),
    })
}

impl Keys {
    pub(super) fn new(prefix: &str, shards: Shards) -> Keys {
        let shared = format!("{{{prefix}}}:").into_bytes();
        let shards = match shards.count() {
            1 => vec![shared.clone()],
            count => (0..count).map(|shard| format!("{{{prefix}:{shard:02x}}}:").into_bytes()).collect(),
        };
        Keys { prefix: shared, shards }
    }

    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    pub(super) fn are_sharded(&self) -> bool {
        self.shards.len() > 1
    }

    /// By the first digits of a digest.
    pub(super) fn shard_of(&self, digest: &Digest16) -> usize {
        usize::from(digest.bytes()[0]) * self.shards.len() / 256
    }

    /// A key's kind and what follows it. `None`: the key of another prefix.
    pub(super) fn without_prefix<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        self.shards.iter().chain([&self.prefix]).find_map(|prefix| key.strip_prefix(prefix.as_slice()))
    }

    pub(super) fn recipient(&self, recipient: &Digest16) -> Key {
        self.of_digest(b"s", recipient)
    }

    pub(super) fn request(&self, request_id: &RequestId, recipient: &Digest16) -> Key {
        self.request_of(request_id, self.shard_of(recipient))
    }

    /// In a shard.
    pub(super) fn request_of(&self, request_id: &RequestId, shard: usize) -> Key {
        self.of_shard(shard, b"q", &request_bytes(request_id))
    }

    /// The panics of a request's handlers.
    pub(super) fn panics(&self, request_id: &RequestId, recipient: &Digest16) -> Key {
        let rest = [request_bytes(request_id).as_slice(), &recipient.bytes()].concat();
        self.of_shard(self.shard_of(recipient), b"p", &rest)
    }

    /// Without a country the scripts only read the key.
    pub(super) fn country(&self, country: Option<&str>) -> Key {
        self.name(b"c", country.unwrap_or_default().as_bytes())
    }

    /// A log of a user, an IP, a network or all sends: packed or, where many events are counted, as a list.
    pub(super) fn subject_log(&self, log: EventLog, digest: &Digest16, is_list: bool) -> Key {
        let kind = match (log, is_list) {
            (EventLog::UserSends, false) => b"u",
            (EventLog::UserSends, true) => b"U",
            (EventLog::IpSends, false) => b"i",
            (EventLog::IpSends, true) => b"I",
            (EventLog::NetworkSends, false) => b"w",
            (EventLog::NetworkSends, true) => b"W",
            (EventLog::AllSends, false) => b"a",
            (EventLog::AllSends, true) => b"A",
            (EventLog::Sends | EventLog::Wrong | EventLog::Refunds, _) => {
                unreachable!("a log of the recipient is in its value")
            }
        };
        match log {
            EventLog::AllSends => self.name(kind, b""),
            _ => self.of_digest(kind, digest),
        }
    }

    /// Provider checks that may have been right: answered right, or without an answer.
    pub(super) fn possible_checks(&self, recipient: &Digest16) -> Key {
        self.of_digest(b"v", recipient)
    }

    /// An idempotency key of a service; its digest covers the service and the recipient.
    pub(super) fn idempotency_key(&self, key: &Digest16) -> Key {
        self.of_digest(b"k", key)
    }

    /// The suppressed recipients of a shard, by the end of their suppressions.
    pub(super) fn suppressed_of(&self, shard: usize) -> Key {
        self.of_shard(shard, b"suppressed", b"")
    }

    /// The minutes in which receipts of a shard are due.
    pub(super) fn due_of(&self, shard: usize) -> Key {
        self.of_shard(shard, b"due", b"")
    }

    /// The last server of a shard.
    pub(super) fn primary_of(&self, shard: usize) -> Key {
        self.of_shard(shard, b"primary", b"")
    }

    /// The suppressed countries, with more than one shard.
    pub(super) fn countries(&self) -> Key {
        self.name(b"countries", b"")
    }

    pub(super) fn active_workers(&self) -> Key {
        self.name(b"workers", b"")
    }

    /// The states that workers reported.
    pub(super) fn worker_states(&self) -> Key {
        self.name(b"states", b"")
    }

    pub(super) fn key_checks(&self) -> Key {
        self.name(b"keys", b"")
    }

    /// The last batch of each process that counts codes. The keys of the counts follow from its name.
    pub(super) fn conversion_writers(&self) -> Key {
        self.name(b"x", b"w")
    }

    /// The jobs that delete texts at the provider, and the messages that they wait for.
    pub(super) fn redactions(&self) -> [Key; 2] {
        [self.name(b"j", b"j"), self.name(b"j", b"q")]
    }

    /// The holds of the pumping defence. The keys of its records follow from its name.
    pub(super) fn defence_holds(&self) -> Key {
        self.name(b"z", b"h")
    }

    pub(super) fn defence_overrides(&self) -> Key {
        self.name(b"z", b"o")
    }

    /// Recipients, or users, that have verified a code: the part by the first two bytes of the digest, and the name by the next eight.
    pub(super) fn verified(&self, digest: &Digest16) -> (Key, [u8; 8]) {
        let bytes = digest.bytes();
        let part = Keys::verified_part(digest).to_string();
        let name = *bytes[2..].first_chunk().expect("a digest has 16 bytes");
        (self.of_shard(self.shard_of(digest), b"y", part.as_bytes()), name)
    }

    pub(super) fn verified_part(digest: &Digest16) -> u16 {
        let bytes = digest.bytes();
        u16::from_be_bytes([bytes[0], bytes[1]])
    }

    pub(super) fn kill_switch(&self) -> Key {
        self.name(b"kill", b"")
    }

    pub(super) fn log_filter(&self) -> Key {
        self.name(b"log-level", b"")
    }

    /// The records of acts that are not published: first those of all requests, then with more than one shard those of each.
    pub(super) fn outbox(&self, outbox: usize) -> Key {
        match outbox.checked_sub(1) {
            None => self.name(b"outbox", b""),
            Some(shard) => self.of_shard(shard, b"outbox", b""),
        }
    }

    /// The outbox of acts about a recipient.
    pub(super) fn outbox_of(&self, recipient: &Digest16) -> usize {
        if self.are_sharded() { self.shard_of(recipient) + 1 } else { 0 }
    }

    /// The last server. Workers of layout 1 write `server` instead, by which `shared.lua` knows them.
    fn primary(&self) -> Key {
        self.name(b"primary", b"")
    }

    /// The number of this layout, and until when data of layout 1 may exist.
    pub(super) fn format(&self) -> Key {
        self.name(b"format", b"")
    }

    /// The leased blocks of places under the cap over all sends.
    pub(super) fn blocks(&self) -> Key {
        self.name(b"b", b"")
    }

    /// The requests whose places were refunded.
    pub(super) fn refunded_places(&self) -> Key {
        self.name(b"g", b"")
    }

    pub(super) fn of_lease(&self, lease: &Lease<'_>) -> [Key; 2] {
        [self.recipient(&lease.subject.recipient), self.request(lease.request_id, &lease.subject.recipient)]
    }

    /// The keys that all requests share, but those of countries, in the order that `shared.lua` has. With more than one shard
    /// some of them do not exist.
    pub(super) fn all_shared(&self) -> Vec<Key> {
        let all_sends =
            |is_list| self.subject_log(EventLog::AllSends, &Digest16::from_bytes([0; 16]), is_list);
        let (packed, list) = (all_sends(false), all_sends(true));
        let sets = [self.by_name("due"), self.by_name("suppressed"), self.active_workers()];
        [self.kill_switch(), packed, list].into_iter().chain(sets).chain([self.primary()]).collect()
    }

    /// A shared key by its name in [`Damaged::Shared`].
    pub(super) fn by_name(&self, name: &str) -> Key {
        self.name(name.as_bytes(), b"")
    }

    fn name(&self, kind: &[u8], rest: &[u8]) -> Key {
        joined(&self.prefix, kind, rest)
    }

    fn of_digest(&self, kind: &[u8], digest: &Digest16) -> Key {
        self.of_shard(self.shard_of(digest), kind, &digest.bytes())
    }

    pub(super) fn of_shard(&self, shard: usize, kind: &[u8], rest: &[u8]) -> Key {
        joined(&self.shards[shard], kind, rest)
    }
}

fn joined(prefix: &[u8], kind: &[u8], rest: &[u8]) -> Key {
    let mut name = Vec::with_capacity(prefix.len() + kind.len() + rest.len());
    name.extend(prefix);
    name.extend(kind);
    name.extend(rest);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_reads_back() {
        for text in [
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6",
            "f81d4fae7dec11d0a76500a0c91e6bf6",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf",
            "f81d4fae-7dec-11d0-a76-500a0c91e6bf6",
            "orders/71",
        ] {
            let id = RequestId::parse(text).expect("valid");
            let (bytes, kept) = (request_bytes(&id), request_text(&id));
            assert_eq!(kept.is_empty(), text == "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "{text}");
            assert_eq!(read_request_id(&bytes, kept), Some(id));
        }
    }

    #[test]
    fn a_key_has_the_tag_of_its_shard() {
        let digest = |first: u8| {
            let mut bytes = [7; 16];
            bytes[0] = first;
            Digest16::from_bytes(bytes)
        };
        let name = |count, first: u8| {
            let keys = Keys::new("p", Shards::new(count).expect("a number of shards"));
            let key = keys.recipient(&digest(first));
            assert_eq!(keys.without_prefix(&key).map(|rest| rest[0]), Some(b's'));
            String::from_utf8_lossy(key.split(|byte| *byte == b's').next().expect("a prefix")).into_owned()
        };
        assert_eq!([name(1, 0), name(1, 0xff)], ["{p}:", "{p}:"]);
        assert_eq!([name(16, 0x0f), name(16, 0xa0), name(16, 0xff)], ["{p:00}:", "{p:0a}:", "{p:0f}:"]);
        assert_eq!([name(256, 0x0f), name(256, 0xa0), name(256, 0xff)], ["{p:0f}:", "{p:a0}:", "{p:ff}:"]);
        let keys = Keys::new("p", Shards::new(16).expect("a number of shards"));
        assert_eq!(keys.kill_switch(), b"{p}:kill");
        assert_eq!(keys.without_prefix(b"{p}:kill"), Some(b"kill".as_slice()));
        assert_eq!(keys.without_prefix(b"{other:00}:kill"), None);
    }

    #[test]
    fn a_damaged_key_is_named_without_a_digest() {
        for (name, damage) in [
            ("q", Damaged::Request),
            ("", Damaged::Request),
            ("s", Damaged::Subject("recipient")),
            ("U", Damaged::Subject("user")),
            ("A", Damaged::Shared("A".to_owned())),
            ("cCO", Damaged::Shared("cCO".to_owned())),
            ("xh491234b7", Damaged::Subject("conversion")),
            ("zb4095", Damaged::Subject("defence")),
            ("suppressed", Damaged::Shared("suppressed".to_owned())),
        ] {
            assert_eq!(damaged(name), damage, "{name}");
        }
    }
}
