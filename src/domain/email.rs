//! E-mail addresses.
//!
//! An [`EmailAddress`] is always `local@domain` as RFC 5321 sends it: a dot-atom of ASCII, a domain of ASCII labels
//! (IDNA: `bücher.example` becomes `xn--bcher-kva.example`), both in lower case. It holds no space, control character,
//! quote, comma, angle bracket or second `@`, so it cannot end a header, add another or name a second recipient.
//!
//! Lower case is a choice: almost all mailboxes treat `Ana@` as `ana@`, and limits must count them as one recipient.
//! Not here: quoted local parts, address literals, and local parts beyond ASCII (RFC 6531), which many relays refuse.

use std::fmt::{self, Display};

use thiserror::Error;

const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 253;
/// RFC 5321 allows a path of 256 bytes, two of which are its angle brackets.
const BYTES_MAX: usize = 254;
const LABEL_BYTES_MAX: usize = 63;

/// `Display` and `Debug` are masked; only [`EmailAddress::as_str`] shows the whole address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EmailAddress {
    address: Box<str>,
    /// The position of the `@`.
    at: usize,
}

impl EmailAddress {
    pub fn parse(text: &str) -> Result<EmailAddress, EmailError> {
        let text = text.trim_matches(' ');
        if text.is_empty() {
            return Err(EmailError::Empty);
        }
        // Bounds the work below. A domain may be longer in Unicode than in ASCII.
        if text.len() > 4 * BYTES_MAX {
            return Err(EmailError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(EmailError::Control);
        }
        let (local, domain) = text.split_once('@').ok_or(EmailError::NoAt)?;
        if domain.contains('@') {
            return Err(EmailError::SecondAt);
        }
        let local = checked_local(local)?;
        let domain = checked_domain(domain)?;
        if local.len() + 1 + domain.len() > BYTES_MAX {
            return Err(EmailError::TooLong);
        }
        Ok(EmailAddress { at: local.len(), address: format!("{local}@{domain}").into() })
    }

    pub fn as_str(&self) -> &str {
        &self.address
    }
}

fn checked_local(local: &str) -> Result<String, EmailError> {
    if !local.is_ascii() {
        return Err(EmailError::LocalUnicode);
    }
    if local.is_empty() || local.len() > LOCAL_BYTES_MAX {
        return Err(EmailError::LocalLength);
    }
    // `atext` of RFC 5322.
    let atext = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    if !local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(atext)) {
        return Err(EmailError::LocalCharacters);
    }
    Ok(local.to_ascii_lowercase())
}

fn checked_domain(domain: &str) -> Result<String, EmailError> {
    let ascii = idna::domain_to_ascii_strict(domain).map_err(|_| EmailError::Domain)?;
    let label = |label: &str| {
        let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_a_name = |last: &str| !last.bytes().all(|byte| byte.is_ascii_digit());
    let good = ascii.len() <= DOMAIN_BYTES_MAX
        && ascii.split('.').all(label)
        && ascii.rsplit_once('.').is_some_and(|(_, last)| last_is_a_name(last));
    if good { Ok(ascii) } else { Err(EmailError::Domain) }
}

/// The first character of the local part and of the domain, and the last label.
impl Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (local, domain) = (&self.address[..self.at], &self.address[self.at + 1..]);
        let last = domain.rsplit('.').next().unwrap_or_default();
        write!(f, "{}***@{}***.{last}", &local[..1], &domain[..1])
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EmailAddress({self})")
    }
}

