//! `otpost config`: the settings in effect, and every error in them.

use serde::Serialize;

use super::output::{Exit, print_json, say};
use crate::config::{ConfigError, ConfigErrors, Settings, Shown};

/// A setting with its value or its error. An error in a file has no value.
#[derive(Serialize)]
struct SettingRow<'a> {
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

pub(super) fn show_errors(errors: &ConfigErrors, json: bool) -> Exit {
    print(&errors.shown, &errors.errors, json);
    print_notices(&errors.notices);
    eprintln!("\nthese settings are wrong:\n{errors}");
    hint_at_environment(errors);
    Exit::Unusable
}

/// Production, the default, requires settings that development does not need.
pub(super) fn hint_at_environment(errors: &ConfigErrors) {
    if errors.production_by_default {
        eprintln!("this is production, as ENVIRONMENT is not set; on a laptop set ENVIRONMENT=development");
    }
}

fn print_notices(notices: &[String]) {
    notices.iter().for_each(|notice| eprintln!("notice: {notice}"));
}

fn print(shown: &[Shown], errors: &[ConfigError], json: bool) {
    if json {
        let problem =
            |name| errors.iter().find(|error| error.name == name).map(|error| error.problem.as_str());
        let settings = shown.iter().map(|shown| SettingRow {
            name: shown.name,
            value: Some(&shown.value),
            given: shown.given,
            problem: problem(shown.name),
        });
        let is_setting = |error: &&ConfigError| shown.iter().any(|shown| shown.name == error.name);
        let others = errors.iter().filter(|error| !is_setting(error)).map(|error| SettingRow {
            name: &error.name,
            value: None,
            given: true,
            problem: Some(&error.problem),
        });
        return print_json(&settings.chain(others).collect::<Vec<_>>());
    }
    for shown in shown {
        let default = if shown.given || shown.value.starts_with('(') { "" } else { "  (default)" };
        say(&format!("{:<30} {}{default}", shown.name, shown.value));
    }
}
