//! `otpost dead-letters`: lists, shows, replays and drops dead letters.
//!
//! Bodies are never shown, only a masked excerpt. A dead letter leaves the queue after the broker has confirmed its
//! replay. A crash in between keeps it: a second replay has the same new id, so that nothing is sent twice.

mod operation;
mod print;

use std::sync::Arc;

use clap::{Args, Subcommand};

use self::operation::{Selection, apply, record_look_at};
use super::output::{Exit, complain};
use crate::app;
use crate::broker::DeadLetters;
use crate::config::Settings;
use crate::flow::operate::dead_letters::operation::{Operation, REASONS};
use crate::flow::operate::dead_letters::{Listing, read};
use crate::store::Store;

#[derive(Subcommand)]
pub(super) enum DeadLetterAction {
    /// List dead letters, oldest first.
    List {
        /// Only those with this reason.
        #[arg(long, value_parser = REASONS)]
        reason: Option<String>,
        #[command(flatten)]
        browse: Browse,
    },
    /// Show everything about one dead letter but its body, which is shown as a masked excerpt.
    Show {
        /// An id from the list.
        id: String,
        #[command(flatten)]
        browse: Browse,
    },
    /// Publish the requests in dead letters again, under new ids, and remove the dead letters.
    #[command(override_usage = "otpost dead-letters replay [OPTIONS] <IDS>...
       otpost dead-letters replay [OPTIONS] --all [--reason <REASON>]")]
    Replay {
        #[command(flatten)]
        selection: Selection,
        /// Also replay requests that have expired, were sent or may have been sent: people may get a second message.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        browse: Browse,
    },
    /// Remove dead letters for good.
    #[command(override_usage = "otpost dead-letters drop [OPTIONS] <IDS>...
       otpost dead-letters drop [OPTIONS] --all [--reason <REASON>] --yes")]
    Drop {
        #[command(flatten)]
        selection: Selection,
        /// Confirm --all; without it, only print what would be dropped. Ids need no confirmation.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        browse: Browse,
    },
}

#[derive(Args)]
pub(super) struct Browse {
    /// The most dead letters to read, oldest first. Before RabbitMQ 4.3 each read counts as one of the million returns that
    /// the queue allows.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
}

pub(super) async fn run(settings: &Settings, action: &DeadLetterAction, json: bool) -> Exit {
    let mut queue = match app::brokers::dead_letters(settings).await {
        Ok(queue) => queue,
        Err(error) => {
            complain(&format!("{error:#}"));
            return Exit::Failed;
        }
    };
    let exit = run_on(queue.as_mut(), settings, action, json).await;
    queue.close().await;
    exit
}

async fn run_on(
    queue: &mut dyn DeadLetters,
    settings: &Settings,
    action: &DeadLetterAction,
    json: bool,
) -> Exit {
    let (DeadLetterAction::List { browse, .. }
    | DeadLetterAction::Show { browse, .. }
    | DeadLetterAction::Replay { browse, .. }
    | DeadLetterAction::Drop { browse, .. }) = action;
    let Listing { mut entries, more } = match read(queue, browse.limit.into()).await {
        Ok(listing) => listing,
        Err(error) => {
            complain(&format!("RabbitMQ (AMQP_URL) {error}"));
            return Exit::Failed;
        }
    };
    if more {
        eprintln!(
            "otpost: there are more dead letters than the {} that were read: --limit reads more",
            entries.len()
        );
    }
    match action {
        DeadLetterAction::List { reason, .. } => {
            entries.retain(|entry| reason.as_ref().is_none_or(|reason| *reason == entry.dead_letter.reason));
            print::list(&entries, json)
        }
        DeadLetterAction::Show { id, .. } => {
            entries.retain(|entry| entry.has_id(id));
            if let Some(entry) = entries.first()
                && let Err(exit) = record_look_at(settings, entry).await
            {
                return exit;
            }
            print::show(&entries, json)
        }
        DeadLetterAction::Replay { selection, force, .. } => {
            let store = settings.redis_url.is_some().then(|| app::stores::read_only_store(settings).ok());
            let store = store.flatten().map(|store| Arc::new(store) as Arc<dyn Store>);
            let replayer = app::brokers::replayer(settings, store);
            let replay = Operation::Replay { replayer: &replayer, force: *force };
            apply(settings, replay, selection, &entries, queue, json).await
        }
        DeadLetterAction::Drop { selection, yes, .. } => {
            let unconfirmed = selection.all && !yes && !selection.dry_run;
            let mut selection = selection.clone();
            selection.dry_run |= unconfirmed;
            match apply(settings, Operation::Drop, &selection, &entries, queue, json).await {
                Exit::Done if unconfirmed => {
                    eprintln!("otpost: nothing was dropped: add --yes to drop all of these");
                    Exit::Unusable
                }
                exit => exit,
            }
        }
    }
}
