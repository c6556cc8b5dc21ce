//! What became of a message after a provider took it, and how reports of it add up.
//!
//! Reports come late, again and in any order. What is known only ever moves forward: a report that says as much as is
//! known, or less, is no news. Words that providers do not use for messages of ours are not read.
//!
//! Statuses and their order: Twilio's OpenAPI file `twilio_api_v2010` (`message_enum_status`).

/// How far a message has come, by a provider's own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryStatus {
    /// A sender for it is being chosen.
    Accepted,
    /// It is kept for later.
    Scheduled,
    /// It waits for its sender.
    Queued,
    /// It is being handed to an operator.
    Sending,
    /// An operator has it; some never say more.
    Sent,
    /// It reached the phone.
    Delivered,
    /// An operator could not deliver it.
    Undelivered,
    /// It was never handed to an operator.
    Failed,
    /// It was taken back.
    Canceled,
    /// It was opened, where that can be told.
    Read,
}

impl DeliveryStatus {
    /// Reads a provider's word.
    pub fn parse(text: &str) -> Option<DeliveryStatus> {
        ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// The provider's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            DeliveryStatus::Accepted => "accepted",
            DeliveryStatus::Scheduled => "scheduled",
            DeliveryStatus::Queued => "queued",
            DeliveryStatus::Sending => "sending",
            DeliveryStatus::Sent => "sent",
            DeliveryStatus::Delivered => "delivered",
            DeliveryStatus::Undelivered => "undelivered",
            DeliveryStatus::Failed => "failed",
            DeliveryStatus::Canceled => "canceled",
            DeliveryStatus::Read => "read",
        }
    }

    /// How far along it is. Reports are news only if they rank higher than what is known.
    pub const fn rank(self) -> u8 {
        match self {
            DeliveryStatus::Accepted | DeliveryStatus::Scheduled => 0,
            DeliveryStatus::Queued => 1,
            DeliveryStatus::Sending => 2,
            DeliveryStatus::Sent => 3,
            DeliveryStatus::Delivered
            | DeliveryStatus::Undelivered
            | DeliveryStatus::Failed
            | DeliveryStatus::Canceled => 4,
            DeliveryStatus::Read => 5,
        }
    }

    /// Whether it decides if the message arrived.
    pub const fn is_final(self) -> bool {
        self.rank() >= 4
    }

    /// Whether the message reached the phone.
    pub const fn is_delivered(self) -> bool {
        matches!(self, DeliveryStatus::Delivered | DeliveryStatus::Read)
    }
}

const ALL: [DeliveryStatus; 10] = [
    DeliveryStatus::Accepted,
    DeliveryStatus::Scheduled,
    DeliveryStatus::Queued,
    DeliveryStatus::Sending,
    DeliveryStatus::Sent,
    DeliveryStatus::Delivered,
    DeliveryStatus::Undelivered,
    DeliveryStatus::Failed,
    DeliveryStatus::Canceled,
    DeliveryStatus::Read,
];

/// What is known after a report, if the report is news. A repeat, and what only comes late, is none.
pub fn merge(known: Option<DeliveryStatus>, reported: DeliveryStatus) -> Option<DeliveryStatus> {
    known.is_none_or(|known| known.rank() < reported.rank()).then_some(reported)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is known after all of them.
    fn told(reports: &[DeliveryStatus]) -> Option<DeliveryStatus> {
        reports.iter().fold(None, |known, &report| merge(known, report).or(known))
    }

    #[test]
    fn a_word_reads_back_and_no_other_is_read() {
        for status in ALL {
            assert_eq!(DeliveryStatus::parse(status.as_str()), Some(status));
        }
        for word in ["", "Delivered", "received", "receiving", "partially_delivered", "delivered "] {
            assert_eq!(DeliveryStatus::parse(word), None, "{word:?}");
        }
    }

    #[test]
    fn a_final_status_says_whether_it_arrived() {
        let is_final = |status: &DeliveryStatus| status.is_final();
        let ends: Vec<_> = ALL.iter().copied().filter(is_final).map(DeliveryStatus::as_str).collect();
        assert_eq!(ends, ["delivered", "undelivered", "failed", "canceled", "read"]);
        let arrived: Vec<_> =
            ALL.into_iter().filter(|s| s.is_delivered()).map(DeliveryStatus::as_str).collect();
        assert_eq!(arrived, ["delivered", "read"]);
    }

    #[test]
    fn only_what_says_more_is_news() {
        use DeliveryStatus::{Accepted, Delivered, Read, Scheduled, Sent, Undelivered};
        for (known, reported, news) in [
            (None, Accepted, true),
            (Some(Accepted), Scheduled, false),
            (Some(Sent), Delivered, true),
            (Some(Delivered), Delivered, false),
            (Some(Delivered), Undelivered, false),
            (Some(Undelivered), Delivered, false),
            (Some(Delivered), Sent, false),
            (Some(Delivered), Read, true),
        ] {
            assert_eq!(merge(known, reported), news.then_some(reported), "{known:?} then {reported:?}");
        }
    }

    proptest! {
        #[test]
        fn reports_in_any_order_and_number_end_in_the_same_rank(
            (reports, shuffled) in prop::collection::vec(prop::sample::select(&ALL[..]), 1..12)
                .prop_flat_map(|reports| (Just(reports.clone()), Just([reports.clone(), reports].concat()).prop_shuffle()))
        ) {
            let highest = reports.iter().map(|status| status.rank()).max();
            prop_assert_eq!(told(&reports).map(DeliveryStatus::rank), highest);
            prop_assert_eq!(told(&shuffled).map(DeliveryStatus::rank), highest);
        }

        #[test]
        fn what_is_known_never_goes_back(
            reports in prop::collection::vec(prop::sample::select(&ALL[..]), 1..12)
        ) {
            let mut known = None;
            for report in reports {
                if let Some(news) = merge(known, report) {
                    prop_assert!(known.is_none_or(|known: DeliveryStatus| known.rank() < news.rank()));
                    known = Some(news);
                }
            }
        }
    }
}
