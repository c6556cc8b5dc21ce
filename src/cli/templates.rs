//! `otpost templates`: the cost of every template and the errors in it, and the cost of any text.

use std::io::Read as _;

use clap::Subcommand;

use super::output::{Exit, print_json, say};
use crate::app;
use crate::config::Settings;
use crate::flow::inspect::texts::{self, Cost, CostRow, TemplateRow};

const INPUT_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[derive(Subcommand)]
pub(super) enum TemplateAction {
    /// Check every template in every language with its longest values: exit with 3 if one is wrong.
    Lint,
    /// Show what texts cost, as written and folded to GSM-7. Reads lines, or with --json a list of strings.
    Measure,
}

pub(super) fn run(settings: &Settings, action: &TemplateAction, json: bool) -> Exit {
    match action {
        TemplateAction::Lint => lint(settings, json),
        TemplateAction::Measure => measure(json),
    }
}

fn lint(settings: &Settings, json: bool) -> Exit {
    let rows = texts::check_texts(app::texts::text_settings(settings));
    if json {
        print_json(&rows);
    } else {
        print_lint(&rows);
    }
    if rows.iter().all(|row| row.problem.is_none()) { Exit::Done } else { Exit::No }
}

fn print_lint(rows: &[TemplateRow]) {
    let line = |row: [&str; 6]| {
        let [template, locale, encoding, units, segments, from] = row;
        say(&format!("{template:<16} {locale:<8} {encoding:<8} {units:>5} {segments:>8}  {from}"));
    };
    line(["template", "locale", "encoding", "units", "segments", "from"]);
    for TemplateRow { template, locale, from, cost, problem, is_too_long_for_android, .. } in rows {
        if let (Some(template), Some(locale)) = (template, locale) {
            match cost {
                Some(Cost { encoding, units, segments }) => {
                    line([template, locale, encoding, &units.to_string(), &segments.to_string(), from]);
                }
                None => line([template, locale, "email", "-", "-", from]),
            }
        }
        if *is_too_long_for_android {
            say(&format!(
                "note: {from}: over 140 bytes with an Android app's hash, so the app cannot read it"
            ));
        }
        if let Some(problem) = problem {
            say(&format!("wrong: {from}: {problem}"));
        }
    }
}

fn measure(json: bool) -> Exit {
    let mut input = String::new();
    let read = std::io::stdin().take(INPUT_BYTES_MAX + 1).read_to_string(&mut input);
    if read.is_err() || input.len() as u64 > INPUT_BYTES_MAX {
        eprintln!("otpost: the input must be UTF-8 of at most {INPUT_BYTES_MAX} bytes");
        return Exit::Unusable;
    }
    let texts: Option<Vec<String>> = match json {
        true => serde_json::from_str(&input).ok(),
        false => Some(input.lines().map(str::to_owned).collect()),
    };
    let Some(texts) = texts else {
        eprintln!("otpost: with --json the input must be a list of strings");
        return Exit::Unusable;
    };
    let rows: Vec<CostRow> = texts.into_iter().map(texts::measure).collect();
    if json {
        print_json(&rows);
    } else {
        rows.iter().for_each(print_cost);
    }
    Exit::Done
}

fn print_cost(row: &CostRow) {
    let in_words = |Cost { encoding, units, segments }: &Cost| {
        format!("{encoding}, {units} units, {segments} segment{}", if *segments == 1 { "" } else { "s" })
    };
    say(&row.text);
    say(&format!("  as written  {}", in_words(&row.cost)));
    if row.folded.text != row.text {
        say(&format!("  folded      {}: {}", in_words(&row.folded.cost), row.folded.text));
    }
}
