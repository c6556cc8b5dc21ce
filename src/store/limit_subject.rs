//! The subject whose limits a send is charged to.

use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::EventLog;

/// Whose limits a send is charged to, as keyed digests, and the purpose of its code.
#[derive(Clone, Copy, Debug)]
pub struct LimitSubject<'a> {
    pub recipient: Digest16,
    pub purpose: &'a str,
    pub user: Option<Digest16>,
    pub ip: Option<Digest16>,
    /// The network around the client IP.
    pub network: Option<Digest16>,
}

impl LimitSubject<'_> {
    /// The digest under which this subject's events of a log are counted. Without one the log's limits do not apply.
    pub fn digest(&self, log: EventLog) -> Option<Digest16> {
        match log {
            EventLog::Sends | EventLog::Wrong | EventLog::Refunds => Some(self.recipient),
            EventLog::UserSends => self.user,
            EventLog::IpSends => self.ip,
            EventLog::NetworkSends => self.network,
            // One log for all.
            EventLog::AllSends => Some(Digest16::NONE),
        }
    }
}
