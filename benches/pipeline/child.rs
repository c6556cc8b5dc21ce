//! A process that the benchmark started: its CPU time, its log file, its end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use lapin::uri::AMQPUri;
use tokio::time::sleep;

/// Clock ticks a second of `/proc/<pid>/stat` on every Linux that Rust's tier 1 knows.
const TICKS_PER_SECOND: u64 = 100;
const ENDS_WITHIN: Duration = Duration::from_secs(40);

/// Killed and reaped when dropped, so that no failure leaves it running.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with nothing in its environment but what the command sets, so that a stray `RUST_LOG`
    /// or `.env` of the caller's changes neither side, and with both output streams in one file.
    pub fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let directory = log.parent().context("the log file has no folder")?;
        let child = command
            .current_dir(directory)
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// User and system time of all threads, those that have ended too.
    ///
    /// The kernel sums a process's run time in nanoseconds and rounds only what it prints here, to 10 ms:
    /// less than half a percent of the few seconds a run takes. `getrusage(RUSAGE_CHILDREN)` is finer but
    /// covers start-up and shutdown, which would have to be guessed and taken off again; a thread's
    /// `schedstat` misses ended threads.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        cpu_time_of(self.child.id()).context("the process has ended")
    }

    /// The most memory that was ever resident.
    pub fn peak_mib(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    }

    pub fn fail_if_ended(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{status}; the end of its log:\n{}", self.log_tail()),
            None => Ok(()),
        }
    }

    /// The last lines it wrote, for a message about its failure.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    pub fn log_bytes(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |file| file.len())
    }

    pub async fn terminate(mut self) -> anyhow::Result<ExitStatus> {
        let sent = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status()?;
        anyhow::ensure!(sent.success(), "kill -TERM failed");
        let asked = Instant::now();
        while asked.elapsed() < ENDS_WITHIN {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(Duration::from_millis(20)).await;
        }
        bail!("did not end {ENDS_WITHIN:?} after SIGTERM; the end of its log:\n{}", self.log_tail())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail harmlessly on a process that has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time of all threads of a process; `None` if it has ended.
pub fn cpu_time_of(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The program's name, in parentheses, may hold spaces: count the fields from behind it, at the third.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap_or(0)).sum();
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// The Erlang machine that listens on the broker's port here, if we may look.
pub fn rabbitmq_process(amqp_url: &str) -> Option<u32> {
    let uri: AMQPUri = amqp_url.parse().ok()?;
    if !matches!(uri.authority.host.as_str(), "127.0.0.1" | "localhost" | "::1") {
        return None;
    }
    let sockets = listening_sockets(uri.authority.port);
    let machines = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
        let process: u32 = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        (name.trim() == "beam.smp").then_some((process, entry.path().join("fd")))
    });
    let listens = |files: &Path| {
        let links = fs::read_dir(files).into_iter().flatten().flatten();
        links.filter_map(|file| fs::read_link(file.path()).ok()).any(|link| sockets.contains(&link))
    };
    machines.filter(|(_, files)| listens(files)).map(|(process, _)| process).next()
}

/// The sockets that listen on a port, as links in `/proc/<pid>/fd` name them.
fn listening_sockets(port: u16) -> Vec<PathBuf> {
    const LISTEN: &str = "0A";
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines());
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, its_port) = fields.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(its_port, 16).ok()? == port && fields.get(3) == Some(&LISTEN);
        is_it.then(|| PathBuf::from(format!("socket:[{}]", fields[9])))
    };
    lines.filter_map(socket).collect()
}
