//! Whom a message goes to, by any channel.

use std::fmt::{self, Display};

use super::email::EmailAddress;
use super::phone::PhoneNumber;
use super::recipient::Channel;

/// A checked recipient. `Display` and `Debug` are masked; the whole address only leaves by [`Address::as_str`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// Of a text message.
    Phone(PhoneNumber),
    /// Of an e-mail.
    Email(EmailAddress),
}

impl Address {
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
