//! The end of a certificate's validity (RFC 5280 §4.1.2.5).

use crate::domain::time::UnixMillis;

const SEQUENCE: u8 = 0x30;
/// `[0]`, the version.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `None`: it cannot be read.
pub(super) fn valid_until(certificate: &[u8]) -> Option<UnixMillis> {
    let (to_be_signed, _) = element(inside(certificate)?)?;
    let mut fields = inside(to_be_signed)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields)?.1;
    }
    // Serial number, algorithm and issuer.
    for _ in 0..3 {
        fields = element(fields)?.1;
    }
    let (_, after) = element(inside(fields)?)?;
    time(after)
}

/// The first element of DER with its tag and length, and the bytes behind it.
fn element(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (start, length) = extent(bytes)?;
    bytes.split_at_checked(start.checked_add(length)?)
}

/// The contents of a sequence.
fn inside(bytes: &[u8]) -> Option<&[u8]> {
    let (start, length) = extent(bytes)?;
    bytes.get(start..start.checked_add(length)?).filter(|_| bytes[0] == SEQUENCE)
}

/// The place and the length of the first element's contents.
fn extent(bytes: &[u8]) -> Option<(usize, usize)> {
    match bytes {
        [_, short @ 0..=0x7f, ..] => Some((2, usize::from(*short))),
        [_, 0x81, length, ..] => Some((3, usize::from(*length))),
        [_, 0x82, high, low, ..] => Some((4, usize::from(u16::from_be_bytes([*high, *low])))),
        _ => None,
    }
}

fn time(bytes: &[u8]) -> Option<UnixMillis> {
    let (start, length) = extent(bytes)?;
    let digits = str::from_utf8(bytes.get(start..start + length)?).ok()?.strip_suffix('Z')?;
    let digits = digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits)?;
    let (year, rest) = match (bytes[0], digits.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = digits.split_at(2);
            (if year < "50" { format!("20{year}") } else { format!("19{year}") }, rest)
        }
        (GENERALIZED_TIME, 14) => (digits[..4].to_owned(), &digits[4..]),
        _ => return None,
    };
    let two = |at: usize| &rest[at..at + 2];
    let text = format!("{year}-{}-{}T{}:{}:{}Z", two(0), two(2), two(4), two(6), two(8));
    UnixMillis::parse_rfc3339(&text)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    fn of_tests(name: &str) -> CertificateDer<'static> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/keys");
        CertificateDer::from_pem_file(folder.join(name)).expect("a certificate")
    }

    #[test]
    fn the_end_of_a_certificate_is_read_and_none_of_its_beginnings_is_one() {
        for (name, expected) in ENDS {
            let certificate = of_tests(name);
            assert_eq!(
                valid_until(&certificate).map(|at| at.to_string()).as_deref(),
                Some(*expected),
                "{name}"
            );
            for cut in 0..60 {
                assert_eq!(valid_until(&certificate[..cut]), None, "{name}: {cut}");
            }
        }
    }

    const ENDS: &[(&str, &str)] = &[
        ("redis.certificate.pem", "2095-01-01T00:00:00.000Z"),
        ("redis.expired.pem", "2020-02-01T00:00:00.000Z"),
        ("redis.not-valid-yet.pem", "2095-01-01T00:00:00.000Z"),
        ("relay.certificate.pem", "2120-01-01T00:00:00.000Z"),
    ];

    #[test]
    fn both_forms_of_a_time_are_read() {
        let at = |tag: u8, text: &str| {
            let length = u8::try_from(text.len()).expect("short");
            time(&[&[tag, length], text.as_bytes()].concat()).map(|at| at.to_string())
        };
        assert_eq!(at(UTC_TIME, "491231235959Z").as_deref(), Some("2049-12-31T23:59:59.000Z"));
        assert_eq!(at(UTC_TIME, "991231235959Z").as_deref(), Some("1999-12-31T23:59:59.000Z"));
        assert_eq!(at(GENERALIZED_TIME, "20500101000000Z").as_deref(), Some("2050-01-01T00:00:00.000Z"));
        for wrong in ["", "Z", "491231235959", "4912312359Z", "49123123595+Z", "491331235959Z"] {
            assert_eq!(at(UTC_TIME, wrong), None, "{wrong}");
        }
    }
}
