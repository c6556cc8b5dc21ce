//! The channel that a message takes.

use serde::{Deserialize, Serialize};

/// How a code reaches a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// A text message to a phone.
    #[default]
    Sms,
    /// An e-mail.
    Email,
}

impl Channel {
    /// Every one.
    pub const ALL: [Channel; 2] = [Channel::Sms, Channel::Email];

    /// The word used in routing keys, results and keyed digests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Channel::Sms => "sms",
            Channel::Email => "email",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Channel> {
        Channel::ALL.into_iter().find(|channel| channel.as_str() == word)
    }

    /// Whether a provider can be asked what became of one message. Those of e-mails tell by themselves, or not at all.
    pub const fn polls_receipts(self) -> bool {
        matches!(self, Channel::Sms)
    }
}
