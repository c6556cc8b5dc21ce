//! `otpost log-level`: changes what all running processes log, for a while.

use std::time::Duration;

use serde::Serialize;

use super::acting::{acting, say_done};
use super::output::{Exit, complain, invalid_redis_url, print_json, say, store_failed};
use crate::app;
use crate::config::Settings;
use crate::domain::audit::AuditAct;
use crate::domain::log_filter::{LOG_FILTER_FOR_MAX, LogFilter, NewLogFilter, TemporaryLogFilter};
use crate::flow::operate::acting::Acting;
use crate::store::{Store, StoreError};

const DEFAULT_TIME: Duration = Duration::from_secs(15 * 60);

#[derive(Clone)]
pub(super) enum LogLevelAction {
    Set(LogFilter),
    Show,
    Reset,
}

pub(super) fn parse_action(text: &str) -> Result<LogLevelAction, String> {
    Ok(match text {
        "show" => LogLevelAction::Show,
        "reset" => LogLevelAction::Reset,
        filter => LogLevelAction::Set(LogFilter::parse(filter).map_err(|fault| fault.to_string())?),
    })
}

pub(super) fn parse_time(text: &str) -> Result<Duration, &'static str> {
    let number_and_unit = text.char_indices().last().map(|(at, unit)| (&text[..at], unit));
    let seconds = number_and_unit.and_then(|(number, unit)| {
        let number =
            number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse::<u64>().ok())??;
        number.checked_mul(match unit {
            's' => 1,
            'm' => 60,
            'h' => 60 * 60,
            _ => return None,
        })
    });
    seconds
        .filter(|seconds| (1..=LOG_FILTER_FOR_MAX.as_secs()).contains(seconds))
        .map(Duration::from_secs)
        .ok_or("must be a number of seconds (90s), minutes (15m) or hours (2h), at most 24h")
}

#[derive(Serialize)]
struct FilterState {
    set: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    set_by: Option<String>,
    /// Absent if it was set just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    set_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<u64>,
}

/// The state now and, after a change, the state before.
#[derive(Serialize)]
struct FilterRow {
    #[serde(flatten)]
    now: FilterState,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<FilterState>,
}

pub(super) async fn run(
    settings: &Settings,
    action: LogLevelAction,
    duration: Option<Duration>,
    json: bool,
) -> Exit {
    if duration.is_some() && !matches!(action, LogLevelAction::Set(_)) {
        complain("--for goes with a filter");
        return Exit::Unusable;
    }
    let Ok(store) = app::stores::redis_store(settings) else { return invalid_redis_url() };
    let is_change = !matches!(action, LogLevelAction::Show);
    let by = acting();
    match apply(&store, action, duration.unwrap_or(DEFAULT_TIME), &by).await {
        Ok(row) if json => print_json(&[row]),
        Ok(row) => print_row(&row),
        Err(error) => return store_failed(&error),
    }
    if is_change {
        say_done(&store, &by, json).await;
    }
    Exit::Done
}

async fn apply(
    store: &impl Store,
    action: LogLevelAction,
    duration: Duration,
    by: &Acting,
) -> Result<FilterRow, StoreError> {
    match action {
        LogLevelAction::Show => Ok(FilterRow { now: state_of(store.log_filter().await?), before: None }),
        LogLevelAction::Reset => {
            let record = by.record(AuditAct::LogLevel).about("reset");
            let before = state_of(store.set_log_filter_recorded(None, &record).await?);
            Ok(FilterRow { now: state_of(None), before: Some(before) })
        }
        LogLevelAction::Set(filter) => {
            let set_by = by.user();
            let record = by.record(AuditAct::LogLevel).about(&filter);
            let new = NewLogFilter { filter: &filter, set_by, duration };
            let before = state_of(store.set_log_filter_recorded(Some(&new), &record).await?);
            let now = FilterState {
                set: true,
                filter: Some(filter.to_string()),
                set_by: Some(set_by.to_owned()),
                set_at: None,
                seconds_left: Some(duration.as_secs()),
            };
            Ok(FilterRow { now, before: Some(before) })
        }
    }
}

fn state_of(filter: Option<TemporaryLogFilter>) -> FilterState {
    let Some(TemporaryLogFilter { filter, set_by, set_at, left }) = filter else {
        return FilterState { set: false, filter: None, set_by: None, set_at: None, seconds_left: None };
    };
    FilterState {
        set: true,
        filter: Some(filter.to_string()),
        set_by: Some(set_by),
        set_at: Some(set_at.to_string()),
        seconds_left: Some(left.as_secs()),
    }
}

fn print_row(row: &FilterRow) {
    say(&format!("log filter  {}", in_words(&row.now)));
    if let Some(before) = &row.before {
        say(&format!("before      {}", in_words(before)));
    }
}

fn in_words(state: &FilterState) -> String {
    let FilterState { filter: Some(filter), set_by, set_at, seconds_left, .. } = state else {
        return "as configured (RUST_LOG)".to_owned();
    };
    let (set_by, set_at) = (set_by.as_deref().unwrap_or_default(), set_at.as_deref().unwrap_or("just now"));
    format!("{filter} for {} s, set by {set_by} {set_at}", seconds_left.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::domain::audit::AuditActor;
    use crate::store::memory::MemoryStore;

    #[test]
    fn a_time_has_a_unit_and_is_at_most_a_day() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("2h", 7_200), ("24h", 86_400)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "m", "0m", "15", "1d", "25h", "-1m", "+1m", "1.5h", "99999999999999999999h", "9é"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_change_shows_the_filter_before() {
        let store = MemoryStore::new(Clock::System);
        let by = Acting::new(AuditActor::Command { user: "ana".to_owned() }, Clock::System);
        let act = |action| apply(&store, action, DEFAULT_TIME, &by);
        let filter = || LogFilter::parse("debug").expect("a filter");
        let row = act(LogLevelAction::Set(filter())).await.expect("answers");
        assert_eq!((row.now.seconds_left, row.before.map(|before| before.set)), (Some(900), Some(false)));
        let shown = act(LogLevelAction::Show).await.expect("answers").now;
        assert_eq!((shown.filter.as_deref(), shown.set_by.as_deref()), (Some("debug"), Some("ana")));
        let row = act(LogLevelAction::Reset).await.expect("answers");
        assert_eq!(
            (row.now.set, row.before.and_then(|before| before.filter)),
            (false, Some("debug".to_owned()))
        );
        assert!(!act(LogLevelAction::Show).await.expect("answers").now.set);
    }
}
