//! `otpost kill-switch`: stops all sending in every worker, resumes it, or shows the state.

use clap::Subcommand;

use super::acting::{acting, say_done};
use super::output::{Exit, invalid_redis_url, print_json, say, store_failed, warn_if_empty};
use crate::app;
use crate::config::Settings;
use crate::domain::operator_reason::parse_reason;
use crate::flow::inspect::status::KillSwitchRow;
use crate::flow::operate::kill_switch::{self, KillSwitchChange, NO_REASON};

#[derive(Subcommand)]
pub(super) enum KillSwitchAction {
    /// Stop sending. Requests wait in the queue.
    On {
        /// The reason, shown to other operators: at most 200 characters.
        #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
        reason: Option<String>,
    },
    /// Resume sending.
    Off,
    /// Show whether sending is stopped: exit with 3 if it is.
    Status,
}

pub(super) async fn run(settings: &Settings, action: KillSwitchAction, json: bool) -> Exit {
    let is_query = matches!(action, KillSwitchAction::Status);
    let store = match is_query {
        true => app::stores::read_only_store(settings),
        false => app::stores::redis_store(settings),
    };
    let Ok(store) = store else {
        return invalid_redis_url();
    };
    let resumes = matches!(action, KillSwitchAction::Off);
    let by = acting();
    let row = match action {
        KillSwitchAction::Status => kill_switch::show(&store).await,
        KillSwitchAction::Off => kill_switch::turn_off(&store, None, &by).await,
        KillSwitchAction::On { reason } => kill_switch::turn_on(&store, reason, &by).await,
    };
    let row = match row {
        Ok(row) => row,
        Err(error) => return store_failed(&error),
    };
    warn_if_empty(store.found_nothing());
    let exit = if is_query && row.now.on { Exit::No } else { Exit::Done };
    if json {
        print_json(&[row]);
    } else {
        print_row(&row);
    }
    if resumes {
        say_done(&store, &by, json).await;
    }
    exit
}

fn print_row(row: &KillSwitchChange) {
    say(&format!("kill switch  {}", in_words(&row.now)));
    if let Some(before) = &row.before {
        say(&format!("before       {}", in_words(before)));
    }
}

fn in_words(state: &KillSwitchRow) -> String {
    let KillSwitchRow { on, since, reason } = state;
    if !on {
        return "off: messages are sent".to_owned();
    }
    let since = since.as_deref().unwrap_or("just now");
    format!("on since {since}: nothing is sent; reason: {}", reason.as_deref().unwrap_or(NO_REASON))
}
