//! The names of all keys. None holds an address, a user or an IP in clear: those are keyed digests.
//!
//! Every name starts with the hash tag `{prefix}`, so that on a Redis Cluster all keys of one gateway share a slot and
//! every step is one atomic script, limits over all recipients included.

use redis::{RedisWrite, ToRedisArgs};

use crate::domain::keyed_digest::Digest16;
use crate::domain::request_id::RequestId;
use crate::domain::suppression::{NewSuppression, SuppressionTarget};
use crate::store::Subject;

pub(super) struct Keys {
    prefix: String,
}

/// Longer than most names.
const NAME_BYTES: usize = 128;

/// A name, in the pieces that it is written from.
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

    /// What all names begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn record<'a>(&'a self, recipient: &'a Digest16, request: &'a RequestId) -> Key<'a> {
        self.of(recipient, ":req:", request.as_str())
    }

    /// Whose a request is, by its name alone.
    pub(super) fn index<'a>(&'a self, request: &'a RequestId) -> Key<'a> {
        self.shared(":id:", request.as_str())
    }

    pub(super) fn recent<'a>(&'a self, recipient: &'a Digest16) -> Key<'a> {
        self.of(recipient, ":recent", "")
    }

    /// Without a message nothing is claimed, and the key is never touched.
    pub(super) fn claim<'a>(&'a self, recipient: &'a Digest16, message_id: Option<&'a str>) -> Key<'a> {
        self.of(recipient, ":sid:", message_id.unwrap_or_default())
    }

    pub(super) fn suppressed<'a>(&'a self, recipient: &'a Digest16) -> Key<'a> {
        self.of(recipient, ":suppressed", "")
    }

    /// Since when, who and why a recipient is suppressed. The script that blocks makes this name from the one above.
    pub(super) fn suppression<'a>(&'a self, recipient: &'a Digest16) -> Key<'a> {
        self.of(recipient, ":suppression", "")
    }

    /// All that are. The script that blocks makes this name, too.
    pub(super) fn suppressions(&self) -> Key<'_> {
        self.shared(":suppressions", "")
    }

    /// Without a country the key is never written.
    pub(super) fn country<'a>(&'a self, country: Option<&'a str>) -> Key<'a> {
        self.shared(":country:", country.unwrap_or_default())
    }

    /// Without a block the key is never touched.
    pub(super) fn block<'a>(
        &'a self,
        recipient: &'a Digest16,
        block: Option<&NewSuppression<'a>>,
    ) -> Key<'a> {
        match block.map(|block| block.target) {
            Some(SuppressionTarget::Country(country)) => self.country(Some(country)),
            Some(SuppressionTarget::Recipient) | None => self.suppressed(recipient),
        }
    }

    pub(super) fn receipts(&self) -> Key<'_> {
        self.shared(":receipts", "")
    }

    pub(super) fn busy(&self) -> Key<'_> {
        self.shared(":busy", "")
    }

    pub(super) fn kill(&self) -> Key<'_> {
        self.shared(":kill", "")
    }

    pub(super) fn server(&self) -> Key<'_> {
        self.shared(":server", "")
    }

    pub(super) fn challenge<'a>(&'a self, recipient: &'a Digest16, purpose: &'a str) -> Key<'a> {
        self.of(recipient, ":challenge:", purpose)
    }

    pub(super) fn sends<'a>(&'a self, recipient: &'a Digest16) -> Key<'a> {
        self.of(recipient, ":sends", "")
    }

    pub(super) fn refunds<'a>(&'a self, recipient: &'a Digest16) -> Key<'a> {
        self.of(recipient, ":refunds", "")
    }

    /// The scripts know that the records of a recipient stand beside it.
    pub(super) fn cooldown<'a>(&'a self, recipient: &'a Digest16) -> Key<'a> {
        self.of(recipient, ":cooldown", "")
    }

    pub(super) fn wrong<'a>(&'a self, recipient: &'a Digest16) -> Key<'a> {
        self.of(recipient, ":wrong", "")
    }

    /// The checks that a provider was asked about and that were not wrong.
    pub(super) fn asked<'a>(&'a self, recipient: &'a Digest16) -> Key<'a> {
        self.of(recipient, ":asked", "")
    }

    pub(super) fn all(&self) -> Key<'_> {
        self.shared(":spend:h", "")
    }

    /// Without a user no limit of one is charged, and the key is never touched.
    pub(super) fn user<'a>(&'a self, subject: &'a Subject<'_>) -> Key<'a> {
        self.shared(":user:", subject.user.as_ref().map_or("", Digest16::as_str))
    }

    /// Without an address no limit of one is charged, and the key is never touched.
    pub(super) fn ip<'a>(&'a self, subject: &'a Subject<'_>) -> Key<'a> {
        self.shared(":ip:", subject.ip.as_ref().map_or("", Digest16::as_str))
    }

    fn of<'a>(&'a self, recipient: &'a Digest16, kind: &'a str, rest: &'a str) -> Key<'a> {
        Key([&self.prefix, ":", recipient.as_str(), kind, rest])
    }

    fn shared<'a>(&'a self, kind: &'a str, rest: &'a str) -> Key<'a> {
        Key([&self.prefix, kind, rest, "", ""])
    }
}
