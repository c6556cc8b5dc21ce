//! The channel of a message: SMS or e-mail.

use serde::{Deserialize, Serialize};

/// The way by which a code reaches a person.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// A text message to a phone.
    #[default]
    Sms,
    /// An e-mail.
    Email,
}

impl Channel {
    pub const ALL: [Channel; 2] = [Channel::Sms, Channel::Email];

    /// As in routing keys, results and keyed digests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Channel::Sms => "sms",
            Channel::Email => "email",
        }
    }

    pub fn parse(word: &str) -> Option<Channel> {
        Channel::ALL.into_iter().find(|channel| channel.as_str() == word)
    }

    /// Overdue receipts can be polled. E-mail providers only report by callback, or not at all.
    pub const fn polls_receipts(self) -> bool {
        matches!(self, Channel::Sms)
    }
}
