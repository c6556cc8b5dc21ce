//! The arguments and the exit code of a replay or a drop.

use clap::Args;

use super::print;
use crate::broker::DeadLetters;
use crate::cli::output::{Exit, print_json};
use crate::flow::operate::dead_letters::entry::Entry;
use crate::flow::operate::dead_letters::operation::{self, FAILED, NOT_FOUND, Operation, REASONS, REFUSED};

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
    let rows = operation::apply(operation, &selection, entries, queue).await;
    if json {
        print_json(&rows);
    } else {
        rows.iter().for_each(print::operation);
    }
    if rows.is_empty() {
        eprintln!("otpost: no dead letter was found");
    }
    let any = |result| rows.iter().any(|row| row.result == result);
    match () {
        () if any(FAILED) => Exit::Failed,
        () if rows.is_empty() || any(REFUSED) || any(NOT_FOUND) => Exit::No,
        () => Exit::Done,
    }
}
