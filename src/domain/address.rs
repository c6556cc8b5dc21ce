//! The recipient of a message, by any channel.

use std::fmt::{self, Display};

use thiserror::Error;

use super::channel::Channel;
use super::email::{EmailAddress, EmailError};
use super::phone::{PhoneError, PhoneNumber, Region};

/// A checked recipient. `Display` and `Debug` are masked; only [`Address::as_str`] shows all of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Address {
    Phone(PhoneNumber),
    Email(EmailAddress),
}

/// The rule that a text breaks, never the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    #[error(transparent)]
    Phone(#[from] PhoneError),
    #[error(transparent)]
    Email(#[from] EmailError),
}

impl Address {
    /// Text with an `@` is read as an e-mail address, other text as a phone number.
    pub fn parse(text: &str, region: Region) -> Result<Address, AddressError> {
        Address::parse_for(Address::channel_of(text), text, region)
    }

    /// The channel of a recipient that is not checked yet.
    pub fn channel_of(text: &str) -> Channel {
        if text.contains('@') { Channel::Email } else { Channel::Sms }
    }

    /// `region` is that of numbers without a country code.
    pub fn parse_for(channel: Channel, text: &str, region: Region) -> Result<Address, AddressError> {
        Ok(match channel {
            Channel::Sms => PhoneNumber::parse(text, region)?.into(),
            Channel::Email => EmailAddress::parse(text)?.into(),
        })
    }

    pub fn channel(&self) -> Channel {
        match self {
            Address::Phone(_) => Channel::Sms,
            Address::Email(_) => Channel::Email,
        }
    }

    /// The whole address, for keyed digests and providers.
    pub fn as_str(&self) -> &str {
        match self {
            Address::Phone(number) => number.e164(),
            Address::Email(address) => address.as_str(),
        }
    }

    pub fn phone(&self) -> Option<&PhoneNumber> {
        match self {
            Address::Phone(number) => Some(number),
            Address::Email(_) => None,
        }
    }

    /// The country of a number; none for an e-mail address.
    pub fn country(&self) -> Option<String> {
        self.phone().and_then(PhoneNumber::region).map(|region| region.to_string())
    }
}

impl From<PhoneNumber> for Address {
    fn from(number: PhoneNumber) -> Address {
        Address::Phone(number)
    }
}

impl From<EmailAddress> for Address {
    fn from(address: EmailAddress) -> Address {
        Address::Email(address)
    }
}

impl Address {
    /// As shown to people and in results: most of it is hidden.
    pub fn masked(&self) -> String {
        self.to_string()
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Phone(number) => number.fmt(f),
            Address::Email(address) => address.fmt(f),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Phone(number) => write!(f, "{number:?}"),
            Address::Email(address) => write!(f, "{address:?}"),
        }
    }
}
