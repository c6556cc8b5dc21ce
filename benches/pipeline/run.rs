//! One run of one side: fill the queue, start the process, measure it between two exact points, stop it.
//!
//! The first point: every permit of the process has a message waiting at the fake Twilio's shut gate.
//! Start-up is over then (connections, metadata, the first use of everything), and nothing has been finished.
//! The second: the last result has arrived. Between them lie all messages but the first halves of
//! `concurrency` of them (0.2 % of 20,000), on both sides alike. That state says more than a readiness
//! endpoint, which only one side has, and costs the process nothing to be asked for.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use tokio::time::sleep;

use crate::broker::{Broker, Collected, Collector};
use crate::child::Process;
use crate::{Args, Side};

pub const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
pub const AUTH_TOKEN: &str = "0fc65b227eab370d777b378f1efa5165";
pub const SENDER: &str = "+15005550006";
pub const JWT_SECRET: &str = "PH_xgVABii6VblNypwgccPuU6rX1x55QwwIEz-IF";
pub const AUDIENCE: &str = "otpost";

const UNDER_WAY_WITHIN: Duration = Duration::from_secs(20);

pub struct Measured {
    pub cpu_us: f64,
    pub per_second: f64,
    pub result_bytes: f64,
    pub log_bytes: f64,
    pub peak_mib: f64,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu_us, per_second, result_bytes, log_bytes, peak_mib } = self;
        write!(f, "{cpu_us:6.1} µs CPU and {log_bytes:4.0} B of log a message, ")?;
        write!(
            f,
            "{per_second:6.0} messages/s, results of {result_bytes:.0} B, at most {peak_mib:.1} MiB resident"
        )
    }
}

pub async fn run(args: &Args, side: Side) -> anyhow::Result<Measured> {
    in_world(args, async |prefix, folder, broker| measure(args, side, prefix, folder, broker).await).await
}

/// Runs a measurement with a prefix of its own, so that it finds no other's keys, limits or messages, and deletes all of it.
pub async fn in_world<T>(
    args: &Args,
    measure: impl AsyncFnOnce(&str, &Path, &Broker) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let prefix = format!("otpost-bench-{:08x}", getrandom::u32().context("no random numbers")?);
    let folder = std::env::temp_dir().join(&prefix);
    std::fs::create_dir(&folder).context("no folder for the logs")?;
    let broker = Broker::connect(&args.amqp_url, &prefix).await?;

    let measured = measure(&prefix, &folder, &broker).await;

    let cleaned = clean_up(args, &prefix, &folder, broker).await;
    // Of two failures the first one is the cause.
    let measured = measured?;
    cleaned.context("not all was deleted after the run")?;
    Ok(measured)
}

async fn clean_up(args: &Args, prefix: &str, folder: &Path, broker: Broker) -> anyhow::Result<()> {
    std::fs::remove_dir_all(folder)?;
    delete_keys(&args.redis_url, prefix).await?;
    broker.clean_up().await
}

async fn measure(
    args: &Args,
    side: Side,
    prefix: &str,
    folder: &Path,
    broker: &Broker,
) -> anyhow::Result<Measured> {
    let twilio = FakeTwilio::start(args.latency_ms)?;
    let mut process = match side {
        Side::Worker => {
            declare(args, prefix, &twilio, folder)?;
            otpost(args, prefix, &twilio, "worker")?
        }
        Side::Bare => {
            broker.declare_for_bare_loop().await?;
            bare(args, prefix, &twilio)?
        }
    };
    let results = broker.collector().await?;
    broker.publish_requests(args.messages, None).await?;
    // Let the broker finish what publishing left it to do.
    sleep(Duration::from_secs(1)).await;

    let process = Process::start(&mut process, &folder.join("process.log"))?;
    let (cpu, collected, process) = between_the_points(args, &twilio, results, process).await?;

    let posts = twilio.state().await?.posts;
    ensure!(posts == args.messages, "{posts} POSTs for {} requests", args.messages);
    let count = args.messages as f64;
    let log_bytes = process.log_bytes() as f64 / count;
    let peak_mib = process.peak_mib()?;
    let ended = process.terminate().await?;
    ensure!(ended.success(), "after SIGTERM: {ended}");
    Ok(Measured {
        peak_mib,
        cpu_us: cpu.as_secs_f64() * 1e6 / count,
        per_second: (count - 1.0) / collected.wall.as_secs_f64(),
        result_bytes: collected.bytes as f64 / count,
        log_bytes,
    })
}

async fn between_the_points(
    args: &Args,
    twilio: &FakeTwilio,
    results: Collector,
    mut process: Process,
) -> anyhow::Result<(Duration, Collected, Process)> {
    let every_permit = usize::from(args.concurrency).min(args.messages);
    let started = Instant::now();
    loop {
        process.fail_if_ended()?;
        let held = twilio.state().await?.held;
        if held == every_permit {
            break;
        }
        if started.elapsed() > UNDER_WAY_WITHIN {
            bail!("{held} of {every_permit} messages under way; the log ends:\n{}", process.log_tail());
        }
        sleep(Duration::from_millis(50)).await;
    }
    let before = process.cpu_time()?;
    twilio.open().await?;
    let collected = match results.collect(args.messages).await {
        Ok(collected) => collected,
        Err(error) => return Err(error.context(format!("the log ends:\n{}", process.log_tail()))),
    };
    Ok((process.cpu_time()?.saturating_sub(before), collected, process))
}

/// Declares the topology with otpost's own command.
pub fn declare(args: &Args, prefix: &str, twilio: &FakeTwilio, folder: &Path) -> anyhow::Result<()> {
    let mut topology = otpost(args, prefix, twilio, "topology")?;
    let declared = topology.current_dir(folder).output().context("cannot run otpost topology")?;
    ensure!(declared.status.success(), "otpost topology: {}", String::from_utf8_lossy(&declared.stderr));
    Ok(())
}

/// An otpost command with the settings of a production of its own. The whole environment is here.
pub fn otpost(args: &Args, prefix: &str, twilio: &FakeTwilio, command: &str) -> anyhow::Result<Command> {
    // Bound and released at once. If another process takes the port in between, the worker logs it and the run fails.
    let ops = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.to_string();
    let mut otpost = Command::new(&args.binary);
    otpost
        .arg(command)
        .env_clear()
        .env("ENVIRONMENT", "production")
        .env("AMQP_URL", &args.amqp_url)
        .env("AMQP_PREFIX", prefix)
        .env("REDIS_URL", &args.redis_url)
        .env("REDIS_PREFIX", prefix)
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

fn bare(args: &Args, prefix: &str, twilio: &FakeTwilio) -> anyhow::Result<Command> {
    let mut bare = Command::new(std::env::current_exe()?);
    bare.arg("bare").env_clear();
    bare.args(["--amqp-url", &args.amqp_url, "--redis-url", &args.redis_url, "--prefix", prefix]);
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
