//! `otpost keys`: the check values of the keys that processes compare.

use clap::Subcommand;
use serde::Serialize;

use super::acting::acting;
use super::output::{Exit, complain, invalid_redis_url, print_json, say, store_failed};
use super::table::table;
use crate::app;
use crate::config::Settings;
use crate::domain::audit::AuditAct;
use crate::domain::key_check::KeyCheck;
use crate::store::{Store, StoreError};

#[derive(Subcommand)]
pub(super) enum KeyAction {
    /// Compare the keys of these settings with the recorded ones: exit with 3 if one differs.
    Check,
    /// Record the keys of these settings in place of others with the same name.
    Accept {
        /// Confirm.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Serialize)]
struct Row {
    #[serde(rename = "use")]
    key_use: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    fingerprint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<String>,
    differs: bool,
}

pub(super) async fn run(settings: &Settings, action: &KeyAction, json: bool) -> Exit {
    let Ok(store) = app::stores::redis_store(settings) else {
        return invalid_redis_url();
    };
    let keys = app::status::process_keys(settings);
    if let KeyAction::Accept { yes } = action {
        if !yes {
            complain("this replaces the recorded values of these keys: repeat it with --yes");
            return Exit::Unusable;
        }
        if let Err(error) = accept(&store, &keys).await {
            return store_failed(&error);
        }
    }
    let rows = match rows(&store, &keys).await {
        Ok(rows) => rows,
        Err(error) => return store_failed(&error),
    };
    if json {
        print_json(&rows);
    } else {
        print_rows(&rows);
    }
    if rows.iter().any(|row| row.differs) { Exit::No } else { Exit::Done }
}

async fn accept(store: &impl Store, keys: &[KeyCheck]) -> Result<(), StoreError> {
    let names: Vec<String> = keys.iter().map(ToString::to_string).collect();
    store.record_act(&acting().record(AuditAct::AcceptKeys).about(names.join(", "))).await?;
    store.accept_keys(keys).await
}

async fn rows(store: &impl Store, keys: &[KeyCheck]) -> Result<Vec<Row>, StoreError> {
    let recorded = store.recorded_keys().await?;
    let row = |key: &KeyCheck| {
        let other = recorded.iter().find(|other| other.name() == key.name());
        Row {
            key_use: key.key_use.as_str(),
            kid: (!key.kid.is_empty()).then(|| key.kid.clone()),
            fingerprint: key.fingerprint.to_string(),
            recorded: other.map(|other| other.fingerprint.to_string()),
            differs: other.is_some_and(|other| other.fingerprint != key.fingerprint),
        }
    };
    Ok(keys.iter().map(row).collect())
}

fn print_rows(rows: &[Row]) {
    let header = ["key", "fingerprint", "recorded", ""].map(str::to_owned).to_vec();
    let row = |row: &Row| {
        vec![
            [Some(row.key_use), row.kid.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" "),
            row.fingerprint.clone(),
            row.recorded.clone().unwrap_or_else(|| "not yet".to_owned()),
            if row.differs { "DIFFERS".to_owned() } else { String::new() },
        ]
    };
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows.iter().map(row)).collect();
    table(&rows).iter().for_each(|line| say(line));
}
