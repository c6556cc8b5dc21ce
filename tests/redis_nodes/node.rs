//! One server process, and commands to it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue};

use super::until;

const STARTS_WITHIN: Duration = Duration::from_secs(20);
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Another process can take a port between its choice and its use.
const STARTS_MAX: usize = 5;

/// The writes that survive the end of a process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    Nothing,
    /// An append-only file, synced with each write.
    EveryWrite,
}

impl Persistence {
    pub(super) fn arguments(self) -> Vec<String> {
        let words: &[&str] = match self {
            Persistence::Nothing => &["--save", "", "--appendonly", "no"],
            Persistence::EveryWrite => &["--save", "", "--appendonly", "yes", "--appendfsync", "always"],
        };
        words.iter().map(|&word| word.to_owned()).collect()
    }
}

/// A server that can be killed, frozen and started again. A second port is that of the Cluster's bus.
pub struct Node {
    pub port: u16,
    pub(super) bus_port: u16,
    folder: PathBuf,
    arguments: Vec<String>,
    process: Mutex<Option<Child>>,
    /// Kept, as each new one would count among the connections of the server.
    connection: tokio::sync::Mutex<Option<MultiplexedConnection>>,
}

impl Node {
    /// Starts a server with the arguments for its two ports, and waits until it answers.
    pub(super) async fn start(
        folder: PathBuf,
        arguments: impl Fn(u16, u16) -> Vec<String>,
    ) -> Result<Node, String> {
        fs::create_dir_all(&folder).map_err(|error| format!("a folder: {error}"))?;
        let mut problem = String::new();
        for _ in 0..STARTS_MAX {
            let [port, bus_port] = free_ports();
            let node = Node {
                port,
                bus_port,
                folder: folder.clone(),
                arguments: arguments(port, bus_port),
                process: Mutex::default(),
                connection: tokio::sync::Mutex::default(),
            };
            match node.restart().await {
                Ok(()) => return Ok(node),
                Err(why) => problem = why,
            }
        }
        Err(problem)
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the process if it runs, starts it with what it keeps on disk, and waits until it answers.
    pub async fn restart(&self) -> Result<(), String> {
        self.kill();
        let child = spawn(&self.folder, &self.arguments)?;
        *self.process() = Some(child);
        until("an answer of a new server", STARTS_WITHIN, async || self.answer_of_new().await).await?
    }

    /// The inner error is final: the process has ended.
    async fn answer_of_new(&self) -> Result<Result<(), String>, String> {
        let ended = self.process().as_mut().and_then(|child| child.try_wait().ok().flatten());
        if let Some(status) = ended {
            return Ok(Err(format!("a server ended with {status}\n{}", log_tail(&self.folder))));
        }
        match self.ask::<String>(&["PING"]).await?.as_str() {
            "PONG" => Ok(Ok(())),
            other => Err(other.to_owned()),
        }
    }

    /// `kill -9`, and reaped.
    pub fn kill(&self) {
        if let Some(mut child) = self.process().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// From now on it neither answers nor closes a connection.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        // The id cannot be reused before the process is reaped, which needs the same lock.
        if let Some(child) = self.process().as_ref() {
            let _ = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
        }
    }

    pub fn process_id(&self) -> Option<u32> {
        self.process().as_ref().map(Child::id)
    }

    /// One command over the connection that is kept. A lost connection is opened again.
    pub async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> Result<T, String> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.ask_bytes(&words).await
    }

    pub async fn ask_bytes<T: FromRedisValue>(&self, words: &[&[u8]]) -> Result<T, String> {
        let mut kept = self.connection.lock().await;
        let mut asked = redis::Cmd::new();
        words.iter().for_each(|word| {
            asked.arg(*word);
        });
        for is_fresh in [kept.is_none(), true] {
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            match asked.query_async(&mut connection).await {
                Err(error) if error.is_io_error() && !is_fresh => {}
                Err(error) if error.is_io_error() => return Err(error.to_string()),
                answered => {
                    *kept = Some(connection);
                    return answered.map_err(|error| error.to_string());
                }
            }
        }
        Err("the connection was lost twice".to_owned())
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let client = redis::Client::open(format!("redis://{}", self.address())).map_err(|e| e.to_string())?;
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN));
        client.get_multiplexed_async_connection_with_config(&limits).await.map_err(|error| error.to_string())
    }

    /// A field of INFO.
    pub async fn info(&self, section: &str, field: &str) -> Result<String, String> {
        let info: String = self.ask(&["INFO", section]).await?;
        let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned()).ok_or_else(|| format!("INFO has no {field}"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server with only `PATH` in its environment, in its own process group, so that a Ctrl-C reaches the test alone.
fn spawn(folder: &Path, arguments: &[String]) -> Result<Child, String> {
    let log = File::options().append(true).create(true).open(folder.join("server.log"));
    let log = log.map_err(|error| format!("a log: {error}"))?;
    let shared = log.try_clone().map_err(|error| format!("a log: {error}"))?;
    Command::new("redis-server")
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(shared)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("redis-server cannot be started: {error}"))
}

fn log_tail(folder: &Path) -> String {
    let log = fs::read_to_string(folder.join("server.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Free ports below the kernel's ephemeral ports.
fn free_ports() -> [u16; 2] {
    let mut taken = Vec::new();
    let mut free = || loop {
        let port = fastrand::u16(20_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && !taken.contains(&port) {
            taken.push(port);
            return port;
        }
    };
    std::array::from_fn(|_| free())
}
