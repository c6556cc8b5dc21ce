//! Points in time, as milliseconds since the Unix epoch.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

/// Milliseconds since 1970-01-01T00:00:00Z. `Display` and JSON on the wire are RFC 3339 in UTC.
///
/// The unit of every stored time: Redis' Lua numbers hold it exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// `None` if the text is no time, or lies before 1970 or after 9999.
    pub fn parse_rfc3339(text: &str) -> Option<UnixMillis> {
        let timestamp: Timestamp = text.parse().ok()?;
        let millis = UnixMillis(u64::try_from(timestamp.as_millisecond()).ok()?);
        // `jiff` parses a fraction of a second more than it formats.
        (millis.0 <= MILLIS_MAX).then_some(millis)
    }

    /// From whole seconds since the epoch, as in an AMQP `timestamp`.
    pub fn from_seconds(seconds: u64) -> Option<UnixMillis> {
        let millis = UnixMillis(seconds.checked_mul(1000)?);
        (millis.0 <= MILLIS_MAX).then_some(millis)
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

/// 9999-12-30: the last time that RFC 3339 and `jiff` can express.
const MILLIS_MAX: u64 = 253_402_207_200_000;

/// A duration in whole milliseconds, rounded down.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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
    fn text_that_is_no_time_or_out_of_range_is_refused() {
        for text in ["", "yesterday", "2026-11-22", "1969-12-31T23:59:59Z", "9999-12-30T22:00:00.001Z"] {
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
