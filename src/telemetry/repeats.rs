//! Log lines that repeat: the first of a kind in a minute is logged, and the others of that minute as one line with their number.
//!
//! At level debug every line is there. The number of kinds is bounded.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Level, error, info, warn};

const WINDOW: Duration = Duration::from_secs(60);
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// Beyond it the kinds of an event are counted together.
const KINDS_MAX: usize = 256;

static OPEN: Mutex<Repeats> = Mutex::new(Repeats(Vec::new()));

/// The part of a kind that the line of its repeats shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    pub(super) provider: Option<&'static str>,
    pub(super) reason: Option<&'static str>,
    pub(super) provider_code: Option<u32>,
    /// The pattern of a path.
    pub(super) route: Option<&'static str>,
}

impl About {
    pub(super) const NOTHING: About =
        About { provider: None, reason: None, provider_code: None, route: None };

    pub(super) const fn provider(provider: &'static str) -> About {
        About { provider: Some(provider), ..About::NOTHING }
    }

    pub(super) const fn reason(reason: &'static str) -> About {
        About::NOTHING.of(reason)
    }

    pub(super) const fn of(self, reason: &'static str) -> About {
        About { reason: Some(reason), ..self }
    }

    pub(super) const fn code(self, provider_code: Option<u32>) -> About {
        About { provider_code, ..self }
    }

