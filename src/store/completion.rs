//! Completion of a request: its outcome, refund, message claim and suppression, in one step.

use std::time::Duration;

use super::lease::Lease;
use super::retention::is_word;
use crate::domain::budget::Spent;
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
    /// A message lookup found the message, so it is only deduced that it is this request's.
    pub found_by_lookup: bool,
    /// We do not know the id under which the provider lists the message.
    pub message_is_unnamed: bool,
    pub suppression: Option<NewSuppression<'a>>,
    /// The provider is polled for the receipt after this time, unless one arrives; `None` if none is expected.
    pub poll_receipt_after: Option<Duration>,
    /// The price of a message that was or may have been sent. `None`: the amount that was reserved, if there is one.
    pub spent: Option<Spent>,
}

impl<'a> CompletionInput<'a> {
    /// The message id, if there is one that the store can keep as a word.
    pub(crate) fn message_id(&self) -> Option<&'a str> {
        self.outcome.provider_message_id.as_deref().filter(|id| is_word(id))
    }

    /// The message was sent, and a lookup lists it under the outcome's id.
    pub(crate) fn id_is_known(&self) -> bool {
        self.outcome.status == Status::Sent && !self.message_is_unnamed && self.message_id().is_some()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refund {
    /// The charges remain: a message was or may have been sent.
    None,
    /// The charges are refunded: nothing was sent, and not because the provider refused the message.
    Full,
    /// The charges are refunded, and the refund counts toward [`Limit::Refunds`]: the provider refused the message.
    ///
    /// [`Limit::Refunds`]: crate::domain::limit::Limit::Refunds
    FullAndCounted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is read at once")]
pub enum CompletionAnswer {
    Recorded,
    /// The request was completed earlier, with this outcome, which stays.
    AlreadyCompleted(Outcome),
    /// Nothing was recorded, because the outcome says that nothing was sent, and the store knows of another lease, a later
    /// attempt or an attempt in doubt.
    MayHaveBeenSent,
    /// Another request has claimed the message that the lookup found.
    MessageClaimed,
}
