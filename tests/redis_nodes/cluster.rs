//! A Redis Cluster.

use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::sleep;

use super::{Folder, Node, Persistence, until};

const SLOTS: usize = 16_384;
/// A node that is silent for this long has failed, if most primaries agree.
const NODE_TIMEOUT_MS: &str = "2000";
const AGREES_WITHIN: Duration = Duration::from_secs(60);
/// So few keys at once that others meet a slot between two nodes.
const BATCH: &str = "20";
const BATCH_PAUSE: Duration = Duration::from_millis(20);
const MIGRATE_MS: &str = "5000";

/// Nodes of one Cluster: the primaries, then the replicas.
pub struct Cluster {
    pub nodes: Vec<Node>,
    folder: Folder,
}

/// A line of CLUSTER NODES.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    id: String,
    port: u16,
    is_primary: bool,
    has_failed: bool,
    /// The primary of a replica.
    primary: String,
    slots: Vec<(usize, usize)>,
}

impl Cluster {
    /// Waits until all nodes know all slots and every replica follows its primary.
    pub async fn start(primaries: usize, replicas: usize, keeps: Persistence) -> Result<Cluster, String> {
        Cluster::start_with(primaries, replicas, keeps, |_| Vec::new()).await
    }

    /// `more` are the arguments of a node beside the usual ones.
    pub async fn start_with(
        primaries: usize,
        replicas: usize,
        keeps: Persistence,
        more: impl Fn(usize) -> Vec<String>,
    ) -> Result<Cluster, String> {
        let folder = Folder::new()?;
        let mut cluster = Cluster { nodes: Vec::new(), folder };
        let count = primaries * (1 + replicas);
        cluster.nodes = try_join_all((0..count).map(|nth| cluster.start_node(nth, keeps, more(nth)))).await?;
        cluster.form(primaries).await?;
        Ok(cluster)
    }

    /// Starts a node that knows no other.
    pub async fn start_node(
        &self,
        nth: usize,
        keeps: Persistence,
        more: Vec<String>,
    ) -> Result<Node, String> {
        let folder = self.folder.path().join(format!("node-{nth}"));
        Node::start(folder, |port, bus_port| [arguments(port, bus_port, keeps), more.clone()].concat()).await
    }

    async fn form(&self, primaries: usize) -> Result<(), String> {
        let share = SLOTS.div_ceil(primaries);
        for (nth, node) in self.nodes[..primaries].iter().enumerate() {
            let (first, end) = (nth * share, ((nth + 1) * share).min(SLOTS));
            let () = node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(nth + 1).to_string()]).await?;
            let () =
                node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(end - 1).to_string()]).await?;
        }
        self.meet().await?;
        for (nth, node) in self.nodes[primaries..].iter().enumerate() {
            let primary = self.nodes[nth % primaries].id().await?;
            let () = node.ask(&["CLUSTER", "REPLICATE", &primary]).await?;
        }
        self.settled().await
    }

    /// Waits until all nodes know each other.
    pub async fn meet(&self) -> Result<(), String> {
        for node in &self.nodes[1..] {
            let (port, bus_port) = (node.port.to_string(), node.bus_port.to_string());
            let () = self.nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port]).await?;
        }
        until("a Cluster of all nodes", AGREES_WITHIN, async || self.know_each_other().await).await
    }

    async fn know_each_other(&self) -> Result<(), String> {
        for node in &self.nodes {
            let known = node.members().await?;
            let named = known.iter().filter(|member| member.port != 0).count();
            if named != self.nodes.len() {
                return Err(format!("a node knows {named} nodes"));
            }
        }
        Ok(())
    }

    /// Waits until all nodes that answer agree on all nodes, and every replica follows its own.
    pub async fn settled(&self) -> Result<(), String> {
        until("a settled Cluster", AGREES_WITHIN, async || self.is_settled().await).await
    }

    async fn is_settled(&self) -> Result<(), String> {
        let mut views = Vec::new();
        for node in self.nodes.iter().filter(|node| node.process_id().is_some()) {
            let info: String = node.ask(&["CLUSTER", "INFO"]).await?;
            if !info.contains("cluster_state:ok") || !info.contains("cluster_slots_ok:16384") {
                return Err("a node does not know all slots".to_owned());
            }
            let role = node.info("replication", "role").await?;
            if role == "slave" && node.info("replication", "master_link_status").await? != "up" {
                return Err("a replica does not follow its primary".to_owned());
            }
            let mut view = node.members().await?;
            view.sort_unstable();
            // A node learns from others, and late, which of them are replicas.
            if view.iter().any(|member| member.is_primary && !member.has_failed && member.slots.is_empty()) {
                return Err("a node takes a replica for a primary".to_owned());
            }
            views.push(view);
        }
        match views.iter().all(|view| *view == views[0]) {
            true => Ok(()),
            false => Err("the nodes do not agree".to_owned()),
        }
    }

    /// All nodes.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| node.address().to_string()).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// The node of a port.
    fn node(&self, port: u16) -> Result<&Node, String> {
        self.nodes.iter().find(|node| node.port == port).ok_or_else(|| format!("no node has port {port}"))
    }

    /// The nodes as the first one sees them that answers.
    async fn members(&self) -> Result<Vec<Member>, String> {
        let mut problem = "no node runs".to_owned();
        for node in self.nodes.iter().filter(|node| node.process_id().is_some()) {
            match node.members().await {
                Ok(members) => return Ok(members),
                Err(why) => problem = why,
            }
        }
        Err(problem)
    }

    pub async fn slot(&self, key: &[u8]) -> Result<usize, String> {
        self.nodes[0].ask_bytes(&[b"CLUSTER", b"KEYSLOT", key]).await
    }

    /// The primary of a slot that is not known as failed.
    pub async fn primary_of(&self, slot: usize) -> Result<&Node, String> {
        let members = self.members().await?;
        self.node(primary_of(&members, slot)?.port)
    }

    /// A replica of the slot's primary.
    pub async fn replica_of(&self, slot: usize) -> Result<&Node, String> {
        let members = self.members().await?;
        let primary = primary_of(&members, slot)?;
        let replica = members.iter().find(|member| member.primary == primary.id && !member.has_failed);
        self.node(replica.ok_or("the primary has no replica")?.port)
    }

    /// A primary without the slot.
    pub async fn other_primary(&self, slot: usize) -> Result<&Node, String> {
        let members = self.members().await?;
        let owner = primary_of(&members, slot)?;
        let other = members.iter().find(|member| member.is_primary && member.id != owner.id);
        self.node(other.ok_or("there is one primary only")?.port)
    }

    /// Moves a slot with its keys while clients use it, and returns the number of keys.
    pub async fn move_slot(&self, slot: usize, to: &Node) -> Result<usize, String> {
        let from = self.primary_of(slot).await?;
        let (from_id, to_id) = (from.id().await?, to.id().await?);
        let (name, port) = (slot.to_string(), to.port.to_string());
        let () = to.ask(&["CLUSTER", "SETSLOT", &name, "IMPORTING", &from_id]).await?;
        let () = from.ask(&["CLUSTER", "SETSLOT", &name, "MIGRATING", &to_id]).await?;
        let mut moved = 0;
        loop {
            let keys: Vec<Vec<u8>> = from.ask(&["CLUSTER", "GETKEYSINSLOT", &name, BATCH]).await?;
            if keys.is_empty() {
                break;
            }
            let head = ["MIGRATE", "127.0.0.1", &port, "", "0", MIGRATE_MS, "KEYS"];
            let words = head.iter().map(|word| word.as_bytes()).chain(keys.iter().map(Vec::as_slice));
            let () = from.ask_bytes(&words.collect::<Vec<_>>()).await?;
            moved += keys.len();
            sleep(BATCH_PAUSE).await;
        }
        // The new owner first: a slot always has a node that serves it.
        for node in [to, from].into_iter().chain(&self.nodes) {
            if node.info("replication", "role").await? == "master" {
                let () = node.ask(&["CLUSTER", "SETSLOT", &name, "NODE", &to_id]).await?;
            }
        }
        Ok(moved)
    }

    /// A planned failover: the replica takes over without a lost write. Returns the new primary once it is one.
    pub async fn fail_over(&self, slot: usize) -> Result<&Node, String> {
        let replica = self.replica_of(slot).await?;
        let () = replica.ask(&["CLUSTER", "FAILOVER"]).await?;
        self.taken_over(replica).await?;
        Ok(replica)
    }

    /// Waits until a replica has become a primary.
    pub async fn taken_over(&self, replica: &Node) -> Result<(), String> {
        let is_primary = async || match replica.info("replication", "role").await?.as_str() {
            "master" => Ok(()),
            role => Err(role.to_owned()),
        };
        until("a new primary", AGREES_WITHIN, is_primary).await
    }
}

