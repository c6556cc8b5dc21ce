//! `otpost check-number`: whether a code could be sent to each number.

use super::output::{Exit, print_json, say};
use crate::app;
use crate::config::Settings;
use crate::domain::phone;
use crate::flow::inspect::numbers::{self, NumberRow};

pub(super) fn run(settings: &Settings, numbers: &[String], json: bool) -> Exit {
    let rules = app::policy::rules(settings);
    phone::enlarge_cache();
    let rows: Vec<NumberRow> = numbers.iter().map(|number| numbers::check_number(&rules, number)).collect();
    if json {
        print_json(&rows);
    } else {
        rows.iter().for_each(print_row);
    }
    if rows.iter().all(|row| row.sendable) { Exit::Done } else { Exit::No }
}

fn print_row(row: &NumberRow) {
    let details = [row.formatted.as_deref(), row.region.as_deref(), row.kind];
    let details: Vec<&str> = details.into_iter().flatten().collect();
    let details = if details.is_empty() { "not valid".to_owned() } else { details.join(", ") };
    let verdict = match &row.why_not {
        None => "sendable".to_owned(),
        Some(reason) => format!("not sendable: {reason}"),
    };
    say(&format!("{:<20} {details}; {verdict}", row.number));
}
