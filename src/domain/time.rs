//! Points in time, as milliseconds since the Unix epoch.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use serde::{Deserialize, Serialize, Serializer};

/// Milliseconds since 1970-01-01T00:00:00Z. `Display` and JSON on the wire are RFC 3339 in UTC.
///
/// The unit of every stored time: Redis' Lua numbers hold it exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// `None` if the text is no time, or lies before 1970. A fraction is cut to milliseconds, and a time after
    /// `MILLIS_MAX`, such as the usual "never" `9999-12-31T23:59:59Z`, is that.
    pub fn parse_rfc3339(text: &str) -> Option<UnixMillis> {
        let Rfc3339 { local, fraction, offset } = Rfc3339::parse(text.as_bytes())?;
        let seconds = match offset.to_timestamp(local) {
            Ok(timestamp) => timestamp.as_second(),
            Err(_) if local.year() == YEAR_MAX => return Some(UnixMillis(MILLIS_MAX)),
            Err(_) => return None,
        };
        let seconds = u64::try_from(seconds).ok()?;
        Some(UnixMillis((seconds * 1000 + fraction).min(MILLIS_MAX)))
    }

    /// From whole seconds since the epoch, as in an AMQP `timestamp`. `None` after 9999.
    pub fn from_seconds(seconds: u64) -> Option<UnixMillis> {
        (seconds <= SECONDS_MAX).then(|| UnixMillis((seconds * 1000).min(MILLIS_MAX)))
    }

    /// Whole seconds since the epoch, rounded down.
    pub fn as_seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The time from `earlier` to this time; zero if `earlier` is later.
    pub fn since(self, earlier: UnixMillis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    pub fn plus(self, by: Duration) -> UnixMillis {
        UnixMillis(self.0.saturating_add(millis(by)).min(MILLIS_MAX))
    }
}

/// The last year of RFC 3339, and its last second.
const YEAR_MAX: i16 = 9999;
const SECONDS_MAX: u64 = 253_402_300_799;
/// 9999-12-30: the last time that `jiff` can express in every offset.
const MILLIS_MAX: u64 = 253_402_207_200_000;

/// A `date-time` of RFC 3339 §5.6. `jiff` alone also reads other forms of ISO 8601, and at most nine digits of a fraction.
struct Rfc3339 {
    local: DateTime,
    /// In milliseconds.
    fraction: u64,
    offset: Offset,
}

impl Rfc3339 {
    fn parse(text: &[u8]) -> Option<Rfc3339> {
        let (local, rest) = text.split_at_checked("0000-00-00T00:00:00".len())?;
        let at = |start: usize, length: usize| number(&local[start..start + length]);
        let are_signs = [local[4], local[7], local[13], local[16]] == *b"--::";
        if !are_signs || !matches!(local[10], b'T' | b't' | b' ') {
            return None;
        }
        let [month, day, hour, minute, second] = [at(5, 2)?, at(8, 2)?, at(11, 2)?, at(14, 2)?, at(17, 2)?];
        // `jiff` has no leap seconds.
        let second = if second == 60 { 59 } else { second };
        let small = |value: u16| i8::try_from(value).ok();
        let local = DateTime::new(
            at(0, 4)?.try_into().ok()?,
            small(month)?,
            small(day)?,
            small(hour)?,
            small(minute)?,
            small(second)?,
            0,
        );
        let (fraction, offset) = fraction(rest)?;
        Some(Rfc3339 { local: local.ok()?, fraction, offset: parse_offset(offset)? })
    }
}

/// The milliseconds of a fraction, if there is one, and the text behind it.
fn fraction(text: &[u8]) -> Option<(u64, &[u8])> {
    let Some(digits) = text.strip_prefix(b".") else { return Some((0, text)) };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at(length);
    let millis =
        digits.iter().chain(b"00").take(3).fold(0, |millis, digit| millis * 10 + u64::from(digit - b'0'));
    (length > 0).then_some((millis, rest))
}

/// `Z`, or hours to 23 and minutes to 59 with a sign.
fn parse_offset(text: &[u8]) -> Option<Offset> {
    let (sign, hours, minutes) = match text {
        b"Z" | b"z" => return Some(Offset::UTC),
        [b'+', hours @ .., b':', tens, ones] => (1, hours, [*tens, *ones]),
        [b'-', hours @ .., b':', tens, ones] => (-1, hours, [*tens, *ones]),
        _ => return None,
    };
    let hours = number(hours).filter(|hour| hours.len() == 2 && *hour < 24)?;
    let minutes = number(&minutes).filter(|minute| *minute < 60)?;
    Offset::from_seconds(sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60)).ok()
}

/// At most four digits.
fn number(digits: &[u8]) -> Option<u16> {
    let is_number = (1..=4).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')))
}

