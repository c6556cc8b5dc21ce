//! `otpost conversion`: how many of the codes that were sent were verified.

use std::time::Duration;

use super::output::{Exit, invalid_redis_url, print_json, say, store_failed, warn_if_empty};
use super::table::table;
use crate::app;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::conversion::Dimension;
use crate::domain::conversion_report::{
    BLOCK_SENDS_SHOWN_MIN, ConversionQuery, ConversionReport, ConversionRow, ROWS_DEFAULT, ROWS_MAX,
    SINCE_RULE, parse_since,
};
use crate::flow::inspect::conversion::conversion;

const COLUMNS: [&str; 5] = ["sent", "verified", "unverified", "pending", "rate"];

#[derive(clap::Args)]
pub(super) struct ConversionArguments {
    /// The groups: channel, country, prefix, block, provider or sender.
    #[arg(long, value_name = "GROUP", default_value = "channel", value_parser = parse_by)]
    by: Dimension,
    /// The time: minutes (30m), hours (2h) or days (7d), from 5m to 15d.
    #[arg(long, value_name = "TIME", default_value = "2h", value_parser = parse_time)]
    since: Duration,
    /// The most rows; the rest is one row.
    #[arg(long, value_name = "N", default_value_t = ROWS_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_MAX)))]
    limit: u32,
    /// Print comma-separated values.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

fn parse_by(text: &str) -> Result<Dimension, &'static str> {
    Dimension::parse(text).ok_or(Dimension::RULE)
}

fn parse_time(text: &str) -> Result<Duration, &'static str> {
    parse_since(text).ok_or(SINCE_RULE)
}

pub(super) async fn run(settings: &Settings, arguments: &ConversionArguments, json: bool) -> Exit {
    let Ok(store) = app::stores::read_only_store(settings) else {
        return invalid_redis_url();
    };
    let ConversionArguments { by, since, limit, csv } = *arguments;
    let query = ConversionQuery { by, since, rows_max: limit };
    let report = match conversion(&store, query, settings.code_life, Clock::System.now()).await {
        Ok(report) => report,
        Err(error) => return store_failed(&error),
    };
    warn_if_empty(store.found_nothing());
    match (json, csv) {
        (true, _) => print_json(&[report]),
        (false, true) => print_csv(&report),
        (false, false) => print_report(&report, by),
    }
    Exit::Done
}

fn cells(row: &ConversionRow) -> [String; 4] {
    [row.sent, row.verified, row.unverified, row.pending].map(|count| count.to_string())
}

/// The names have neither commas nor quotation marks.
fn print_csv(report: &ConversionReport) {
    say(&format!("{},{}", report.by, COLUMNS.join(",")));
    for row in &report.rows {
        let rate = row.rate.map_or_else(String::new, |rate| rate.to_string());
        say(&format!("{},{},{rate}", row.name, cells(row).join(",")));
    }
}

fn print_report(report: &ConversionReport, by: Dimension) {
    let minutes = report.code_life / 60;
    say(&format!("codes sent from {} to {}; a code lives for {minutes} min", report.from, report.until));
    if report.total.sent == 0 && report.total.verified == 0 {
        say("no code was sent");
        return;
    }
    let headings = [report.by].into_iter().chain(COLUMNS).map(str::to_owned).collect();
    let rows = report.rows.iter().chain([&report.total]).map(|row| {
        let rate = row.rate.map_or_else(|| "too young".to_owned(), |rate| format!("{:.1} %", rate * 100.0));
        [row.name.clone()].into_iter().chain(cells(row)).chain([rate]).collect()
    });
    let rows: Vec<Vec<String>> = [headings].into_iter().chain(rows).collect();
    table(&rows).iter().for_each(|line| say(line));
    match by {
        Dimension::Prefix => {
            say("prefixes are of the numbering plan: a number may be ported to another network")
        }
        Dimension::Block => say(&format!(
            "a block is a number without its last three digits; those with fewer than {BLOCK_SENDS_SHOWN_MIN} codes are among `other`"
        )),
        Dimension::Channel | Dimension::Country | Dimension::Provider | Dimension::Sender => {}
    }
}
