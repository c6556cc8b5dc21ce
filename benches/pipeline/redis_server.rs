//! A Redis of the benchmark's own, where nothing else runs, and the account that it gives of its work.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail, ensure};
use redis::aio::MultiplexedConnection;

/// The prefix of every key. It is as long as the default one: keys count in the bytes of a message.
const PREFIX: &str = "otpost";
/// Calls that the clients and the benchmark make for themselves.
const NOT_COUNTED: [&str; 8] = ["client", "config", "hello", "info", "ping", "function", "script", "dbsize"];

/// The mode of a server of our own.
pub enum Mode<'a> {
    /// Everything in memory.
    Plain,
    /// Each write goes to a file, which is synced every second.
    AppendOnly,
    /// Under callgrind, which writes this file when the server ends.
    Counted(&'a Path),
}

pub struct RedisServer {
    process: Option<Child>,
    folder: Option<PathBuf>,
    pub url: String,
    pub prefix: String,
}

/// Sums since the start of the server.
#[derive(Clone, Copy)]
pub struct Account {
    cpu_us: f64,
    scripts: f64,
    commands: f64,
    keys: f64,
    memory: f64,
    aof_bytes: f64,
}

/// The cost of a message in Redis.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    /// User and system time of the whole server.
    pub cpu_us: f64,
    /// Calls of functions and scripts.
    pub scripts: f64,
    /// Commands that these run, and others.
    pub commands: f64,
    pub new_keys: f64,
    /// Growth of the used memory: keys, values, hash tables.
    pub bytes: f64,
    /// Growth of the append-only file; 0 without one.
    pub aof_bytes: f64,
}

impl RedisServer {
    /// `None` if a program is not there.
    pub fn start(mode: &Mode<'_>) -> anyhow::Result<Option<Self>> {
        // Bound and released at once; if another process takes the port in between, the start fails.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let name = format!("otpost-bench-redis-{:08x}", getrandom::u32().context("no random numbers")?);
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder)?;
        let mut command = match mode {
            Mode::Counted(file) => {
                let mut valgrind = Command::new("valgrind");
                valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", file.display()));
                // The timer and the rehashing of idle tables cost by the second, not by the message.
                valgrind.args(["redis-server", "--hz", "1", "--activerehashing", "no"]);
                valgrind
            }
            Mode::Plain | Mode::AppendOnly => Command::new("redis-server"),
        };
        let append_only = if matches!(mode, Mode::AppendOnly) { "yes" } else { "no" };
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""])
            .args(["--appendonly", append_only, "--appendfsync", "everysec"])
            .current_dir(&folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let Ok(mut process) = command.spawn() else {
            std::fs::remove_dir_all(&folder)?;
            return Ok(None);
        };
        let log = BufReader::new(process.stdout.take().context("it is piped")?);
        let server = Self {
            process: Some(process),
            folder: Some(folder),
            url: format!("redis://127.0.0.1:{port}"),
            prefix: PREFIX.to_owned(),
        };
        let mut lines = log.lines().map_while(Result::ok);
        ensure!(lines.any(|line| line.contains("eady to accept connections")), "redis-server ended");
        // It logs on, and would stop at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Some(server))
    }

    /// A server that others may use too: a prefix keeps us apart, and its account counts their work as well.
    pub fn given(url: &str, prefix: &str) -> Self {
        Self { process: None, folder: None, url: url.to_owned(), prefix: prefix.to_owned() }
    }

    pub const fn is_ours(&self) -> bool {
        self.process.is_some()
    }

    pub async fn connect(&self) -> anyhow::Result<MultiplexedConnection> {
        Ok(redis::Client::open(self.url.as_str())?.get_multiplexed_async_connection().await?)
    }

    pub async fn account(&self) -> anyhow::Result<Account> {
        let mut connection = self.connect().await?;
        let info: String = redis::cmd("INFO").arg("everything").query_async(&mut connection).await?;
        let keys: u64 = redis::cmd("DBSIZE").query_async(&mut connection).await?;
        let number = |name: &str| {
            let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|value| value.trim().parse::<f64>().ok())
        };
        let needed = |name: &str| number(name).with_context(|| format!("Redis does not say its {name}"));
        let calls = |is_counted: &dyn Fn(&str) -> bool| -> f64 {
            info.lines()
                .filter_map(command_calls)
                .filter(|(name, _)| is_counted(name))
                .map(|(_, calls)| calls)
                .sum()
        };
        Ok(Account {
            cpu_us: (needed("used_cpu_user")? + needed("used_cpu_sys")?) * 1e6,
            scripts: calls(&is_script),
            commands: calls(&|name| !is_script(name) && !NOT_COUNTED.contains(&name)),
            keys: keys as f64,
            memory: needed("used_memory")?,
            aof_bytes: number("aof_current_size").unwrap_or_default(),
        })
    }

    /// Ends it as an operator does, so that callgrind writes its file.
    pub async fn shut_down(mut self) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else { bail!("not our server") };
        let mut connection = self.connect().await?;
        // It closes the connection instead of answering.
        let _ = redis::cmd("SHUTDOWN").arg("NOSAVE").query_async::<()>(&mut connection).await;
        let ended = tokio::task::spawn_blocking(move || process.wait()).await??;
        ensure!(ended.success(), "redis-server: {ended}");
        Ok(())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // All of it fails harmlessly on a server that has ended.
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// A line of the section `commandstats`: a command without its subcommand, and how often it was called.
fn command_calls(line: &str) -> Option<(&str, f64)> {
    let (name, counts) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
    let calls = counts.split(',').next()?.parse().ok()?;
    Some((name.split('|').next()?, calls))
}

fn is_script(name: &str) -> bool {
    matches!(name, "fcall" | "evalsha")
}

impl Account {
    pub const fn cpu_us(&self) -> f64 {
        self.cpu_us
    }

    /// The cost of each of `count` messages since an earlier account.
    pub fn since(&self, earlier: &Self, count: usize) -> Cost {
        let each = |value: fn(&Self) -> f64| (value(self) - value(earlier)) / count as f64;
        Cost {
            cpu_us: each(|account| account.cpu_us),
            scripts: each(|account| account.scripts),
            commands: each(|account| account.commands),
            new_keys: each(|account| account.keys),
            bytes: each(|account| account.memory),
            aof_bytes: each(|account| account.aof_bytes),
        }
    }
}
