//! `otpost config`: the settings in effect, and everything wrong with them.

use serde::Serialize;

use super::{Exit, hint_at_environment, print_json, say};
use crate::config::{ConfigError, ConfigErrors, Settings, Shown};

/// A setting with its value, or with what is wrong with it. What is wrong with a file has no value.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    given: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

pub(super) fn run(settings: &Settings, json: bool) -> Exit {
    print(&settings.shown, &[], json);
    print_notices(&settings.notices);
    Exit::Done
}

pub(super) fn show_faults(faults: &ConfigErrors, json: bool) -> Exit {
    print(&faults.shown, &faults.errors, json);
    print_notices(&faults.notices);
    eprintln!("\nthese settings are wrong:\n{faults}");
    hint_at_environment(faults);
    Exit::Unusable
}

fn print_notices(notices: &[String]) {
    notices.iter().for_each(|notice| eprintln!("notice: {notice}"));
}

fn print(shown: &[Shown], faults: &[ConfigError], json: bool) {
    if json {
        let problem =
            |name| faults.iter().find(|fault| fault.name == name).map(|fault| fault.problem.as_str());
        let settings = shown.iter().map(|shown| Row {
            name: shown.name,
            value: Some(&shown.value),
            given: shown.given,
            problem: problem(shown.name),
        });
        let is_setting = |fault: &&ConfigError| shown.iter().any(|shown| shown.name == fault.name);
        let others = faults.iter().filter(|fault| !is_setting(fault)).map(|fault| Row {
            name: &fault.name,
            value: None,
            given: true,
            problem: Some(&fault.problem),
        });
        return print_json(&settings.chain(others).collect::<Vec<_>>());
    }
    for shown in shown {
        let default = if shown.given || shown.value.starts_with('(') { "" } else { "  (default)" };
        say(&format!("{:<30} {}{default}", shown.name, shown.value));
    }
}
