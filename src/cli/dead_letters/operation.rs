//! The arguments and the exit code of a replay or a drop.

use clap::Args;

use super::print;
use crate::app;
use crate::broker::DeadLetters;
use crate::cli::acting::{acting, record_look, say_done};
use crate::cli::output::{Exit, complain, invalid_redis_url, print_json, store_failed};
use crate::config::Settings;
use crate::domain::audit::AuditAct;
use crate::flow::operate::acting::Acting;
use crate::flow::operate::dead_letters::entry::Entry;
use crate::flow::operate::dead_letters::operation::{self, FAILED, NOT_FOUND, Operation, REASONS, REFUSED};
use crate::store::{AuditStore as _, Store};

#[derive(Args, Clone)]
pub(in crate::cli) struct Selection {
    /// Ids from the list.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All dead letters within --limit.
    #[arg(long)]
    pub(super) all: bool,
    /// With --all: only those with this reason.
    #[arg(long, conflicts_with = "ids", value_parser = REASONS)]
    reason: Option<String>,
    /// Print what would happen, and change nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Applies an operation to every selected entry, and prints the results.
pub(super) async fn apply(
    settings: &Settings,
    operation: Operation<'_>,
    selection: &Selection,
    entries: &[Entry],
    queue: &mut dyn DeadLetters,
    json: bool,
) -> Exit {
    let selection = operation::Selection {
        ids: &selection.ids,
        all: selection.all.then_some(selection.reason.as_deref()),
        dry_run: selection.dry_run,
    };
    let by = acting();
    let store = match record(settings, operation, &selection, entries, &by).await {
        Ok(store) => store,
        Err(exit) => return exit,
    };
    let rows = operation::apply(operation, &selection, entries, queue).await;
    if json {
        print_json(&rows);
    } else {
        rows.iter().for_each(print::operation);
    }
    if rows.is_empty() {
        eprintln!("otpost: no dead letter was found");
    }
    if let Some(store) = store {
        say_done(&store, &by, json).await;
    }
    let any = |result| rows.iter().any(|row| row.result == result);
    match () {
        () if any(FAILED) => Exit::Failed,
        () if rows.is_empty() || any(REFUSED) || any(NOT_FOUND) => Exit::No,
        () => Exit::Done,
    }
}

/// Records the operation before it begins. Returns the store, unless nothing will be changed.
async fn record(
    settings: &Settings,
    operation: Operation<'_>,
    selection: &operation::Selection<'_>,
    entries: &[Entry],
    by: &Acting,
) -> Result<Option<impl Store + use<>>, Exit> {
    let ids: Vec<&str> =
        entries.iter().filter(|entry| selection.includes(entry)).map(|entry| entry.id.as_str()).collect();
    if selection.dry_run || ids.is_empty() {
        return Ok(None);
    }
    let store = audit_store(settings)?;
    let act = match operation {
        Operation::Replay { .. } => AuditAct::ReplayDeadLetters,
        Operation::Drop => AuditAct::DropDeadLetters,
    };
    let record = by.record(act).about(ids.join(" "));
    store.record_act(&record).await.map_err(|error| store_failed(&error))?;
    Ok(Some(store))
}

/// Records a look at a dead letter, before it is shown.
pub(super) async fn record_look_at(settings: &Settings, entry: &Entry) -> Result<(), Exit> {
    let record = acting().record(AuditAct::LookDeadLetters).about(&entry.id);
    let store = audit_store(settings)?;
    record_look(&store, record).await.map_err(|error| store_failed(&error))
}

fn audit_store(settings: &Settings) -> Result<impl Store + use<>, Exit> {
    if settings.redis_url.is_none() {
        complain("REDIS_URL must be set: the audit record of this is written there");
        return Err(Exit::Unusable);
    }
    app::stores::redis_store(settings).map_err(|_| invalid_redis_url())
}
