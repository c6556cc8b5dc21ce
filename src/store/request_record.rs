//! What the store can tell of a request, long after it.

use crate::domain::history::RequestHistory;
use crate::domain::outcome::Outcome;
use crate::domain::receipt::DeliveryStatus;
use crate::domain::request_id::RequestId;
use crate::domain::time::UnixMillis;

/// All that is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// How far it is.
    pub state: RequestState,
    /// The last report of the provider.
    pub receipt: Option<RecordedReceipt>,
    /// What became of the code, while that is still known.
    pub code: Option<CodeState>,
}

/// How far a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestState {
    /// Under way.
    Live {
        /// `sending`, `waiting` or `doubt`.
        state: &'static str,
        /// A handling has it; else it was given back.
        held: bool,
        /// The number of the try.
        attempt: u32,
        /// The purpose.
        purpose: String,
        /// When a message would be too late.
        deadline: UnixMillis,
        /// What its handlings noted.
        history: RequestHistory,
    },
    /// At its end.
    Ended(Outcome),
}

/// The last report of the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedReceipt {
    /// The provider's name for the message.
    pub message_id: String,
    /// What became of it.
    pub status: DeliveryStatus,
    /// The provider's own error number.
    pub code: Option<u32>,
    /// It was published.
    pub published: bool,
    /// When it came.
    pub at: UnixMillis,
}

/// What became of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeState {
    /// When its life ends.
    pub expires: UnixMillis,
    /// Tries, right ones included.
    pub tries: u32,
    /// It was typed rightly.
    pub used: bool,
}

/// One of the last requests of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestSummary {
    /// When it was admitted, or ended without a send.
    pub at: UnixMillis,
    /// Which.
    pub request: RequestId,
}
