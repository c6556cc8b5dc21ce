//! `otpost suppressions`: whom nothing is sent to, and why; by hand, somebody more or somebody less.
//!
//! The store knows recipients by a keyed digest only, so that a list shows what was kept of them: the mask.

use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use super::recipient::read_recipient;
use super::{Exit, kill_switch, print_json, say, store_failed};
use crate::app;
use crate::config::Settings;
use crate::domain::keyed_digest::Digest16;
use crate::domain::suppression::{ManualSuppression, SuppressionEntry};
use crate::store::bounds::SUPPRESSIONS_MAX;
use crate::store::{Store, StoreError};

const HOUR_SECONDS: u64 = 3_600;

/// What to do about suppressions.
#[derive(Subcommand)]
pub(super) enum Action {
    /// Show them: first those that last until they are removed, then those with the longest time to go.
    List {
        /// So many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(SUPPRESSIONS_MAX)))]
        limit: u32,
    },
    /// Send nothing to a recipient, until it is removed or for a while. What it is asked for ends as `suppressed`.
    Add {
        /// A number in E.164, a national one of DEFAULT_REGION, or an e-mail address.
        #[arg(value_name = "RECIPIENT", allow_hyphen_values = true)]
        to: String,
        /// Why, for whoever reads the list: at most 200 characters, and nobody's number, address or name.
        #[arg(long, value_name = "TEXT", value_parser = kill_switch::read_reason)]
        reason: Option<String>,
        /// For so long only.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=87_600))]
        hours: Option<u32>,
    },
    /// Let messages go to a recipient again: exit with 3 if nothing stood against it.
    Remove {
        /// A number in E.164, a national one of DEFAULT_REGION, or an e-mail address.
        #[arg(value_name = "RECIPIENT", allow_hyphen_values = true)]
        to: String,
    },
}

/// A recipient that nothing is sent to.
#[derive(Serialize)]
struct Row {
    to: String,
    #[serde(skip)]
    is_opt_out: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// Nothing of one that lasts until it is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

/// Whom a command is about.
struct Recipient {
    shown: String,
    name: Digest16,
}

pub(super) async fn run(settings: &Settings, action: &Action, json: bool) -> Exit {
    let Ok(store) = app::stores::redis_store(settings) else {
        eprintln!("otpost: REDIS_URL is no address of a Redis");
        return Exit::Unusable;
    };
    let done = match action {
        Action::List { limit } => list(&store, *limit, json).await,
        Action::Add { to, reason, hours } => {
            let Some(recipient) = recipient(settings, to) else { return Exit::Unusable };
            add(&store, &recipient, reason.as_deref(), *hours, json).await
        }
        Action::Remove { to } => {
            let Some(recipient) = recipient(settings, to) else { return Exit::Unusable };
            remove(&store, &recipient, json).await
        }
    };
    done.unwrap_or_else(|error| store_failed(&error))
}

fn recipient(settings: &Settings, to: &str) -> Option<Recipient> {
    let to = read_recipient(settings, to)?;
    let recipients = settings.recipients.as_ref().expect("the settings of this command have the key");
    Some(Recipient { shown: to.to_string(), name: recipients.address(to.channel(), to.as_str()) })
}

async fn list(store: &impl Store, limit: u32, json: bool) -> Result<Exit, StoreError> {
    let rows: Vec<Row> = store.suppressions(limit).await?.into_iter().map(row).collect();
    match (json, rows.is_empty()) {
        (true, _) => print_json(&rows),
        (false, true) => say("nobody is suppressed"),
        (false, false) => print_table(&rows),
    }
    if rows.len() == usize::try_from(limit).expect("a small number") && limit < SUPPRESSIONS_MAX {
        eprintln!("otpost: there may be more than these {limit}: see --limit");
    }
    Ok(Exit::Done)
}

async fn add(
    store: &impl Store,
    recipient: &Recipient,
    reason: Option<&str>,
    hours: Option<u32>,
    json: bool,
) -> Result<Exit, StoreError> {
    let lasts = hours.map(|hours| Duration::from_secs(u64::from(hours) * HOUR_SECONDS));
    let by_hand =
        ManualSuppression { masked: &recipient.shown, reason: reason.unwrap_or_default(), duration: lasts };
    show(store.add_suppression(recipient.name, &by_hand).await?, recipient, json);
    Ok(Exit::Done)
}

async fn remove(store: &impl Store, recipient: &Recipient, json: bool) -> Result<Exit, StoreError> {
    let Some(stood) = store.remove_suppression(recipient.name).await? else {
        if json {
            print_json::<Row>(&[]);
        }
        eprintln!("otpost: nothing stood against {}", recipient.shown);
        return Ok(Exit::No);
    };
    if !json {
        say("removed; messages are sent there again:");
    }
    show(stood, recipient, json);
    Ok(Exit::Done)
}

fn show(suppression: SuppressionEntry, recipient: &Recipient, json: bool) {
    let row = Row { to: recipient.shown.clone(), ..row(suppression) };
    if json { print_json(&[row]) } else { print_table(&[row]) }
}

fn row(suppression: SuppressionEntry) -> Row {
    let is_opt_out = suppression.is_opt_out();
    let SuppressionEntry { to, code, reason, since, until } = suppression;
    Row {
        is_opt_out,
        to: to.unwrap_or_else(|| "***".to_owned()),
        provider_code: code,
        reason,
        since: since.map(|since| since.to_string()),
        until: until.map(|until| until.to_string()),
    }
}

fn print_table(rows: &[Row]) {
    say(&format!("{:<18} {:<25} {:<25} why", "to", "since", "until"));
    for row in rows {
        let since = row.since.as_deref().unwrap_or("-");
        let until = row.until.as_deref().unwrap_or("it is removed");
        say(&format!("{:<18} {since:<25} {until:<25} {}", row.to, why(row)));
    }
}

fn why(row: &Row) -> String {
    match (row.provider_code, &row.reason) {
        (Some(code), _) if row.is_opt_out => format!("opted out ({code})"),
        (Some(code), _) => format!("refused by the provider ({code})"),
        (None, Some(reason)) => format!("by hand: {reason}"),
        (None, None) => "by hand, or told without a number".to_owned(),
    }
}
