//! Opt-in and opt-out: a recipient's own decision about our messages, by a message to us.
//!
//! Messages may arrive late and out of order. The time at which the provider got them decides, never that of their arrival.

use std::time::Duration;

use super::time::UnixMillis;

/// An older message decides nothing: it is kept for so long which one was the last.
pub const OPT_STATUS_COUNTS_FOR: Duration = Duration::from_secs(86_400);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptStatus {
    OptedIn,
    OptedOut,
}

impl OptStatus {
    pub const ALL: [OptStatus; 2] = [OptStatus::OptedIn, OptStatus::OptedOut];

    pub const fn as_str(self) -> &'static str {
        match self {
            OptStatus::OptedIn => "opted_in",
            OptStatus::OptedOut => "opted_out",
        }
    }
}

/// A message by which a recipient opts in or out.
#[derive(Clone, Copy, Debug)]
pub struct OptMessage<'a> {
    pub status: OptStatus,
    /// When the provider got it: whole seconds.
    pub sent_at: UnixMillis,
    /// The provider's error number for a message to a recipient that has opted out.
    pub provider_code: u32,
    /// The recipient, masked: the form that a list shows.
    pub masked: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptAnswer {
    /// The recipient now has this status, by this message or an earlier copy of it.
    Recorded,
    /// A later message or an operator has decided, or the message is too old. Nothing was changed.
    Outdated,
}

impl OptAnswer {
    pub const ALL: [OptAnswer; 2] = [OptAnswer::Recorded, OptAnswer::Outdated];

    pub const fn as_str(self) -> &'static str {
        match self {
            OptAnswer::Recorded => "recorded",
            OptAnswer::Outdated => "outdated",
        }
    }
}

/// The last decision of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastOpt {
    pub status: OptStatus,
    pub at: UnixMillis,
}

impl LastOpt {
    /// True if this decision is later than a message. Of two in one second the opt-out counts.
    pub fn is_later_than(&self, message: &OptMessage<'_>) -> bool {
        let is_kept_opt_out = self.status == OptStatus::OptedOut && message.status == OptStatus::OptedIn;
        message.sent_at < self.at || (message.sent_at == self.at && is_kept_opt_out)
    }

    /// True if the recipient has opted in since a time: an opt-out that the provider shows for that time is over.
    pub fn is_opt_in_after(&self, time: UnixMillis) -> bool {
        self.status == OptStatus::OptedIn && self.at > time
    }
}

/// The beginning of the second: providers tell no more.
pub fn whole_seconds(time: UnixMillis) -> UnixMillis {
    UnixMillis(time.0 / 1_000 * 1_000)
}
