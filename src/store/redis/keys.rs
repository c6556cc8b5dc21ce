//! The names of all keys. None holds an address, a user or an IP in clear: those are keyed digests.
//!
//! Every name starts with the hash tag `{prefix}`, so that on a Redis Cluster all keys of one gateway share a slot and
//! every step is one atomic script, limits over all recipients included.

use crate::domain::recipient::Digest16;
use crate::domain::request::RequestId;
use crate::store::{Block, Blocked, Subject};

pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Keys {
        Keys { prefix: format!("{{{prefix}}}") }
    }

    /// What all names begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn record(&self, recipient: Digest16, request: &RequestId) -> String {
        format!("{}:{recipient}:req:{request}", self.prefix)
    }

    /// Whose a request is, by its name alone.
    pub(super) fn index(&self, request: &RequestId) -> String {
        format!("{}:id:{request}", self.prefix)
    }

    pub(super) fn recent(&self, recipient: Digest16) -> String {
        format!("{}:{recipient}:recent", self.prefix)
    }

    /// Without a message nothing is claimed, and the key is never touched.
    pub(super) fn claim(&self, recipient: Digest16, message_id: Option<&str>) -> String {
        format!("{}:{recipient}:sid:{}", self.prefix, message_id.unwrap_or_default())
    }

    pub(super) fn suppressed(&self, recipient: Digest16) -> String {
        format!("{}:{recipient}:suppressed", self.prefix)
    }

    /// Without a country the key is never written.
    pub(super) fn country(&self, country: Option<&str>) -> String {
        format!("{}:country:{}", self.prefix, country.unwrap_or_default())
    }

    /// Without a block the key is never touched.
    pub(super) fn block(&self, recipient: Digest16, block: Option<&Block<'_>>) -> String {
        match block.map(|block| block.what) {
            Some(Blocked::Country(country)) => self.country(Some(country)),
            Some(Blocked::Recipient) | None => self.suppressed(recipient),
        }
    }

    pub(super) fn receipts(&self) -> String {
        format!("{}:receipts", self.prefix)
    }

    pub(super) fn busy(&self) -> String {
        format!("{}:busy", self.prefix)
    }

    pub(super) fn kill(&self) -> String {
        format!("{}:kill", self.prefix)
    }

    pub(super) fn server(&self) -> String {
        format!("{}:server", self.prefix)
    }

    pub(super) fn challenge(&self, recipient: Digest16, purpose: &str) -> String {
        format!("{}:{recipient}:challenge:{purpose}", self.prefix)
    }

    pub(super) fn sends(&self, recipient: Digest16) -> String {
        format!("{}:{recipient}:sends", self.prefix)
    }

    pub(super) fn refunds(&self, recipient: Digest16) -> String {
        format!("{}:{recipient}:refunds", self.prefix)
    }

    pub(super) fn cooldown(&self, recipient: Digest16) -> String {
        format!("{}:{recipient}:cooldown", self.prefix)
    }

    pub(super) fn wrong(&self, recipient: Digest16) -> String {
        format!("{}:{recipient}:wrong", self.prefix)
    }

    pub(super) fn all(&self) -> String {
        format!("{}:spend:h", self.prefix)
    }

    /// Without a user no limit of one is charged, and the key is never touched.
    pub(super) fn user(&self, subject: &Subject<'_>) -> String {
        self.shared("user", subject.user)
    }

    /// Without an address no limit of one is charged, and the key is never touched.
    pub(super) fn ip(&self, subject: &Subject<'_>) -> String {
        self.shared("ip", subject.ip)
    }

    fn shared(&self, kind: &str, name: Option<Digest16>) -> String {
        match name {
            Some(name) => format!("{}:{kind}:{name}", self.prefix),
            None => format!("{}:{kind}", self.prefix),
        }
    }
}
