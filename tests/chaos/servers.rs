//! A RabbitMQ and a Redis of our own, to be killed, stopped and frozen.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::process::Process;
use super::rabbit_node::{self, Seat};
use super::wait::until_async;

const REDIS_STARTS_WITHIN: Duration = Duration::from_secs(20);
const RABBITMQ_STARTS_WITHIN: Duration = Duration::from_secs(90);
const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// One of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Rabbit,
    Redis,
}

/// The ways in which a server goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Graceful,
    Killed,
}

/// The programs that this machine lacks for the suite.
pub fn missing() -> Vec<&'static str> {
    let rabbit = rabbit_node::program("rabbitmq-server");
    let programs = [("redis-server", "redis-server"), ("epmd", "epmd"), ("rabbitmq-server", &rabbit)];
    programs.into_iter().filter(|(_, program)| which(program).is_none()).map(|(name, _)| name).collect()
}

fn which(program: impl AsRef<Path>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(&program)).find(|file| file.exists())
}

/// A server that can be taken down and started again, with what it keeps on disk. One fault at a time.
pub struct Server {
    kind: Kind,
    pub address: SocketAddr,
    folder: PathBuf,
    /// Of epmd and of Erlang's distribution: RabbitMQ only.
    ports: [u16; 2],
    process: Mutex<Option<Process>>,
}

/// Both, and what RabbitMQ needs beside it.
pub struct Servers {
    pub rabbit: Server,
    pub redis: Server,
    _names: Process,
}

impl Servers {
    /// Starts both in folders below `folder`, and waits until they answer.
    pub async fn start(folder: &Path) -> Result<Servers, String> {
        let ports = free_ports::<4>();
        let folders = ["rabbitmq", "redis"].map(|name| folder.join(name));
        folders.iter().for_each(|folder| fs::create_dir_all(folder).expect("a folder can be made"));
        let [rabbit_folder, redis_folder] = folders;
        fs::write(rabbit_folder.join("enabled_plugins"), "[].").expect("a file can be written");
        // Erlang would start an epmd that outlives the node, so it finds one that is ours to stop.
        let mut epmd = command("epmd");
        epmd.args(["-address", "127.0.0.1", "-port", &ports[1].to_string()]);
        let names = Process::start(epmd, &rabbit_folder.join("epmd.log"));
        let server = |kind, port, folder| Server {
            kind,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            folder,
            ports: [ports[1], ports[2]],
            process: Mutex::new(None),
        };
        let servers = Servers {
            rabbit: server(Kind::Rabbit, ports[0], rabbit_folder),
            redis: server(Kind::Redis, ports[3], redis_folder),
            _names: names,
        };
        let (rabbit, redis) = tokio::join!(servers.rabbit.up(), servers.redis.up());
        rabbit.and(redis).map(|()| servers)
    }

    pub fn get(&self, kind: Kind) -> &Server {
        match kind {
            Kind::Rabbit => &self.rabbit,
            Kind::Redis => &self.redis,
        }
    }
}

impl Server {
    pub fn amqp_url(address: SocketAddr, parameters: &str) -> String {
        format!("amqp://guest:guest@{address}/%2f{parameters}")
    }

    async fn up(&self) -> Result<(), String> {
        let mut process = self.process.lock().await;
        self.start(&mut process).await
    }

    /// Takes the server down for the given time, starts it, and waits until it answers.
    pub async fn restart(&self, end: End, down: Duration) -> Result<(), String> {
        let mut process = self.process.lock().await;
        match (process.take().expect("a server runs between faults"), end) {
            (process, End::Killed) => process.kill(),
            (process, End::Graceful) => drop(process.terminate(STOPS_WITHIN).await?),
        }
        tokio::time::sleep(down).await;
        self.start(&mut process).await
    }

    /// Freezes the process: it neither answers nor closes a connection.
    pub async fn freeze(&self, span: Duration) {
        let process = self.process.lock().await;
        let process = process.as_ref().expect("a server runs between faults");
        process.signal("STOP");
        tokio::time::sleep(span).await;
        process.signal("CONT");
    }

    async fn start(&self, process: &mut Option<Process>) -> Result<(), String> {
        let (command, within) = match self.kind {
            Kind::Rabbit => (self.rabbitmq(), RABBITMQ_STARTS_WITHIN),
            Kind::Redis => (self.redis(), REDIS_STARTS_WITHIN),
        };
        let started = process.insert(Process::start(command, &self.folder.join("server.log")));
        let up = until_async("a server's answer", within, async || match started.ended() {
            Some(status) => Err(format!("({status})\n{}", started.log_tail())),
            None => self.answers().await.then_some(()).ok_or_else(String::new),
        });
        up.await.map_err(|why| format!("{:?}: {why}", self.kind))
    }

    /// RabbitMQ replies to a protocol header with a method frame (its first byte is 1), Redis to PING with PONG.
    async fn answers(&self) -> bool {
        let (greeting, wanted): (&[u8], &[u8]) = match self.kind {
            Kind::Rabbit => (b"AMQP\x00\x00\x09\x01", b"\x01"),
            Kind::Redis => (b"PING\r\n", b"+PONG"),
        };
        let asked = async {
            let mut stream = TcpStream::connect(self.address).await.ok()?;
            stream.write_all(greeting).await.ok()?;
            let mut reply = vec![0; wanted.len()];
            stream.read_exact(&mut reply).await.ok()?;
            (reply == wanted).then_some(())
        };
        matches!(timeout(Duration::from_secs(2), asked).await, Ok(Some(())))
    }

    /// Redis loses no acknowledged write. The promises without exceptions require this.
    fn redis(&self) -> Command {
        let mut redis = command("redis-server");
        redis.args(["--bind", "127.0.0.1", "--port", &self.address.port().to_string(), "--save", ""]);
        redis.args(["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]);
        redis.arg("--dir").arg(&self.folder);
        redis
    }

    fn rabbitmq(&self) -> Command {
        let [names_port, distribution_port] = self.ports;
        let seat = Seat {
            name: format!("chaos-{}@localhost", self.address.port()),
            address: self.address,
            names_port,
            distribution_port,
            home: self.folder.clone(),
            folder: self.folder.clone(),
        };
        seat.server()
    }
}

/// A program with only `PATH` in its environment.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Free ports below the kernel's ephemeral ports.
pub fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let mut taken = Vec::new();
    let mut free = || loop {
        let port = fastrand::u16(20_000..32_000);
        let is_free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if is_free && !taken.contains(&port) {
            taken.push(port);
            return port;
        }
    };
    std::array::from_fn(|_| free())
}