/// A duration in whole milliseconds, rounded down.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration in whole microseconds, rounded down.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A duration in whole seconds, rounded up, so that a retry then is late enough.
pub fn seconds_rounded_up(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timestamp = i64::try_from(self.0.min(MILLIS_MAX))
            .ok()
            .and_then(|at| Timestamp::from_millisecond(at).ok())
            .expect("a time up to MILLIS_MAX is within jiff's range");
        write!(f, "{timestamp:.3}")
    }
}

/// For the wire; stored times are plain numbers.
pub fn serialize_rfc3339<S: Serializer>(at: &UnixMillis, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

impl Serialize for UnixMillis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

/// Writes a time that may be missing as RFC 3339.
pub(crate) fn optional_rfc3339<S: Serializer>(
    at: &Option<UnixMillis>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serialize_rfc3339(at, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_as_it_was_written() {
        let at = UnixMillis::parse_rfc3339("2026-11-22T12:00:00.250-05:00").expect("valid");
        assert_eq!(at.to_string(), "2026-11-22T17:00:00.250Z");
        assert_eq!(UnixMillis::parse_rfc3339(&at.to_string()), Some(at));
    }

    #[test]
    fn every_form_of_rfc_3339_is_read() {
        for (text, expected) in [
            ("2026-11-22t12:00:00z", "2026-11-22T12:00:00.000Z"),
            ("2026-11-22 12:00:00+00:00", "2026-11-22T12:00:00.000Z"),
            ("2026-11-22T12:00:00-00:00", "2026-11-22T12:00:00.000Z"),
            ("2026-11-22T12:00:00+23:59", "2026-11-21T12:01:00.000Z"),
            ("2026-11-22T12:00:00-23:59", "2026-11-23T11:59:00.000Z"),
            ("2026-11-22T12:00:00.5Z", "2026-11-22T12:00:00.500Z"),
            ("2026-11-22T12:00:00.25Z", "2026-11-22T12:00:00.250Z"),
            ("2026-11-22T12:00:00.9999999999999Z", "2026-11-22T12:00:00.999Z"),
            ("2026-12-31T23:59:60Z", "2026-12-31T23:59:59.000Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
        ] {
            let at = UnixMillis::parse_rfc3339(text).map(|at| at.to_string());
            assert_eq!(at.as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn the_last_times_of_the_year_9999_are_the_last_time_of_all() {
        for text in [
            "9999-12-30T22:00:00.001Z",
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59.9999999Z",
            "9999-12-31T23:59:59-23:59",
        ] {
            assert_eq!(UnixMillis::parse_rfc3339(text), Some(UnixMillis(MILLIS_MAX)), "{text}");
        }
        assert_eq!(UnixMillis::from_seconds(SECONDS_MAX), Some(UnixMillis(MILLIS_MAX)));
        assert_eq!(UnixMillis::from_seconds(SECONDS_MAX + 1), None);
    }

    #[test]
    fn text_that_is_no_time_or_out_of_range_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-11-22",
            "1969-12-31T23:59:59.999Z",
            "0000-01-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "+002026-11-22T12:00:00Z",
            "2026-11-22T12:00:00",
            "2026-11-22T12:00Z",
            "2026-11-22T12:00:00,5Z",
            "2026-11-22T12:00:00.Z",
            "2026-11-22T12:00:00.5",
            "2026-11-22T12:00:00+24:00",
            "2026-11-22T12:00:00-24:00",
            "2026-11-22T12:00:00+05:60",
            "2026-11-22T12:00:00+0500",
            "2026-11-22T12:00:00+05",
            "2026-11-22T12:00:00+5:00",
            "2026-11-22T12:00:00+:00",
            "2026-11-22T12:00:00+05:00:00",
            "2026-11-22T12:00:00Z[UTC]",
            "20261122T120000Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T12:60:00Z",
            "2026-11-22T12:00:61Z",
            "2026-02-29T12:00:00Z",
            "2026-11-2²T12:00:00Z",
            "2026/11/22T12:00:00Z",
            " 2026-11-22T12:00:00Z",
        ] {
            assert_eq!(UnixMillis::parse_rfc3339(text), None, "{text}");
        }
        assert_eq!(UnixMillis::from_seconds(u64::MAX), None);
        assert_eq!(UnixMillis(u64::MAX).to_string(), UnixMillis(MILLIS_MAX).to_string());
    }

    #[test]
    fn a_wait_is_rounded_up_to_whole_seconds() {
        assert_eq!(seconds_rounded_up(Duration::from_millis(1)), 1);
        assert_eq!(seconds_rounded_up(Duration::from_millis(2000)), 2);
        assert_eq!(seconds_rounded_up(Duration::ZERO), 0);
    }
}
