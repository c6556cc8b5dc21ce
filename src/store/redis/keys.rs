//! Key names. Recipients, users and IPs appear only as keyed digests.
//! Stored names are older than the glossary and stay.
//!
//! Every name starts with the hash tag `{prefix}`. On a Redis Cluster all keys of a gateway thus share one slot, which a
//! script with keys of several recipients needs.

use redis::{RedisWrite, ToRedisArgs};

use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::EventLog;
use crate::domain::request_id::RequestId;
use crate::domain::suppression::{NewSuppression, SuppressionTarget};
use crate::store::LimitSubject;

pub(super) struct Keys {
    prefix: String,
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
            EventLog::AllSends => self.shared(":spend:h", ""),
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

    fn of<'a>(&'a self, recipient: &'a Digest16, kind: &'a str, rest: &'a str) -> Key<'a> {
        Key([&self.prefix, ":", recipient.as_str(), kind, rest])
    }

    fn shared<'a>(&'a self, kind: &'a str, rest: &'a str) -> Key<'a> {
        Key([&self.prefix, kind, rest, "", ""])
    }
}
