//! The real binary, a RabbitMQ and a Redis of its own, and everything that can go wrong between them.
//!
//! ```sh
//! cargo test --test chaos                                  # the short run: about a minute
//! cargo test --test chaos -- --long                        # all phases and scenarios: about a quarter of an hour
//! cargo test --test chaos -- --long twilio_storm           # those whose names hold a word
//! ```
//!
//! `CHAOS_SEED` fixes the randomness: the same seed gives the same plan of faults. `CHAOS_SEEDS=910545,1000..1200` runs
//! one after the other, without those that have held before under the same options. `CHAOS_SECONDS` is the length of
//! a phase and `CHAOS_RATE` its requests a second. `CHAOS_EXPECT_LOOKUP=1` demands that sends in doubt are looked up;
//! `CHAOS_WORKER_SETTINGS="NAME=value …"` adds settings of the workers, `CHAOS_BINARY` names another binary to test,
//! `CHAOS_OTHER_BINARY` one to upgrade it to. `scripts/engines.sh` runs it with other servers.
//! The logs of a run that fails are kept, and `CHAOS_KEEP=1` keeps those of any run.
//!
//! Every history is judged once nothing is in flight, by rules that hold under every fault ([`history`]). Speed is not
//! judged. Every started process is killed when the run ends, unless the run itself gets a `kill -9`.

mod builds;
mod checks;
mod client;
mod fleet;
#[path = "../history/mod.rs"]
mod history;
mod phases;
mod plan;
mod process;
mod proxy;
mod rabbit_cluster;
mod rabbit_node;
#[path = "../redis_nodes/mod.rs"]
mod redis_nodes;
mod scenarios;
mod seeds;
mod servers;
mod stage;
mod twilio;
mod wait;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use self::history::Report;
use self::phases::PHASES;
use self::scenarios::{Place, SCENARIOS, Scenario};
use self::servers::Servers;
use self::stage::{Traffic, Verdict};

/// The broker and the workers are asked for no more: this is about faults, not about load.
const RATE_MAX: u32 = 200;

/// Options of other test binaries that are followed by a value.
const VALUED: [&str; 5] = ["--test-threads", "--skip", "--format", "--color", "--logfile"];

/// The options of a run.
struct Options {
    long: bool,
    /// Parts of names; none for all.
    names: Vec<String>,
    seed: u64,
    /// Many seeds, of which those that have held are left out.
    seeds: Option<Vec<u64>>,
    traffic: Traffic,
}

impl Options {
    /// From arguments as `cargo test` passes them to every test binary, and from the environment.
    fn read() -> Option<Options> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        if arguments.iter().any(|argument| argument == "--list") {
            names().for_each(|name| println!("{name}: test"));
            return None;
        }
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let long = arguments.iter().any(|argument| argument == "--long") || number("CHAOS_LONG") == Some(1);
        // Some of cargo's own options bring a word that is no name.
        let is_value = |nth: usize| nth > 0 && VALUED.contains(&arguments[nth - 1].as_str());
        let is_name = |nth: usize| !arguments[nth].starts_with('-') && !is_value(nth);
        let named = (0..arguments.len()).filter(|&nth| is_name(nth)).map(|nth| arguments[nth].clone());
        let (length, rate) = if long { (35, 60) } else { (14, 60) };
        let length = Duration::from_secs(number("CHAOS_SECONDS").unwrap_or(length));
        let rate = u32::try_from(number("CHAOS_RATE").unwrap_or(rate)).unwrap_or(RATE_MAX);
        Some(Options {
            long,
            names: named.collect(),
            seeds: std::env::var("CHAOS_SEEDS").ok().map(|list| seeds::parse(&list).expect("seeds")),
            seed: number("CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000)),
            traffic: Traffic { a_second: rate.clamp(1, RATE_MAX), length },
        })
    }

    /// The seed and every option that changes the run.
    fn run_name(&self) -> String {
        let Traffic { a_second, length } = self.traffic;
        let scope = if self.long { "long" } else { "short" };
        format!("{} {} s {a_second}/s {scope} {}", self.seed, length.as_secs(), self.names.join(" "))
    }

