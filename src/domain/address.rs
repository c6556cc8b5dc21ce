//! Whom a message goes to, by any channel.

use std::fmt::{self, Display};

use thiserror::Error;

use super::channel::Channel;
use super::email::{EmailAddress, EmailError};
use super::phone::{PhoneError, PhoneNumber, Region};

/// A checked recipient. `Display` and `Debug` are masked; the whole address only leaves by [`Address::as_str`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// Of a text message.
    Phone(PhoneNumber),
    /// Of an e-mail.
    Email(EmailAddress),
}

/// Why a text is no address of its channel: the rule, never the text itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    /// It is no phone number.
    #[error(transparent)]
    Phone(#[from] PhoneError),
    /// It is no e-mail address.
    #[error(transparent)]
    Email(#[from] EmailError),
}

impl Address {
    /// Reads an address by its shape: what holds an `@` is an e-mail address, everything else a phone number.
    pub fn parse(text: &str, region: Region) -> Result<Address, AddressError> {
        let channel = if text.contains('@') { Channel::Email } else { Channel::Sms };
        Address::parse_for(channel, text, region)
    }

    /// Reads an address of a channel. The region is that of numbers without a country code.
    pub fn parse_for(channel: Channel, text: &str, region: Region) -> Result<Address, AddressError> {
        Ok(match channel {
            Channel::Sms => PhoneNumber::parse(text, region)?.into(),
            Channel::Email => EmailAddress::parse(text)?.into(),
        })
    }

    /// How messages get there.
    pub fn channel(&self) -> Channel {
        match self {
            Address::Phone(_) => Channel::Sms,
            Address::Email(_) => Channel::Email,
        }
    }

    /// The whole address, as keyed digests and providers take it.
    pub fn as_str(&self) -> &str {
        match self {
            Address::Phone(number) => number.e164(),
            Address::Email(address) => address.as_str(),
        }
    }

    /// The number, if it is one.
    pub fn phone(&self) -> Option<&PhoneNumber> {
        match self {
            Address::Phone(number) => Some(number),
            Address::Email(_) => None,
        }
    }

    /// The country that a number belongs to; an e-mail address belongs to none.
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
