//! `otpost rate-limit`: what a number has used of its limits.

use serde::Serialize;

use super::{Exit, print_json, say};
use crate::app;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::phone::PhoneNumber;
use crate::domain::recipient::{Channel, Purpose};
use crate::domain::time::seconds_rounded_up;
use crate::store::{Store as _, Subject};

/// A number's limits. Times are in seconds, but for `resets_at`.
#[derive(Serialize)]
struct Row {
    to: String,
    limit: u32,
    used: u32,
    remaining: u32,
    window: u64,
    limit_day: u32,
    used_day: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_at: Option<String>,
    cooldown: u64,
}

pub(super) async fn run(settings: &Settings, number: &str, json: bool) -> Exit {
    let to = match PhoneNumber::parse(number, settings.default_region) {
        Ok(to) => to,
        Err(fault) => {
            eprintln!("otpost: the number {fault}");
            return Exit::Unusable;
        }
    };
    let (Some(recipients), Ok(store)) = (&settings.recipients, app::parts::redis_store(settings)) else {
        eprintln!("otpost: REDIS_URL is no address of a Redis");
        return Exit::Unusable;
    };
    let (limits, purpose) = (app::parts::limits(settings), Purpose::default());
    let recipient = recipients.address(Channel::Sms, to.e164());
    let subject = Subject { recipient, purpose: purpose.as_str(), user: None, ip: None };
    let usage = match store.usage(&subject, None, &limits).await {
        Ok(usage) => usage,
        Err(error) => {
            eprintln!("otpost: {error}");
            return Exit::Failed;
        }
    };
    let row = Row {
        to: to.to_string(),
        limit: limits.number.count,
        used: usage.used,
        remaining: limits.number.count.saturating_sub(usage.used),
        window: limits.number.window.as_secs(),
        limit_day: limits.number_day.count,
        used_day: usage.used_day,
        resets_at: (!usage.limited_for.is_zero())
            .then(|| Clock::System.now().plus(usage.limited_for).to_string()),
        cooldown: seconds_rounded_up(usage.cooldown),
    };
    if json {
        print_json(&[row])
    } else {
        print_row(&row)
    }
    Exit::Done
}

fn print_row(row: &Row) {
    say(&row.to);
    say(&format!("  {} of {} sends in {} s, {} left", row.used, row.limit, row.window, row.remaining));
    say(&format!("  {} of {} sends in a day", row.used_day, row.limit_day));
    match &row.resets_at {
        Some(at) => say(&format!("  limited until {at}")),
        None if row.cooldown > 0 => say(&format!("  cooling down for {} s", row.cooldown)),
        None => say("  may be sent to now"),
    }
}
