//! Three nodes of RabbitMQ under load: a node dies, two die, one freezes, all are restarted one by one, one has an alarm.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::failover::{longest_pause, prefix};
use super::{LATER, Place};
use crate::rabbit_cluster::RabbitCluster;
use crate::stage::{Setup, Stage, Traffic, Verdict};
use crate::wait::{now_ms, until_async};

/// It is cut off when all has been measured.
const TRAFFIC: Traffic = Traffic { a_second: 30, length: Duration::from_secs(900) };
/// Results before a fault, and after it.
const PART: usize = 150;
const RECOVERS_WITHIN: Duration = Duration::from_secs(180);
/// Messages whose results meet the alarm.
const HELD: usize = 20;
/// Without most of the nodes nothing can be queued.
const OUTAGE: Duration = Duration::from_secs(15);
/// Long enough for the others to take the frozen node for down.
const FROZEN_FOR: Duration = Duration::from_secs(30);
/// The promise: from the line of a worker that its connection is lost.
const BACK_WITHIN_MS: i64 = 5_000;
/// Until the others have taken over the queue of a frozen leader, no consumer can be added: a call of five seconds ends without
/// an answer.
const BACK_FROM_A_FROZEN_LEADER_MS: i64 = 2 * BACK_WITHIN_MS;
const HEARTBEAT_SECONDS: i64 = 3;

/// A gateway on three nodes.
struct Trial<'a> {
    name: &'static str,
    cluster: RabbitCluster,
    stage: Stage<'a>,
    notes: RefCell<Vec<String>>,
    broken: RefCell<Vec<String>>,
}

/// Runs a story under load, and judges the history.
async fn trial<'a>(
    name: &'static str,
    place: Place<'a>,
    story: impl AsyncFnOnce(&Trial<'a>) -> Result<(), String>,
) -> Result<Verdict, String> {
    let trial = Trial::set(name, place).await?;
    let under_load = async {
        trial.more_results().await?;
        story(&trial).await
    };
    tokio::select! {
        ran = under_load => ran?,
        () = trial.stage.traffic(TRAFFIC) => return Err("the story took too long".to_owned()),
    }
    trial.stage.client.quiet(LATER).await?;
    trial.one_consumer_a_worker().await?;
    let Trial { cluster, stage, notes, broken, .. } = trial;
    let mut verdict = stage.judge().await;
    drop(cluster);
    let twice = verdict.report.twice;
    verdict.expect(twice == 0, |_| format!("{twice} were sent twice"));
    for what in broken.into_inner() {
        verdict.expect(false, |_| what);
    }
    verdict.note = notes.into_inner().join("; ");
    println!("{name}: {}", verdict.note);
    Ok(verdict)
}

