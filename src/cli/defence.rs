//! `otpost defence`: the state of the pumping defence, and the overrides of operators.

use std::net::IpAddr;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::acting::{acting, record_look, say_done};
use super::output::{Exit, complain, invalid_redis_url, print_json, say, store_failed, warn_if_empty};
use super::recipient::read_recipient;
use super::table::table;
use crate::app;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::audit::AuditAct;
use crate::domain::defence_list::{
    OVERRIDE_TIME_RULE, OVERRIDES_MAX, OverrideAction, OverrideTarget, parse_override_time,
};
use crate::domain::operator_reason::parse_reason;
use crate::flow::defence::DefendedRequest;
use crate::flow::inspect::defence::{self, DefenceExplanation, DefenceReport, OverrideRow};
use crate::flow::operate::defence::{self as operate, OverriddenNumbers};
use crate::store::{Store, StoreError};

#[derive(Subcommand)]
pub(super) enum DefenceAction {
    /// Show the mode, everything that is held, and the overrides. Exit with 3 if something is held.
    Status,
    /// Show whether a request to a number is refused, and why.
    Explain {
        /// A number in E.164, or a national number of DEFAULT_REGION.
        #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
        to: String,
        /// The user_id of the request.
        #[arg(long, value_name = "USER_ID")]
        user: Option<String>,
        /// The client_ip of the request.
        #[arg(long, value_name = "ADDRESS")]
        ip: Option<IpAddr>,
    },
    /// Let requests to these numbers pass, whatever is held.
    Allow(NewOverrideArguments),
    /// Refuse requests to these numbers, in both modes.
    Deny(NewOverrideArguments),
    /// Remove an override: exit with 3 if there is none.
    Remove(TargetArguments),
}

#[derive(Args)]
pub(super) struct TargetArguments {
    /// A country such as LV, or the first digits of numbers such as +37120.
    #[arg(value_name = "TARGET", required_unless_present = "to", conflicts_with = "to", value_parser = parse_target)]
    target: Option<OverrideTarget>,
    /// One number in E.164, or a national number of DEFAULT_REGION.
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    to: Option<String>,
}

#[derive(Args)]
pub(super) struct NewOverrideArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// Until it ends: minutes (30m), hours (12h) or days (7d), from 1m to 90d.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    duration: Duration,
    /// The reason, shown to other operators: at most 200 characters.
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    reason: String,
}

fn parse_target(text: &str) -> Result<OverrideTarget, &'static str> {
    OverrideTarget::parse(text).ok_or(OverrideTarget::RULE)
}

fn parse_time(text: &str) -> Result<Duration, &'static str> {
    parse_override_time(text).ok_or(OVERRIDE_TIME_RULE)
}

pub(super) async fn run(settings: &Settings, action: &DefenceAction, json: bool) -> Exit {
    let store = match action {
        DefenceAction::Status | DefenceAction::Explain { .. } => app::stores::read_only_store(settings),
        _ => app::stores::redis_store(settings),
    };
    let Ok(store) = store else { return invalid_redis_url() };
    let exit = match action {
        DefenceAction::Status => status(&store, settings, json).await,
        DefenceAction::Explain { to, user, ip } => {
            explain(&store, settings, to, user.as_deref(), *ip, json).await
        }
        DefenceAction::Allow(new) => set(&store, settings, new, OverrideAction::Allow, json).await,
        DefenceAction::Deny(new) => set(&store, settings, new, OverrideAction::Deny, json).await,
        DefenceAction::Remove(target) => remove(&store, settings, target, json).await,
    };
    warn_if_empty(store.found_nothing());
    exit.unwrap_or_else(|error| store_failed(&error))
}

async fn status(store: &impl Store, settings: &Settings, json: bool) -> Result<Exit, StoreError> {
    let report = defence::defence(store, settings.defence, Clock::System.now()).await?;
    let exit = if report.holds.is_empty() { Exit::Done } else { Exit::No };
    if json {
        print_json(&[report])
    } else {
        print_report(&report)
    }
    Ok(exit)
}

async fn explain(
    store: &impl Store,
    settings: &Settings,
    to: &str,
    user: Option<&str>,
    ip: Option<IpAddr>,
    json: bool,
) -> Result<Exit, StoreError> {
    let Some(to) = read_recipient(settings, to) else { return Ok(Exit::Unusable) };
    let keys = settings.recipients.as_ref().expect("the settings of this command have the key");
    let recipient = keys.address(to.channel(), to.as_str());
    let (user, network) = (user.map(|user| keys.user(user)), ip.map(|ip| keys.network(ip)));
    record_look(store, acting().record(AuditAct::LookLimits).about(to.masked())).await?;
    let request = DefendedRequest { to: &to, recipient, user, network };
    let explanation = defence::explain(store, &request, settings.defence_budget_percent).await?;
    let Some(explanation) = explanation else {
        complain("the pumping defence is about phone numbers");
        return Ok(Exit::Unusable);
    };
    if json {
        print_json(&[explanation])
    } else {
        print_explanation(&explanation)
    }
    Ok(Exit::Done)
}

