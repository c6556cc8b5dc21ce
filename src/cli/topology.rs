//! `otpost topology`: declares the exchanges and queues, and exits.

use super::output::{Exit, complain, print_json, say};
use crate::app;
use crate::config::Settings;

pub(super) async fn run(settings: &Settings, json: bool) -> Exit {
    match app::brokers::declare_topology(settings).await {
        Ok(declared) if json => {
            print_json(&declared);
            Exit::Done
        }
        Ok(declared) => {
            declared.iter().for_each(|declared| say(&declared.to_string()));
            Exit::Done
        }
        Err(error) => {
            complain(&format!("{error:#}"));
            Exit::Failed
        }
    }
}
