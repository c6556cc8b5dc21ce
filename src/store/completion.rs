//! Completion of a request: its outcome, refund, message claim and suppression, in one step.

use std::time::Duration;

use super::lease::Lease;
use super::retention::is_word;
use crate::domain::limit::Limits;
use crate::domain::outcome::{Outcome, Status};
use crate::domain::suppression::NewSuppression;

/// Records an outcome, unless the request has one.
#[derive(Clone, Copy, Debug)]
pub struct CompletionInput<'a> {
    pub lease: Lease<'a>,
    pub outcome: &'a Outcome,
    pub refund: Refund,
    /// Those that the admission charged.
    pub limits: &'a Limits,
    /// A message lookup found the message, so another request could have found the same one.
    pub found_by_lookup: bool,
    /// A lookup does not list the message under the outcome's id.
    pub id_is_unlisted: bool,
    pub suppression: Option<NewSuppression<'a>>,
    /// The provider is polled for the receipt after this time, unless one arrives; `None` if none is expected.
    pub poll_receipt_after: Option<Duration>,
}

impl<'a> CompletionInput<'a> {
    /// The message id, if there is one that the store can keep as a word.
    pub(crate) fn message_id(&self) -> Option<&'a str> {
        self.outcome.provider_message_id.as_deref().filter(|id| is_word(id))
    }

    /// The message was sent, and a lookup lists it under the outcome's id.
    pub(crate) fn id_is_known(&self) -> bool {
        self.outcome.status == Status::Sent && !self.id_is_unlisted && self.message_id().is_some()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refund {
    /// The charges remain: a message was or may have been sent.
    None,
    /// The charges are refunded: nothing was sent, and not because the provider refused the message.
    Uncounted,
    /// The charges are refunded, and the refund counts toward [`Limit::Refunds`]: the provider refused the message.
    ///
    /// [`Limit::Refunds`]: crate::domain::limit::Limit::Refunds
    CountedRefusal,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is read at once")]
pub enum CompletionAnswer {
    Recorded,
    /// The request was completed earlier, with this outcome, which stays.
    AlreadyCompleted(Outcome),
    /// The store does not accept that nothing was sent: it knows of another lease, a later attempt or an attempt in
    /// doubt.
    NotOwner,
    /// Another request has claimed the message that the lookup found.
    MessageClaimed,
}