impl<'a> Trial<'a> {
    async fn set(name: &'static str, place: Place<'a>) -> Result<Trial<'a>, String> {
        let cluster = RabbitCluster::start(&place.folder.join(format!("{name}-nodes"))).await?;
        let url = cluster.url(&format!("?heartbeat={HEARTBEAT_SECONDS}"));
        let settings = vec![("AMQP_URL", url), ("RUST_LOG", "warn,otpost=debug".to_owned())];
        let setup = Setup { workers: 3, limit: 3, settings, ..Setup::new(name, place.seed) };
        let setup = Setup { brokers: cluster.addresses(), ..setup };
        let stage = Stage::set(setup, place.servers, place.folder).await?;
        Ok(Trial { name, cluster, stage, notes: RefCell::default(), broken: RefCell::default() })
    }

    async fn leader(&self) -> Result<usize, String> {
        self.cluster.leader_of(&format!("{}.send-sms", prefix(self.name))).await
    }

    /// A connection that a worker has given up must not go on to consume.
    async fn one_consumer_a_worker(&self) -> Result<(), String> {
        let queue = format!("{}.send-sms", prefix(self.name));
        let wanted = self.stage.setup.workers.to_string();
        until_async("one consumer a worker", LATER, async || {
            let consumers = self.cluster.of_queue(&queue, "consumers").await?;
            if consumers == wanted { Ok(()) } else { Err(format!("there are {consumers}")) }
        })
        .await
    }

    fn note(&self, note: String) {
        self.notes.borrow_mut().push(note);
    }

    fn expect(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken.borrow_mut().push(what());
        }
    }

    async fn more_results(&self) -> Result<(), String> {
        let results = self.stage.client.results();
        let answered: HashSet<&str> = results.iter().map(|result| result.request.as_str()).collect();
        self.stage.client.answered(answered.len() + PART, RECOVERS_WITHIN).await
    }

    /// Waits for further results after a fault, and notes how long nothing was sent and consumers were away.
    async fn recovers(&self, what: &str, began: u64) -> Result<(), String> {
        self.recovers_within(what, began, BACK_WITHIN_MS).await
    }

    async fn recovers_within(&self, what: &str, began: u64, back_within_ms: i64) -> Result<(), String> {
        self.more_results().await?;
        let posts: Vec<u64> = self.stage.twilio.posts().iter().map(|post| post.at).collect();
        let (paused, until) = longest_pause(&posts, began);
        let away = until_async("the consumers", RECOVERS_WITHIN, async || {
            let away = Away::of(&self.stage.fleet.lock().await.said_about("broker connect"), began);
            if away.open.is_empty() { Ok(away) } else { Err(format!("{:?}", away.open)) }
        });
        let away = away.await?;
        self.expect(away.longest <= back_within_ms, || format!("{what}: back after {} ms", away.longest));
        let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
        self.note(format!(
            "{what}: nothing sent for {:.1} s, from {:.1} s on; {} consumers lost their connection, noticed {} ms after the fault, \
             back within {} ms",
            seconds(paused),
            seconds(until - paused),
            away.count,
            away.noticed,
            away.longest,
        ));
        Ok(())
    }
}

/// The consumers that lost their connections, from the logs of the workers. Times in ms.
#[derive(Debug, Default)]
struct Away {
    count: usize,
    /// From the fault to the last loss that began while another connection was up.
    noticed: i64,
    /// From a loss to the next connection.
    longest: i64,
    open: Vec<String>,
}