    pub(super) const fn at(self, route: &'static str) -> About {
        About { route: Some(route), ..self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    level: Level,
    /// The message of the first line.
    event: &'static str,
    about: About,
}

impl Kind {
    pub(super) const fn info(event: &'static str, about: About) -> Kind {
        Kind { level: Level::INFO, event, about }
    }

    pub(super) const fn warn(event: &'static str, about: About) -> Kind {
        Kind { level: Level::WARN, event, about }
    }

    pub(super) const fn error(event: &'static str, about: About) -> Kind {
        Kind { level: Level::ERROR, event, about }
    }
}

struct Open {
    kind: Kind,
    since: Instant,
    /// Lines since then that were not logged.
    count: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Repeated {
    kind: Kind,
    count: u64,
    seconds: u64,
}

/// The kinds that were logged within the last minute, with the repeats that are not logged yet.
struct Repeats(Vec<Open>);

impl Repeats {
    /// True if the line of this kind is to be logged now.
    fn is_first(&mut self, kind: Kind, now: Instant) -> bool {
        let is_known = self.0.iter().any(|open| open.kind == kind);
        let kind = match !is_known && self.0.len() >= KINDS_MAX {
            true => Kind { about: About::reason("other"), ..kind },
            false => kind,
        };
        let Some(open) = self.0.iter_mut().find(|open| open.kind == kind) else {
            self.0.push(Open { kind, since: now, count: 0 });
            return true;
        };
        if open.count == 0 && now.saturating_duration_since(open.since) >= WINDOW {
            open.since = now;
            return true;
        }
        open.count += 1;
        false
    }

    /// The repeats of windows that are over. Their kinds are forgotten, so the next line of each is logged whole: it may name
    /// another cause.
    fn take_over(&mut self, now: Instant, window: Duration) -> Vec<Repeated> {
        let mut repeated = Vec::new();
        self.0.retain_mut(|open| {
            let age = now.saturating_duration_since(open.since);
            if age < window {
                return true;
            }
            if open.count > 0 {
                repeated.push(Repeated { kind: open.kind, count: open.count, seconds: age.as_secs() });
            }
            false
        });
        repeated
    }
}

fn open() -> MutexGuard<'static, Repeats> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn is_first(kind: Kind) -> bool {
    open().is_first(kind, Instant::now())
}

/// Logs the repeats of each minute, forever.
pub async fn log_repeats() {
    let mut ticks = tokio::time::interval(CHECK_EVERY);
    loop {
        ticks.tick().await;
        log_over(WINDOW);
    }
}

/// Logs all repeats that are not logged yet, before the process ends.
pub(super) fn log_all_repeats() {
    log_over(Duration::ZERO);
}

fn log_over(window: Duration) {
    let repeated = open().take_over(Instant::now(), window);
    for Repeated { kind: Kind { level, event, about }, count, seconds } in repeated {
        let About { provider, reason, provider_code, route } = about;
        match level {
            Level::ERROR => error!(event, provider, reason, provider_code, count, seconds, "repeated"),
            Level::WARN => warn!(event, provider, reason, provider_code, count, seconds, "repeated"),
            _ => info!(event, provider, reason, provider_code, route, count, seconds, "repeated"),
        }
    }
}

/// Logs the first line of a kind at its level, and its repeats at level debug. Each field ends with a comma.
macro_rules! repeating {
    ($level:ident, $message:literal, $about:expr; $($fields:tt)*) => {
        match $crate::telemetry::repeats::is_first($crate::telemetry::repeats::Kind::$level($message, $about)) {
            true => tracing::$level!($($fields)* $message),
            false => tracing::debug!($($fields)* $message),
        }
    };
}

pub(super) use repeating;

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Kind = Kind::warn("provider refused a message", About::provider("twilio"));

    #[test]
    fn each_minute_has_a_whole_line_and_one_with_the_number_of_its_repeats() {
        let (start, mut repeats) = (Instant::now(), Repeats(Vec::new()));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(repeats.is_first(REFUSED, at(0)));
        for seconds in 1..=20 {
            assert!(!repeats.is_first(REFUSED, at(seconds)));
        }
        assert_eq!(repeats.take_over(at(59), WINDOW), []);
        assert_eq!(repeats.take_over(at(60), WINDOW), [Repeated { kind: REFUSED, count: 20, seconds: 60 }]);
        assert!(repeats.is_first(REFUSED, at(61)), "whole, as its cause may be another one");
        assert!(!repeats.is_first(REFUSED, at(62)));
        assert_eq!(repeats.take_over(at(121), WINDOW), [Repeated { kind: REFUSED, count: 1, seconds: 60 }]);
        assert!(repeats.0.is_empty());
    }

    #[test]
    fn a_line_after_a_quiet_minute_is_a_first_one_without_a_timer() {
        let (start, mut repeats) = (Instant::now(), Repeats(Vec::new()));
        assert!(repeats.is_first(REFUSED, start));
        assert!(repeats.is_first(REFUSED, start + WINDOW));
        assert!(!repeats.is_first(REFUSED, start + WINDOW));
    }

    #[test]
    fn each_route_has_a_line_of_its_own() {
        let (now, mut repeats) = (Instant::now(), Repeats(Vec::new()));
        let at = |route| Kind::info("token refused", About::reason("scope").at(route));
        assert!(repeats.is_first(at("/api/v1/otp/send"), now));
        assert!(repeats.is_first(at("/api/v1/otp/verify"), now));
        assert!(!repeats.is_first(at("/api/v1/otp/send"), now));
    }

    #[test]
    fn kinds_are_kept_apart_and_their_number_is_bounded() {
        let (now, mut repeats) = (Instant::now(), Repeats(Vec::new()));
        let of_code = |code| Kind::warn("x", About { provider_code: Some(code), ..About::NOTHING });
        for code in 0..KINDS_MAX as u32 {
            assert!(repeats.is_first(of_code(code), now));
        }
        let logged = (0..1_000).filter(|code| repeats.is_first(of_code(10_000 + code), now)).count();
        assert_eq!((logged, repeats.0.len()), (1, KINDS_MAX + 1));
        assert!(!repeats.is_first(of_code(7), now), "a kind that is known keeps its place");
        let other = Repeated { kind: Kind::warn("x", About::reason("other")), count: 999, seconds: 0 };
        assert!(repeats.take_over(now, Duration::ZERO).contains(&other));
    }
}
