//! Seam: forgets a person, and keeps the list of messages whose texts the provider is still to delete.

use std::time::Duration;

use async_trait::async_trait;

use super::error::StoreError;
use crate::domain::keyed_digest::Digest16;
use crate::domain::time::UnixMillis;

/// Jobs that the store keeps at once, finished ones included.
pub const REDACTION_JOBS_MAX: usize = 200;
/// Messages of one job.
pub const REDACTION_MESSAGES_MAX: usize = 1_000;
/// A job is shown this long after its last change.
pub(crate) const REDACTION_JOB_KEPT: Duration = Duration::from_secs(30 * 86_400);
/// A message that the provider does not let go counts as failed after this time.
pub(crate) const REDACTION_TRIED_FOR: Duration = Duration::from_secs(7 * 86_400);
/// All workers together take messages no more often.
pub(crate) const REDACTIONS_TAKEN_EVERY: Duration = Duration::from_secs(1);
/// A message that a worker took comes again after this time, unless the worker has ended it.
pub(crate) const REDACTION_LEASE: Duration = Duration::from_secs(120);

#[async_trait]
pub trait ForgetStore: Send + Sync {
    /// Removes what the store knows of a person beyond limits, marks against repeats and suppressions. While a request to the
    /// recipient is in progress nothing changes.
    async fn forget(&self, recipient: Digest16) -> Result<ForgetAnswer, StoreError>;

    /// Adds messages to the recipient's job. A message is in it once; a finished job begins anew.
    async fn add_redactions(
        &self,
        recipient: Digest16,
        message_ids: &[String],
        listing: Listing,
    ) -> Result<RedactionsAdded, StoreError>;

    /// Some messages that are due. Of all callers together one in `REDACTIONS_TAKEN_EVERY` gets any.
    async fn take_redactions(&self, count_max: u32) -> Result<Vec<Redaction>, StoreError>;

    /// Ends the work on a message that was taken. A repeat changes nothing.
    async fn end_redaction(&self, redaction: &Redaction, end: RedactionEnd) -> Result<(), StoreError>;

    /// The newest first.
    async fn redaction_jobs(&self) -> Result<Vec<RedactionJob>, StoreError>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForgetAnswer {
    Forgotten(Forgotten),
    /// It ends within this time at the latest.
    InProgress(Duration),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Requests whose history was removed.
    pub histories: u32,
    /// Pending codes.
    pub codes: u32,
    /// The note of a suppression named the masked recipient.
    pub note: bool,
    pub messages: Vec<SentMessage>,
    pub kept: KeptMarks,
}

/// A message, as its provider knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentMessage {
    pub provider: String,
    pub message_id: String,
}

/// Digests and counts that stay until they expire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptMarks {
    /// Marks against repeats: their number, and the end of the last.
    pub requests: Option<(u32, UnixMillis)>,
    pub limits_until: Option<UnixMillis>,
    pub suppression: Option<KeptSuppression>,
    /// The last opt-in or opt-out.
    pub opt_status_until: Option<UnixMillis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptSuppression {
    pub provider_code: Option<u32>,
    /// `None`: until START, or until an operator removes it.
    pub until: Option<UnixMillis>,
}

/// The search for older messages by the recipient's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    Pending,
    Complete,
    /// The provider has more messages than one job takes.
    More,
    Failed,
    /// This process has no account at the provider.
    NotPossible,
}

impl Listing {
    /// In the order of the stored numbers, which never change.
    pub const ALL: [Listing; 5] =
        [Listing::Pending, Listing::Complete, Listing::More, Listing::Failed, Listing::NotPossible];

    pub const fn as_str(self) -> &'static str {
        match self {
            Listing::Pending => "pending",
            Listing::Complete => "complete",
            Listing::More => "more",
            Listing::Failed => "failed",
            Listing::NotPossible => "not_possible",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedactionsAdded {
    Added,
    /// There are [`REDACTION_JOBS_MAX`] jobs.
    TooManyJobs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redaction {
    pub recipient: Digest16,
    pub message_id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedactionEnd {
    Done,
    /// The account that was asked has no such message: it was deleted there, or another account sent it.
    NotFound,
    /// Again after this time, or failed if it was tried for `REDACTION_TRIED_FOR`.
    Later(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedactionJob {
    pub recipient: Digest16,
    pub begun: UnixMillis,
    pub total: u32,
    pub done: u32,
    pub failed: u32,
    /// Messages that the account does not have.
    pub not_found: u32,
    pub listing: Listing,
}

impl RedactionJob {
    pub fn left(&self) -> u32 {
        self.total.saturating_sub(self.done + self.failed + self.not_found)
    }
}

/// The mark in place of a masked recipient: the first digits of its digest.
pub fn forgotten_mark(recipient: &Digest16) -> String {
    format!("#{}", &recipient.as_str()[..8])
}
