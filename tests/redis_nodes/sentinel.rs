//! A primary, two replicas, and three sentinels that watch them.

use std::fs;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::{Folder, Node, Persistence, until};

/// The name of the primary at the sentinels.
const MASTER: &str = "mymaster";
const REPLICAS: usize = 2;
const SENTINELS: usize = 3;
/// A primary that is silent for this long is down, if two sentinels agree.
const DOWN_AFTER_MS: u16 = 1_500;
const FAILOVER_TIMEOUT_MS: u16 = 6_000;
const AGREES_WITHIN: Duration = Duration::from_secs(60);

pub struct Sentinel {
    /// The first primary, then its replicas.
    pub nodes: Vec<Node>,
    pub sentinels: Vec<Node>,
    _folder: Folder,
}

impl Sentinel {
    /// Waits until every sentinel knows all replicas and all sentinels.
    pub async fn start(keeps: Persistence) -> Result<Sentinel, String> {
        let folder = Folder::new()?;
        let path = |name: String| folder.path().join(name);
        let first = Node::start(path("node-0".to_owned()), |port, _| arguments(port, None, keeps)).await?;
        let primary = first.port;
        let replica = |nth| {
            Node::start(path(format!("node-{nth}")), move |port, _| arguments(port, Some(primary), keeps))
        };
        let replicas = try_join_all((1..=REPLICAS).map(replica)).await?;
        let nodes: Vec<Node> = std::iter::once(first).chain(replicas).collect();
        for replica in &nodes[1..] {
            let follows = async || match replica.info("replication", "master_link_status").await?.as_str() {
                "up" => Ok(()),
                status => Err(status.to_owned()),
            };
            until("a replica", AGREES_WITHIN, follows).await?;
        }
        // A sentinel looks for replicas at its start and then only every ten seconds.
        let sentinel = |nth| {
            let folder = path(format!("sentinel-{nth}"));
            let file = folder.join("sentinel.conf");
            Node::start(folder, move |port, _| {
                fs::write(&file, settings(port, primary)).expect("a file can be written");
                vec![file.display().to_string(), "--sentinel".to_owned()]
            })
        };
        let sentinels = try_join_all((1..=SENTINELS).map(sentinel)).await?;
        let set = Sentinel { nodes, sentinels, _folder: folder };
        set.settled().await?;
        Ok(set)
    }

    /// Waits until all sentinels agree on the primary and see both replicas and each other.
    pub async fn settled(&self) -> Result<(), String> {
        until("settled sentinels", AGREES_WITHIN, async || {
            let primary = self.master().await?.port.to_string();
            for sentinel in &self.sentinels {
                let facts: std::collections::HashMap<String, String> =
                    sentinel.ask(&["SENTINEL", "MASTER", MASTER]).await?;
                let fact = |name: &str| facts.get(name).map_or("", String::as_str);
                let seen = ["port", "flags", "num-slaves", "num-other-sentinels"].map(fact);
                if seen != [primary.as_str(), "master", "2", "2"] {
                    return Err(format!("{seen:?}"));
                }
            }
            Ok(())
        })
        .await
    }

    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|node| node.address().to_string()).collect();
        format!("redis+sentinel://{}/{MASTER}", hosts.join(","))
    }

    /// The primary that most sentinels name and that itself agrees.
    pub async fn master(&self) -> Result<&Node, String> {
        let mut votes = Vec::new();
        for sentinel in &self.sentinels {
            let (_, port): (String, u16) =
                sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).await?;
            votes.push(port);
        }
        let most = |port: &&u16| votes.iter().filter(|vote| vote == port).count() * 2 > SENTINELS;
        let port = votes.iter().find(most).ok_or("the sentinels do not agree")?;
        let named = self.nodes.iter().find(|node| node.port == *port).ok_or("an unknown primary")?;
        match named.info("replication", "role").await?.as_str() {
            "master" => Ok(named),
            role => Err(format!("the named node is a {role}")),
        }
    }

    /// Waits until another node than this one is the primary.
    pub async fn replaced(&self, old: &Node) -> Result<&Node, String> {
        until("another primary", AGREES_WITHIN, async || match self.master().await? {
            new if new.port != old.port => Ok(new),
            _ => Err("it is the old one".to_owned()),
        })
        .await
    }

    /// A planned failover. Returns the new primary once the sentinels name it.
    pub async fn fail_over(&self) -> Result<&Node, String> {
        let old = self.master().await?;
        // A sentinel that has just seen a failover refuses the next one for a while.
        let asked = async || self.sentinels[0].ask::<()>(&["SENTINEL", "FAILOVER", MASTER]).await;
        until("a failover", AGREES_WITHIN, asked).await?;
        self.replaced(old).await
    }

    /// Waits until the node follows the primary, as one does that came back.
    pub async fn follows(&self, node: &Node) -> Result<(), String> {
        until("a replica", AGREES_WITHIN, async || {
            let primary = self.master().await?.port.to_string();
            let seen = (
                node.info("replication", "role").await?,
                node.info("replication", "master_port").await?,
                node.info("replication", "master_link_status").await?,
            );
            match seen == ("slave".to_owned(), primary, "up".to_owned()) {
                true => Ok(()),
                false => Err(format!("{seen:?}")),
            }
        })
        .await
    }
}

fn arguments(port: u16, primary: Option<u16>, keeps: Persistence) -> Vec<String> {
    let port = port.to_string();
    let words = [
        ["--bind", "127.0.0.1"],
        ["--port", &port],
        ["--repl-diskless-sync-delay", "0"],
        ["--maxmemory-policy", "noeviction"],
    ];
    let follow = primary.map(|primary| ["--replicaof".to_owned(), format!("127.0.0.1 {primary}")]);
    let words = words.into_iter().flatten().map(str::to_owned);
    words.chain(follow.into_iter().flatten()).chain(keeps.arguments()).collect()
}

fn settings(port: u16, primary: u16) -> String {
    format!(
        "port {port}
bind 127.0.0.1
sentinel monitor {MASTER} 127.0.0.1 {primary} 2
sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}
sentinel failover-timeout {MASTER} {FAILOVER_TIMEOUT_MS}
sentinel parallel-syncs {MASTER} 2
"
    )
}
