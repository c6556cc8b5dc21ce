//! Medians with their spread, as a table for people and as one line of JSON for machines.

use serde_json::{Value, json};

use crate::checks::Checked;
use crate::run::Measured;
use crate::{Args, Side};

#[derive(Default)]
pub struct Report {
    worker: Vec<Measured>,
    bare: Vec<Measured>,
}

struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

pub fn name(side: Side) -> &'static str {
    match side {
        Side::Worker => "worker",
        Side::Bare => "bare",
    }
}

impl Report {
    pub fn add(&mut self, side: Side, measured: Measured) {
        match side {
            Side::Worker => self.worker.push(measured),
            Side::Bare => self.bare.push(measured),
        }
    }

    pub fn print(&self, args: &Args) {
        let rows = self.rows();
        let Args { messages, pairs, concurrency, latency_ms, .. } = args;
        let runtime = args.bare_runtime.name();
        println!(
            "\n{pairs} pairs of {messages} messages, {concurrency} at once, Twilio answers in {latency_ms} ms"
        );
        println!("the bare loop's runtime: {runtime}\n");
        let mut line = json!({
            "bench": "pipeline", "messages": messages, "pairs": pairs, "concurrency": concurrency,
            "latency_ms": latency_ms, "bare_runtime": runtime,
        });
        print_rows(&rows, &mut line);
    }

    /// The measurements. A ratio is taken within each
    /// pair, of runs that were neighbours in time, and only then the median.
    fn rows(&self) -> Vec<Row> {
        let each = |side: &[Measured], value: fn(&Measured) -> f64| side.iter().map(value).collect();
        let ratio = |value: fn(&Measured) -> f64| {
            self.worker.iter().zip(&self.bare).map(|(worker, bare)| value(worker) / value(bare)).collect()
        };
        let rows: [(_, _, _, Vec<f64>); 12] = [
            ("worker_cpu_us", "worker, µs CPU a message", 1, each(&self.worker, |m| m.cpu_us)),
            ("bare_cpu_us", "bare loop, µs CPU a message", 1, each(&self.bare, |m| m.cpu_us)),
            ("cpu_ratio", "worker ÷ bare loop, CPU", 3, ratio(|m| m.cpu_us)),
            ("worker_per_second", "worker, messages/s", 0, each(&self.worker, |m| m.per_second)),
            ("bare_per_second", "bare loop, messages/s", 0, each(&self.bare, |m| m.per_second)),
            ("rate_ratio", "worker ÷ bare loop, messages/s", 3, ratio(|m| m.per_second)),
            ("worker_result_bytes", "worker, bytes a result", 0, each(&self.worker, |m| m.result_bytes)),
            ("bare_result_bytes", "bare loop, bytes a result", 0, each(&self.bare, |m| m.result_bytes)),
            ("worker_log_bytes", "worker, bytes of log a message", 0, each(&self.worker, |m| m.log_bytes)),
            ("bare_log_bytes", "bare loop, bytes of log a message", 0, each(&self.bare, |m| m.log_bytes)),
            ("worker_peak_mib", "worker, MiB resident at most", 1, each(&self.worker, |m| m.peak_mib)),
            ("bare_peak_mib", "bare loop, MiB resident at most", 1, each(&self.bare, |m| m.peak_mib)),
        ];
        rows.into_iter().filter_map(spread_of).collect()
    }
}

/// The checks of both sides.
#[derive(Default)]
pub struct Checks {
    otpost: Vec<Checked>,
    bare: Vec<Checked>,
}

impl Checks {
    pub fn add(&mut self, side: Side, checked: Checked) {
        match side {
            Side::Worker => self.otpost.push(checked),
            Side::Bare => self.bare.push(checked),
        }
    }

    pub fn print(&self, args: &Args) {
        let each = |side: &[Checked], value: fn(&Checked) -> f64| side.iter().map(value).collect();
        let ratio = |value: fn(&Checked) -> f64| {
            self.otpost.iter().zip(&self.bare).map(|(otpost, bare)| value(otpost) / value(bare)).collect()
        };
        let rows: [(_, _, _, Vec<f64>); 8] = [
            ("wrong_us", "otpost, µs CPU a wrong check", 1, each(&self.otpost, |c| c.wrong_us)),
            ("bare_wrong_us", "bare handler, µs CPU a wrong check", 1, each(&self.bare, |c| c.wrong_us)),
            ("wrong_ratio", "otpost ÷ bare handler, wrong", 3, ratio(|c| c.wrong_us)),
            ("right_us", "otpost, µs CPU a right check", 1, each(&self.otpost, |c| c.right_us)),
            ("bare_right_us", "bare handler, µs CPU a right check", 1, each(&self.bare, |c| c.right_us)),
            ("right_ratio", "otpost ÷ bare handler, right", 3, ratio(|c| c.right_us)),
            (
                "bare_event_us",
                "bare handler with an event, right",
                1,
                each(&self.bare, |c| c.right_with_event_us),
            ),
            ("event_ratio", "otpost ÷ that", 3, ratio(|c| c.right_with_event_us)),
        ];
        let rows: Vec<_> = rows.into_iter().filter_map(spread_of).collect();
        println!("\n{} pairs of checks; otpost publishes an event of each right one\n", args.pairs);
        print_rows(
            &rows,
            &mut json!({ "bench": "checks", "pairs": args.pairs, "bare_runtime": args.bare_runtime.name() }),
        );
    }
}

/// A measurement: key in the JSON, title in the table, decimals, values.
type Row = (&'static str, &'static str, usize, Spread);

/// None of nothing: a side that was not measured has no row.
fn spread_of((key, title, decimals, values): (&'static str, &'static str, usize, Vec<f64>)) -> Option<Row> {
    Some((key, title, decimals, Spread::of(values)?))
}

/// Prints a table, and a line of JSON.
fn print_rows(rows: &[Row], line: &mut Value) {
    println!("{:<36}{:>9}{:>9}{:>9}", "", "median", "min", "max");
    for (key, title, decimals, spread) in rows {
        let Spread { median, min, max } = spread;
        println!("{title:<36}{median:>9.decimals$}{min:>9.decimals$}{max:>9.decimals$}");
        line[*key] = spread.json();
    }
    println!("\n{line}");
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self { median, min, max })
    }

    fn json(&self) -> Value {
        let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
        json!({ "median": rounded(self.median), "min": rounded(self.min), "max": rounded(self.max) })
    }
}
