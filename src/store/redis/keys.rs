//! Key names. Recipients, users and IPs appear only as keyed digests.
//! Stored names are older than the glossary and stay.
//!
//! Every name starts with the hash tag `{prefix}`. On a Redis Cluster all keys of a gateway thus share one slot, which a
//! script with keys of several recipients needs.

use redis::{RedisWrite, ToRedisArgs};
use sha2::{Digest as _, Sha256};

use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::EventLog;
use crate::domain::request_id::RequestId;
use crate::domain::suppression::{NewSuppression, SuppressionTarget};
use crate::store::{Damaged, Lease, LimitSubject};

pub(super) struct Keys {
    prefix: String,
}

const ALL_SENDS: &str = "spend:h";
/// The other keys that all requests share.
const SHARED: [&str; 5] = ["receipts", "suppressions", "busy", "kill", "server"];
/// The kinds of keys of one recipient, user, client IP, network or idempotency key. Records and their index are of one request.
const KINDS: [&str; 14] = [
    "challenge",
    "sends",
    "recent",
    "refunds",
    "cooldown",
    "suppressed",
    "suppression",
    "sid",
    "wrong",
    "asked",
    "user",
    "ip",
    "net",
    "key",
];

/// Is this the name of a country's suppression?
pub(super) fn is_country(name: &str) -> bool {
    name.starts_with("country:")
}

/// More than most names need.
const NAME_BYTES: usize = 128;

/// A name in pieces, joined when the command is written.
#[derive(Clone, Copy)]
pub(super) struct Key<'a>([&'a str; 5]);

