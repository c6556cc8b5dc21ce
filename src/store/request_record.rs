//! The record of a request, as operators and repeated requests read it.

use super::receipt::RecordedReceipt;
use crate::domain::history::RequestHistory;
use crate::domain::keyed_digest::Digest16;
use crate::domain::outcome::Outcome;
use crate::domain::request_id::RequestId;
use crate::domain::time::UnixMillis;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    pub state: RequestState,
    /// The last receipt that changed the record.
    pub receipt: Option<RecordedReceipt>,
    /// The state of the code, while the challenge is kept.
    pub code: Option<CodeState>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestState {
    InProgress {
        /// `sending`, `waiting` or `doubt`.
        stage: &'static str,
        /// The last handler has not requeued it: it works on it, or crashed.
        leased: bool,
        attempt: u32,
        purpose: String,
        deadline: UnixMillis,
        history: RequestHistory,
    },
    Completed(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeState {
    pub expires: UnixMillis,
    /// Checks of typed codes, the right one included.
    pub checks: u32,
    pub used: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestOfUser {
    pub recipient: Digest16,
    pub request_id: RequestId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestSummary {
    /// The admission, or the end of a request that was not sent.
    pub at: UnixMillis,
    pub request_id: RequestId,
}
