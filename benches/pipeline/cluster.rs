//! Four workers on a Redis Cluster of three nodes, beside one node.
//!
//! Without shards all keys of a gateway are in one slot, so one node of the Cluster works.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};

use crate::Args;
use crate::broker::{Collector, NewRequest};
use crate::child::Process;
use crate::redis_nodes::{Cluster, Persistence};
use crate::redis_server::RedisServer;
use crate::report::{self, Rounds};
use crate::run::{self, FakeTwilio, World};

const NODES: usize = 3;
const WORKERS: usize = 4;

/// The servers of a run, and the setting of the workers that spreads keys over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    is_cluster: bool,
    has_shards: bool,
}

impl Layout {
    pub const ALL: [Self; 4] = [
        Self { is_cluster: false, has_shards: false },
        Self { is_cluster: true, has_shards: false },
        Self { is_cluster: false, has_shards: true },
        Self { is_cluster: true, has_shards: true },
    ];
    pub const ONE_NODE: Self = Self::ALL[0];

    pub const fn key(self) -> &'static str {
        match (self.is_cluster, self.has_shards) {
            (false, false) => "one",
            (true, false) => "cluster",
            (false, true) => "one_sharded",
            (true, true) => "cluster_sharded",
        }
    }

    pub const fn title(self) -> &'static str {
        match (self.is_cluster, self.has_shards) {
            (false, false) => "one node",
            (true, false) => "Cluster",
            (false, true) => "one node, shards",
            (true, true) => "Cluster, shards",
        }
    }
}

/// Times are those of a message.
pub struct Spread {
    pub per_second: f64,
    pub worker_us: f64,
    pub redis_us: f64,
    /// The part of Redis' work that its busiest node has, from 0 to 1.
    pub busiest: f64,
}

enum Servers<'w> {
    One(&'w RedisServer),
    Cluster(Cluster),
}

pub async fn run(args: &Args) -> anyhow::Result<()> {
    let mut rounds = Rounds::default();
    for round in 0..args.pairs {
        let mut layouts: Vec<Layout> = Layout::ALL.to_vec();
        layouts.retain(|layout| args.shards.is_some() || !layout.has_shards);
        let first = round % layouts.len();
        layouts.rotate_left(first);
        let mut measured = Vec::new();
        for layout in layouts {
            let of_layout = run::in_world(args, async |world| measure(world, layout).await).await;
            let of_layout = of_layout.with_context(|| format!("round {}, {layout:?}", round + 1))?;
            eprintln!(
                "round {} {:<16} {:6.0} messages/s, {:5.1} µs CPU of Redis, busiest node {:3.0} %",
                round + 1,
                layout.title(),
                of_layout.per_second,
                of_layout.redis_us,
                100.0 * of_layout.busiest
            );
            measured.push((layout, of_layout));
        }
        rounds.add(measured);
    }
    report::print_spread(&rounds, args);
    Ok(())
}

async fn measure(world: &World<'_>, layout: Layout) -> anyhow::Result<Spread> {
    let servers = Servers::start(world, layout).await?;
    let twilio = FakeTwilio::start(world.args.latency_ms)?;
    run::declare(world, &twilio)?;
    let results = world.broker.collector().await?;
    world.broker.publish_requests(world.args.messages, &NewRequest::Plain).await?;
    // Let the broker finish what publishing left it to do.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut workers = Vec::new();
    for nth in 0..WORKERS {
        let mut worker = run::otpost(world, &twilio, "worker")?;
        servers.set(&mut worker, layout, world.args);
        workers.push(Process::start(&mut worker, &world.folder.join(format!("worker-{nth}.log")))?);
    }
    let spread = between_the_points(world, &servers, &twilio, results, &mut workers).await?;
    for worker in workers {
        let ended = worker.terminate().await?;
        ensure!(ended.success(), "after SIGTERM: {ended}");
    }
    Ok(spread)
}

async fn between_the_points(
    world: &World<'_>,
    servers: &Servers<'_>,
    twilio: &FakeTwilio,
    results: Collector,
    workers: &mut [Process],
) -> anyhow::Result<Spread> {
    let (args, count) = (world.args, world.args.messages);
    run::wait_until_under_way(twilio, workers, WORKERS * usize::from(args.concurrency)).await?;
    let cpu_of_workers = |workers: &[Process]| workers.iter().map(Process::cpu_time).sum();
    let (cpu, nodes): (anyhow::Result<Duration>, _) = (cpu_of_workers(workers), servers.cpu_us().await?);
    twilio.open().await?;
    let began = Instant::now();
    let collected = match results.collect(count).await {
        Ok(collected) => collected,
        Err(error) => {
            let tails = workers.iter().map(Process::log_tail).collect::<Vec<_>>().join("\n");
            return Err(error.context(format!("after {:?}; the logs end:\n{tails}", began.elapsed())));
        }
    };
    let (cpu_after, nodes_after) = (cpu_of_workers(workers), servers.cpu_us().await?);
    let worked: Vec<f64> = nodes_after.iter().zip(&nodes).map(|(after, before)| after - before).collect();
    let all: f64 = worked.iter().sum();
    Ok(Spread {
        per_second: (count - 1) as f64 / collected.wall.as_secs_f64(),
        worker_us: cpu_after?.saturating_sub(cpu?).as_secs_f64() * 1e6 / count as f64,
        redis_us: all / count as f64,
        busiest: worked.into_iter().fold(0.0, f64::max) / all,
    })
}

impl<'w> Servers<'w> {
    async fn start(world: &'w World<'_>, layout: Layout) -> anyhow::Result<Self> {
        match layout.is_cluster {
            true => {
                let cluster = Cluster::start(NODES, 0, Persistence::Nothing).await;
                Ok(Self::Cluster(cluster.map_err(|why| anyhow!(why))?))
            }
            false => Ok(Self::One(&world.redis)),
        }
    }

    /// The settings by which a worker finds them.
    fn set(&self, worker: &mut Command, layout: Layout, args: &Args) {
        if let Self::Cluster(cluster) = self {
            worker.env("REDIS_URL", cluster.url());
        }
        if let Some(shards) = args.shards.filter(|_| layout.has_shards) {
            worker.env("REDIS_SHARDS", shards.to_string());
        }
    }

    /// User and system time of each node since its start.
    async fn cpu_us(&self) -> anyhow::Result<Vec<f64>> {
        let cluster = match self {
            Self::One(redis) => return Ok(vec![redis.account().await?.cpu_us()]),
            Self::Cluster(cluster) => cluster,
        };
        let mut nodes = Vec::new();
        for node in &cluster.nodes {
            let mut both = 0.0;
            for field in ["used_cpu_user", "used_cpu_sys"] {
                let seconds = node.info("cpu", field).await.map_err(|why| anyhow!(why))?;
                both += seconds.parse::<f64>().context("no number of seconds")? * 1e6;
            }
            nodes.push(both);
        }
        Ok(nodes)
    }
}
