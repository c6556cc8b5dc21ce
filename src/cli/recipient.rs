//! Reads the recipient of a command: a phone number or an e-mail address.

use crate::config::Settings;
use crate::domain::address::{Address, AddressError};

/// Prints the error if `text` is not a recipient.
pub(super) fn read_recipient(settings: &Settings, text: &str) -> Option<Address> {
    match Address::parse(text, settings.default_region) {
        Ok(to) => Some(to),
        Err(error) => {
            let kind = match error {
                AddressError::Phone(_) => "number",
                AddressError::Email(_) => "e-mail address",
            };
            eprintln!("otpost: the {kind} {error}");
            None
        }
    }
}
