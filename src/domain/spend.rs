//! Amounts spent, by what the messages have in common. They are counted and stored beside the counts of [conversion](super::conversion).

use super::amount::Amount;
use super::conversion::{Bucket, Dimension};

/// A property by which amounts are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpendGroup {
    Channel,
    Country,
    Prefix,
    Provider,
    Sender,
    /// Sampled messages: the names are those of [`Sampled`].
    Sample,
}

impl SpendGroup {
    /// Those that operators ask for.
    pub const SHOWN: [SpendGroup; 5] = [
        SpendGroup::Channel,
        SpendGroup::Country,
        SpendGroup::Prefix,
        SpendGroup::Provider,
        SpendGroup::Sender,
    ];
    pub const RULE: &str = "must be channel, country, prefix, provider or sender";

    pub fn parse(word: &str) -> Option<SpendGroup> {
        SpendGroup::SHOWN.into_iter().find(|group| group.as_str() == word)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            SpendGroup::Sample => "sample",
            group => group.names().as_str(),
        }
    }

    /// The dimension whose names these are. Those of a sample are as few as the channels.
    pub const fn names(self) -> Dimension {
        match self {
            SpendGroup::Channel | SpendGroup::Sample => Dimension::Channel,
            SpendGroup::Country => Dimension::Country,
            SpendGroup::Prefix => Dimension::Prefix,
            SpendGroup::Provider => Dimension::Provider,
            SpendGroup::Sender => Dimension::Sender,
        }
    }

    /// Blocks have no amounts: their few people would be seen apart.
    pub fn of(dimension: Dimension) -> Option<SpendGroup> {
        SpendGroup::SHOWN.into_iter().find(|group| group.names() == dimension)
    }

    /// In names of stored keys, where a capital letter means amounts: it never changes.
    pub const fn letter(self) -> char {
        match self {
            SpendGroup::Sample => 'Q',
            group => group.names().letter().to_ascii_uppercase(),
        }
    }

    pub fn of_letter(letter: char) -> Option<SpendGroup> {
        SpendGroup::SHOWN.into_iter().chain([SpendGroup::Sample]).find(|group| group.letter() == letter)
    }
}

/// A message whose price the provider was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampled {
    /// The amount is that of our prices.
    Expected,
    /// The amount is the provider's.
    Paid,
    /// The provider's price is in another currency.
    OtherCurrency,
}

impl Sampled {
    pub const fn as_str(self) -> &'static str {
        match self {
            Sampled::Expected => "expected",
            Sampled::Paid => "paid",
            Sampled::OtherCurrency => "other_currency",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpendCounts {
    pub messages: u32,
    pub amount: Amount,
}

impl SpendCounts {
    pub const fn of(amount: Amount) -> SpendCounts {
        SpendCounts { messages: 1, amount }
    }

    pub fn add(&mut self, other: SpendCounts) {
        self.messages = self.messages.saturating_add(other.messages);
        self.amount = self.amount.plus(other.amount);
    }
}

/// Amounts of the messages with one name, of one bucket of five minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendEntry {
    /// Of five minutes. The store counts the entry in its hour, too.
    pub bucket: u32,
    pub group: SpendGroup,
    pub name: String,
    pub counts: SpendCounts,
}

/// Amounts as the store has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSpend {
    pub bucket: Bucket,
    pub name: String,
    pub counts: SpendCounts,
}