impl Node {
    async fn id(&self) -> Result<String, String> {
        self.ask(&["CLUSTER", "MYID"]).await
    }

    async fn members(&self) -> Result<Vec<Member>, String> {
        let lines: String = self.ask(&["CLUSTER", "NODES"]).await?;
        lines.lines().map(|line| member(line).ok_or_else(|| format!("an unknown line: {line}"))).collect()
    }
}

fn primary_of(members: &[Member], slot: usize) -> Result<&Member, String> {
    let serves = |member: &&Member| {
        let has = member.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot));
        has && member.is_primary && !member.has_failed
    };
    members.iter().find(serves).ok_or_else(|| format!("no primary serves slot {slot}"))
}

/// `ID HOST:PORT@BUS FLAGS PRIMARY PING PONG EPOCH LINK SLOT…`; a slot in brackets is on its way.
fn member(line: &str) -> Option<Member> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (id, address, flags, primary) = (words.first()?, words.get(1)?, words.get(2)?, words.get(3)?);
    let port = address.split('@').next()?.rsplit(':').next()?.parse().ok()?;
    let flags: Vec<&str> = flags.split(',').collect();
    let slots = words.iter().skip(8).filter(|word| !word.starts_with('['));
    let range = |word: &&str| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    Some(Member {
        id: (*id).to_owned(),
        port: if flags.contains(&"handshake") { 0 } else { port },
        is_primary: flags.contains(&"master"),
        has_failed: flags.contains(&"fail"),
        primary: (*primary).to_owned(),
        slots: slots.map(range).collect::<Option<Vec<_>>>()?,
    })
}

fn arguments(port: u16, bus_port: u16, keeps: Persistence) -> Vec<String> {
    let (port, bus_port) = (port.to_string(), bus_port.to_string());
    let words = [
        ["--bind", "127.0.0.1"],
        ["--port", &port],
        ["--cluster-enabled", "yes"],
        ["--cluster-port", &bus_port],
        ["--cluster-node-timeout", NODE_TIMEOUT_MS],
        ["--cluster-allow-replica-migration", "no"],
        // A replica is there within a second, not after five.
        ["--repl-diskless-sync-delay", "0"],
        ["--maxmemory-policy", "noeviction"],
    ];
    words.into_iter().flatten().map(str::to_owned).chain(keeps.arguments()).collect()
}
