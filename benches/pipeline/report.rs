//! Medians with their spread, as tables for people and as lines of JSON for machines.

use serde_json::{Value, json};

use crate::checks::Checked;
use crate::cluster::{self, Layout};
use crate::redis_server::Cost;
use crate::run::{Load, Measured};
use crate::store_steps::Work;
use crate::{Args, Side};

/// The measurements, by round. A ratio is taken within a round, of neighbours in time, and only then the median.
pub struct Rounds<K, V>(Vec<Vec<(K, V)>>);

impl<K, V> Default for Rounds<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Copy + PartialEq, V> Rounds<K, V> {
    pub fn add(&mut self, round: Vec<(K, V)>) {
        self.0.push(round);
    }

    fn values(&self, kind: K, value: impl Fn(&V) -> Option<f64>) -> Vec<f64> {
        self.0.iter().filter_map(|round| value(Self::of(round, kind)?)).collect()
    }

    fn ratios(&self, kind: K, to: K, value: impl Fn(&V) -> Option<f64>) -> Vec<f64> {
        let ratio = |round: &Vec<(K, V)>| {
            let ratio = value(Self::of(round, kind)?)? / value(Self::of(round, to)?)?;
            ratio.is_finite().then_some(ratio)
        };
        self.0.iter().filter_map(ratio).collect()
    }

