//! Three nodes of RabbitMQ, to be killed, frozen and restarted.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::sync::Mutex;

use super::process::Process;
use super::rabbit_node::{ERL_ARGS, ERL_ARGS_OF_ALL, Seat};
use super::servers::{command, free_ports};
use super::wait::{until, until_async};

const NODES: usize = 3;
/// The nodes take a silent one for down after this long; the default is 60. Until then versions with Mnesia change nothing that all
/// nodes must know.
const NET_TICK_SECONDS: u64 = 8;
/// A node that was silent rejoins the others.
const CONFIG: &str = "cluster_partition_handling = pause_minority\n";
const STARTS_WITHIN: Duration = Duration::from_secs(120);
const STOPS_WITHIN: Duration = Duration::from_secs(90);
const COMMAND_WITHIN: Duration = Duration::from_secs(60);

pub struct RabbitCluster {
    pub nodes: Vec<ClusterNode>,
    _names: Process,
}

pub struct ClusterNode {
    seat: Seat,
    process: Mutex<Option<Process>>,
}

impl RabbitCluster {
    /// Starts the nodes and joins them. `CHAOS_RABBITMQ_CONF` has lines for the `rabbitmq.conf` of each, divided by `;`.
    pub async fn start(folder: &Path) -> Result<RabbitCluster, String> {
        let more = std::env::var("CHAOS_RABBITMQ_CONF").unwrap_or_default().replace(';', "\n");
        let config = format!("{CONFIG}{more}");
        fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        fs::write(folder.join("enabled_plugins"), "[].").map_err(|error| error.to_string())?;
        write_cookie(folder).map_err(|error| error.to_string())?;
        let [port, names_port] = free_ports::<2>();
        let mut epmd = command("epmd");
        epmd.args(["-address", "127.0.0.1", "-port", &names_port.to_string()]);
        let names = Process::start(epmd, &folder.join("epmd.log"));
        let mut nodes = Vec::new();
        for (nth, distribution_port) in (1..).zip(free_ports::<NODES>()) {
            let seat = Seat {
                name: format!("chaos{nth}-{port}@localhost"),
                address: SocketAddr::from((Ipv4Addr::new(127, 0, 0, nth), port)),
                names_port,
                distribution_port,
                home: folder.to_owned(),
                folder: folder.join(format!("node-{nth}")),
            };
            fs::create_dir_all(&seat.folder).map_err(|error| error.to_string())?;
            fs::write(seat.folder.join("rabbitmq.conf"), &config).map_err(|error| error.to_string())?;
            nodes.push(ClusterNode { seat, process: Mutex::default() });
        }
        let cluster = RabbitCluster { nodes, _names: names };
        for node in &cluster.nodes {
            node.start().await?;
        }
        let first = cluster.nodes[0].seat.name.clone();
        for node in &cluster.nodes[1..] {
            for arguments in [&["stop_app"] as &[&str], &["join_cluster", &first], &["start_app"]] {
                node.ctl(arguments).await?;
            }
        }
        Ok(cluster)
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.seat.address).collect()
    }

    pub fn url(&self, parameters: &str) -> String {
        let hosts: Vec<String> = self.addresses().iter().map(ToString::to_string).collect();
        format!("amqp://guest:guest@{}/%2f{parameters}", hosts.join(","))
    }

    /// The node that leads a quorum queue.
    pub async fn leader_of(&self, queue: &str) -> Result<usize, String> {
        let leader = self.of_queue(queue, "leader").await?;
        let nth = self.nodes.iter().position(|node| node.seat.name == leader);
        nth.ok_or_else(|| format!("{queue} is led by {leader:?}"))
    }

    /// A column that `rabbitmqctl` lists of a queue.
    pub async fn of_queue(&self, queue: &str, column: &str) -> Result<String, String> {
        let listed = self.nodes[0].ctl(&["list_queues", "--silent", "name", column]).await?;
        let of_queue = |line: &str| {
            let (name, value) = line.split_once('\t')?;
            (name == queue).then(|| value.trim().to_owned())
        };
        listed.lines().find_map(of_queue).ok_or_else(|| format!("no {queue} in\n{listed}"))
    }
}

/// Erlang refuses a cookie that others may read.
fn write_cookie(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let cookie = folder.join(".erlang.cookie");
    fs::write(&cookie, format!("chaos{:016x}", fastrand::u64(..)))?;
    fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400))
}

impl ClusterNode {
    /// Starts it, and waits until it takes clients.
    pub async fn start(&self) -> Result<(), String> {
        let mut process = self.process.lock().await;
        let mut server = self.seat.server();
        server.env(ERL_ARGS, format!("{ERL_ARGS_OF_ALL} -kernel net_ticktime {NET_TICK_SECONDS}"));
        let started = process.insert(Process::start(server, &self.seat.folder.join("server.log")));
        let up = until_async("a node", STARTS_WITHIN, async || match started.ended() {
            Some(status) => Err(format!("({status})\n{}", started.log_tail())),
            None => {
                tokio::net::TcpStream::connect(self.seat.address).await.map(drop).map_err(|_| String::new())
            }
        });
        up.await
    }

    pub async fn kill(&self) {
        if let Some(process) = self.process.lock().await.take() {
            process.kill();
        }
    }

    /// As in an upgrade.
    pub async fn stop(&self) -> Result<(), String> {
        match self.process.lock().await.take() {
            Some(process) => process.terminate(STOPS_WITHIN).await.map(drop),
            None => Ok(()),
        }
    }

    /// It neither answers nor closes a connection.
    pub async fn freeze(&self) {
        self.signal("STOP").await;
    }

    pub async fn thaw(&self) {
        self.signal("CONT").await;
    }

    async fn signal(&self, name: &str) {
        if let Some(process) = &*self.process.lock().await {
            process.signal(name);
        }
    }

    /// Runs `rabbitmqctl` and answers what it prints.
    pub async fn ctl(&self, arguments: &[&str]) -> Result<String, String> {
        let log = self.seat.folder.join(format!("ctl-{}.log", fastrand::u64(..)));
        let mut run = Process::start(self.seat.ctl(arguments), &log);
        let ended = until("rabbitmqctl", COMMAND_WITHIN, || run.ended().ok_or_else(String::new)).await?;
        let printed = fs::read_to_string(&log).unwrap_or_default();
        if ended.success() { Ok(printed) } else { Err(format!("rabbitmqctl {arguments:?}: {printed}")) }
    }
}
