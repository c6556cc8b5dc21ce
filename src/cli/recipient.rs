//! Whom a command is about: a phone number, or what holds an `@`, an e-mail address.

use crate::config::Settings;
use crate::domain::address::{Address, AddressError};

/// Reads a recipient, and tells on the standard error why a text is none.
pub(super) fn read_recipient(settings: &Settings, text: &str) -> Option<Address> {
    match Address::parse(text, settings.default_region) {
        Ok(to) => Some(to),
        Err(fault) => {
            let kind = match fault {
                AddressError::Phone(_) => "number",
                AddressError::Email(_) => "e-mail address",
            };
            eprintln!("otpost: the {kind} {fault}");
            None
        }
    }
}
