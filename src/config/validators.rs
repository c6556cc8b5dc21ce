//! Rules of single settings, and units.

use std::net::Ipv4Addr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

pub(super) fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

pub(super) fn key_bytes(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = Zeroizing::new(BASE64.decode(text.trim()).ok()?);
    let key: [u8; 32] = bytes.as_slice().try_into().ok()?;
    Some(Zeroizing::new(key))
}

pub(super) fn is_sid(text: &str, kind: &str) -> bool {
    text.strip_prefix(kind)
        .is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// True if a URL, given without its scheme, leads to this machine. A foreign host may look like a local address, as
/// `127.0.0.1.example` and `localhost:80@example` do.
pub(super) fn is_loopback(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// A number, a short code, or an alphanumeric sender: up to eleven letters, digits and a few signs, a letter among them.
pub(super) fn is_sender(text: &str) -> bool {
    let number = text.strip_prefix('+').unwrap_or(text);
    let digits = number.bytes().all(|byte| byte.is_ascii_digit()) && (3..=15).contains(&number.len());
    let name = text.len() <= 11
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" +-_&".contains(&byte));
    digits || name
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn hours(hours: u64) -> Duration {
    minutes(60 * hours)
}

pub(super) fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_a_number_a_short_code_or_a_name() {
        for sender in
            ["+15005550006", "573001234567", "85432", "MeStore", "MeStore CO", "A&B-c_d+1", "7eleven"]
        {
            assert!(is_sender(sender), "{sender}");
        }
        for text in [
            "",
            "12",
            "+12",
            "    ",
            "1-2-3",
            "Twelve chars",
            "Señal",
            "+1 500 555 0006",
            "a,b",
            "1234567890123456",
        ] {
            assert!(!is_sender(text), "{text:?}");
        }
    }
}
