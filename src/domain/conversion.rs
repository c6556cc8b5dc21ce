//! Conversion: the share of the sent codes that were verified, by what the codes have in common.
//!
//! A code counts once, in the buckets of the time at which its request was admitted, when the life of the code begins. No count holds a
//! number: a block is a number without its last three digits.

use std::time::Duration;

use super::address::Address;
use super::channel::Channel;
use super::history::{HistoryEvent, RequestHistory};
use super::outcome::{Outcome, Status};
use super::phone::PhoneNumber;
use super::time::{UnixMillis, millis};

/// The digits at the end of a number that its block leaves out.
const DIGITS_HIDDEN: usize = 3;
/// The digits of a prefix after the country code.
const PREFIX_DIGITS: usize = 3;
/// The name of the codes that have no name of their own: for those there is no room.
pub const OTHER: &str = "";
/// The country of numbers that belong to no country, such as those of satellites.
const NO_COUNTRY: &str = "none";

/// A property by which codes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    Channel,
    Country,
    /// The country code and three digits.
    Prefix,
    /// The number without its last three digits.
    Block,
    Provider,
    Sender,
}

impl Dimension {
    pub const ALL: [Dimension; 6] = [
        Dimension::Channel,
        Dimension::Country,
        Dimension::Prefix,
        Dimension::Block,
        Dimension::Provider,
        Dimension::Sender,
    ];
    pub const RULE: &str = "must be channel, country, prefix, block, provider or sender";

    pub const fn as_str(self) -> &'static str {
        match self {
            Dimension::Channel => "channel",
            Dimension::Country => "country",
            Dimension::Prefix => "prefix",
            Dimension::Block => "block",
            Dimension::Provider => "provider",
            Dimension::Sender => "sender",
        }
    }

    pub fn parse(word: &str) -> Option<Dimension> {
        Dimension::ALL.into_iter().find(|dimension| dimension.as_str() == word)
    }

    /// In names of stored keys: it never changes.
    pub const fn letter(self) -> char {
        match self {
            Dimension::Channel => 'c',
            Dimension::Country => 'r',
            Dimension::Prefix => 'p',
            Dimension::Block => 'b',
            Dimension::Provider => 'v',
            Dimension::Sender => 's',
        }
    }

    pub fn of_letter(letter: char) -> Option<Dimension> {
        Dimension::ALL.into_iter().find(|dimension| dimension.letter() == letter)
    }

    /// A bucket is stored in this many parts of at most [`NAMES_MAX`] names.
    pub const fn parts(self) -> u8 {
        match self {
            Dimension::Channel | Dimension::Provider | Dimension::Sender => 1,
            Dimension::Country => 3,
            Dimension::Prefix => 10,
            Dimension::Block => 50,
        }
    }

    /// The part that a name is stored in: it never changes.
    pub fn part(self, name: &str) -> u8 {
        let hash = name.bytes().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        u8::try_from(hash % u32::from(self.parts())).expect("there are few parts")
    }

    /// The names are digits after a plus sign.
    pub const fn has_digits(self) -> bool {
        matches!(self, Dimension::Prefix | Dimension::Block)
    }
}

/// Names in a part of a bucket, beside [`OTHER`]. Redis keeps hashes of up to 128 fields compact.
pub const NAMES_MAX: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BucketWidth {
    FiveMinutes,
    Hour,
}

impl BucketWidth {
    pub const ALL: [BucketWidth; 2] = [BucketWidth::FiveMinutes, BucketWidth::Hour];

    pub const fn duration(self) -> Duration {
        match self {
            BucketWidth::FiveMinutes => Duration::from_secs(300),
            BucketWidth::Hour => Duration::from_secs(3_600),
        }
    }

    /// The time that a bucket is kept after its end: of the narrow ones two hours and a quarter, for two hours and the hour that has begun.
    pub const fn kept(self) -> Duration {
        match self {
            BucketWidth::FiveMinutes => Duration::from_secs(8_100),
            BucketWidth::Hour => Duration::from_secs(15 * 86_400),
        }
    }

    /// In names of stored keys.
    pub const fn letter(self) -> char {
        match self {
            BucketWidth::FiveMinutes => 'm',
            BucketWidth::Hour => 'h',
        }
    }
}

/// A span of time, counted from 1970 in its width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    pub width: BucketWidth,
    pub number: u32,
}

impl Bucket {
    pub fn of(width: BucketWidth, at: UnixMillis) -> Bucket {
        let number = u32::try_from(at.0 / millis(width.duration())).unwrap_or(u32::MAX);
        Bucket { width, number }
    }

    pub fn start(self) -> UnixMillis {
        UnixMillis(u64::from(self.number) * millis(self.width.duration()))
    }

    pub fn end(self) -> UnixMillis {
        self.start().plus(self.width.duration())
    }

    pub fn kept_until(self) -> UnixMillis {
        self.end().plus(self.width.kept())
    }

    pub fn next(self) -> Bucket {
        Bucket { number: self.number.saturating_add(1), ..self }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeCounts {
    pub sent: u32,
    pub verified: u32,
}

impl CodeCounts {
    pub const SENT: CodeCounts = CodeCounts { sent: 1, verified: 0 };
    pub const VERIFIED: CodeCounts = CodeCounts { sent: 0, verified: 1 };

    pub fn add(&mut self, other: CodeCounts) {
        self.sent = self.sent.saturating_add(other.sent);
        self.verified = self.verified.saturating_add(other.verified);
    }
}

/// Counts of the codes with one name, of one bucket of five minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversionEntry {
    /// Of five minutes. The store counts the entry in its hour, too.
    pub bucket: u32,
    pub dimension: Dimension,
    pub name: String,
    pub counts: CodeCounts,
}

/// Counts as the store has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCounts {
    pub bucket: Bucket,
    pub name: String,
    pub counts: CodeCounts,
}

