//! Seam: what all workers share, behind one trait. Limits, challenges, and one record a request.
//!
//! Every method is one atomic step. A time to live only collects garbage, decisions compare stored times with the store's
//! own clock; the kill switch and an opt-out have none. [`memory`] is the specification that [`redis`] is tested against.
//! Not a cache: losing it loses limits and pending codes, and a step that failed is a [`StoreError`], never a guess.

pub mod bounds;
pub mod code_check;
pub mod memory;
pub mod redis;
mod request_record;

use std::time::Duration;

use async_trait::async_trait;

use self::code_check::{CodeCheck, ProviderCheckResult, ProviderCheckStart};
pub use self::request_record::{CodeState, RecordedReceipt, RequestRecord, RequestState, RequestSummary};
use crate::domain::challenge::ChallengeId;
use crate::domain::history::RequestHistory;
use crate::domain::keyed_digest::Digest16;
use crate::domain::outcome::Outcome;
use crate::domain::quota::Quota;
use crate::domain::receipt::DeliveryStatus;
use crate::domain::request_id::RequestId;
use crate::domain::suppression::{ManualSuppression, NewSuppression, SuppressionEntry};
use crate::domain::time::UnixMillis;
use crate::domain::verdict::Verdict;

/// The shared state of all workers.
#[async_trait]
pub trait Store: Send + Sync {
    /// May this request be sent, and with which challenge? Charges every limit once if so.
    async fn admit(&self, ask: &Admit<'_>) -> Result<Admission, StoreError>;

    /// Marks how far the handling of an admitted request has come, and keeps its notes, if any are given.
    ///
    /// `made` is how many tries of the request the handling knows to have been made: a mark that arrives late, when more
    /// were made since, changes nothing. Who does not know has made none, and can only give back.
    async fn update_progress(
        &self,
        handling: &Lease<'_>,
        made: Option<u32>,
        mark: Progress,
        notes: Option<&RequestHistory>,
    ) -> Result<ProgressResult, StoreError>;

    /// Ends a request. The first outcome of a request stays; the answer is the one that does.
    async fn complete(&self, settle: &CompleteRequest<'_>) -> Result<CompleteResult, StoreError>;

    /// Checks a typed code: counts before it compares.
    async fn verify(&self, check: &CodeCheck<'_>) -> Result<Verdict, StoreError>;

    /// May a typed code be checked by whoever made it? Counts the try before anybody is asked.
    async fn begin_provider_check(&self, check: &CodeCheck<'_>) -> Result<ProviderCheckStart, StoreError>;

    /// What became of a check that was begun. The right code is right once.
    async fn finish_provider_check(
        &self,
        check: &CodeCheck<'_>,
        end: ProviderCheckResult,
    ) -> Result<Verdict, StoreError>;

    /// Notes under which name a provider checks the code of a challenge. One that was replaced stays as it is.
    async fn link_verification(
        &self,
        subject: &Subject<'_>,
        challenge: &ChallengeId,
        name: &str,
    ) -> Result<(), StoreError>;

    /// How much of its limits a recipient and its user have used, and whether the request is known. Charges nothing.
    async fn usage(
        &self,
        subject: &Subject<'_>,
        request: Option<&RequestId>,
        limits: &Limits,
    ) -> Result<Usage, StoreError>;

    /// Takes note of what the provider reports of a message. A report that says no more than is known changes nothing, and
    /// blocks nobody again: somebody may have lifted what it blocked when it came first.
    async fn record_receipt(&self, track: &RecordReceipt<'_>) -> Result<ReceiptResult, StoreError>;

    /// Messages whose final report is overdue, less and less often, and a last time once they were waited for `wait_max`.
    async fn overdue_receipts(
        &self,
        wait_max: Duration,
        count_max: u32,
    ) -> Result<Vec<OverdueReceipt>, StoreError>;

    /// Says that a worker lives, and whether it has anything to send. Tells it what concerns all of them.
    async fn heartbeat(&self, worker: u64, busy: bool) -> Result<SharedState, StoreError>;

    /// The kill switch, if it is on.
    async fn kill_switch(&self) -> Result<Option<KillSwitch>, StoreError>;

    /// Turns the kill switch on, for a reason, or off. What stood before is the answer.
    async fn set_kill_switch(&self, reason: Option<&str>) -> Result<Option<KillSwitch>, StoreError>;

    /// All that is known of a request. Without its recipient it is looked for by its id alone.
    async fn request_record(
        &self,
        request: &RequestId,
        recipient: Option<Digest16>,
    ) -> Result<Option<RequestRecord>, StoreError>;

    /// The last requests of a recipient, refused ones included, the newest first, at most [`bounds::RECENT_MAX`].
    async fn recent_requests(&self, recipient: Digest16) -> Result<Vec<RequestSummary>, StoreError>;

    /// Recipients that nothing is sent to: first those that wait for somebody to change that, then those with the longest
    /// time to go.
    async fn suppressions(&self, count_max: u32) -> Result<Vec<SuppressionEntry>, StoreError>;

    /// Lets nothing be sent to a recipient, never for less long than it is already. The answer is what stands then.
    async fn add_suppression(
        &self,
        recipient: Digest16,
        by_hand: &ManualSuppression<'_>,
    ) -> Result<SuppressionEntry, StoreError>;

    /// Lets messages go to a recipient again. The answer is what stood.
    async fn remove_suppression(&self, recipient: Digest16) -> Result<Option<SuppressionEntry>, StoreError>;

    /// True for a while after a failover may have lost the last second: what is not known may have been sent.
    fn may_have_lost_writes(&self) -> bool;
}

/// The store did not answer. The step may have been made or not: every step can be asked again.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer in time, or no connection.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// An error from the server.
    #[error("the store refused: {0}")]
    Refused(String),
    /// It answered what no version of ours writes.
    #[error("the store answered in an unknown shape to {step}")]
    Garbled {
        /// The step that was asked.
        step: &'static str,
    },
}

/// All limits on sending. A count of 0 turns a limit off.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sends to one number in a sliding window.
    pub number: Quota,
    /// Sends to one number in a sliding day.
    pub number_day: Quota,
    /// Sends for one user in a sliding hour.
    pub user: Quota,
    /// Sends for one client address in a sliding hour.
    pub ip: Quota,
    /// All sends together in a sliding hour.
    pub all: Quota,
    /// The least time between two sends to one number.
    pub cooldown: Duration,
    /// Wrong tries on one challenge.
    pub wrong_per_challenge: u32,
    /// Wrong tries on all challenges of one recipient in a sliding hour.
    pub wrong: Quota,
}

/// Whom a send is charged to.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The recipient's name in the store.
    pub recipient: Digest16,
    /// What the code is good for.
    pub purpose: &'a str,
    /// The caller's user.
    pub user: Option<Digest16>,
    /// The client's address.
    pub ip: Option<Digest16>,
}

/// One handling of one delivery of one request. `owner` differs for every handling.
#[derive(Clone, Copy, Debug)]
pub struct Lease<'a> {
    /// Whom the request is charged to.
    pub subject: Subject<'a>,
    /// The request.
    pub request: &'a RequestId,
    /// 64 random bits.
    pub token: u64,
}

/// The question whether a request may be sent.
#[derive(Clone, Copy, Debug)]
pub struct Admit<'a> {
    /// Who asks about what.
    pub lease: Lease<'a>,
    /// When the request was made, if it tells.
    pub requested_at: Option<UnixMillis>,
    /// When a message would be too late, if the request tells.
    pub not_after: Option<UnixMillis>,
    /// A code's life.
    pub code_life: Duration,
    /// How long this handling may take to its next step.
    pub lease_duration: Duration,
    /// The challenge to start, if none can be continued.
    pub proposal: ProposedChallenge<'a>,
    /// The names of the keys that we have, as [`crate::domain::code::CodeKeyring::kids`] writes them.
    pub kids: &'a str,
    /// What is allowed.
    pub limits: &'a Limits,
    /// Nothing new is sent. What was sent is still told.
    pub channel_disabled: bool,
    /// Nothing is begun or taken up for now, and nothing changes. What has ended is still told.
    pub paused: bool,
    /// A request that so many handlings were begun of and died with is not taken up yet.
    pub unfinished_leases_below: u32,
    /// The recipient's country, of which a range or all may be blocked.
    pub country: Option<&'a str>,
    /// What to keep with the record of a request that is new.
    pub history: &'a RequestHistory,
}

