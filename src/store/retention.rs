//! Durations and counts that every implementation of the store shares.

use std::time::Duration;

use crate::domain::message_match::CLOCK_DIFFERENCE_MAX;

/// A request in progress, and an outcome other than `rejected`, are kept this long for repeats. Panics of a request count
/// for this long after the last one.
pub(crate) const OUTCOME_KEPT: Duration = Duration::from_secs(86_400);
/// A rejection is kept this long for repeats.
pub(crate) const REJECTION_KEPT: Duration = Duration::from_secs(900);
/// A claim outlasts every reconciliation: none lasts longer than a code lives.
pub(crate) const CLAIM_KEPT: Duration = Duration::from_secs(7_200);
/// A claim reads at most this many requests of its recipient.
pub(crate) const CLAIM_REQUESTS_MAX: usize = 200;
/// The provider's times of two messages may differ from ours by so much: each by [`CLOCK_DIFFERENCE_MAX`].
pub(crate) const CLAIM_CLOCK_DIFFERENCE_MAX: Duration =
    Duration::from_secs(2 * CLOCK_DIFFERENCE_MAX.as_secs());
/// A new server may have lost the last writes of the one before it. The store says so for this long.
pub(crate) const LOST_WRITES_FOR: Duration = Duration::from_secs(600);
/// A worker counts as active for this long after its last heartbeat with something to send.
pub(crate) const ACTIVE_WORKER_FOR: Duration = Duration::from_secs(1);
/// The state of a worker is kept this long after its last report.
pub(crate) const WORKER_STATE_KEPT: Duration = Duration::from_secs(60);
/// The check value of a key that no process uses any more is kept this long.
pub const KEY_CHECK_KEPT: Duration = Duration::from_secs(30 * 86_400);
/// States that the store lists: two channels of 500 workers.
pub const WORKERS_MAX: usize = 1_000;
/// A writer's last batch of counts is remembered this long: a repeat after a lost answer comes earlier.
pub(crate) const CONVERSION_WRITER_KEPT: Duration = Duration::from_secs(86_400);
/// Writers that are remembered. Of more, as of a process that starts again and again, the oldest are forgotten.
pub(crate) const CONVERSION_WRITERS_MAX: usize = 2_000;
/// A part of the records of unverified sends is kept this long after its last write.
pub(crate) const DEFENCE_KEPT: Duration = Duration::from_secs(2 * 86_400);
/// Recently verified numbers and users in one of 65,536 parts. A full part drops those of past days, or else so many of the oldest.
pub(crate) const VERIFIED_MAX: usize = 100;
pub(crate) const VERIFIED_DROPPED: usize = 10;
/// Digests in one call of `note_verified`.
pub const VERIFIED_NOTED_MAX: usize = 100;
/// Buckets that the store reads at once. A bucket of blocks has thousands of names.
pub const BUCKETS_READ_MAX: usize = 24;
/// The shortest time between two polls for an overdue receipt.
pub(crate) const RECEIPT_POLL_INTERVAL_MIN: Duration = Duration::from_secs(60);
/// Requests that the store lists for a recipient.
pub const RECENT_MAX: u32 = 20;
pub const SUPPRESSIONS_MAX: u32 = 1_000;
/// The resolution of the store's clock: no manual suppression is shorter.
pub(crate) const SUPPRESSION_MIN: Duration = Duration::from_millis(1);
/// Stored in place of the provider's error number for a manual suppression, or if the provider gave none.
pub(crate) const NO_PROVIDER_CODE: u32 = 0;
/// A challenge is kept this long after its code has expired, so that a late check learns why it fails.
pub(crate) const CHALLENGE_KEPT_AFTER: Duration = Duration::from_secs(3_600);

/// Can this be stored as one word of a line, without a comma (a receipt is a list with commas)? Message ids of the
/// providers can.
pub(crate) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}