impl Away {
    fn of(lines: &[String], began: u64) -> Away {
        let began = i64::try_from(began).expect("a time");
        let (mut away, mut lost) = (Away::default(), BTreeMap::new());
        for line in lines {
            let Some((worker, line)) = line.split_once(": ") else { continue };
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            let at = line["timestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
            let Some(at) = at.map(|at| at.as_millisecond()).filter(|at| *at >= began) else { continue };
            if line["role"] != "requests" {
                continue;
            }
            let consumer = format!("{worker} {}", line["channel"].as_str().unwrap_or_default());
            match line["message"].as_str() {
                Some("broker connection lost") => {
                    lost.entry(consumer).or_insert_with(|| {
                        away.count += 1;
                        away.noticed = away.noticed.max(at - began);
                        at
                    });
                }
                Some("broker connected") => {
                    if let Some(since) = lost.remove(&consumer) {
                        away.longest = away.longest.max(at - since);
                    }
                }
                _ => {}
            }
        }
        away.open = lost.into_keys().collect();
        away
    }
}

/// The leader of the request queue dies, and comes back.
pub(super) async fn leader_killed(place: Place<'_>) -> Result<Verdict, String> {
    trial("rabbit_cluster_leader_killed", place, async |trial| {
        let leader = &trial.cluster.nodes[trial.leader().await?];
        let began = now_ms();
        leader.kill().await;
        trial.recovers("killed", began).await?;
        let began = now_ms();
        leader.start().await?;
        trial.recovers("back", began).await
    })
    .await
}

/// Two of three die: nothing can be queued until one is back.
pub(super) async fn two_killed(place: Place<'_>) -> Result<Verdict, String> {
    trial("rabbit_cluster_two_killed", place, async |trial| {
        let leader = trial.leader().await?;
        let [first, second] = [&trial.cluster.nodes[leader], &trial.cluster.nodes[(leader + 1) % 3]];
        first.kill().await;
        second.kill().await;
        tokio::time::sleep(OUTAGE).await;
        second.start().await?;
        // The loss began with the outage: consumers are measured from the end of it.
        let back = now_ms();
        trial.more_results().await?;
        let posts: Vec<u64> = trial.stage.twilio.posts().iter().map(|post| post.at).collect();
        let (paused, _) = longest_pause(&posts, back);
        let ready = i64::try_from(now_ms() - back).unwrap_or(i64::MAX);
        trial.note(format!("one back: nothing sent for {paused} ms more, {PART} results after {ready} ms"));
        let began = now_ms();
        first.start().await?;
        trial.recovers("both back", began).await
    })
    .await
}

/// The leader takes connections and does not answer.
pub(super) async fn node_frozen(place: Place<'_>) -> Result<Verdict, String> {
    trial("rabbit_cluster_node_frozen", place, async |trial| {
        let leader = &trial.cluster.nodes[trial.leader().await?];
        let (began, frozen) = (now_ms(), tokio::time::Instant::now());
        leader.freeze().await;
        let recovered = trial.recovers_within("frozen", began, BACK_FROM_A_FROZEN_LEADER_MS).await;
        tokio::time::sleep_until(frozen + FROZEN_FOR).await;
        let began = now_ms();
        leader.thaw().await;
        recovered?;
        trial.recovers("awake", began).await
    })
    .await
}

/// As in an upgrade of the nodes, one by one.
pub(super) async fn rolling_restart(place: Place<'_>) -> Result<Verdict, String> {
    trial("rabbit_cluster_rolling_restart", place, async |trial| {
        for (nth, node) in (1..).zip(&trial.cluster.nodes) {
            let began = now_ms();
            node.stop().await?;
            trial.recovers(&format!("node {nth} stopped"), began).await?;
            let began = now_ms();
            node.start().await?;
            trial.recovers(&format!("node {nth} started"), began).await?;
        }
        Ok(())
    })
    .await
}

/// A memory alarm on one node blocks publishers on all.
pub(super) async fn memory_alarm(place: Place<'_>) -> Result<Verdict, String> {
    trial("rabbit_cluster_memory_alarm", place, async |trial| {
        // Their results are due when the alarm has begun; further requests cannot be queued then.
        trial.stage.twilio.hold(true);
        let posted = trial.stage.twilio.posts().len();
        trial.stage.twilio.posted(posted + HELD, LATER).await?;
        let began = now_ms();
        trial.cluster.nodes[0].ctl(&["set_vm_memory_high_watermark", "0.00001"]).await?;
        trial.stage.twilio.hold(false);
        until_async("a blocked publisher", LATER, async || {
            match trial.said("the broker blocks publishers").await {
                0 => Err("no line".to_owned()),
                _ => Ok(()),
            }
        })
        .await?;
        tokio::time::sleep(OUTAGE).await;
        trial.cluster.nodes[0].ctl(&["set_vm_memory_high_watermark", "0.6"]).await?;
        trial.recovers("alarm", began).await?;
        let (blocked, ended) = (
            trial.said("the broker blocks publishers").await,
            trial.said("the broker takes messages again").await,
        );
        trial.note(format!("{blocked} lines at its beginning, {ended} at its end"));
        trial.expect((1..=3).contains(&blocked) && blocked == ended, || {
            format!("{blocked} and {ended} lines")
        });
        for line in ["broker connection lost", "did not confirm", "reply was not delivered"] {
            let count = trial.said(line).await;
            trial.expect(count == 0, || format!("{count} times {line:?}"));
        }
        Ok(())
    })
    .await
}

impl Trial<'_> {
    /// The lines of all workers above `debug` with this text.
    async fn said(&self, text: &str) -> usize {
        let lines = self.stage.fleet.lock().await.said_about(text);
        lines.iter().filter(|line| !line.contains("\"level\":\"DEBUG\"")).count()
    }
}
