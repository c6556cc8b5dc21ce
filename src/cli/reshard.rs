//! `otpost store reshard`: changes the number of shards while the gateway is stopped.

use clap::Args;
use serde_json::json;

use super::acting::acting;
use super::output::{Exit, complain, invalid_redis_url, print_json, say, store_failed};
use crate::app;
use crate::config::Settings;
use crate::domain::audit::AuditAct;
use crate::domain::shards::Shards;
use crate::store::resharding::{ReshardAnswer, ReshardRefusal, Resharding, StoredCounts};

#[derive(Args)]
pub(super) struct ReshardArguments {
    /// The new number: 1, 16 or 256.
    #[arg(value_parser = read_shards)]
    shards: Shards,
    /// Forget limits, codes, completed requests and awaited receipts. Only suppressions and the kill switch stay.
    #[arg(long)]
    forget_limits: bool,
    /// Change nothing.
    #[arg(long)]
    dry_run: bool,
}

fn read_shards(text: &str) -> Result<Shards, String> {
    text.parse().map_err(|()| Shards::RULE.to_owned())
}

pub(super) async fn run(settings: &Settings, arguments: &ReshardArguments, json: bool) -> Exit {
    let Ok(store) = app::stores::redis_store(settings) else { return invalid_redis_url() };
    let ReshardArguments { shards, forget_limits, dry_run } = *arguments;
    let change = Resharding { to: shards, forget_limits, dry_run };
    let record = acting().record(AuditAct::Reshard).about(in_record(&change));
    match store.reshard_recorded(&change, (!dry_run).then_some(&record)).await {
        Ok(ReshardAnswer::Done { from, suppressions, forgotten }) => {
            if json {
                print_json(&[json!({
                    "from": from.count(), "to": shards.count(), "dry_run": dry_run, "suppressions": suppressions,
                    "forgotten": row(&forgotten),
                })]);
            } else {
                print_change(&change, from, suppressions, &forgotten);
            }
            Exit::Done
        }
        Ok(ReshardAnswer::Unneeded) => {
            if json {
                print_json::<serde_json::Value>(&[]);
            }
            complain(&format!("there is no data for another number of shards than {shards}"));
            Exit::Done
        }
        Ok(ReshardAnswer::Refused(refusal)) => {
            complain(&reason(&refusal, shards));
            Exit::No
        }
        Err(error) => store_failed(&error),
    }
}

fn in_record(change: &Resharding) -> String {
    let limits = if change.forget_limits { ", limits forgotten" } else { "" };
    format!("to {}{limits}", change.to)
}

fn print_change(change: &Resharding, from: Shards, suppressions: u64, forgotten: &StoredCounts) {
    let (would, to) = (if change.dry_run { "would be " } else { "" }, change.to);
    say(&format!("shards: {from} -> {to}{}", if change.dry_run { " (dry run)" } else { "" }));
    say(&format!("{would}moved: {suppressions} suppressions"));
    say(&format!("{would}forgotten: {}", in_words(forgotten)));
    if !change.dry_run {
        say(&format!("set REDIS_SHARDS={to} for every process before the start"));
    }
}

fn row(counts: &StoredCounts) -> serde_json::Value {
    json!({
        "completed_requests": counts.completed_requests, "limits": counts.limits, "codes": counts.codes,
        "receipts": counts.receipts,
    })
}

fn in_words(counts: &StoredCounts) -> String {
    let StoredCounts { completed_requests, limits, codes, receipts, .. } = counts;
    format!(
        "limits of {limits} recipients, users, IPs and networks; {codes} codes; {completed_requests} marks of completed \
         requests; {receipts} awaited receipts"
    )
}

fn reason(refusal: &ReshardRefusal, to: Shards) -> String {
    match refusal {
        ReshardRefusal::Running => {
            "a process is running, or was within the last 15 s: stop all workers and APIs, then try again"
                .to_owned()
        }
        ReshardRefusal::OldLayout => {
            "data of an earlier version is still being moved: wait a week after the upgrade".to_owned()
        }
        ReshardRefusal::OtherChange { from, to } => {
            format!(
                "a change from {from} to {to} shards is not finished: run `otpost store reshard {to}` first"
            )
        }
        ReshardRefusal::Unreadable(count) => {
            format!(
                "values that cannot be read: {count}. Find them with `otpost store show`, and delete them"
            )
        }
        ReshardRefusal::LiveRequests(count) => format!(
            "requests in progress: {count}. Let the workers finish them, or wait until their codes have expired"
        ),
        ReshardRefusal::Limits(counts) => {
            let counts = in_words(counts);
            format!(
                "these would be forgotten: {counts}. Wait a day, or run `otpost store reshard {to} --forget-limits`"
            )
        }
    }
}
