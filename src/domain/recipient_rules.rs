//! Which recipients messages may go to. Each copy of a request is checked anew, without the store.

use std::collections::BTreeSet;

use super::address::{Address, AddressError};
use super::channel::Channel;
use super::outcome::{ErrorCode, OutcomeError};
use super::phone::{PhoneNumber, Region};

/// Stands in a result for a recipient that could not be read.
pub const UNREADABLE: &str = "***";

/// Which channels are enabled, and which phone numbers are allowed.
#[derive(Clone, Debug)]
pub struct RecipientRules {
    pub sms_enabled: bool,
    pub email_enabled: bool,
    /// The region of phone numbers without a country code.
    pub default_region: Region,
    /// Allowed countries; `None` allows every country.
    pub allowed_countries: Option<BTreeSet<String>>,
    pub allow_landline: bool,
}

/// A request that is rejected before the store is asked.
pub struct Rejection {
    /// The recipient, masked.
    pub to: String,
    pub error: OutcomeError,
}

impl RecipientRules {
    pub fn is_enabled(&self, channel: Channel) -> bool {
        match channel {
            Channel::Sms => self.sms_enabled,
            Channel::Email => self.email_enabled,
        }
    }

    /// The address, if the channel is enabled and the rules allow the address.
    pub fn recipient(&self, channel: Channel, to: &str) -> Result<Address, Rejection> {
        let to = self.allowed_address(channel, to)?;
        if self.is_enabled(channel) { Ok(to) } else { Err(Rejection::of(&to, ErrorCode::ChannelDisabled)) }
    }

    /// The address, if the rules allow it. The channel may be disabled.
    pub fn allowed_address(&self, channel: Channel, to: &str) -> Result<Address, Rejection> {
        let to = Address::parse_for(channel, to, self.default_region).map_err(unreadable)?;
        match to.phone().and_then(|number| self.forbidden(number)) {
            Some(code) => Err(Rejection::of(&to, code)),
            None => Ok(to),
        }
    }

    /// Why no message may go to a number now; `None` if one may.
    pub fn rejection_of(&self, number: &PhoneNumber) -> Option<ErrorCode> {
        if self.sms_enabled { self.forbidden(number) } else { Some(ErrorCode::ChannelDisabled) }
    }

    fn forbidden(&self, number: &PhoneNumber) -> Option<ErrorCode> {
        let allowed = |countries: &BTreeSet<String>| {
            number.region().is_some_and(|region| countries.contains(&region.to_string()))
        };
        if !self.allowed_countries.as_ref().is_none_or(allowed) {
            Some(ErrorCode::CountryNotAllowed)
        } else if !self.allow_landline && !number.line().takes_sms() {
            Some(ErrorCode::Landline)
        } else {
            None
        }
    }
}

impl Rejection {
    fn of(to: &Address, code: ErrorCode) -> Rejection {
        Rejection { to: to.to_string(), error: OutcomeError::of(code) }
    }
}

fn unreadable(error: AddressError) -> Rejection {
    Rejection {
        to: UNREADABLE.to_owned(),
        error: OutcomeError::detailed(ErrorCode::InvalidRecipient, format!("`to` {error}")),
    }
}
