//! `otpost config`: the settings in effect, and everything wrong with them.

use serde::Serialize;

use super::{Exit, print_json, say};
use crate::config::{Fault, Faults, Settings, Shown};

/// A setting with its value, or with what is wrong with it.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    shown: &'a Shown,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

pub(super) fn run(settings: &Settings, json: bool) -> Exit {
    print(&settings.shown, &[], json);
    for notice in &settings.notices {
        eprintln!("notice: {notice}");
    }
    Exit::Done
}

pub(super) fn show_faults(faults: &Faults, json: bool) -> Exit {
    print(&faults.shown, &faults.faults, json);
    eprintln!("\nthese settings are wrong:\n{faults}");
    Exit::Unusable
}

fn print(shown: &[Shown], faults: &[Fault], json: bool) {
    if json {
        let problem =
            |name| faults.iter().find(|fault| fault.name == name).map(|fault| fault.problem.as_str());
        let rows: Vec<_> = shown.iter().map(|shown| Row { shown, problem: problem(shown.name) }).collect();
        return print_json(&rows);
    }
    for shown in shown {
        let default = if shown.given || shown.value == "(not set)" { "" } else { "  (default)" };
        say(&format!("{:<30} {}{default}", shown.name, shown.value));
    }
}
