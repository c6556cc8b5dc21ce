//! `Retry-After` (RFC 9110 §10.2.3), alike for every HTTP provider.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// A longer wait is cut to this: the code expires long before.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The wait that an answer asks for, at most an hour: seconds, or a date on the server's own clock.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let asked = text(RETRY_AFTER)?;
    if !asked.is_empty() && asked.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a long time.
        return Some(asked.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs).min(RETRY_AFTER_MAX));
    }
    let until = http_date(asked)?;
    let now = text(DATE).and_then(http_date).unwrap_or(now);
    let wait = Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO);
    Some(wait.min(RETRY_AFTER_MAX))
}

/// Reads an HTTP-date in any of its three forms (RFC 9110 §5.6.7 obliges a reader to know all of them).
pub(crate) fn http_date(text: &str) -> Option<Timestamp> {
    const FORMS: [&str; 3] =
        ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let read = FORMS.iter().find_map(|form| DateTime::strptime(form, text).ok())?;
    TimeZone::UTC.to_timestamp(read).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_wait(headers: &[(&str, &str)], expected_seconds: impl Into<Option<u64>>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: reqwest::header::HeaderName = name.parse().expect("a name");
            map.insert(name, value.parse().expect("a value"));
        }
        let now = "1994-11-06T08:49:00Z".parse().expect("a time");
        let expected = expected_seconds.into().map(Duration::from_secs);
        assert_eq!(retry_after(&map, now), expected, "{headers:?}");
    }

    #[test]
    fn retry_after_is_read_in_every_legal_form() {
        check_wait(&[("retry-after", "7")], 7);
        check_wait(&[("retry-after", "0")], 0);
        check_wait(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], 37);
        check_wait(&[("retry-after", "Sunday, 06-Nov-94 08:49:37 GMT")], 37);
        check_wait(&[("retry-after", "Sun Nov  6 08:49:37 1994")], 37);
    }

    #[test]
    fn a_date_is_read_on_the_servers_clock_where_it_tells_it() {
        let until = ("retry-after", "Sun, 06 Nov 1994 10:00:30 GMT");
        check_wait(&[until, ("date", "Sun, 06 Nov 1994 10:00:00 GMT")], 30);
        check_wait(&[until, ("date", "yesterday")], 3600);
    }

    #[test]
    fn no_wait_is_longer_than_an_hour_and_none_is_negative() {
        check_wait(&[("retry-after", "86400")], 3600);
        check_wait(&[("retry-after", "99999999999999999999999")], 3600);
        check_wait(&[("retry-after", "Mon, 07 Nov 1994 08:49:37 GMT")], 3600);
        check_wait(&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")], 0);
    }

    #[test]
    fn what_is_no_wait_is_no_wait() {
        check_wait(&[], None);
        for text in ["", "soon", "-1", "1.5", "+3", "Sun, 31 Nov 1994 08:49:37 GMT"] {
            check_wait(&[("retry-after", text)], None);
        }
    }
}