impl ToRedisArgs for Key<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let mut name = String::with_capacity(NAME_BYTES);
        self.0.iter().for_each(|piece| name.push_str(piece));
        out.write_arg(name.as_bytes());
    }
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Keys {
        Keys { prefix: format!("{{{prefix}}}") }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn record<'a>(&'a self, recipient: &'a Digest16, request_id: &'a RequestId) -> Key<'a> {
        self.of(recipient, ":req:", request_id.as_str())
    }

    /// Leads from a request id to its recipient.
    pub(super) fn index<'a>(&'a self, request_id: &'a RequestId) -> Key<'a> {
        self.shared(":id:", request_id.as_str())
    }

    /// An idempotency key of a service; its digest covers the service and the recipient.
    pub(super) fn idempotency_key<'a>(&'a self, key: &'a Digest16) -> Key<'a> {
        self.shared(":key:", key.as_str())
    }

    pub(super) fn recent<'a>(&'a self, recipient: &'a Digest16) -> Key<'a> {
        self.of(recipient, ":recent", "")
    }

    /// Without a message id the scripts do not touch the key.
    pub(super) fn claim<'a>(&'a self, recipient: &'a Digest16, message_id: Option<&'a str>) -> Key<'a> {
        self.of(recipient, ":sid:", message_id.unwrap_or_default())
    }

    pub(super) fn suppression<'a>(&'a self, recipient: &'a Digest16) -> Key<'a> {
        self.of(recipient, ":suppressed", "")
    }

    /// Start, masked recipient and reason of a suppression. `prelude.lua` derives this name from the suppression's.
    pub(super) fn suppression_note<'a>(&'a self, recipient: &'a Digest16) -> Key<'a> {
        self.of(recipient, ":suppression", "")
    }

    /// The suppressed recipients. `prelude.lua` derives this name, too.
    pub(super) fn suppressions(&self) -> Key<'_> {
        self.shared(":suppressions", "")
    }

    /// Without a country the scripts only read the key.
    pub(super) fn country_suppression<'a>(&'a self, country: Option<&'a str>) -> Key<'a> {
        self.shared(":country:", country.unwrap_or_default())
    }

    /// The key of a new suppression. Without one the scripts do not touch the key.
    pub(super) fn suppression_of<'a>(
        &'a self,
        recipient: &'a Digest16,
        suppression: Option<&NewSuppression<'a>>,
    ) -> Key<'a> {
        match suppression.map(|new| new.target) {
            Some(SuppressionTarget::Country(country)) => self.country_suppression(Some(country)),
            Some(SuppressionTarget::Recipient) | None => self.suppression(recipient),
        }
    }

    pub(super) fn expected_receipts(&self) -> Key<'_> {
        self.shared(":receipts", "")
    }

    pub(super) fn all_sends(&self) -> Key<'_> {
        self.by_name(ALL_SENDS)
    }

    pub(super) fn active_workers(&self) -> Key<'_> {
        self.shared(":busy", "")
    }

    pub(super) fn kill_switch(&self) -> Key<'_> {
        self.shared(":kill", "")
    }

    pub(super) fn server(&self) -> Key<'_> {
        self.shared(":server", "")
    }

    pub(super) fn challenge<'a>(&'a self, recipient: &'a Digest16, purpose: &'a str) -> Key<'a> {
        self.of(recipient, ":challenge:", purpose)
    }

    /// `prelude.lua` derives the key of the cooldown's request from this name.
    pub(super) fn cooldown<'a>(&'a self, recipient: &'a Digest16) -> Key<'a> {
        self.of(recipient, ":cooldown", "")
    }

    /// Provider checks that may have been right: answered right, or without an answer.
    pub(super) fn possible_checks<'a>(&'a self, recipient: &'a Digest16) -> Key<'a> {
        self.of(recipient, ":asked", "")
    }

    /// The events that a limit counts. A limit without a digest in the subject is off, and its key is not touched.
    pub(super) fn log<'a>(&'a self, log: EventLog, subject: &'a LimitSubject<'_>) -> Key<'a> {
        match log {
            EventLog::Sends => self.sends(&subject.recipient),
            EventLog::Wrong => self.wrong(&subject.recipient),
            EventLog::Refunds => self.refunds(&subject.recipient),
            EventLog::UserSends => self.shared(":user:", subject.user.as_ref().map_or("", Digest16::as_str)),
            EventLog::IpSends => self.shared(":ip:", subject.ip.as_ref().map_or("", Digest16::as_str)),
            EventLog::NetworkSends => {
                self.shared(":net:", subject.network.as_ref().map_or("", Digest16::as_str))
            }
            EventLog::AllSends => self.all_sends(),
        }
    }

    pub(super) fn sends<'a>(&'a self, recipient: &'a Digest16) -> Key<'a> {
        self.of(recipient, ":sends", "")
    }

    pub(super) fn wrong<'a>(&'a self, recipient: &'a Digest16) -> Key<'a> {
        self.of(recipient, ":wrong", "")
    }

    pub(super) fn refunds<'a>(&'a self, recipient: &'a Digest16) -> Key<'a> {
        self.of(recipient, ":refunds", "")
    }

    /// Sorts a damaged key by the requests that need it, without its digest or request id.
    pub(super) fn damaged(&self, key: &str) -> Damaged {
        let name =
            key.strip_prefix(self.prefix()).and_then(|name| name.strip_prefix(':')).unwrap_or_default();
        let (first, rest) = name.split_once(':').unwrap_or((name, ""));
        if name == ALL_SENDS || is_country(name) || SHARED.contains(&name) {
            return Damaged::Shared(name.to_owned());
        }
        let kind = match Digest16::parse(first) {
            Some(_) => rest.split(':').next().unwrap_or_default(),
            None => first,
        };
        KINDS.into_iter().find(|known| *known == kind).map_or(Damaged::Request, Damaged::Subject)
    }

    /// A shared key by its name in [`Damaged::Shared`].
    pub(super) fn by_name<'a>(&'a self, name: &'a str) -> Key<'a> {
        self.shared(":", name)
    }

    fn of<'a>(&'a self, recipient: &'a Digest16, kind: &'a str, rest: &'a str) -> Key<'a> {
        Key([&self.prefix, ":", recipient.as_str(), kind, rest])
    }

    fn shared<'a>(&'a self, kind: &'a str, rest: &'a str) -> Key<'a> {
        Key([&self.prefix, kind, rest, "", ""])
    }
}

/// The member by which logs that recipients share count a request. Short: Redis needs six times the memory for longer
/// members. The recipient's digest is keyed, so the member reveals no recipient.
pub(super) fn shared_member(lease: &Lease<'_>) -> String {
    let digest = Sha256::new()
        .chain_update(lease.subject.recipient.as_str())
        .chain_update(lease.request_id.as_str())
        .finalize();
    hex::encode(&digest[..12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_key_is_named_without_a_digest_or_a_request_id() {
        let keys = Keys::new("shop");
        let recipient = Digest16::from_random([7; 16]);
        for (name, damaged) in [
            (format!("{recipient}:req:receipts"), Damaged::Request),
            (format!("{recipient}:challenge:login"), Damaged::Subject("challenge")),
            (format!("{recipient}:suppressed"), Damaged::Subject("suppressed")),
            (format!("user:{recipient}"), Damaged::Subject("user")),
            ("id:receipts".to_owned(), Damaged::Request),
            ("spend:h".to_owned(), Damaged::Shared("spend:h".to_owned())),
            ("country:CO".to_owned(), Damaged::Shared("country:CO".to_owned())),
            ("receipts".to_owned(), Damaged::Shared("receipts".to_owned())),
        ] {
            assert_eq!(keys.damaged(&format!("{{shop}}:{name}")), damaged, "{name}");
        }
        for foreign in ["", "{other}:receipts", "receipts"] {
            assert_eq!(keys.damaged(foreign), Damaged::Request);
        }
    }
}
