//! How long things are kept, how many, and what can be kept as a word: the same in every adapter.

use std::time::Duration;

use super::{CompleteRequest, Limits};
use crate::domain::channel::Channel;
use crate::domain::quota::Quota;

/// Sends to one number in a sliding day that the provider may refuse and that are given back all the same: its refusals
/// are no free loop.
pub const REFUNDS_PER_DAY: Quota = Quota { count: 10, window: Duration::from_secs(86_400) };

/// How long a request in progress, and a sent, failed or unknown outcome are kept for repeats.
pub(crate) const OUTCOME_KEPT: Duration = Duration::from_secs(86_400);
/// How long a recorded refusal is kept for repeats.
pub(crate) const REFUSAL_KEPT: Duration = Duration::from_secs(900);
/// How long a message found for one request is no other's: no doubt lasts longer than a code lives.
pub(crate) const CLAIM_KEPT: Duration = Duration::from_secs(7_200);
/// How long the store is taken for forgetful after it was another server than before.
pub(crate) const FORGETFUL_FOR: Duration = Duration::from_secs(600);
/// How long a worker counts as busy after it last said so.
pub(crate) const BUSY_FOR: Duration = Duration::from_secs(1);
/// A final report that is overdue is asked for again after this long at the soonest.
pub(crate) const RECEIPT_ASKED_AFTER_MIN: Duration = Duration::from_secs(60);
/// So many requests of a recipient are remembered as its last.
pub const RECENT_MAX: u32 = 20;
/// So many suppressions are listed at most.
pub const SUPPRESSIONS_MAX: u32 = 1_000;
/// A suppression by hand lasts at least as long as can be kept.
pub(crate) const SUPPRESSED_MIN: Duration = Duration::from_millis(1);
/// Stands for the provider's error number where a person did it, or the provider told none.
pub(crate) const BY_HAND: u32 = 0;
/// How much longer than its code lives a challenge is kept.
pub(crate) const KEPT_AFTER: Duration = Duration::from_secs(3600);

/// A name that can be kept as one word among others. Those that providers give to messages are.
pub(crate) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

impl Limits {
    /// Those of a channel. What all sends together may come to is about the price of text messages.
    pub fn on(&self, channel: Channel) -> Limits {
        match channel {
            Channel::Sms => *self,
            Channel::Email => Limits { all: Quota { count: 0, ..self.all }, ..*self },
        }
    }
}

impl<'a> CompleteRequest<'a> {
    /// The provider's name for the message, if there is one that can be kept as a word.
    pub(crate) fn message_id(&self) -> Option<&'a str> {
        self.outcome.provider_message_id.as_deref().filter(|id| is_word(id))
    }
}
