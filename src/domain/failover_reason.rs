//! The reasons for a failover: another provider than before sends a message. Stored with attempts, counted, and shown.

/// Why another provider than before sends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailoverReason {
    BreakerOpen,
    Refused,
    Throttled,
    Unreachable,
    NoSender,
    /// An attempt in doubt got no answer to its lookups: this can text twice.
    DoubtUnanswered,
}

impl FailoverReason {
    pub const ALL: [FailoverReason; 6] = [
        FailoverReason::BreakerOpen,
        FailoverReason::Refused,
        FailoverReason::Throttled,
        FailoverReason::Unreachable,
        FailoverReason::NoSender,
        FailoverReason::DoubtUnanswered,
    ];

    /// The word of logs, metrics and histories.
    pub const fn as_str(self) -> &'static str {
        match self {
            FailoverReason::BreakerOpen => "breaker_open",
            FailoverReason::Refused => "refused",
            FailoverReason::Throttled => "throttled",
            FailoverReason::Unreachable => "unreachable",
            FailoverReason::NoSender => "no_sender",
            FailoverReason::DoubtUnanswered => "doubt_unanswered",
        }
    }

    /// The place in the order of the variants, which never changes: stored.
    pub const fn stored(self) -> u8 {
        self as u8
    }

    pub fn from_stored(stored: u8) -> Option<FailoverReason> {
        FailoverReason::ALL.into_iter().find(|reason| reason.stored() == stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_reason_reads_back() {
        for (place, reason) in (0..).zip(FailoverReason::ALL) {
            assert_eq!((reason.stored(), FailoverReason::from_stored(place)), (place, Some(reason)));
        }
        assert_eq!(FailoverReason::from_stored(200), None);
    }
}