    fn of(round: &[(K, V)], kind: K) -> Option<&V> {
        round.iter().find(|(its_kind, _)| *its_kind == kind).map(|(_, value)| value)
    }
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

/// A measured value: key in the JSON, title in the table, decimals, and where it is; `None` where it is not measured.
type Field<V> = (&'static str, &'static str, usize, fn(&V) -> Option<f64>);

const OF_A_MESSAGE: [Field<Measured>; 11] = [
    ("per_second", "messages a second", 0, |m| Some(m.per_second)),
    ("cpu_us", "µs CPU of the process", 1, |m| Some(m.cpu_us)),
    ("redis_us", "µs CPU of Redis", 1, |m| Some(m.redis.cpu_us)),
    ("rabbitmq_us", "µs CPU of RabbitMQ", 1, |m| m.rabbitmq_us),
    ("scripts", "calls of functions or scripts", 2, |m| Some(m.redis.scripts)),
    ("commands", "commands inside", 2, |m| Some(m.redis.commands)),
    ("new_keys", "new keys", 2, |m| Some(m.redis.new_keys)),
    ("bytes", "bytes of Redis' memory", 0, |m| Some(m.redis.bytes)),
    ("result_bytes", "bytes of the result", 0, |m| Some(m.result_bytes)),
    ("log_bytes", "bytes of log", 0, |m| Some(m.log_bytes)),
    ("peak_mib", "MiB resident at most", 1, |m| Some(m.peak_mib)),
];

const OF_REDIS: [Field<Cost>; 6] = [
    ("us", "µs CPU", 1, |cost| Some(cost.cpu_us)),
    ("calls", "calls", 2, |cost| Some(cost.scripts)),
    ("commands", "commands", 2, |cost| Some(cost.commands)),
    ("new_keys", "new keys", 2, |cost| Some(cost.new_keys)),
    ("bytes", "bytes", 0, |cost| Some(cost.bytes)),
    ("aof_bytes", "bytes of AOF", 0, |cost| (cost.aof_bytes > 0.0).then_some(cost.aof_bytes)),
];

/// The worker beside the bare loop.
pub fn print_messages(rounds: &Rounds<Load, Measured>, args: &Args) {
    let Args { messages, pairs, concurrency, latency_ms, .. } = args;
    let runtime = args.bare_runtime.name();
    println!(
        "\nA message: {pairs} rounds of {messages}, {concurrency} at once, Twilio answers in {latency_ms} ms."
    );
    println!("meter: the limits of a recipient; full: every limit. The bare loop's runtime: {runtime}.\n");
    let mut line = json!({
        "bench": "pipeline", "messages": messages, "pairs": pairs, "concurrency": concurrency,
        "latency_ms": latency_ms, "bare_runtime": runtime,
    });
    print_row("", &["bare loop", "meter", "full", "meter ÷ bare", "full ÷ bare"].map(str::to_owned));
    for (key, title, decimals, value) in OF_A_MESSAGE {
        let of_loads = Load::ALL.map(|load| (load.key(), rounds.values(load, value)));
        let ratios = [Load::Meter, Load::Full].map(|load| rounds.ratios(load, Load::Bare, value));
        let cells = of_loads.iter().map(|(_, values)| cell(values, decimals));
        print_row(title, &cells.chain(ratios.iter().map(|ratios| cell(ratios, 2))).collect::<Vec<_>>());
        for (load, values) in of_loads {
            line[key][load] = json_of(values);
        }
        line[key]["meter_ratio"] = json_of(ratios[0].clone());
        line[key]["full_ratio"] = json_of(ratios[1].clone());
    }
    println!(
        "\nBars (meter, full): Redis ÷ bare loop 1.6, 2.3; commands 8, 12; new keys 2, 4; bytes 700, 1000."
    );
    println!("\n{line}");
}

/// The store's steps, and the bare loop's scripts.
pub fn print_store(rounds: &Rounds<Work, Cost>, args: &Args) {
    let Args { messages, pairs, .. } = args;
    println!("\nRedis alone, for a message: {pairs} rounds of {messages}, 32 under way; µs without AOF.\n");
    let mut line = json!({ "bench": "store", "messages": messages, "pairs": pairs });
    let titles = OF_REDIS.iter().map(|(_, title, ..)| (*title).to_owned());
    print_row("", &titles.chain(["µs ÷ bare loop".to_owned()]).collect::<Vec<_>>());
    for work in Work::ALL {
        let values = OF_REDIS.map(|(key, _, decimals, value)| (key, decimals, rounds.values(work, value)));
        let ratio = rounds.ratios(work, Work::Bare, |cost| Some(cost.cpu_us));
        let cells = values.iter().map(|(_, decimals, values)| cell(values, *decimals));
        print_row(work.title(), &cells.chain([cell(&ratio, 2)]).collect::<Vec<_>>());
        for (key, _, values) in values {
            line[work.key()][key] = json_of(values);
        }
        line[work.key()]["ratio"] = json_of(ratio);
    }
    println!(
        "\nBars: bytes of AOF 850 (meter); a check, three delivery reports and an overdue sweep together 85 µs."
    );
    println!("\n{line}");
}

const OF_NODES: [Field<cluster::Spread>; 4] = [
    ("per_second", "messages a second", 0, |spread| Some(spread.per_second)),
    ("worker_us", "µs CPU of the workers", 1, |spread| Some(spread.worker_us)),
    ("redis_us", "µs CPU of Redis", 1, |spread| Some(spread.redis_us)),
    ("busiest", "busiest node's part of it", 2, |spread| Some(spread.busiest)),
];

/// A Cluster beside one node.
pub fn print_spread(rounds: &Rounds<Layout, cluster::Spread>, args: &Args) {
    let Args { messages, pairs, concurrency, shards, .. } = args;
    let shards = shards.map_or_else(String::new, |shards| format!(", REDIS_SHARDS={shards}"));
    println!("\nFour workers: {pairs} rounds of {messages}, {concurrency} at once in each{shards}.\n");
    let mut line = json!({ "bench": "cluster", "messages": messages, "pairs": pairs, "shards": args.shards });
    print_row("", &Layout::ALL.map(|layout| layout.title().to_owned()));
    for (key, title, decimals, value) in OF_NODES {
        let of_layouts = Layout::ALL.map(|layout| (layout, rounds.values(layout, value)));
        let cells = of_layouts.iter().map(|(_, values)| cell(values, decimals));
        print_row(title, &cells.collect::<Vec<_>>());
        for (layout, values) in of_layouts {
            line[key][layout.key()] = json_of(values);
        }
    }
    let ratios = Layout::ALL
        .map(|layout| cell(&rounds.ratios(layout, Layout::ONE_NODE, |spread| Some(spread.redis_us)), 2));
    print_row("µs of Redis ÷ one node", &ratios);
    println!("\n{line}");
}

/// Thousands of instructions of each work.
pub fn print_instructions(counted: &[(Work, f64)], messages: usize) {
    println!(
        "\nInstructions of Redis for a message, the kernel's apart; {messages} and {} messages.\n",
        3 * messages
    );
    let mut line = json!({ "bench": "instructions", "messages": messages });
    print_row("", &["thousands".to_owned(), "÷ bare loop".to_owned()]);
    let bare = counted.iter().find(|(work, _)| *work == Work::Bare).map(|(_, thousands)| *thousands);
    for (work, thousands) in counted {
        let ratio: Vec<f64> = bare.into_iter().map(|bare| thousands / bare).collect();
        print_row(work.title(), &[cell(&[*thousands], 1), cell(&ratio, 2)]);
        line[work.key()] =
            json!({ "thousands": rounded(*thousands), "ratio": ratio.first().copied().map(rounded) });
    }
    println!("\nBars ÷ bare loop: meter 2.1, full 2.7.");
    println!("\n{line}");
}

/// The cost of a message to Redis, by the requests that it has stored.
pub fn print_stored(levels: &[(usize, Cost)]) {
    println!("\nRequests stored, and what a message then costs Redis.\n");
    let titles = OF_REDIS.iter().take(5).map(|(_, title, ..)| (*title).to_owned());
    print_row("", &titles.collect::<Vec<_>>());
    for (stored, cost) in levels {
        let cells = OF_REDIS
            .iter()
            .take(5)
            .map(|(_, _, decimals, value)| cell(&value(cost).into_iter().collect::<Vec<_>>(), *decimals));
        print_row(&stored.to_string(), &cells.collect::<Vec<_>>());
    }
}

/// The cost of a message, by the requests that wait in the queue.
pub fn print_waiting(levels: &[(usize, Measured)]) {
    println!("\nRequests waiting, and the worker on the first of them.\n");
    print_row("", &levels.iter().map(|(waiting, _)| waiting.to_string()).collect::<Vec<_>>());
    for (_, title, decimals, value) in OF_A_MESSAGE {
        let cells = levels
            .iter()
            .map(|(_, measured)| cell(&value(measured).into_iter().collect::<Vec<_>>(), decimals));
        print_row(title, &cells.collect::<Vec<_>>());
    }
}

fn print_row(title: &str, cells: &[String]) {
    print!("{title:<30}");
    for cell in cells {
        print!(" {cell:>22}");
    }
    println!();
}

/// `median (least–greatest)`, the median alone where they are the same, or `-` if nothing was measured.
fn cell(values: &[f64], decimals: usize) -> String {
    let Some(Spread { median, min, max }) = Spread::of(values.to_vec()) else { return "-".to_owned() };
    // Tables of keys shrink on their own; such a small loss is none.
    let text = |value: f64| format!("{:.decimals$}", if (-1.0..0.0).contains(&value) { 0.0 } else { value });
    let [median, min, max] = [median, min, max].map(text);
    if min == max { median } else { format!("{median} ({min}–{max})") }
}

fn json_of(values: Vec<f64>) -> Value {
    Spread::of(values).map_or(Value::Null, |spread| spread.json())
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
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
        let rows: [(_, _, _, Vec<f64>); 12] = [
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
            ("redis_wrong_us", "otpost, µs CPU of Redis, wrong", 1, each(&self.otpost, |c| c.redis_wrong_us)),
            (
                "bare_redis_wrong_us",
                "bare handler, µs CPU of Redis, wrong",
                1,
                each(&self.bare, |c| c.redis_wrong_us),
            ),
            ("redis_right_us", "otpost, µs CPU of Redis, right", 1, each(&self.otpost, |c| c.redis_right_us)),
            (
                "bare_redis_right_us",
                "bare handler, µs CPU of Redis, right",
                1,
                each(&self.bare, |c| c.redis_right_us),
            ),
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
        json!({ "median": rounded(self.median), "min": rounded(self.min), "max": rounded(self.max) })
    }
}
