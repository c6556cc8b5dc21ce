//! `otpost spend`: the budgets, and what was spent on what.

use std::time::Duration;

use super::output::{Exit, invalid_redis_url, print_json, say, store_failed, warn_if_empty};
use super::table::table;
use crate::app;
use crate::clock::Clock;
use crate::config::{Settings, read_prices};
use crate::domain::amount::Amount;
use crate::domain::budget::BudgetUse;
use crate::domain::conversion_report::{ROWS_DEFAULT, ROWS_MAX, SINCE_RULE, parse_since};
use crate::domain::spend::SpendGroup;
use crate::domain::spend_report::{OTHER_ROW, SpendQuery, SpendReport, SpendRow, SpendSample};
use crate::flow::inspect::spend::spend;

const COLUMNS: [&str; 3] = ["messages", "amount", "before"];

#[derive(clap::Args)]
pub(super) struct SpendArguments {
    /// The groups: channel, country, prefix, provider or sender.
    #[arg(long, value_name = "GROUP", default_value = "channel", value_parser = parse_by)]
    by: SpendGroup,
    /// The time: minutes (30m), hours (2h) or days (7d), from 5m to 15d.
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = parse_time)]
    since: Duration,
    /// The most rows; the rest is one row.
    #[arg(long, value_name = "N", default_value_t = ROWS_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_MAX)))]
    limit: u32,
    /// Print comma-separated values.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

fn parse_by(text: &str) -> Result<SpendGroup, &'static str> {
    SpendGroup::parse(text).ok_or(SpendGroup::RULE)
}

fn parse_time(text: &str) -> Result<Duration, &'static str> {
    parse_since(text).ok_or(SINCE_RULE)
}

pub(super) async fn run(settings: &Settings, arguments: &SpendArguments, json: bool) -> Exit {
    let Ok(store) = app::stores::read_only_store(settings) else {
        return invalid_redis_url();
    };
    let SpendArguments { by, since, limit, csv } = *arguments;
    let query = SpendQuery { by, since, rows_max: limit };
    let view = app::policy::spend_view(settings);
    let report = match spend(&store, &view, query, Clock::System.now()).await {
        Ok(report) => report,
        Err(error) => return store_failed(&error),
    };
    warn_if_empty(store.found_nothing());
    match (json, csv) {
        (true, _) => print_json(&[report]),
        (false, true) => print_csv(&report),
        (false, false) => print_report(&report, &prices_in_words(settings, &report)),
    }
    Exit::Done
}

/// Where the prices come from. The file is that of this machine: a worker may have another one.
fn prices_in_words(settings: &Settings, report: &SpendReport) -> String {
    let Some(file) = &settings.spend.prices_file else {
        return "prices are an estimate: PRICES_FILE is not set".to_owned();
    };
    let prices = match read_prices(file, report.currency) {
        Ok(prices) => prices,
        Err(fault) => return format!("prices are not known here: PRICES_FILE {fault}"),
    };
    let providers: Vec<&str> = prices.providers().collect();
    let mut words = format!("prices of {} rows of PRICES_FILE: {}", prices.count(), providers.join(", "));
    let names = report.rows.iter().map(|row| row.name.as_str());
    let without: Vec<&str> = names.filter(|name| !providers.contains(name) && *name != OTHER_ROW).collect();
    if report.by == SpendGroup::Provider.as_str() && !without.is_empty() {
        words.push_str(&format!("; the highest price counts for {}", without.join(", ")));
    }
    words
}

fn cells(row: &SpendRow) -> Vec<String> {
    let before = row.before.map_or_else(String::new, |amount| amount.to_string());
    vec![row.name.clone(), row.messages.to_string(), row.amount.to_string(), before]
}

/// The names have neither commas nor quotation marks.
fn print_csv(report: &SpendReport) {
    say(&format!("{},{}", report.by, COLUMNS.join(",")));
    report.rows.iter().for_each(|row| say(&cells(row).join(",")));
}

fn print_report(report: &SpendReport, prices: &str) {
    say(&format!("amounts in {}; {prices}", report.currency));
    if !report.budgets.is_empty() {
        let headings = ["budget", "of", "reserved", "committed", "left", "until"].map(str::to_owned).into();
        let rows: Vec<Vec<String>> =
            [headings].into_iter().chain(report.budgets.iter().map(budget)).collect();
        table(&rows).iter().for_each(|line| say(line));
    }
    let before = report.days_before.map_or_else(String::new, |days| {
        format!("; before: {days} {} earlier", if days == 1 { "day" } else { "days" })
    });
    say(&format!("messages from {} to {}{before}", report.from, report.until));
    let headings = [report.by].into_iter().chain(COLUMNS).map(str::to_owned).collect();
    let rows = report.rows.iter().chain([&report.total]).map(cells);
    let rows: Vec<Vec<String>> = [headings].into_iter().chain(rows).collect();
    table(&rows).iter().for_each(|line| say(line));
    print_sample(&report.sample);
}

fn budget(of: &BudgetUse) -> Vec<String> {
    let amount = |amount: Option<Amount>| amount.map_or_else(|| "-".to_owned(), |amount| amount.to_string());
    vec![
        of.period.as_str().to_owned(),
        amount(of.budget),
        of.reserved.to_string(),
        of.committed.to_string(),
        amount(of.left),
        of.until.to_string(),
    ]
}

fn print_sample(sample: &SpendSample) {
    let SpendSample { messages, expected, paid, deviation, other_currency } = sample;
    if let Some(deviation) = deviation {
        say(&format!("sampled {messages} messages: {expected} expected, {paid} paid, {deviation:+} %"));
    }
    if *other_currency > 0 {
        say(&format!("sampled {other_currency} messages with a price in another currency"));
    }
}