/// The rule that a text breaks, never the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EmailError {
    #[error("is empty")]
    Empty,
    #[error("is longer than {BYTES_MAX} bytes")]
    TooLong,
    #[error("contains a line break or another control character")]
    Control,
    #[error("has no @")]
    NoAt,
    #[error("has more than one @; write one address")]
    SecondAt,
    #[error("has characters beyond ASCII before the @")]
    LocalUnicode,
    #[error("must have 1 to {LOCAL_BYTES_MAX} characters before the @")]
    LocalLength,
    #[error("must have letters, digits, single dots and !#$%&'*+-/=?^_`{{|}}~ only before the @")]
    LocalCharacters,
    #[error("must have a domain name after the @, as shop.example")]
    Domain,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(written: &str, expected: &str) {
        assert_eq!(EmailAddress::parse(written).expect("an address").as_str(), expected);
    }

    #[track_caller]
    fn refused(written: &str, expected: EmailError) {
        assert_eq!(EmailAddress::parse(written).expect_err("no address"), expected);
    }

    #[test]
    fn ordinary_addresses_are_read_and_written_in_lower_case() {
        check("ana@shop.example", "ana@shop.example");
        check(" Ana.Maria+otp@Shop.EXAMPLE ", "ana.maria+otp@shop.example");
        check("o'neil_1@a-b.co", "o'neil_1@a-b.co");
    }

    #[test]
    fn an_international_domain_becomes_ascii() {
        check("ana@bücher.example", "ana@xn--bcher-kva.example");
        check("ana@xn--bcher-kva.example", "ana@xn--bcher-kva.example");
    }

    #[test]
    fn nothing_can_end_a_header_or_name_a_second_recipient() {
        refused("ana@shop.example\r\nBcc: bob@shop.example", EmailError::Control);
        refused("ana\n@shop.example", EmailError::Control);
        refused("ana@shop.example,bob@shop.example", EmailError::SecondAt);
        refused("ana@shop.example%0aBcc", EmailError::Domain);
        refused("Ana <ana@shop.example>", EmailError::LocalCharacters);
        refused("ana,bob@shop.example", EmailError::LocalCharacters);
        refused("\"ana b\"@shop.example", EmailError::LocalCharacters);
        refused("ana@shop.example>", EmailError::Domain);
        refused("ana(x)@shop.example", EmailError::LocalCharacters);
    }

    #[test]
    fn lengths_are_those_of_rfc_5321() {
        let label = "a".repeat(63);
        check(&format!("{}@b.example", "a".repeat(64)), &format!("{}@b.example", "a".repeat(64)));
        refused(&format!("{}@b.example", "a".repeat(65)), EmailError::LocalLength);
        refused(&format!("a@{}.example", "a".repeat(64)), EmailError::Domain);
        refused(&format!("{}@{label}.{label}.{label}.ex", "a".repeat(64)), EmailError::TooLong);
        refused(&format!("a@{}", "é.".repeat(2_000)), EmailError::TooLong);
        refused("", EmailError::Empty);
        refused("@shop.example", EmailError::LocalLength);
    }

    #[test]
    fn an_invalid_address_is_refused_with_its_rule() {
        refused("ana", EmailError::NoAt);
        refused("añá@shop.example", EmailError::LocalUnicode);
        refused("ana..b@shop.example", EmailError::LocalCharacters);
        refused(".ana@shop.example", EmailError::LocalCharacters);
        for domain in
            ["localhost", "[127.0.0.1]", "127.0.0.1", "", ".", "a..example", "-a.example", "a_b.example"]
        {
            refused(&format!("ana@{domain}"), EmailError::Domain);
        }
    }

    #[test]
    fn an_address_is_masked_wherever_a_person_reads_it() {
        let address = EmailAddress::parse("ana.maria@shop.example").expect("an address");
        assert_eq!(address.to_string(), "a***@s***.example");
        assert_eq!(format!("{address:?}"), "EmailAddress(a***@s***.example)");
    }

    proptest! {
        #[test]
        fn an_address_reads_back_as_itself(text in "\\PC{0,80}|[a-z.+@ ]{1,20}@[a-zé.-]{1,20}") {
            if let Ok(address) = EmailAddress::parse(&text) {
                prop_assert!(address.as_str().len() <= BYTES_MAX && address.as_str().is_ascii());
                prop_assert_eq!(EmailAddress::parse(address.as_str()), Ok(address));
            }
        }
    }
}