/// A challenge that could start.
#[derive(Clone, Copy, Debug)]
pub struct ProposedChallenge<'a> {
    /// Its name.
    pub id: ChallengeId,
    /// The key of its code.
    pub kid: &'a str,
    /// The keyed digest of its code.
    pub digest: Digest16,
    /// The caller chose the code.
    pub callers_code: bool,
}

/// The answer to [`Admit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Send it.
    Granted(Grant),
    /// Another handling died in the middle of sending it: whether it was sent is not known. It is ours now.
    InDoubt(Grant),
    /// It has ended. `ours` is true if this very handling ended it, as when its first answer was lost.
    Completed {
        /// How.
        outcome: Outcome,
        /// This handling's own doing.
        ours: bool,
    },
    /// Another handling has it. Ask again after this long.
    Busy(Duration),
    /// Nobody has it, and handlings died with it. Ask again at another time, and to take it up all the same.
    CrashSuspect {
        /// How many.
        starts: u32,
        /// Until its deadline.
        time_left: Duration,
    },
    /// It has not ended, and nothing may be begun. Ask again when something may.
    Paused,
}

/// Leave to send, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The number of the try, from 1.
    pub attempt: u32,
    /// The challenge whose code is sent.
    pub challenge: ChallengeId,
    /// The key of its code.
    pub kid: String,
    /// The keyed digest of its code.
    pub digest: Digest16,
    /// The caller chose the code.
    pub callers_code: bool,
    /// When the request was first admitted: what a text says of time is counted from here.
    pub admitted_at: UnixMillis,
    /// When the code's life ends.
    pub expires_at: UnixMillis,
    /// When a message would be too late.
    pub deadline: UnixMillis,
    /// The store's time at the answer: the others are to be read against it.
    pub now: UnixMillis,
    /// When the try `attempt` was begun.
    pub started: UnixMillis,
    /// Tries so far of which nobody knew whether they were sent.
    pub attempts_in_doubt: u32,
    /// Handlings that began and neither ended the request nor gave it back, this one included.
    pub unfinished_leases: u32,
    /// Sends to the recipient within a day, this one included; of a request that was seen before 0.
    pub sends: u32,
    /// The notes of the handlings before; nothing for a request that is new.
    pub history: Option<RequestHistory>,
}

