//! Which recipients messages may go to. Each copy of a request is checked anew, without the store.

use std::collections::BTreeSet;

use super::address::{Address, AddressError};
use super::channel::Channel;
use super::outcome::{ErrorCode, OutcomeError};
use super::phone::{PhoneNumber, Region};

/// Stands in a result for a recipient that could not be read.
pub const UNREADABLE_RECIPIENT: &str = "***";

/// Which channels are enabled, and which phone numbers are allowed.
#[derive(Clone, Debug)]
pub struct RecipientRules {
    pub sms_enabled: bool,
    pub email_enabled: bool,
    /// The region of phone numbers without a country code.
    pub default_region: Region,
    /// Allowed countries; `None` allows every country.
    pub allowed_countries: Option<BTreeSet<String>>,
    /// Allowed codes of no country, such as `+881`.
    pub allowed_shared_codes: BTreeSet<String>,
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
            Some(error) => Err(Rejection { to: to.to_string(), error }),
            None => Ok(to),
        }
    }

    /// Why no message may go to a number now; `None` if one may.
    pub fn rejection_of(&self, number: &PhoneNumber) -> Option<OutcomeError> {
        let disabled = || Some(OutcomeError::of(ErrorCode::ChannelDisabled));
        if self.sms_enabled { self.forbidden(number) } else { disabled() }
    }

    fn forbidden(&self, number: &PhoneNumber) -> Option<OutcomeError> {
        let is_allowed = match number.region() {
            Some(region) => {
                self.allowed_countries.as_ref().is_none_or(|names| names.contains(&region.to_string()))
            }
            None => self.allowed_shared_codes.contains(number.calling_code()),
        };
        let line = number.line();
        if !is_allowed {
            Some(OutcomeError::of(ErrorCode::CountryNotAllowed))
        } else if line.is_never_sent_to() {
            Some(OutcomeError::detailed(ErrorCode::Landline, NEVER_SENT_TO))
        } else if !self.allow_landline && !line.takes_sms() {
            Some(OutcomeError::of(ErrorCode::Landline))
        } else {
            None
        }
    }
}

const NEVER_SENT_TO: &str =
    "the recipient is a premium-rate, shared-cost, toll-free, personal, pager, company or voicemail number";

impl Rejection {
    fn of(to: &Address, code: ErrorCode) -> Rejection {
        Rejection { to: to.to_string(), error: OutcomeError::of(code) }
    }
}

fn unreadable(error: AddressError) -> Rejection {
    Rejection {
        to: UNREADABLE_RECIPIENT.to_owned(),
        error: OutcomeError::detailed(ErrorCode::InvalidRecipient, format!("`to` {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(countries: Option<&str>, codes: &[&str], allow_landline: bool) -> RecipientRules {
        RecipientRules {
            sms_enabled: true,
            email_enabled: true,
            default_region: "CO".parse().expect("a plan"),
            allowed_countries: countries.map(|country| [country.to_owned()].into()),
            allowed_shared_codes: codes.iter().map(|&code| code.to_owned()).collect(),
            allow_landline,
        }
    }

    fn rejected(rules: &RecipientRules, to: &str) -> Option<ErrorCode> {
        let rejection = rules.allowed_address(Channel::Sms, to).err()?;
        let number = PhoneNumber::parse(to, rules.default_region).expect("a number");
        assert_eq!(Some(&rejection.error), rules.rejection_of(&number).as_ref());
        Some(rejection.error.code)
    }

    /// Of each kind of the plans, numbers of several countries.
    const NEVER: [&str; 40] = [
        // Premium rate.
        "+5719001234567",
        "+19002345678",
        "+449012345678",
        "+499001234567",
        "+33891123456",
        "+81990123456",
        "+34803123456",
        "+529001234567",
        "+55500123456",
        "+39899123456",
        "+979123456789",
        // Shared cost.
        "+4918012345",
        "+33884012345",
        "+566001234567",
        "+34901123456",
        "+611300123456",
        "+80812345678",
        // Toll-free.
        "+5718001234567",
        "+18002345678",
        "+448001234567",
        "+34800123456",
        "+80012345678",
        // Personal.
        "+15002345678",
        "+447012345678",
        "+4970012345678",
        "+81601234567",
        "+391781234567",
        // Pager.
        "+447640123456",
        "+4916412345",
        "+812012345678",
        "+611631234",
        // Company numbers.
        "+445512345678",
        "+4918500123456",
        "+33806123456",
        "+34511234567",
        "+41581234567",
        "+88812345678901",
        // Voicemail.
        "+49177991234567",
        "+3933101234501",
        "+41860123456789",
    ];

    #[test]
    fn numbers_that_cost_their_caller_or_reach_no_person_are_never_sent_to() {
        let shared = ["+979", "+808", "+800", "+888"];
        for to in NEVER {
            let all = rules(None, &shared, true);
            assert_eq!(rejected(&all, to), Some(ErrorCode::Landline), "{to}");
            let number = PhoneNumber::parse(to, all.default_region).expect("a number");
            let error = all.rejection_of(&number).expect("an error");
            assert_eq!(error.detail.as_deref(), Some(NEVER_SENT_TO));
        }
    }

    #[test]
    fn a_number_of_no_country_is_allowed_only_by_its_code() {
        for to in ["+870301234567", "+878101234567890", "+881612345678", "+8823421234", "+883510012345"] {
            for not_named in
                [rules(None, &[], true), rules(None, &["+888"], true), rules(Some("CO"), &[], true)]
            {
                assert_eq!(rejected(&not_named, to), Some(ErrorCode::CountryNotAllowed), "{to}");
            }
            let named = rules(Some("CO"), &["+870", "+878", "+881", "+882", "+883"], true);
            assert_eq!(rejected(&named, to), None, "{to}");
        }
        assert_eq!(rejected(&rules(Some("CO"), &["+881"], false), "+881612345678"), None);
        assert_eq!(rejected(&rules(None, &["+883"], false), "+883510012345"), Some(ErrorCode::Landline));
    }

    #[test]
    fn landlines_and_voip_numbers_are_sent_to_where_landlines_are_allowed() {
        for to in ["+576012345678", "+445612345678", "+815012345678"] {
            assert_eq!(rejected(&rules(None, &[], true), to), None, "{to}");
            assert_eq!(rejected(&rules(None, &[], false), to), Some(ErrorCode::Landline), "{to}");
        }
        assert_eq!(rejected(&rules(Some("CO"), &[], false), "+573001234567"), None);
        assert_eq!(
            rejected(&rules(Some("MX"), &[], false), "+573001234567"),
            Some(ErrorCode::CountryNotAllowed)
        );
    }
}