    fn wants(&self, name: &str, short: bool) -> bool {
        match self.names.as_slice() {
            [] => self.long || short,
            names => names.iter().any(|part| name.contains(part)),
        }
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    PHASES.iter().map(|phase| phase.name).chain(SCENARIOS.iter().map(|scenario| scenario.name))
}

fn main() -> ExitCode {
    let Some(mut options) = Options::read() else { return ExitCode::SUCCESS };
    if !names().any(|name| options.wants(name, true)) {
        println!("chaos: nothing here is called that");
        return ExitCode::SUCCESS;
    }
    let missing = servers::missing();
    if !missing.is_empty() {
        println!("chaos: SKIPPED, as this machine has no {}", missing.join(" and no "));
        return ExitCode::SUCCESS;
    }
    let Some(seeds) = options.seeds.take() else { return run_seed(&options) };
    for seed in seeds {
        options.seed = seed;
        let run = options.run_name();
        if seeds::has_held(&run) {
            continue;
        }
        if run_seed(&options) != ExitCode::SUCCESS {
            return ExitCode::FAILURE;
        }
        seeds::record_held(&run);
    }
    ExitCode::SUCCESS
}

fn run_seed(options: &Options) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let mut folder = Folder::new();
    let began = Instant::now();
    let holds = runtime.expect("a runtime").block_on(async {
        tokio::select! {
            holds = run(options, &folder.path) => holds,
            _ = tokio::signal::ctrl_c() => false,
            () = terminated() => false,
        }
    });
    println!("chaos: {} in {:.0} s", if holds { "ok" } else { "FAILED" }, began.elapsed().as_secs_f64());
    if holds {
        return ExitCode::SUCCESS;
    }
    folder.is_kept = true;
    println!(
        "chaos: the logs are kept in {}; CHAOS_SEED={} makes the same plan of faults again",
        folder.path.display(),
        options.seed
    );
    ExitCode::FAILURE
}

async fn terminated() {
    let kind = tokio::signal::unix::SignalKind::terminate();
    tokio::signal::unix::signal(kind).expect("signals can be taken").recv().await;
}

async fn run(options: &Options, folder: &Path) -> bool {
    println!("chaos: CHAOS_SEED={}, logs in {}", options.seed, folder.display());
    let servers = match Servers::start(folder).await {
        Ok(servers) => servers,
        Err(why) => {
            println!("chaos: the servers do not start: {why}");
            return false;
        }
    };
    let mut lines = Vec::new();
    for phase in PHASES.iter().filter(|phase| options.wants(phase.name, phase.name == "all_together")) {
        let began = Instant::now();
        let ran = phase.run(&servers, folder, options.seed, options.traffic).await;
        lines.push(Line::of(phase.name, ran, began));
    }
    let place = Place { servers: &servers, folder, seed: options.seed };
    let wanted = |scenario: &&Scenario| options.wants(scenario.name, scenario.short);
    let (alone, together): (Vec<_>, Vec<_>) =
        SCENARIOS.iter().filter(wanted).partition(|scenario| scenario.alone);
    let at_once = together.into_iter().map(|scenario| one(scenario, place));
    lines.extend(futures_util::future::join_all(at_once).await);
    for scenario in alone {
        lines.push(one(scenario, place).await);
    }
    println!("\n{}", Report::heading());
    lines.iter().for_each(|line| println!("{}", line.text));
    println!();
    lines.iter().all(|line| line.holds)
}

async fn one(scenario: &Scenario, place: Place<'_>) -> Line {
    let began = Instant::now();
    Line::of(scenario.name, (scenario.run)(place).await, began)
}

/// A line of the table at the end.
struct Line {
    text: String,
    holds: bool,
}

impl Line {
    /// Prints a failure at once.
    fn of(name: &str, came: Result<Verdict, String>, began: Instant) -> Line {
        let took = began.elapsed().as_secs_f64();
        match came {
            Ok(verdict) => {
                tell(&verdict, took);
                let text = format!("{}  {}", verdict.report.line(name), verdict.note);
                let text = if verdict.holds() { text } else { format!("{text}  FAILED") };
                Line { text, holds: verdict.holds() }
            }
            Err(why) => {
                println!("{name}: could not be run to its end after {took:.0} s: {why}");
                Line { text: format!("{name:<44}  FAILED: could not be run to its end"), holds: false }
            }
        }
    }
}

fn tell(verdict: &Verdict, took: f64) {
    println!("{}: {} in {took:.0} s", verdict.name, if verdict.holds() { "holds" } else { "BROKEN" });
    if !verdict.holds() {
        println!("{}", verdict.report);
        verdict.faults.iter().for_each(|fault| println!("  {fault}"));
        verdict.traces.iter().for_each(|trace| println!("  {trace}"));
    }
}

/// A folder for logs and the servers' data. It is removed at the end unless the run failed.
struct Folder {
    path: PathBuf,
    is_kept: bool,
}

impl Folder {
    fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("otpost-chaos-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder can be made");
        Folder { path, is_kept: std::env::var_os("CHAOS_KEEP").is_some() }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
