//! `otpost check-number`: could a code be sent there?

use super::{Exit, print_json, say};
use crate::app;
use crate::config::Settings;
use crate::domain::phone;
use crate::flow::inspect::numbers::{self, NumberRow};

pub(super) fn run(settings: &Settings, numbers: &[String], json: bool) -> Exit {
    let rules = app::policy::rules(settings);
    phone::make_room();
    let rows: Vec<NumberRow> = numbers.iter().map(|number| numbers::number(&rules, number)).collect();
    if json {
        print_json(&rows);
    } else {
        rows.iter().for_each(print_row);
    }
    if rows.iter().all(|row| row.sendable) { Exit::Done } else { Exit::No }
}

fn print_row(row: &NumberRow) {
    let known = [row.formatted.as_deref(), row.region.as_deref(), row.kind];
    let known: Vec<&str> = known.into_iter().flatten().collect();
    let known = if known.is_empty() { "not valid".to_owned() } else { known.join(", ") };
    let verdict = match &row.why_not {
        None => "sendable".to_owned(),
        Some(why) => format!("not sendable: {why}"),
    };
    say(&format!("{:<20} {known}; {verdict}", row.number));
}
