//! The limit that refuses a request.

use serde::{Deserialize, Serialize};

use super::limit::Limit;

/// The limit that refuses a request; of several, the one with the longest wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReachedLimit {
    /// Sends to the recipient in the window that is a setting.
    Number,
    /// Sends to the recipient in a day.
    NumberDay,
    /// Sends for the user.
    User,
    /// Sends for the client IP.
    Ip,
    /// Sends for the network around the client IP.
    Network,
    /// All sends.
    All,
    /// Wrong attempts at the recipient's codes.
    WrongCodes,
    /// Messages to the recipient that the provider refused.
    Refunds,
    /// The last send to the recipient was a moment ago.
    Cooldown,
    /// The spend of the hour.
    SpendHour,
    /// The spend of the day.
    SpendDay,
}

impl ReachedLimit {
    pub const ALL: [ReachedLimit; 11] = [
        ReachedLimit::Number,
        ReachedLimit::NumberDay,
        ReachedLimit::User,
        ReachedLimit::Ip,
        ReachedLimit::Network,
        ReachedLimit::All,
        ReachedLimit::WrongCodes,
        ReachedLimit::Refunds,
        ReachedLimit::Cooldown,
        ReachedLimit::SpendHour,
        ReachedLimit::SpendDay,
    ];

    /// The word on the wire and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            ReachedLimit::Number => "number",
            ReachedLimit::NumberDay => "number_day",
            ReachedLimit::User => "user",
            ReachedLimit::Ip => "ip",
            ReachedLimit::Network => "network",
            ReachedLimit::All => "all",
            ReachedLimit::WrongCodes => "wrong_codes",
            ReachedLimit::Refunds => "refunds",
            ReachedLimit::Cooldown => "cooldown",
            ReachedLimit::SpendHour => "spend_hour",
            ReachedLimit::SpendDay => "spend_day",
        }
    }

    pub const fn is_budget(self) -> bool {
        matches!(self, ReachedLimit::SpendHour | ReachedLimit::SpendDay)
    }

    /// The number in the store, which never changes.
    pub const fn stored(self) -> u8 {
        self as u8 + 1
    }

    pub fn from_stored(number: u8) -> Option<ReachedLimit> {
        ReachedLimit::ALL.into_iter().find(|limit| limit.stored() == number)
    }
}

impl From<Limit> for ReachedLimit {
    fn from(limit: Limit) -> ReachedLimit {
        match limit {
            Limit::Recipient => ReachedLimit::Number,
            Limit::RecipientDay => ReachedLimit::NumberDay,
            Limit::User => ReachedLimit::User,
            Limit::Ip => ReachedLimit::Ip,
            Limit::Network => ReachedLimit::Network,
            Limit::All => ReachedLimit::All,
            Limit::Wrong => ReachedLimit::WrongCodes,
            Limit::Refunds => ReachedLimit::Refunds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_by_its_number_and_named_by_its_word() {
        for limit in ReachedLimit::ALL {
            assert_eq!(ReachedLimit::from_stored(limit.stored()), Some(limit));
            assert_eq!(serde_json::to_value(limit).expect("a word"), limit.as_str());
        }
        assert_eq!([0, 12].map(ReachedLimit::from_stored), [None, None], "none, and one of a newer version");
    }
}
