//! Delivery receipts: those that arrive, and those that are overdue.

use super::retention::is_word;
use crate::domain::keyed_digest::Digest16;
use crate::domain::receipt::DeliveryStatus;
use crate::domain::request_id::RequestId;
use crate::domain::suppression::NewSuppression;
use crate::domain::time::UnixMillis;
use crate::domain::trace_context::TraceContext;

#[derive(Clone, Copy, Debug)]
pub struct NewReceipt<'a> {
    pub recipient: Digest16,
    pub request_id: &'a RequestId,
    pub message_id: &'a str,
    pub status: DeliveryStatus,
    pub provider_code: Option<u32>,
    /// The delivery event was published and confirmed.
    pub published: bool,
    pub suppression: Option<NewSuppression<'a>>,
}

impl<'a> NewReceipt<'a> {
    /// The message id, or nothing if the store cannot keep it as a word.
    pub(crate) fn stored_message_id(&self) -> &'a str {
        Some(self.message_id).filter(|id| is_word(id)).unwrap_or_default()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiptAnswer {
    /// The status is final and not published yet. Publish it, then record it again as `published`.
    Publish { purpose: String, correlation_id: Option<String>, trace: Option<TraceContext> },
    /// The receipt adds nothing to the record, is not final, or was recorded as published.
    NothingToPublish,
    /// There is no record of the request, or none any more.
    NoRequest,
}

/// The receipt that a request's record keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedReceipt {
    pub message_id: String,
    pub status: DeliveryStatus,
    pub provider_code: Option<u32>,
    pub published: bool,
    pub at: UnixMillis,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverdueReceipt {
    pub recipient: Digest16,
    pub request_id: RequestId,
    pub message_id: String,
    pub completed_at: UnixMillis,
    /// The longest wait since the send is over: it is not polled.
    pub lapsed: bool,
}
