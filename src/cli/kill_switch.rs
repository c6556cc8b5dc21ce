//! `otpost kill-switch`: stops all sending in every worker, resumes it, or shows the state.

use clap::Subcommand;
use serde::Serialize;

use super::output::{Exit, invalid_redis_url, print_json, say, store_failed, warn_if_empty};
use super::reason::parse_reason;
use crate::app;
use crate::config::Settings;
use crate::store::{KillSwitch, Store, StoreError};

const NO_REASON: &str = "(none given)";

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

#[derive(Serialize)]
struct SwitchState {
    on: bool,
    /// Absent if it was turned on just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The state now and, after a change, the state before.
#[derive(Serialize)]
struct SwitchRow {
    #[serde(flatten)]
    now: SwitchState,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<SwitchState>,
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
    let row = match apply(&store, action).await {
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
    exit
}

async fn apply(store: &impl Store, action: KillSwitchAction) -> Result<SwitchRow, StoreError> {
    match action {
        KillSwitchAction::Status => Ok(SwitchRow { now: state_of(store.kill_switch().await?), before: None }),
        KillSwitchAction::Off => {
            let before = state_of(store.set_kill_switch(None).await?);
            Ok(SwitchRow { now: state_of(None), before: Some(before) })
        }
        KillSwitchAction::On { reason } => {
            // Without a new reason, a switch that is on keeps its reason.
            let reason = match reason {
                Some(reason) => reason,
                None => store.kill_switch().await?.map_or_else(|| NO_REASON.to_owned(), |on| on.reason),
            };
            let before = state_of(store.set_kill_switch(Some(&reason)).await?);
            let now = SwitchState { on: true, since: before.since.clone(), reason: Some(reason) };
            Ok(SwitchRow { now, before: Some(before) })
        }
    }
}

fn state_of(switch: Option<KillSwitch>) -> SwitchState {
    match switch {
        None => SwitchState { on: false, since: None, reason: None },
        Some(KillSwitch { since, reason }) => {
            SwitchState { on: true, since: Some(since.to_string()), reason: Some(reason) }
        }
    }
}

fn print_row(row: &SwitchRow) {
    say(&format!("kill switch  {}", in_words(&row.now)));
    if let Some(before) = &row.before {
        say(&format!("before       {}", in_words(before)));
    }
}

fn in_words(state: &SwitchState) -> String {
    let SwitchState { on, since, reason } = state;
    if !on {
        return "off: messages are sent".to_owned();
    }
    let since = since.as_deref().unwrap_or("just now");
    format!("on since {since}: nothing is sent; reason: {}", reason.as_deref().unwrap_or(NO_REASON))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn repeating_a_change_keeps_the_time_and_replaces_only_a_given_reason() {
        let store = MemoryStore::new(Clock::System);
        let on =
            |reason: Option<&str>| apply(&store, KillSwitchAction::On { reason: reason.map(str::to_owned) });
        assert_eq!(on(None).await.expect("answers").now.reason.as_deref(), Some(NO_REASON));
        let since = store.kill_switch().await.expect("answers").expect("it is on").since;
        let row = on(Some("pumping")).await.expect("answers");
        assert_eq!(row.now.since.as_deref(), Some(since.to_string().as_str()));
        assert_eq!(row.before.expect("a change shows the state before").reason.as_deref(), Some(NO_REASON));
        assert_eq!(on(None).await.expect("answers").now.reason.as_deref(), Some("pumping"));
        for was_on in [true, false] {
            let row = apply(&store, KillSwitchAction::Off).await.expect("answers");
            assert_eq!((row.now.on, row.before.map(|before| before.on)), (false, Some(was_on)));
        }
    }
}
