//! One run of one side: fill the queue, start the process, measure it between two exact points, stop it.
//!
//! The first point: every permit of the process has a message waiting at the fake Twilio's shut gate.
//! Start-up is over then (connections, metadata, the first use of everything), and nothing has been finished.
//! The second: the last result has arrived. Between them lie all messages but the first halves of
//! `concurrency` of them (0.2 % of 20,000), on both sides alike. That state says more than a readiness
//! endpoint, which only one side has, and costs the process nothing to be asked for.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use tokio::time::sleep;

use crate::broker::{Broker, Collector, NewRequest};
use crate::child::{Process, cpu_time_of, rabbitmq_process};
use crate::redis_server::{Cost, Mode, RedisServer};
use crate::{Args, Side};

pub const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
pub const AUTH_TOKEN: &str = "0fc65b227eab370d777b378f1efa5165";
pub const SENDER: &str = "+15005550006";
pub const JWT_SECRET: &str = "PH_xgVABii6VblNypwgccPuU6rX1x55QwwIEz-IF";
pub const AUDIENCE: &str = "otpost";

const UNDER_WAY_WITHIN: Duration = Duration::from_secs(20);

/// The measurements of a round, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    Bare,
    /// The worker on requests with the limits of their recipient alone.
    Meter,
    /// The worker with every limit.
    Full,
}

impl Load {
    pub const ALL: [Self; 3] = [Self::Bare, Self::Meter, Self::Full];

    pub const fn key(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Meter => "meter",
            Self::Full => "full",
        }
    }

    pub const fn side(self) -> Side {
        match self {
            Self::Bare => Side::Bare,
            Self::Meter | Self::Full => Side::Worker,
        }
    }
}

/// Of one run; times and costs are those of a message.
pub struct Measured {
    pub cpu_us: f64,
    pub redis: Cost,
    /// `None`: the broker is no process of this machine, or not ours to see.
    pub rabbitmq_us: Option<f64>,
    pub per_second: f64,
    pub result_bytes: f64,
    pub log_bytes: f64,
    pub peak_mib: f64,
}

/// The surroundings of a run. Its names are its own, so it finds no other's keys, limits or messages.
pub struct World<'a> {
    pub args: &'a Args,
    pub prefix: String,
    pub folder: PathBuf,
    pub broker: Broker,
    pub redis: RedisServer,
}

