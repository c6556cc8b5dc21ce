//! Compares `docs/settings.md` with the program: the names of settings, secrets, defaults, bounds, choices and
//! commands.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use clap::CommandFactory as _;
use otpost::cli::Arguments;
use otpost::config::{ConfigError, Role, Settings, Shown};

const PAGE: &str = "docs/settings.md";

/// One setting as the page shows it.
struct Row {
    is_secret: bool,
    default: String,
    rule: String,
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    std::fs::read_to_string(path).expect("the page is text")
}

/// The rows of settings, by name. Rows of commands have fewer columns.
fn rows() -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for line in page().lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let &["", first, default, rule, ""] = &cells[..] else { continue };
        let Some((name, suffix)) = first.strip_prefix('`').and_then(|rest| rest.split_once('`')) else {
            continue;
        };
        assert!(matches!(suffix, "" | " **S**"), "{line}");
        let row = Row { is_secret: !suffix.is_empty(), default: default.to_owned(), rule: rule.to_owned() };
        assert!(rows.insert(name.to_owned(), row).is_none(), "{name} has two rows");
    }
    rows
}

/// All settings as `otpost config` shows them, and everything wrong with them.
fn config(variables: &[(&str, &str)]) -> (Vec<Shown>, Vec<ConfigError>) {
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    match Settings::read(Role::Show, variables, Path::new("/nonexistent"), |_| Vec::new()) {
        Ok(settings) => (settings.shown, Vec::new()),
        Err(faults) => (faults.shown, faults.errors),
    }
}

/// The same with every setting set to a text that is neither a number nor a choice.
fn config_with_nonsense() -> (Vec<Shown>, Vec<ConfigError>) {
    let (shown, _) = config(&[]);
    config(&shown.iter().map(|shown| (shown.name, "nonsense")).collect::<Vec<_>>())
}

#[test]
fn the_page_has_one_row_for_every_setting_and_no_other() {
    let (shown, _) = config(&[]);
    let settings: BTreeSet<&str> = shown.iter().map(|shown| shown.name).collect();
    let rows = rows();
    let on_page: BTreeSet<&str> = rows.keys().map(String::as_str).collect();
    let differences: Vec<&&str> = on_page.symmetric_difference(&settings).collect();
    assert!(differences.is_empty(), "on the page or in the program only: {differences:?}");
}

#[test]
fn the_page_marks_exactly_the_settings_that_are_never_shown() {
    let (shown, _) = config_with_nonsense();
    let secret: BTreeSet<&str> =
        shown.iter().filter(|shown| shown.value == "(set)").map(|shown| shown.name).collect();
    let rows = rows();
    let marked: BTreeSet<&str> =
        rows.iter().filter(|(_, row)| row.is_secret).map(|(name, _)| name.as_str()).collect();
    assert_eq!(marked, secret);
}

#[test]
fn the_page_shows_the_defaults_in_effect() {
    let (production, missing) = config(&[]);
    let (development, faults) = config(&[("ENVIRONMENT", "development")]);
    assert!(faults.is_empty(), "{faults:?}");
    let in_development: BTreeMap<&str, &str> =
        development.iter().map(|shown| (shown.name, shown.value.as_str())).collect();
    let rows = rows();
    for Shown { name, value, .. } in &production {
        let default = &rows[*name].default;
        let (in_general, there) = match default.split_once("; development: ") {
            Some((in_general, there)) => (in_general, Some(there)),
            None => (default.as_str(), None),
        };
        let is_required = missing.iter().any(|fault| fault.name == **name);
        match (value.as_str(), is_required) {
            ("(not set)", true) => assert_eq!(in_general, "required", "{name}"),
            ("(not set)", false) => assert_eq!(in_general, "none", "{name}"),
            (value, _) => assert_eq!(in_general, format!("`{value}`"), "{name}"),
        }
        match (*name, in_development[name]) {
            ("ENVIRONMENT", _) => assert_eq!(there, None, "{name}"),
            // A default that is a secret is not shown.
            (_, "(development default)") => assert!(there.is_some(), "{name}"),
            (_, same) if same == value => assert_eq!(there, None, "{name}"),
            (_, other) => assert_eq!(there, Some(&*format!("`{other}`")), "{name}"),
        }
    }
}

#[test]
fn the_page_shows_the_bounds_and_choices_that_are_checked() {
    let (_, faults) = config_with_nonsense();
    let rows = rows();
    let mut checked = 0;
    for ConfigError { name, problem } in &faults {
        let Some(Row { rule, .. }) = rows.get(name) else { continue };
        if let Some((_, bounds)) = problem.split_once("number from ") {
            let bounds = bounds.split(',').next().expect("the bounds").replace(" to ", "–");
            assert!(rule.contains(&bounds), "{name}: {bounds}");
            checked += 1;
        } else if let Some(choices) = problem.strip_prefix("must be one of ") {
            for choice in choices.split(", ") {
                assert!(rule.contains(&format!("`{choice}`")), "{name}: {choice}");
            }
            checked += 1;
        }
    }
    assert!(checked >= 24, "{checked} rules were compared");
}

#[test]
fn the_page_has_a_row_for_every_command() {
    let page = page();
    for command in Arguments::command().get_subcommands() {
        let name = format!("| `otpost {}", command.get_name());
        assert!(page.contains(&name), "{name}");
    }
}
