//! `otpost topology`: declares the exchanges and queues, and exits.

use serde::Serialize;

use super::{Exit, print_json, say};
use crate::app;
use crate::config::Settings;

#[derive(Serialize)]
struct Row {
    declared: String,
}

pub(super) async fn run(settings: &Settings, json: bool) -> Exit {
    match app::parts::declare_topology(settings).await {
        Ok(declared) if json => {
            let rows: Vec<_> = declared.into_iter().map(|declared| Row { declared }).collect();
            print_json(&rows);
            Exit::Done
        }
        Ok(declared) => {
            declared.iter().for_each(|declared| say(declared));
            Exit::Done
        }
        Err(error) => {
            eprintln!("otpost: {error:#}");
            Exit::Failed
        }
    }
}
