//! The cost of a message in `otpost worker`, beside a bare loop on the same libraries.
//!
//! `cargo bench --bench pipeline --profile dist` runs both in turn against a real broker, a Redis and a fake Twilio on loopback,
//! and prints the medians, their spread and the ratios: absolute numbers belong to the machine, ratios to us. Each run has a
//! redis-server of its own, without persistence; where none is installed, all use the given one, whose account then counts
//! the work of others. `--help` lists the settings and the parts.
//!
//! Equal on both sides: the build profile and the libraries; the request bytes; the queue and its
//! arguments; prefetch and concurrency; two AMQP connections; two scripts in Redis, one POST, one confirmed
//! persistent mandatory result of about the same size and one ack a message; a time-out on every await; one
//! JSON log line a message to a file; the environment (only what is set here). What only the worker does is
//! what is being weighed: checking, deriving the code, limits, leases, texts, metrics, the panic fence.

mod bare;
mod bare_check;
mod broker;
mod checks;
mod child;
mod cluster;
mod fake_twilio;
mod growth;
mod instructions;
#[expect(dead_code, unused_imports, reason = "the tests harm the servers that are only measured here")]
#[path = "../../tests/redis_nodes/mod.rs"]
mod redis_nodes;
mod redis_server;
mod report;
mod run;
mod store_part;
mod store_steps;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};

/// Settings of the benchmark.
#[derive(Parser)]
#[command(
    name = "pipeline",
    about = "CPU per message and messages a second: otpost worker against a bare loop"
)]
struct Args {
    /// Requests a run.
    #[arg(long, default_value_t = 20_000, value_parser = messages)]
    messages: usize,
    /// Pairs of runs; the sides alternate in going first.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Messages handled at once, on both sides.
    #[arg(long, default_value_t = 64)]
    concurrency: u16,
    /// The fake Twilio's time for each message.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// The runtime of the bare loop.
    #[arg(long, value_enum, default_value_t = bare::Flavor::Multi)]
    bare_runtime: bare::Flavor,
    /// Measure one part alone; without it, all that compare with the bare loop: messages, store, checks.
    #[arg(long, value_enum)]
    part: Option<Part>,
    /// The `REDIS_SHARDS` to measure in the part `cluster`; without it, only one shard.
    #[arg(long)]
    shards: Option<u16>,
    /// Count the instructions of one work alone.
    #[arg(long, value_enum)]
    work: Option<store_steps::Work>,
    /// Keep callgrind's files in this folder.
    #[arg(long)]
    callgrind_folder: Option<PathBuf>,
    /// Measure one side alone.
    #[arg(long, value_enum)]
    only: Option<Side>,
    /// The otpost to measure; without it, the one cargo built beside this benchmark.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_otpost"), hide_default_value = true)]
    binary: PathBuf,
    #[arg(long, env = "OTPOST_TEST_AMQP_URL", default_value = "amqp://guest:guest@127.0.0.1:5672/%2f")]
    amqp_url: String,
    #[arg(long, env = "OTPOST_TEST_REDIS_URL", default_value = "redis://127.0.0.1:6379/0")]
    redis_url: String,
    /// `cargo bench` passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// The children that this executable starts of itself.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Bare(bare::Settings),
    #[command(hide = true)]
    BareCheck(bare_check::Settings),
    #[command(hide = true)]
    FakeTwilio(fake_twilio::Settings),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The worker, and what a message costs Redis and RabbitMQ beside it.
    Messages,
    /// The store's steps alone, on Redis.
    Store,
    /// `otpost http`.
    Checks,
    /// The instructions of Redis; needs valgrind.
    Instructions,
    /// With much stored, and with much waiting.
    Growth,
    /// Four workers on a Redis Cluster, beside one node.
    Cluster,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    Worker,
    Bare,
}

