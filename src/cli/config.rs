//! `otpost config`: the settings in effect, and everything wrong with them.

use serde::Serialize;

use super::{Exit, print_json};
use crate::config::{Faults, Settings};

pub(super) fn run(settings: &Settings, json: bool) -> Exit {
    if json {
        print_json(&settings.shown);
        return Exit::Done;
    }
    for shown in &settings.shown {
        let default = if shown.given || shown.value == "(not set)" {
            ""
        } else {
            "  (default)"
        };
        println!("{:<30} {}{default}", shown.name, shown.value);
    }
    for notice in &settings.notices {
        println!("notice: {notice}");
    }
    Exit::Done
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    problem: &'a str,
}

pub(super) fn show_faults(faults: &Faults, json: bool) -> Exit {
    if json {
        let rows: Vec<_> = faults
            .0
            .iter()
            .map(|fault| Row {
                name: &fault.name,
                problem: &fault.problem,
            })
            .collect();
        print_json(&rows);
    } else {
        eprintln!("these settings are wrong:\n{faults}");
    }
    Exit::Unusable
}