/// How far a handling has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The next try comes after this long at most. Nothing is in doubt.
    Waiting(Duration),
    /// The next try starts now and ends within this long.
    Sending(Duration),
    /// Nobody knows whether the last try was sent, and this handling finds out within this long.
    InDoubt(Duration),
    /// This handling gives the request back. Doubt stays doubt.
    Requeued {
        /// The next try may not be made sooner than this.
        due: Duration,
        /// Nobody knows whether the last try was sent, whether or not the store was told of that.
        in_doubt: bool,
    },
}

/// The answer to a [`Mark`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgressResult {
    /// It is so.
    Applied,
    /// The provider has reported this message of the request by itself: there is no doubt about it, and nothing more is
    /// to be sent.
    AlreadySent(String),
    /// The request is no longer this handling's: it was taken over, has ended, or was lost.
    NotOwner,
    /// Its challenge was used or replaced meanwhile: its code is of no use any more.
    ChallengeReplaced,
}

/// The end of a request.
#[derive(Clone, Copy, Debug)]
pub struct CompleteRequest<'a> {
    /// Who ends which request.
    pub lease: Lease<'a>,
    /// How.
    pub outcome: &'a Outcome,
    /// What becomes of the charges.
    pub refund: Refund,
    /// The message was found by looking for it, so that another request could have found the same.
    pub found: bool,
    /// Nothing more is to be sent to the recipient, or to its country, for now.
    pub suppression: Option<NewSuppression<'a>>,
    /// When a report of the provider is overdue, if one is expected.
    pub receipt_due: Option<Duration>,
}

/// What becomes of the charges of a request that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refund {
    /// They stay: something was or may have been sent.
    None,
    /// They are given back: nothing was sent, through no fault of the recipient's.
    Free,
    /// They are given back, and that is counted: the provider refused the message.
    Counted,
}

/// The answer to [`Settle`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is read at once")]
pub enum CompleteResult {
    /// The request ended as was said.
    Recorded,
    /// It had ended before, so.
    AlreadyCompleted(Outcome),
    /// Another handling holds it, or has made a try since: only that one could know that nothing was sent.
    NotOwner,
    /// The message that was found is another request's.
    MessageClaimed,
}

/// What the provider says of a message.
#[derive(Clone, Copy, Debug)]
pub struct RecordReceipt<'a> {
    /// Who gets the message.
    pub recipient: Digest16,
    /// The request that it belongs to.
    pub request: &'a RequestId,
    /// The provider's name for it.
    pub message_id: &'a str,
    /// What became of it.
    pub status: DeliveryStatus,
    /// The provider's own error number.
    pub code: Option<u32>,
    /// It was published, and confirmed.
    pub published: bool,
    /// What the report stops.
    pub suppression: Option<NewSuppression<'a>>,
}

/// The answer to [`Track`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiptResult {
    /// It is final and was not published yet. Publish it, and say so with `told`.
    Publish {
        /// The purpose of the request.
        purpose: String,
        /// What comes back on its results.
        correlation_id: Option<String>,
    },
    /// It was known, or is not final.
    Unchanged,
    /// There is no such request, or no longer.
    NoRequest,
}

/// A message whose final report is overdue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverdueReceipt {
    /// Who got the message.
    pub recipient: Digest16,
    /// The request that it belongs to.
    pub request: RequestId,
    /// The provider's name for it.
    pub message_id: String,
    /// It is waited for no longer.
    pub lapsed: bool,
}

/// What concerns all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedState {
    /// The kill switch is on.
    pub kill_switch_on: bool,
    /// Workers that lately had something to send, the asking one included if it has.
    pub active_workers: u32,
}

/// The kill switch while it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillSwitch {
    /// Since when.
    pub since: UnixMillis,
    /// Why, in the words of who turned it on.
    pub reason: String,
}

/// A recipient's use of its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Sends in the number's window.
    pub used: u32,
    /// Sends in the number's day.
    pub used_day: u32,
    /// Wrong tries in the last hour.
    pub wrong: u32,
    /// How long until every limit allows one more send, but for the cooldown.
    pub limited_for: Duration,
    /// How long the cooldown lasts.
    pub cooldown: Duration,
    /// The store has a record of the request.
    pub known: bool,
}
