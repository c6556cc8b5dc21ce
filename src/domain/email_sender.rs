//! The sender of e-mails: an address with a display name.
//!
//! A [`Mailbox`] is safe in a header as it is: neither part can end a line, open a comment or a quotation, or name a
//! second address. The name may have letters of any script, which providers encode.

use std::str::FromStr;

use thiserror::Error;

use super::email::{EmailAddress, EmailError};
use super::printable::breaks_line;

const NAME_CHARACTERS_MAX: usize = 70;
/// The `specials` of address headers (RFC 5322 §3.2.3) without the dot. Some providers take a comma or a semicolon in a
/// name for the end of the address.
const SPECIAL: &str = "\"\\<>()[]:;@,";

/// It is no secret: every recipient reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    name: Option<String>,
    address: EmailAddress,
}

impl Mailbox {
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub fn address(&self) -> &EmailAddress {
        &self.address
    }
}

impl FromStr for Mailbox {
    type Err = MailboxError;

    /// Reads `address` or `Name <address>`.
    fn from_str(text: &str) -> Result<Mailbox, MailboxError> {
        let text = text.trim_matches(' ');
        let Some((name, rest)) = text.split_once('<') else {
            return Ok(Mailbox { name: None, address: EmailAddress::parse(text)? });
        };
        let address = rest.strip_suffix('>').ok_or(MailboxError::Bracket)?;
        let name = checked_name(name.trim_matches(' '))?;
        Ok(Mailbox { name, address: EmailAddress::parse(address)? })
    }
}

fn checked_name(name: &str) -> Result<Option<String>, MailboxError> {
    if name.chars().any(breaks_line) {
        return Err(MailboxError::Control);
    }
    if name.contains(|c| SPECIAL.contains(c)) {
        return Err(MailboxError::Special);
    }
    match name.chars().count() {
        0 => Ok(None),
        1..=NAME_CHARACTERS_MAX => Ok(Some(name.to_owned())),
        _ => Err(MailboxError::TooLong),
    }
}

/// The rule that a text breaks, never the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MailboxError {
    #[error("must end with > after the address, as Shop <codes@shop.example>")]
    Bracket,
    #[error("has a line break or another control character in its name")]
    Control,
    #[error("must have none of {SPECIAL} in its name")]
    Special,
    #[error("must have at most {NAME_CHARACTERS_MAX} characters in its name")]
    TooLong,
    #[error("has an address that {0}")]
    Address(#[from] EmailError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, name: Option<&str>, address: &str) {
        let mailbox: Mailbox = text.parse().expect("a sender");
        assert_eq!((mailbox.name(), mailbox.address().as_str()), (name, address), "{text}");
    }

    #[track_caller]
    fn refused(text: &str, expected: MailboxError) {
        assert_eq!(text.parse::<Mailbox>(), Err(expected), "{text:?}");
    }

    #[test]
    fn a_sender_is_an_address_with_or_without_a_name() {
        check("codes@shop.example", None, "codes@shop.example");
        check(" MeStore <Codes@Shop.example> ", Some("MeStore"), "codes@shop.example");
        check(
            "Señal & Compañía S.A.S. <codes@shop.example>",
            Some("Señal & Compañía S.A.S."),
            "codes@shop.example",
        );
        check("<codes@shop.example>", None, "codes@shop.example");
    }

    #[test]
    fn no_sender_can_add_a_header_or_another_address() {
        for name in ["a\r\nBcc: b@c.example\r\nX: ", "a\nb", "a\0", "a\u{2028}b"] {
            refused(&format!("{name} <codes@shop.example>"), MailboxError::Control);
        }
        for name in ["\"a\"", "a, b", "a@b.example", "a;", "a(b)", "a\\", "a: b"] {
            refused(&format!("{name} <codes@shop.example>"), MailboxError::Special);
        }
        refused("A <a@shop.example>, <b@shop.example>", MailboxError::Address(EmailError::SecondAt));
        refused("A <a@shop.example", MailboxError::Bracket);
        refused("a@shop.example\r\nBcc: b@shop.example", MailboxError::Address(EmailError::Control));
        refused("A <a@shop.example\r\n>", MailboxError::Address(EmailError::Control));
        refused("MeStore", MailboxError::Address(EmailError::NoAt));
        refused("", MailboxError::Address(EmailError::Empty));
        refused(&format!("{} <a@shop.example>", "ñ".repeat(71)), MailboxError::TooLong);
    }
}
