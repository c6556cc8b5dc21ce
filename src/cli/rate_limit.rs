//! `otpost rate-limit`: how much of its limits a recipient has used.

use super::acting::{acting, record_look};
use super::output::{Exit, invalid_redis_url, print_json, say, store_failed, warn_if_empty};
use super::recipient::read_recipient;
use crate::app;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::audit::AuditAct;
use crate::flow::inspect::limits::{LimitUsageRow, limit_usage};

pub(super) async fn run(settings: &Settings, to: &str, json: bool) -> Exit {
    let Some(to) = read_recipient(settings, to) else { return Exit::Unusable };
    let (Some(recipients), Ok(store)) = (&settings.recipients, app::stores::read_only_store(settings)) else {
        return invalid_redis_url();
    };
    let record = acting().record(AuditAct::LookLimits).about(to.masked());
    if let Err(error) = record_look(&store, record).await {
        return store_failed(&error);
    }
    let row = match limit_usage(&store, recipients, &settings.limits, &to, Clock::System.now()).await {
        Ok(row) => row,
        Err(error) => return store_failed(&error),
    };
    warn_if_empty(store.found_nothing());
    if json {
        print_json(&[row])
    } else {
        print_row(&row)
    }
    Exit::Done
}

fn print_row(row: &LimitUsageRow) {
    say(&row.to);
    let LimitUsageRow { limit, used, remaining, window, limit_day, used_day, remaining_day, .. } = row;
    for (limit, used, remaining, window) in [
        (limit, used, remaining, format!("{window} s")),
        (limit_day, used_day, remaining_day, "a day".to_owned()),
    ] {
        say(&match remaining {
            Some(remaining) => format!("  {used} of {limit} sends in {window}, {remaining} left"),
            None => format!("  {used} sends in {window}, without a limit"),
        });
    }
    say(&match row.limit_wrong {
        0 => format!("  {} wrong attempts in an hour, without a limit", row.used_wrong),
        limit => format!("  {} of {limit} wrong attempts in an hour", row.used_wrong),
    });
    match &row.resets_at {
        Some(at) => say(&format!("  limited until {at}")),
        None if row.cooldown > 0 => say(&format!("  cooling down for {} s", row.cooldown)),
        None => say("  within its limits now"),
    }
    if let Some(at) = &row.all_resets_at {
        say(&format!("  the cap over all sends (SMS_MAX_PER_HOUR) is reached until {at}"));
    }
    say("limits are those of this shell's settings; for suppressed recipients see: otpost suppressions list");
}
