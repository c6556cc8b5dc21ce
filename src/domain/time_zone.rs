//! Time zones and their local times.

use std::fmt;
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::budget::UtcOffset;
use super::time::UnixMillis;

/// The machine's database may be incomplete, and is wherever `TZDIR` says: all of a disk would be searched for zones.
static BUILT_IN: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Existing names are half as long.
const NAME_BYTES_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    name: Box<str>,
    zone: TimeZone,
}

impl Zone {
    pub const RULE: &'static str = "must be an IANA time zone such as America/Bogota";

    /// `None` for an unknown name, and for `Etc/Unknown`, which names no zone.
    pub fn parse(name: &str) -> Option<Zone> {
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        let zone = BUILT_IN.get(name).ok()?;
        (!zone.is_unknown()).then(|| Zone { name: name.into(), zone })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The local time, rounded down to the minute, so that no code is said to live longer than it does.
    pub fn clock(&self, at: UnixMillis) -> ClockTime {
        let at = i64::try_from(at.0).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
        let shown = self.zone.to_datetime(at.unwrap_or(Timestamp::MAX)).time();
        let part = |number: i8| u8::try_from(number).expect("hours and minutes are not negative");
        ClockTime { hour: part(shown.hour()), minute: part(shown.minute()) }
    }

    pub fn utc_offset(&self, at: UnixMillis) -> UtcOffset {
        let at = i64::try_from(at.0).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
        UtcOffset::new(self.zone.to_offset(at.unwrap_or(Timestamp::MAX)).seconds() / 60)
    }
}

/// `Display` is that of a 24-hour clock: `14:05`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockTime {
    hour: u8,
    minute: u8,
}

impl ClockTime {
    /// `00:00` to `23:59`; larger values are clamped.
    pub fn new(hour: u8, minute: u8) -> ClockTime {
        ClockTime { hour: hour.min(23), minute: minute.min(59) }
    }
}

impl fmt::Display for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.hour, self.minute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn shows(zone: &str, at: &str, expected: &str) {
        let at = UnixMillis::parse_rfc3339(at).expect("a time");
        assert_eq!(Zone::parse(zone).expect("a zone").clock(at).to_string(), expected, "{zone} {at}");
    }

    #[test]
    fn a_clock_shows_the_time_of_its_zone_with_summer_time_and_odd_offsets() {
        shows("America/Bogota", "2026-11-22T19:05:59.999Z", "14:05");
        shows("UTC", "2026-11-22T19:05:00Z", "19:05");
        shows("Europe/Madrid", "2026-07-01T22:30:00Z", "00:30");
        shows("Europe/Madrid", "2026-12-01T22:30:00Z", "23:30");
        shows("Asia/Kathmandu", "2026-11-22T00:00:00Z", "05:45");
        shows("america/bogota", "2026-11-22T05:00:00Z", "00:00");
    }

    #[test]
    fn the_hour_that_comes_twice_is_shown_both_times() {
        shows("America/New_York", "2026-11-01T05:30:00Z", "01:30");
        shows("America/New_York", "2026-11-01T06:30:00Z", "01:30");
    }

    #[test]
    fn a_time_beyond_the_calendar_is_still_a_time() {
        let clock = Zone::parse("UTC").expect("a zone").clock(UnixMillis(u64::MAX));
        assert_eq!(clock.to_string().len(), 5);
    }

    #[test]
    fn an_unknown_zone_is_refused() {
        for name in ["", "Bogota", "America/", "Mars/Olympus", "../../etc/passwd", "+05:00", "Etc/Unknown"] {
            assert_eq!(Zone::parse(name), None, "{name}");
        }
    }
}
