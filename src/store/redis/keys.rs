//! The names of all keys. None holds an address, a user or an IP in clear: those are keyed digests.
//!
//! Every name starts with the hash tag `{prefix}`, so that on a Redis Cluster all keys of one gateway share a slot and
//! every step is one atomic script, limits over all recipients included.

use crate::domain::recipient::Digest16;
use crate::domain::request::RequestId;
use crate::store::Subject;

pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Keys {
        Keys { prefix: format!("{{{prefix}}}") }
    }

    pub(super) fn record(&self, subject: &Subject<'_>, request: &RequestId) -> String {
        format!("{}:{}:req:{request}", self.prefix, subject.recipient)
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
