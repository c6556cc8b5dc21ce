//! A log filter that an operator sets for a while, for all processes.
//!
//! It has levels by target and no fields or spans, so it holds no value of a request.

use std::fmt;
use std::time::Duration;

use super::time::UnixMillis;

/// The longest time for which a filter replaces the configured one.
pub const LOG_FILTER_FOR_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const BYTES_MAX: usize = 200;
/// More digits could be a number of a person.
const DIGITS_MAX: usize = 3;
const SET_BY_CHARS_MAX: usize = 32;
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// `LEVEL` or `TARGET=LEVEL`, several with commas between, as in `RUST_LOG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLogFilter {
    #[error("a filter has 1 to 200 characters")]
    Length,
    #[error("`{0}` is no level: off, error, warn, info, debug or trace")]
    Level(String),
    #[error(
        "`{0}` is no target: a crate or module such as otpost::store, in lower-case letters, digits (at most 3) and `_`"
    )]
    Target(String),
}

impl LogFilter {
    pub fn parse(text: &str) -> Result<LogFilter, InvalidLogFilter> {
        let text = text.trim();
        if !(1..=BYTES_MAX).contains(&text.len()) {
            return Err(InvalidLogFilter::Length);
        }
        let directives: Result<Vec<String>, _> = text.split(',').map(directive).collect();
        Ok(LogFilter(directives?.join(",")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn directive(text: &str) -> Result<String, InvalidLogFilter> {
    let text = text.trim();
    let (target, level) = match text.split_once('=') {
        Some((target, level)) => (Some(target.trim()), level.trim()),
        None => (None, text),
    };
    let level = level.to_ascii_lowercase();
    if !LEVELS.contains(&level.as_str()) {
        return Err(InvalidLogFilter::Level(level));
    }
    match target {
        None => Ok(level),
        Some(target) if is_target(target) => Ok(format!("{target}={level}")),
        Some(target) => Err(InvalidLogFilter::Target(target.to_owned())),
    }
}

fn is_target(text: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    text.bytes().filter(u8::is_ascii_digit).count() <= DIGITS_MAX && text.split("::").all(is_name)
}

/// The filter in force, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemporaryLogFilter {
    pub filter: LogFilter,
    /// The system user of the command.
    pub set_by: String,
    pub set_at: UnixMillis,
    /// Until the configured filter counts again.
    pub left: Duration,
}

/// A change of the filter.
#[derive(Clone, Debug)]
pub struct NewLogFilter<'a> {
    pub filter: &'a LogFilter,
    /// One word; see [`log_filter_user`].
    pub set_by: &'a str,
    /// At most [`LOG_FILTER_FOR_MAX`].
    pub duration: Duration,
}

/// The name of a system user as one short word of visible ASCII.
pub fn log_filter_user(name: &str) -> String {
    let shown = |character: char| if character.is_ascii_graphic() { character } else { '?' };
    let name: String = name.chars().take(SET_BY_CHARS_MAX).map(shown).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_kept_in_one_form() {
        for (text, kept) in [
            ("debug", "debug"),
            (" WARN , otpost=Debug", "warn,otpost=debug"),
            ("info,otpost::store::redis=trace,h2=off", "info,otpost::store::redis=trace,h2=off"),
        ] {
            assert_eq!(LogFilter::parse(text).expect(text).as_str(), kept);
        }
    }

    #[test]
    fn a_fault_names_the_part_that_is_wrong() {
        let target = |text: &str| InvalidLogFilter::Target(text.to_owned());
        let level = |text: &str| InvalidLogFilter::Level(text.to_owned());
        for (text, fault) in [
            ("", InvalidLogFilter::Length),
            (&"a".repeat(201), InvalidLogFilter::Length),
            ("otpost", level("otpost")),
            ("inof", level("inof")),
            ("otpost=loud", level("loud")),
            ("info,", level("")),
            ("Otpost=debug", target("Otpost")),
            ("otpost::=debug", target("otpost::")),
            ("[{to=\"x\"}]=trace", level("\"x\"}]=trace")),
            ("otpost[send]=trace", target("otpost[send]")),
            ("n573001234567=trace", target("n573001234567")),
        ] {
            assert_eq!(LogFilter::parse(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn a_user_is_one_word() {
        assert_eq!(log_filter_user("ana"), "ana");
        assert_eq!(log_filter_user("a b\n"), "a?b?");
        assert_eq!(log_filter_user(""), "unknown");
        assert_eq!(log_filter_user(&"x".repeat(99)).len(), 32);
    }
}
