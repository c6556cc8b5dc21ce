//! Lost answers and `Retry-After`, alike for every HTTP provider.
//!
//! Of a transport error only its kind is read, never its text: it holds the URL. A message that may have been sent is
//! in doubt.
//!
//! `Retry-After`: RFC 9110 §10.2.3.

use std::error::Error;
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::domain::send_failure::{Scope, SendFailure};

/// A longer wait is cut to this: the code expires long before.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The failure that a request without an answer stands for. Of the error only kinds are read: its text holds
/// the URL.
pub(crate) fn transport(error: &reqwest::Error) -> SendFailure {
    let detail = || transport_detail(error).to_owned();
    if error.is_builder() {
        // A fault of ours that no retry heals. Nothing left us, and other messages may still do better.
        SendFailure::refused(Scope::Request, None)
    } else if error.is_connect() {
        SendFailure::NotConnected { detail: detail() }
    } else {
        SendFailure::InDoubt { detail: detail() }
    }
}

/// The failed step, in words that name no address.
pub(crate) fn transport_detail(error: &reqwest::Error) -> &'static str {
    let causes = || std::iter::successors(error.source(), |&cause| cause.source());
    // An error inside an `io::Error` is not its source: it has to be asked for.
    let tls = |cause: &io::Error| cause.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    let io_errors = || causes().filter_map(|cause| cause.downcast_ref::<io::Error>());
    match (error.is_connect(), error.is_timeout()) {
        (true, true) => "connecting timed out",
        (false, true) => "timed out before the answer",
        (true, false) if error.is_dns() => "the host name could not be resolved",
        (true, false) if io_errors().any(tls) => "the TLS handshake failed",
        (true, false) if io_errors().any(|e| e.kind() == io::ErrorKind::ConnectionRefused) => {
            "connection refused"
        }
        (true, false) => "no connection",
        (false, false) => "the connection broke before the answer",
    }
}

pub(crate) fn answered(status: StatusCode, provider_code: Option<u32>) -> String {
    let code = provider_code.map_or(String::new(), |number| format!(", code {number}"));
    format!("answered with HTTP {}{code}", status.as_u16())
}

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
