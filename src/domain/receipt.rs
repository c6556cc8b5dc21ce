//! The status of a message after the provider accepted it, and how receipts are merged.
//!
//! Receipts come late, repeatedly and in any order. The known status only moves forward: a receipt of the same or a lower
//! rank changes nothing. Statuses that no outbound message has are not read.
//!
//! Statuses and their order: Twilio's OpenAPI file `twilio_api_v2010` (`message_enum_status`).

/// The status of a message, by the provider's own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryStatus {
    /// The provider chooses a sender.
    Accepted,
    Scheduled,
    /// The message waits for its sender.
    Queued,
    /// The provider hands it to the carrier.
    Sending,
    /// The carrier has it; some carriers never report more.
    Sent,
    /// It reached the phone.
    Delivered,
    /// The carrier could not deliver it.
    Undelivered,
    /// It never reached a carrier.
    Failed,
    Canceled,
    /// The recipient opened it, on channels that report this.
    Read,
}

/// The least rank of a final status.
pub const FINAL_RANK_MIN: u8 = 4;

impl DeliveryStatus {
    pub const ALL: [DeliveryStatus; 10] = [
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

    pub fn parse(text: &str) -> Option<DeliveryStatus> {
        DeliveryStatus::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// The place in the order of the variants, which never changes: stored.
    pub const fn index(self) -> u8 {
        self as u8
    }

    pub fn from_index(index: u8) -> Option<DeliveryStatus> {
        DeliveryStatus::ALL.into_iter().find(|status| status.index() == index)
    }

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

    /// A receipt is news only if its status ranks higher than the known one.
    pub const fn rank(self) -> u8 {
        match self {
            DeliveryStatus::Accepted | DeliveryStatus::Scheduled => 0,
            DeliveryStatus::Queued => 1,
            DeliveryStatus::Sending => 2,
            DeliveryStatus::Sent => 3,
            DeliveryStatus::Delivered
            | DeliveryStatus::Undelivered
            | DeliveryStatus::Failed
            | DeliveryStatus::Canceled => FINAL_RANK_MIN,
            DeliveryStatus::Read => 5,
        }
    }

    /// True if the status shows whether the message arrived.
    pub const fn is_final(self) -> bool {
        self.rank() >= FINAL_RANK_MIN
    }

    pub const fn is_delivered(self) -> bool {
        matches!(self, DeliveryStatus::Delivered | DeliveryStatus::Read)
    }
}

/// The new status after a receipt; `None` if the receipt is a repeat, or came late.
pub fn merge(known: Option<DeliveryStatus>, received: DeliveryStatus) -> Option<DeliveryStatus> {
    known.is_none_or(|known| known.rank() < received.rank()).then_some(received)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn merged(receipts: &[DeliveryStatus]) -> Option<DeliveryStatus> {
        receipts.iter().fold(None, |known, &receipt| merge(known, receipt).or(known))
    }

    #[test]
    fn a_status_parses_from_its_own_word_and_from_no_other() {
        for status in DeliveryStatus::ALL {
            assert_eq!(DeliveryStatus::parse(status.as_str()), Some(status));
        }
        for word in ["", "Delivered", "received", "receiving", "partially_delivered", "delivered "] {
            assert_eq!(DeliveryStatus::parse(word), None, "{word:?}");
        }
    }

    #[test]
    fn a_final_status_says_whether_it_arrived() {
        let is_final = |status: &DeliveryStatus| status.is_final();
        let ends: Vec<_> =
            DeliveryStatus::ALL.iter().copied().filter(is_final).map(DeliveryStatus::as_str).collect();
        assert_eq!(ends, ["delivered", "undelivered", "failed", "canceled", "read"]);
        let arrived: Vec<_> = DeliveryStatus::ALL
            .into_iter()
            .filter(|s| s.is_delivered())
            .map(DeliveryStatus::as_str)
            .collect();
        assert_eq!(arrived, ["delivered", "read"]);
    }

    #[test]
    fn only_a_receipt_of_a_higher_rank_is_news() {
        use DeliveryStatus::{Accepted, Delivered, Read, Scheduled, Sent, Undelivered};
        for (known, received, news) in [
            (None, Accepted, true),
            (Some(Accepted), Scheduled, false),
            (Some(Sent), Delivered, true),
            (Some(Delivered), Delivered, false),
            (Some(Delivered), Undelivered, false),
            (Some(Undelivered), Delivered, false),
            (Some(Delivered), Sent, false),
            (Some(Delivered), Read, true),
        ] {
            assert_eq!(merge(known, received), news.then_some(received), "{known:?} then {received:?}");
        }
    }

    proptest! {
        #[test]
        fn receipts_in_any_order_and_number_end_in_the_same_rank(
            (receipts, shuffled) in prop::collection::vec(prop::sample::select(&DeliveryStatus::ALL[..]), 1..12)
                .prop_flat_map(|receipts| (Just(receipts.clone()), Just([receipts.clone(), receipts].concat()).prop_shuffle()))
        ) {
            let highest = receipts.iter().map(|status| status.rank()).max();
            prop_assert_eq!(merged(&receipts).map(DeliveryStatus::rank), highest);
            prop_assert_eq!(merged(&shuffled).map(DeliveryStatus::rank), highest);
        }

        #[test]
        fn the_known_status_never_goes_back(
            receipts in prop::collection::vec(prop::sample::select(&DeliveryStatus::ALL[..]), 1..12)
        ) {
            let mut known = None;
            for receipt in receipts {
                if let Some(news) = merge(known, receipt) {
                    prop_assert!(known.is_none_or(|known: DeliveryStatus| known.rank() < news.rank()));
                    known = Some(news);
                }
            }
        }
    }
}
