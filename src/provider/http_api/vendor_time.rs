//! Times as vendors write them: RFC 3339, or seconds or milliseconds since 1970.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::domain::time::UnixMillis;

/// More digits than any time in seconds has.
const DIGITS_OF_MILLIS: usize = 12;
const DIGITS_MAX: usize = 15;

/// A time without an offset is in UTC. `None` for a time before 1970.
pub(super) fn parse(text: &str) -> Option<UnixMillis> {
    let text = text.trim();
    if !text.is_empty() && text.len() <= DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: u64 = text.parse().ok()?;
        return if text.len() < DIGITS_OF_MILLIS {
            UnixMillis::from_seconds(number)
        } else {
            Some(UnixMillis(number))
        };
    }
    // A day is no time: a message of this day would look older than it is.
    let local = || text.parse::<DateTime>().ok().filter(|_| text.contains(':'));
    let utc = || TimeZone::UTC.to_timestamp(local()?).ok();
    let read = text.parse::<Timestamp>().ok().or_else(utc)?;
    u64::try_from(read.as_millisecond()).ok().map(UnixMillis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_vendors_write_it() {
        for (text, millis) in [
            ("1700000000", 1_700_000_000_000),
            ("1700000000123", 1_700_000_000_123),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14T17:13:20.5-05:00", 1_700_000_000_500),
            ("2023-11-14T22:13:20.000+0000", 1_700_000_000_000),
            ("2023-11-14 22:13:20", 1_700_000_000_000),
        ] {
            assert_eq!(parse(text), Some(UnixMillis(millis)), "{text}");
        }
        for text in ["", "soon", "-5", "1e9", "17000000000000000000", "2023-11-14", "1969-12-31T23:59:59Z"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