/// A provider's name, without an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderWord([u8; 16]);

impl ProviderWord {
    /// A longer name is cut.
    pub fn new(name: &str) -> ProviderWord {
        let mut word = [0; 16];
        for (to, byte) in word.iter_mut().zip(name.bytes().filter(u8::is_ascii_graphic)) {
            *to = byte;
        }
        ProviderWord(word)
    }

    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        std::str::from_utf8(&self.0[..length]).expect("it is ASCII")
    }
}

/// The provider of a message, and its sender in the order of the settings, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderSender {
    pub provider: ProviderWord,
    pub sender: u32,
}

/// The send of a code, as the record of its request shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeSend {
    /// The admission; `None` if no history is recorded yet.
    pub at: Option<UnixMillis>,
    /// `None` while the request is in progress.
    pub sent_by: Option<ProviderSender>,
}

impl CodeSend {
    /// `None` if nothing was sent, as to a test number. A message that may have been sent counts as sent.
    pub fn of_outcome(outcome: &Outcome) -> Option<CodeSend> {
        if !matches!(outcome.status, Status::Sent | Status::Unknown) || outcome.history.is_test() {
            return None;
        }
        let sender = outcome.history.entries.iter().rev().find_map(|entry| match &entry.event {
            HistoryEvent::Attempted(attempt)
                if attempt.provider.is_none() || attempt.provider == outcome.provider =>
            {
                Some(attempt.sender.unwrap_or(1))
            }
            _ => None,
        });
        let sent_by = outcome.provider.as_deref().map(|provider| ProviderSender {
            provider: ProviderWord::new(provider),
            sender: sender.unwrap_or(1),
        });
        Some(CodeSend { at: first_step(&outcome.history).or(Some(outcome.at)), sent_by })
    }

    pub fn of_request_in_progress(history: &RequestHistory) -> Option<CodeSend> {
        (!history.is_test()).then(|| CodeSend { at: first_step(history), sent_by: None })
    }
}

fn first_step(history: &RequestHistory) -> Option<UnixMillis> {
    history.entries.first().map(|entry| entry.at)
}

/// A code as it is counted: everything that it has in common with others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountedCode {
    bucket: u32,
    channel: Channel,
    /// Of a phone number; `None` if it is counted without its digits.
    number: Option<NumberGroups>,
    sent_by: Option<ProviderSender>,
}

/// No `Debug`: a block and a masked number together show a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NumberGroups {
    pub country: Option<[u8; 2]>,
    /// The digits of the country code and three more.
    pub prefix: u64,
    /// All digits but the last three.
    pub block: u64,
}

impl NumberGroups {
    pub fn of(number: &PhoneNumber) -> NumberGroups {
        let digits = &number.e164()[1..];
        let code = number.calling_code().len() - 1;
        let block = &digits[..digits.len().saturating_sub(DIGITS_HIDDEN)];
        let prefix = &block[..block.len().min(code + PREFIX_DIGITS)];
        let value = |digits: &str| digits.parse().expect("at most 15 digits");
        NumberGroups {
            country: number.region().map(|region| region.letters()),
            prefix: value(prefix),
            block: value(block),
        }
    }
}

impl CountedCode {
    pub fn new(at: UnixMillis, to: &Address, sent_by: Option<ProviderSender>) -> CountedCode {
        CountedCode {
            bucket: Bucket::of(BucketWidth::FiveMinutes, at).number,
            channel: to.channel(),
            number: to.phone().map(NumberGroups::of),
            sent_by,
        }
    }

    /// Counted under [`OTHER`] by country, prefix and block.
    pub fn without_digits(self) -> CountedCode {
        CountedCode { number: None, ..self }
    }

    /// The bucket of five minutes and the name of the code, for each dimension that it has.
    pub fn names(&self) -> impl Iterator<Item = (u32, Dimension, String)> {
        let of_number = match (self.channel, self.number) {
            (Channel::Email, _) => [const { None }; 3],
            (Channel::Sms, None) => [const { Some(String::new()) }; 3],
            (Channel::Sms, Some(number)) => {
                let country = number.country.as_ref().and_then(|letters| std::str::from_utf8(letters).ok());
                [
                    Some(country.unwrap_or(NO_COUNTRY).to_owned()),
                    Some(format!("+{}", number.prefix)),
                    Some(format!("+{}", number.block)),
                ]
            }
        };
        let [country, prefix, block] = of_number;
        let provider = self.sent_by.map(|by| by.provider.as_str().to_owned());
        let sender = self.sent_by.map(|by| format!("{} {}", by.provider.as_str(), by.sender));
        let names = [
            (Dimension::Channel, Some(self.channel.as_str().to_owned())),
            (Dimension::Country, country),
            (Dimension::Prefix, prefix),
            (Dimension::Block, block),
            (Dimension::Provider, provider),
            (Dimension::Sender, sender),
        ];
        let bucket = self.bucket;
        names.into_iter().filter_map(move |(dimension, name)| Some((bucket, dimension, name?)))
    }
}

#[cfg(test)]
mod tests;