/// `None`: no number.
fn numbers_of(settings: &Settings, arguments: &TargetArguments) -> Option<OverriddenNumbers> {
    if let Some(target) = &arguments.target {
        return Some(OverriddenNumbers::of_target(target.clone()));
    }
    let to = read_recipient(settings, arguments.to.as_deref()?)?;
    let keys = settings.recipients.as_ref().expect("the settings of this command have the key");
    Some(OverriddenNumbers::of_number(keys, &to))
}

async fn set(
    store: &impl Store,
    settings: &Settings,
    arguments: &NewOverrideArguments,
    action: OverrideAction,
    json: bool,
) -> Result<Exit, StoreError> {
    let Some(numbers) = numbers_of(settings, &arguments.target) else { return Ok(Exit::Unusable) };
    let (NewOverrideArguments { duration, reason, .. }, by) = (arguments, acting());
    let Some(row) = operate::set(store, &numbers, action, *duration, reason, &by).await? else {
        complain(&format!("there are {OVERRIDES_MAX} overrides: remove one first"));
        return Ok(Exit::Failed);
    };
    print_overrides(&[row], json);
    if action == OverrideAction::Allow {
        say_done(store, &by, json).await;
    }
    Ok(Exit::Done)
}

async fn remove(
    store: &impl Store,
    settings: &Settings,
    arguments: &TargetArguments,
    json: bool,
) -> Result<Exit, StoreError> {
    let Some(numbers) = numbers_of(settings, arguments) else { return Ok(Exit::Unusable) };
    let by = acting();
    let Some(row) = operate::remove(store, &numbers, &by).await? else {
        if json {
            print_json::<OverrideRow>(&[]);
        }
        complain(&format!("there is no override of {}", numbers.shown));
        return Ok(Exit::No);
    };
    if !json {
        say("removed:");
    }
    print_overrides(&[row], json);
    say_done(store, &by, json).await;
    Ok(Exit::Done)
}

fn print_report(report: &DefenceReport) {
    say(&format!("mode: {}", report.mode));
    if report.holds.is_empty() {
        say("nothing is held");
    } else {
        let rows = report
            .holds
            .iter()
            .map(|hold| [hold.scope.to_owned(), hold.name.clone(), hold.until.to_string()]);
        print_table(["held", "name", "until, without further sends"], rows);
    }
    if !report.overrides.is_empty() {
        print_overrides(&report.overrides, false);
    }
}

fn print_overrides(rows: &[OverrideRow], json: bool) {
    if json {
        return print_json(rows);
    }
    let cells = rows.iter().map(|row| {
        [
            row.action.to_owned(),
            row.target.clone(),
            row.since.to_string(),
            row.until.to_string(),
            row.reason.clone(),
        ]
    });
    print_table(["override", "target", "since", "until", "reason"], cells);
}

fn print_explanation(explanation: &DefenceExplanation) {
    let wait =
        explanation.retry_after.map_or_else(String::new, |seconds| format!("; retry after {seconds} s"));
    say(&format!("{}: {}{wait}", explanation.to, explanation.decision));
    let verified = if explanation.has_verified { "yes" } else { "no" };
    say(&format!("number or user has verified a code within 90 days: {verified}"));
    let rows = explanation.scopes.iter().map(|row| {
        let of_budget = |count: u32, budget: u32| format!("{count} of {budget}");
        [
            row.scope.to_owned(),
            row.name.clone(),
            if row.held { "held" } else { "free" }.to_owned(),
            row.pending.to_string(),
            of_budget(row.unverified_hour, row.budget_hour),
            of_budget(row.unverified_day, row.budget_day),
        ]
    });
    print_table(["scope", "name", "state", "pending", "unverified, hour", "unverified, day"], rows);
}

fn print_table<const COLUMNS: usize>(
    headings: [&str; COLUMNS],
    rows: impl Iterator<Item = [String; COLUMNS]>,
) {
    let all: Vec<Vec<String>> =
        [headings.map(str::to_owned)].into_iter().chain(rows).map(Vec::from).collect();
    table(&all).iter().for_each(|line| say(line));
}