/// Runs a measurement, and deletes all that it leaves.
pub async fn in_world<T>(
    args: &Args,
    measure: impl AsyncFnOnce(&World<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let prefix = format!("otpost-bench-{:08x}", getrandom::u32().context("no random numbers")?);
    let folder = std::env::temp_dir().join(&prefix);
    std::fs::create_dir(&folder).context("no folder for the logs")?;
    let broker = Broker::connect(&args.amqp_url, &prefix).await?;
    let redis =
        RedisServer::start(&Mode::Plain)?.unwrap_or_else(|| RedisServer::given(&args.redis_url, &prefix));
    let world = World { args, prefix, folder, broker, redis };

    let measured = measure(&world).await;

    let cleaned = world.clean_up().await;
    // Of two failures the first one is the cause.
    let measured = measured?;
    cleaned.context("not all was deleted after the run")?;
    Ok(measured)
}

/// Measures a load on a queue of `waiting` requests: on all of them, or on so many as the arguments say.
pub async fn run(args: &Args, load: Load, waiting: usize) -> anyhow::Result<Measured> {
    in_world(args, async |world| measure(world, load, waiting).await).await
}

async fn measure(world: &World<'_>, load: Load, waiting: usize) -> anyhow::Result<Measured> {
    let World { args, folder, broker, .. } = world;
    let twilio = FakeTwilio::start(args.latency_ms)?;
    let mut process = match load.side() {
        Side::Worker => {
            declare(world, &twilio)?;
            otpost(world, &twilio, "worker")?
        }
        Side::Bare => {
            broker.declare_for_bare_loop().await?;
            bare(world, &twilio)?
        }
    };
    let request = match load {
        Load::Bare | Load::Meter => NewRequest::Plain,
        Load::Full => {
            // The cap over all is never reached; the other limits have their defaults.
            process.env("SMS_MAX_PER_HOUR", "10000000");
            NewRequest::OfClient
        }
    };
    let results = broker.collector().await?;
    broker.publish_requests(waiting, &request).await?;
    // Let the broker finish what publishing left it to do.
    sleep(Duration::from_secs(1)).await;

    let process = Process::start(&mut process, &folder.join("process.log"))?;
    let count = args.messages.min(waiting);
    let (measured, process) = between_the_points(world, &twilio, results, process, count).await?;

    let posts = twilio.state().await?.posts;
    ensure!(posts == count || posts > count && waiting > count, "{posts} POSTs for {count} results");
    let ended = process.terminate().await?;
    ensure!(ended.success(), "after SIGTERM: {ended}");
    Ok(measured)
}

async fn between_the_points(
    world: &World<'_>,
    twilio: &FakeTwilio,
    results: Collector,
    mut process: Process,
    count: usize,
) -> anyhow::Result<(Measured, Process)> {
    let args = world.args;
    let rabbitmq = rabbitmq_process(&args.amqp_url);
    let every_permit = usize::from(args.concurrency).min(args.messages);
    wait_until_under_way(twilio, std::slice::from_mut(&mut process), every_permit).await?;
    let cpu_now =
        |process: &Process| Ok::<_, anyhow::Error>((process.cpu_time()?, rabbitmq.and_then(cpu_time_of)));
    let ((cpu, broker_cpu), redis) = (cpu_now(&process)?, world.redis.account().await?);
    twilio.open().await?;
    let collected = match results.collect(count).await {
        Ok(collected) => collected,
        Err(error) => return Err(error.context(format!("the log ends:\n{}", process.log_tail()))),
    };
    let ((cpu_after, broker_cpu_after), redis_after) = (cpu_now(&process)?, world.redis.account().await?);
    let each_us = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64() * 1e6 / count as f64;
    let measured = Measured {
        cpu_us: each_us(cpu, cpu_after),
        redis: redis_after.since(&redis, count),
        rabbitmq_us: broker_cpu.zip(broker_cpu_after).map(|(from, to)| each_us(from, to)),
        per_second: (count - 1) as f64 / collected.wall.as_secs_f64(),
        result_bytes: collected.bytes as f64 / count as f64,
        log_bytes: process.log_bytes() as f64 / count as f64,
        peak_mib: process.peak_mib()?,
    };
    Ok((measured, process))
}

/// Waits until every permit of all processes has a message at the shut gate.
pub async fn wait_until_under_way(
    twilio: &FakeTwilio,
    processes: &mut [Process],
    every_permit: usize,
) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        processes.iter_mut().try_for_each(Process::fail_if_ended)?;
        let held = twilio.state().await?.held;
        if held == every_permit {
            return Ok(());
        }
        if started.elapsed() > UNDER_WAY_WITHIN {
            let tails = processes.iter().map(Process::log_tail).collect::<Vec<_>>().join("\n");
            bail!("{held} of {every_permit} messages under way; the log ends:\n{tails}");
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Declares the topology with otpost's own command.
pub fn declare(world: &World<'_>, twilio: &FakeTwilio) -> anyhow::Result<()> {
    let mut topology = otpost(world, twilio, "topology")?;
    let declared = topology.current_dir(&world.folder).output().context("cannot run otpost topology")?;
    ensure!(declared.status.success(), "otpost topology: {}", String::from_utf8_lossy(&declared.stderr));
    Ok(())
}

/// An otpost command with the settings of a production of its own. The whole environment is here.
pub fn otpost(world: &World<'_>, twilio: &FakeTwilio, command: &str) -> anyhow::Result<Command> {
    let World { args, prefix, redis, .. } = world;
    // Bound and released at once. If another process takes the port in between, the worker logs it and the run fails.
    let ops = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.to_string();
    let mut otpost = Command::new(&args.binary);
    otpost
        .arg(command)
        .env_clear()
        .env("ENVIRONMENT", "production")
        .env("AMQP_URL", &args.amqp_url)
        .env("AMQP_PREFIX", prefix)
        .env("REDIS_URL", &redis.url)
        .env("REDIS_PREFIX", &redis.prefix)
        .env("SMS_BRAND", "MeStore")
        .env("TWILIO_ACCOUNT_SID", ACCOUNT)
        .env("TWILIO_AUTH_TOKEN", AUTH_TOKEN)
        .env("TWILIO_FROM_NUMBER", SENDER)
        .env("TWILIO_API_BASE_URL", twilio.url())
        .env("OTP_SECRET_KEYS", "k1:2dMCoPYHFOGcb4Wg8epZ1hw5KMr5Mz/0hp7YlXLims0=")
        .env("OTP_RECIPIENT_KEY", "W07ZAqgO6Obxgbhbt0+M1wa4tFzHgfZ4uIxXqyPnNsU=")
        .env("JWT_SECRET", JWT_SECRET)
        .env("JWT_AUDIENCE", AUDIENCE)
        // The requests of the checks have codes.
        .env("OTP_CALLER_CODES", "allow")
        // No e-mail provider is set up here, and no e-mail is sent.
        .env("EMAIL_OTP_ENABLED", "false")
        .env("SMS_MAX_PER_HOUR", "0")
        .env("WORKER_CONCURRENCY", args.concurrency.to_string())
        .env("WORKER_PREFETCH", prefetch(args).to_string())
        .env("OPS_ADDR", ops)
        .env("LOG_FORMAT", "json");
    Ok(otpost)
}

fn bare(world: &World<'_>, twilio: &FakeTwilio) -> anyhow::Result<Command> {
    let World { args, prefix, redis, .. } = world;
    let mut bare = Command::new(std::env::current_exe()?);
    bare.arg("bare").env_clear();
    bare.args(["--amqp-url", &args.amqp_url, "--prefix", prefix]);
    bare.args(["--redis-url", &redis.url, "--redis-prefix", &redis.prefix]);
    bare.args(["--twilio-url", &twilio.url(), "--runtime", args.bare_runtime.name()]);
    bare.args(["--concurrency", &args.concurrency.to_string(), "--prefetch", &prefetch(args).to_string()]);
    Ok(bare)
}

/// The worker's default prefetch, for both sides.
fn prefetch(args: &Args) -> u16 {
    args.concurrency + args.concurrency.div_ceil(10)
}

pub struct FakeTwilio {
    child: Child,
    port: u16,
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct State {
    held: usize,
    posts: usize,
}

impl FakeTwilio {
    pub fn start(latency_ms: u64) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["fake-twilio", "0", "--latency-ms", &latency_ms.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the fake Twilio")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output is piped")?).read_line(&mut line)?;
        let port = line.trim().parse().context("the fake Twilio did not say its port")?;
        Ok(Self {
            child,
            port,
            http: reqwest::Client::builder().no_proxy().timeout(UNDER_WAY_WITHIN).build()?,
        })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn state(&self) -> anyhow::Result<State> {
        let body = self.http.get(format!("{}/state", self.url())).send().await?.bytes().await?;
        Ok(serde_json::from_slice(&body)?)
    }

    pub async fn open(&self) -> anyhow::Result<()> {
        self.http.post(format!("{}/open", self.url())).send().await?;
        Ok(())
    }
}

impl Drop for FakeTwilio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl World<'_> {
    async fn clean_up(self) -> anyhow::Result<()> {
        std::fs::remove_dir_all(&self.folder)?;
        if !self.redis.is_ours() {
            delete_keys(&self.redis.url, &self.redis.prefix).await?;
        }
        self.broker.clean_up().await
    }
}

async fn delete_keys(url: &str, prefix: &str) -> anyhow::Result<()> {
    let mut redis = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("*{prefix}*")).arg("COUNT").arg(1000);
        let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut redis).await?;
        if !keys.is_empty() {
            let _: i64 = redis::cmd("UNLINK").arg(keys).query_async(&mut redis).await?;
        }
        if next == 0 {
            return Ok(());
        }
        cursor = next;
    }
}
