//! `otpost suppressions`: lists, adds and removes suppressed recipients.
//!
//! The store identifies recipients by a keyed digest, so the list shows the masked form that was stored with it.

use clap::Subcommand;

use super::acting::{acting, say_done};
use super::output::{Exit, invalid_redis_url, print_json, say, store_failed, warn_if_empty};
use super::recipient::read_recipient;
use crate::app;
use crate::config::Settings;
use crate::domain::operator_reason::parse_reason;
use crate::flow::operate::suppressions::{self, HOURS_MAX, SuppressedRecipient, SuppressionRow};
use crate::store::retention::SUPPRESSIONS_MAX;
use crate::store::{Store, StoreError};

#[derive(Subcommand)]
pub(super) enum SuppressionAction {
    /// List suppressions: first those without an end, then those that end last.
    List {
        /// The most suppressions to list.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(SUPPRESSIONS_MAX)))]
        limit: u32,
    },
    /// Suppress a recipient until removal or for a time. Requests to it end as `suppressed`.
    Add {
        /// A number in E.164, a national number of DEFAULT_REGION, or an e-mail address.
        #[arg(value_name = "RECIPIENT", allow_hyphen_values = true)]
        to: String,
        /// The reason, shown in the list: at most 200 characters, without a number, address or name.
        #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
        reason: Option<String>,
        /// The duration. Without it, the suppression lasts until it is removed.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(HOURS_MAX)))]
        hours: Option<u32>,
    },
    /// Remove the suppression of a recipient: exit with 3 if there is none.
    Remove {
        /// A number in E.164, a national number of DEFAULT_REGION, or an e-mail address.
        #[arg(value_name = "RECIPIENT", allow_hyphen_values = true)]
        to: String,
    },
}

pub(super) async fn run(settings: &Settings, action: &SuppressionAction, json: bool) -> Exit {
    let store = match action {
        SuppressionAction::List { .. } => app::stores::read_only_store(settings),
        _ => app::stores::redis_store(settings),
    };
    let Ok(store) = store else {
        return invalid_redis_url();
    };
    let exit = match action {
        SuppressionAction::List { limit } => list(&store, *limit, json).await,
        SuppressionAction::Add { to, reason, hours } => {
            let Some(recipient) = recipient(settings, to) else { return Exit::Unusable };
            add(&store, &recipient, reason.as_deref(), *hours, json).await
        }
        SuppressionAction::Remove { to } => {
            let Some(recipient) = recipient(settings, to) else { return Exit::Unusable };
            remove(&store, &recipient, json).await
        }
    };
    warn_if_empty(store.found_nothing());
    exit.unwrap_or_else(|error| store_failed(&error))
}

fn recipient(settings: &Settings, to: &str) -> Option<SuppressedRecipient> {
    let to = read_recipient(settings, to)?;
    let recipients = settings.recipients.as_ref().expect("the settings of this command have the key");
    Some(SuppressedRecipient::new(recipients, &to))
}

async fn list(store: &impl Store, limit: u32, json: bool) -> Result<Exit, StoreError> {
    let rows = suppressions::list(store, limit).await?;
    match (json, rows.is_empty()) {
        (true, _) => print_json(&rows),
        (false, true) => say("no recipient is suppressed"),
        (false, false) => print_table(&rows),
    }
    if rows.len() == usize::try_from(limit).expect("a small number") && limit < SUPPRESSIONS_MAX {
        eprintln!("otpost: there may be more than these {limit}: see --limit");
    }
    Ok(Exit::Done)
}

async fn add(
    store: &impl Store,
    recipient: &SuppressedRecipient,
    reason: Option<&str>,
    hours: Option<u32>,
    json: bool,
) -> Result<Exit, StoreError> {
    show(suppressions::add(store, recipient, reason, hours, &acting()).await?, json);
    Ok(Exit::Done)
}

async fn remove(store: &impl Store, recipient: &SuppressedRecipient, json: bool) -> Result<Exit, StoreError> {
    let by = acting();
    let Some(removed) = suppressions::remove(store, recipient, &by).await? else {
        if json {
            print_json::<SuppressionRow>(&[]);
        }
        eprintln!("otpost: {} is not suppressed", recipient.masked);
        return Ok(Exit::No);
    };
    if !json {
        say("removed; messages are sent to this recipient again:");
    }
    show(removed, json);
    say_done(store, &by, json).await;
    Ok(Exit::Done)
}

fn show(row: SuppressionRow, json: bool) {
    if json { print_json(&[row]) } else { print_table(&[row]) }
}

fn print_table(rows: &[SuppressionRow]) {
    say(&format!("{:<18} {:<25} {:<25} why", "to", "since", "until"));
    for row in rows {
        let since = row.since.as_deref().unwrap_or("-");
        let until = row.until.as_deref().unwrap_or("no end");
        say(&format!("{:<18} {since:<25} {until:<25} {}", row.to, row.reason_in_words()));
    }
}
