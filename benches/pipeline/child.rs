//! A process that the benchmark started: its CPU time, its log file, its end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
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
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", self.child.id())).context("the process has ended")?;
        // The program's name, in parentheses, may hold spaces: count the fields from behind it, at the third.
        let (_, fields) = stat.rsplit_once(')').context("no name in /proc/<pid>/stat")?;
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap_or(0)).sum();
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
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
