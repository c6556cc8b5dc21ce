//! The last line of a text, by which a phone passes the code to the page or app that waits for it.

use thiserror::Error;

/// The longest text that Android's SMS Retriever API reads.
pub const ANDROID_BYTES_MAX: usize = 140;

/// The bytes of the line with the hash, and of the empty line before it.
pub(super) const ANDROID_ENDING_BYTES: usize = "\n\n".len() + 11;

/// The reader of the code. Both endings need the last line, so a text has only one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Autofill {
    /// `@domain #code`, for browsers (WICG "Origin-bound one-time codes delivered via SMS").
    WebOtp { domain: WebOtpDomain },
    /// The app's hash, for Android (SMS Retriever API, [`ANDROID_BYTES_MAX`]).
    AndroidHash { hash: AndroidAppHash },
}

impl Autofill {
    /// The segments that the ending can add, if each of its letters takes the room of UCS-2.
    pub(super) fn segments_max(&self) -> u32 {
        const LONGEST_CODE: usize = 10;
        let bytes = match self {
            Autofill::WebOtp { domain } => "\n\n@ #".len() + domain.0.len() + LONGEST_CODE,
            Autofill::AndroidHash { .. } => ANDROID_ENDING_BYTES,
        };
        u32::try_from(bytes.div_ceil(67)).expect("a domain is short")
    }
}

/// A DNS host name in lower case (RFC 1123 §2.1; international names in their `xn--` form). No port, no final dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOtpDomain(String);

impl WebOtpDomain {
    pub fn parse(text: &str) -> Result<WebOtpDomain, AutofillFault> {
        // A last label of digits would be an address: browsers bind a code to a domain.
        let named =
            text.rsplit('.').next().is_some_and(|label| label.bytes().any(|byte| byte.is_ascii_alphabetic()));
        if text.len() <= 253 && named && text.split('.').all(is_label) {
            Ok(WebOtpDomain(text.to_ascii_lowercase()))
        } else {
            Err(AutofillFault::Domain)
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The first eleven characters of the Base64 of the hash that Google's tool makes of package name and certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AndroidAppHash(String);

impl AndroidAppHash {
    pub fn parse(text: &str) -> Result<AndroidAppHash, AutofillFault> {
        let base64 = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
        if text.len() == 11 && text.bytes().all(base64) {
            Ok(AndroidAppHash(text.to_owned()))
        } else {
            Err(AutofillFault::Hash)
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// An invalid ending. The text does not repeat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AutofillFault {
    #[error("is not a DNS host name of at most 253 characters")]
    Domain,
    #[error("is not a hash of 11 characters from A-Z, a-z, 0-9, + and /")]
    Hash,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_name_is_kept_in_lower_case() {
        for (text, expected) in [
            ("Shop.Example", "shop.example"),
            ("localhost", "localhost"),
            ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
        ] {
            assert_eq!(WebOtpDomain::parse(text).expect("a host name").as_str(), expected);
        }
    }

    #[test]
    fn an_invalid_host_name_is_refused() {
        let long = format!("{}.example", "a.".repeat(124));
        for text in [
            "",
            ".",
            "shop.",
            ".shop",
            "a..b",
            "-a.example",
            "a-.example",
            "a_b.example",
            "a b",
            "a.example:443",
            "https://a.example",
            "127.0.0.1",
            "[::1]",
            "mañana.example",
            "a.example #123456",
            "a\n.example",
            &long,
        ] {
            assert_eq!(WebOtpDomain::parse(text), Err(AutofillFault::Domain), "{text:?}");
        }
    }

    #[test]
    fn a_hash_has_eleven_characters_of_base64() {
        assert!(AndroidAppHash::parse("FA+9qCX9VSu").is_ok());
        for text in
            ["", "FA+9qCX9VS", "FA+9qCX9VSuX", "FA-9qCX9VSu", "FA+9qCX9VS=", "FA+9qCX9VS\n", "FA+9qCX9Vñ"]
        {
            assert_eq!(AndroidAppHash::parse(text), Err(AutofillFault::Hash), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_ending_or_a_fault(text in any::<String>()) {
            let _ = WebOtpDomain::parse(&text);
            let _ = AndroidAppHash::parse(&text);
        }
    }
}