fn main() -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider was installed before main"))?;
    let args = Args::parse();
    match &args.role {
        Some(Role::Bare(settings)) => settings.runtime.build()?.block_on(bare::consume(settings)),
        Some(Role::BareCheck(settings)) => settings.runtime.build()?.block_on(bare_check::serve(settings)),
        Some(Role::FakeTwilio(settings)) => current_thread()?.block_on(fake_twilio::serve(settings)),
        None => current_thread()?.block_on(compare(&args)),
    }
}

/// As many as there are distinct numbers in the scheme of [`broker`], and enough to measure anything.
fn messages(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (100..=broker::NUMBERS).contains(&count) => Ok(count),
        _ => Err(format!("from 100 to {}", broker::NUMBERS)),
    }
}

fn current_thread() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")
}

async fn compare(args: &Args) -> anyhow::Result<()> {
    let is_asked = |part| args.part.is_none_or(|asked| asked == part);
    if is_asked(Part::Messages) {
        let mut rounds = report::Rounds::default();
        for (round, loads) in rounds_of_loads(args) {
            let mut measured = Vec::new();
            for load in loads {
                let name = load.key();
                let of_load = run::run(args, load, args.messages).await;
                let of_load = of_load.with_context(|| format!("round {round}, {name}"))?;
                eprintln!(
                    "round {round} {name:<6} {:6.1} µs CPU, {:6.0} messages/s",
                    of_load.cpu_us, of_load.per_second
                );
                measured.push((load, of_load));
            }
            rounds.add(measured);
        }
        report::print_messages(&rounds, args);
    }
    if is_asked(Part::Store) {
        match store_part::run(args).await? {
            Some(rounds) => report::print_store(&rounds, args),
            None => println!("\nRedis alone: skipped, as redis-server does not start here"),
        }
    }
    if is_asked(Part::Checks) {
        let mut report = report::Checks::default();
        for (pair, side) in runs(args) {
            let name = report::name(side);
            let checked = checks::run(args, side).await.with_context(|| format!("checks {pair}, {name}"))?;
            report.add(side, checked);
        }
        report.print(args);
    }
    match args.part {
        Some(Part::Instructions) => count_instructions(args).await,
        Some(Part::Growth) => growth::run(args).await,
        Some(Part::Cluster) => cluster::run(args).await,
        Some(Part::Messages | Part::Store | Part::Checks) | None => Ok(()),
    }
}

async fn count_instructions(args: &Args) -> anyhow::Result<()> {
    let mut counted = Vec::new();
    for work in store_steps::Work::ALL.into_iter().filter(|work| args.work.is_none_or(|only| only == *work)) {
        let of_work = instructions::count(work, args.messages, args.callgrind_folder.as_deref()).await;
        let Some(thousands) = of_work.with_context(|| format!("{work:?}"))? else {
            println!("skipped, as valgrind or redis-server does not start here");
            return Ok(());
        };
        eprintln!("{:<24} {thousands:6.1} thousand instructions", work.title());
        counted.push((work, thousands));
    }
    report::print_instructions(&counted, args.messages);
    Ok(())
}

/// The numbers of the rounds, from 1, each with its loads: alternately first, so that a machine that slows down over time favours
/// none.
fn rounds_of_loads(args: &Args) -> impl Iterator<Item = (usize, Vec<run::Load>)> {
    (0..args.pairs).map(|round| {
        let mut loads = run::Load::ALL.to_vec();
        loads.rotate_left(round % run::Load::ALL.len());
        loads.retain(|load| args.only.is_none_or(|side| side == load.side()));
        (round + 1, loads)
    })
}

/// The numbers of the pairs, from 1, each with its sides in their order.
fn runs(args: &Args) -> impl Iterator<Item = (usize, Side)> {
    (0..args.pairs).flat_map(move |pair| sides(args.only, pair).into_iter().map(move |side| (pair + 1, side)))
}

/// Both sides, alternately first, so that a machine that slows down over time favours neither.
fn sides(only: Option<Side>, pair: usize) -> Vec<Side> {
    match only {
        Some(side) => vec![side],
        None if pair.is_multiple_of(2) => vec![Side::Worker, Side::Bare],
        None => vec![Side::Bare, Side::Worker],
    }
}
