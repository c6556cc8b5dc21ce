//! Workers: the real binary, started, killed, stopped gracefully and replaced.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::builds;
use super::process::Process;
use super::servers::{Server, command, free_ports};
use super::twilio::{ACCOUNT_SID, AUTH_TOKEN, KEY, providers_file};
use crate::wait::until_async;

/// The shutdown grace of the workers.
pub const GRACE: Duration = Duration::from_secs(10);
/// The grace of a drain, and the time to close two connections.
pub const ENDS_WITHIN: Duration = Duration::from_secs(20);
const READY_WITHIN: Duration = Duration::from_secs(60);
const PROVIDERS_FILE: &str = "providers.toml";

/// The addresses of a worker's servers, usually proxies.
#[derive(Clone, Copy)]
pub struct Links {
    pub rabbit: SocketAddr,
    pub redis: SocketAddr,
    pub twilio: SocketAddr,
    /// Of the provider that takes over.
    pub other: Option<SocketAddr>,
}

/// Some workers of one gateway.
pub struct Fleet {
    prefix: String,
    folder: PathBuf,
    /// The build that is started from now on.
    pub binary: PathBuf,
    links: Links,
    settings: Vec<(&'static str, String)>,
    workers: Vec<Worker>,
    started: usize,
    /// Forbidden actions of workers.
    pub faults: Vec<String>,
}

struct Worker {
    process: Process,
    ops: u16,
}

impl Fleet {
    pub fn new(prefix: &str, folder: &Path, links: Links, settings: &[(&'static str, String)]) -> Fleet {
        fs::create_dir_all(folder).expect("a folder can be made");
        if let Some(other) = links.other {
            let file = providers_file(&links.twilio.to_string(), ACCOUNT_SID, &other.to_string());
            fs::write(folder.join(PROVIDERS_FILE), file).expect("a file can be written");
        }
        Fleet {
            prefix: prefix.to_owned(),
            folder: folder.to_owned(),
            binary: builds::binary(),
            links,
            settings: settings.to_vec(),
            workers: Vec::new(),
            started: 0,
            faults: Vec::new(),
        }
    }

    /// Starts another worker without waiting for it.
    pub fn add(&mut self) {
        let worker = self.start();
        self.workers.push(worker);
    }

    fn start(&mut self) -> Worker {
        let [ops] = free_ports();
        let mut command = self.command("worker");
        command.env("OPS_ADDR", format!("127.0.0.1:{ops}"));
        self.started += 1;
        let log = self.folder.join(format!("worker-{}.log", self.started));
        Worker { process: Process::start(command, &log), ops }
    }

    /// The folder of its logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The binary with the settings of a worker in production.
    pub fn command(&self, role: &str) -> Command {
        let mut otpost = command(&self.binary);
        let Links { rabbit, redis, twilio, other } = self.links;
        match other {
            None => otpost
                .env("TWILIO_ACCOUNT_SID", ACCOUNT_SID)
                .env("TWILIO_AUTH_TOKEN", AUTH_TOKEN)
                .env("TWILIO_FROM_NUMBER", "+15005550006")
                .env("TWILIO_API_BASE_URL", format!("http://{twilio}")),
            Some(_) => otpost
                .env("PROVIDERS_FILE", self.folder.join(PROVIDERS_FILE))
                .env("TWILIO_TOKEN", AUTH_TOKEN)
                .env("OWN_KEY", KEY),
        };
        otpost
            .arg(role)
            // A silent broker is noticed after twice this time.
            .env("AMQP_URL", Server::amqp_url(rabbit, "?heartbeat=3&connection_timeout=2000"))
            .env("AMQP_PREFIX", &self.prefix)
            .env("REDIS_URL", format!("redis://{redis}"))
            .env("OTP_SECRET_KEYS", "chaos:2dMCoPYHFOGcb4Wg8epZ1hw5KMr5Mz/0hp7YlXLims0=")
            .env("OTP_RECIPIENT_KEY", "W07ZAqgO6Obxgbhbt0+M1wa4tFzHgfZ4uIxXqyPnNsU=")
            .env("SMS_BRAND", "MeStore")
            .env("PROVIDER_TIMEOUT_SECONDS", "4")
            .env("SHUTDOWN_GRACE_SECONDS", GRACE.as_secs().to_string())
            // Longer than any reconciliation: two sends in doubt to one number are indistinguishable (docs/reliability.md).
            .env("OTP_RESEND_COOLDOWN_SECONDS", "20")
            .env("SMS_RATE_LIMIT_PER_DAY", "1000")
            .env("SMS_MAX_PER_HOUR", "1000000")
            .env("LOG_FORMAT", "json")
            .envs(self.settings.iter().map(|(name, value)| (*name, value)))
            .envs(extra_settings());
        otpost
    }

    /// Runs a command of the binary to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let (role, rest) = arguments.split_first().expect("a command");
        self.command(role).args(rest).output().expect("the binary runs")
    }

    /// Waits until every worker takes requests.
    pub async fn ready(&mut self) -> Result<(), String> {
        for worker in &mut self.workers {
            let ready = until_async("a ready worker", READY_WITHIN, async || match worker.process.ended() {
                Some(status) => Err(format!("({status})\n{}", worker.process.log_tail())),
                None => is_ready(worker.ops).await.then_some(()).ok_or_else(|| worker.process.log_tail()),
            });
            ready.await?;
        }
        Ok(())
    }

    /// `kill -9` of one, and a start of another.
    pub fn replace_killed(&mut self, which: usize) {
        self.note_ended();
        let nth = which % self.workers.len();
        let fresh = self.start();
        std::mem::replace(&mut self.workers[nth], fresh).process.kill();
    }

    /// `kill -9` of all, without replacement.
    pub fn kill_all(&mut self) {
        self.note_ended();
        self.workers.drain(..).for_each(|worker| worker.process.kill());
    }

    /// Takes one out for a graceful stop, and starts another.
    pub fn retire(&mut self, which: usize) -> Process {
        self.note_ended();
        let nth = which % self.workers.len();
        let fresh = self.start();
        std::mem::replace(&mut self.workers[nth], fresh).process
    }

    /// Stops one gracefully, and checks its exit status.
    pub async fn stop(process: Process) -> Result<(), String> {
        let log = process.log().to_owned();
        let status = process.terminate(ENDS_WITHIN).await?;
        // A worker that is still starting handles no signals yet, and loses nothing.
        let began = fs::read_to_string(&log).unwrap_or_default().contains("\"started\"");
        match status.success() || !began {
            true => Ok(()),
            false => Err(format!("a worker ended with {status} after SIGTERM: {}", log.display())),
        }
    }

    /// Stops all gracefully.
    pub async fn stop_all(&mut self) -> Result<(), String> {
        self.note_ended();
        let mut stopped = Ok(());
        for worker in self.workers.drain(..) {
            stopped = stopped.and(Fleet::stop(worker.process).await);
        }
        stopped
    }

    /// No fault may end a worker. An ended one is an error, and is replaced.
    pub fn note_ended(&mut self) {
        for nth in 0..self.workers.len() {
            if let Some(status) = self.workers[nth].process.ended() {
                let tail = self.workers[nth].process.log_tail();
                self.faults.push(format!("a worker ended unexpectedly with {status}:\n{tail}"));
                self.workers[nth] = self.start();
            }
        }
    }

    /// The log lines of all workers with this text, in the order of the workers.
    pub fn said_about(&self, word: &str) -> Vec<String> {
        let logs = (1..=self.started).map(|nth| self.folder.join(format!("worker-{nth}.log")));
        let read = logs
            .filter_map(|log| Some((log.file_stem()?.display().to_string(), fs::read_to_string(&log).ok()?)));
        let about = |(name, text): (String, String)| {
            let lines = text.lines().filter(|line| line.contains(word));
            lines.map(|line| format!("{name}: {line}")).collect::<Vec<_>>()
        };
        read.flat_map(about).collect()
    }
}

/// Settings from the environment, separated by spaces: `CHAOS_WORKER_SETTINGS="IN_DOUBT_POLICY=never_resend"`.
fn extra_settings() -> Vec<(String, String)> {
    let given = std::env::var("CHAOS_WORKER_SETTINGS").unwrap_or_default();
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    given.split_whitespace().filter_map(pair).collect()
}

async fn is_ready(ops: u16) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", ops)).await.ok()?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.ok()?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.ok()?;
        answer.ends_with(b"200").then_some(())
    };
    matches!(tokio::time::timeout(Duration::from_secs(2), asked).await, Ok(Some(())))
}
