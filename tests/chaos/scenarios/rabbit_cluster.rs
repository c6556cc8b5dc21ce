//! Three nodes of RabbitMQ under load: a node dies, two die, one freezes, all are restarted one by one, one has an alarm.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::failover::{longest_pause, prefix};
use super::{LATER, Place};
use crate::fleet::Fleet;
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
/// Workers that may be replaced until one chooses a node: that none of so many does has a chance of one in 10,000.
const CHOICES_MAX: usize = 24;

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

    /// Replaces workers until one has chosen the node: a fault that no consumer feels shows nothing.
    async fn consumer_on(&self, node: usize) -> Result<(), String> {
        let place = format!("{} of ", node + 1);
        for _ in 0..CHOICES_MAX {
            let consumers = self.consumers().await;
            if consumers.values().any(|consumer| consumer.place.starts_with(&place)) {
                return Ok(());
            }
            let replaced = self.stage.fleet.lock().await.retire(0);
            Fleet::stop(replaced).await?;
            self.stage.fleet.lock().await.ready().await?;
        }
        Err(format!("no consumer chose host {}", node + 1))
    }

    /// The consumers that are connected.
    async fn consumers(&self) -> BTreeMap<String, Connected> {
        connected(&self.stage.fleet.lock().await.said_about("broker connect"))
    }

    /// The longest time from `back` until a consumer was connected again.
    async fn consumers_back(&self, back: u64) -> Result<i64, String> {
        let wanted = self.stage.setup.workers;
        let back = i64::try_from(back).expect("a time");
        until_async("the consumers", RECOVERS_WITHIN, async || {
            let consumers = self.consumers().await;
            let sms = consumers.iter().filter(|(name, _)| name.ends_with(" sms"));
            let at: Vec<i64> = sms.map(|(_, consumer)| consumer.at - back).collect();
            if at.len() == wanted { Ok(at.into_iter().max().unwrap_or(0)) } else { Err(format!("{at:?}")) }
        })
        .await
    }

    /// As below, of a fault that at least one consumer must notice.
    async fn loses_and_recovers(&self, what: &str, began: u64, back_within_ms: i64) -> Result<(), String> {
        let lost = self.recovers_within(what, began, back_within_ms).await?;
        self.expect(lost > 0, || format!("{what}: no consumer lost its connection"));
        Ok(())
    }

    /// Waits for further results after a fault, and notes how long nothing was sent and consumers were away.
    async fn recovers(&self, what: &str, began: u64) -> Result<(), String> {
        self.recovers_within(what, began, BACK_WITHIN_MS).await.map(drop)
    }

    /// Answers how many consumers lost their connections.
    async fn recovers_within(&self, what: &str, began: u64, back_within_ms: i64) -> Result<usize, String> {
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
        Ok(away.count)
    }
}

/// A consumer of requests by its last line.
struct Connected {
    /// Its place in `AMQP_URL`: `2 of 3`.
    place: String,
    at: i64,
}

/// A line of a consumer of requests: its name, the time in ms, and the line.
fn of_consumer(line: &str) -> Option<(String, i64, Value)> {
    let (worker, line) = line.split_once(": ")?;
    let line: Value = serde_json::from_str(line).ok()?;
    let at = line["timestamp"].as_str()?.parse::<Timestamp>().ok()?.as_millisecond();
    let consumer = format!("{worker} {}", line["channel"].as_str().unwrap_or_default());
    (line["role"] == "requests").then_some((consumer, at, line))
}

fn connected(lines: &[String]) -> BTreeMap<String, Connected> {
    let mut consumers = BTreeMap::new();
    for (consumer, at, line) in lines.iter().filter_map(|line| of_consumer(line)) {
        match line["message"].as_str() {
            Some("broker connected") => {
                let place = line["host"].as_str().unwrap_or_default().to_owned();
                consumers.insert(consumer, Connected { place, at });
            }
            _ => drop(consumers.remove(&consumer)),
        }
    }
    consumers
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
        let lines = lines.iter().filter_map(|line| of_consumer(line));
        for (consumer, at, line) in lines.filter(|(_, at, _)| *at >= began) {
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
        let leader = trial.leader().await?;
        trial.consumer_on(leader).await?;
        let leader = &trial.cluster.nodes[leader];
        let began = now_ms();
        leader.kill().await;
        trial.loses_and_recovers("killed", began, BACK_WITHIN_MS).await?;
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
        let ready = now_ms() - back;
        let posts: Vec<u64> = trial.stage.twilio.posts().iter().map(|post| post.at).collect();
        let (paused, _) = longest_pause(&posts, back);
        let consuming = trial.consumers_back(back).await?;
        trial.note(format!(
            "one back: nothing sent for {paused} ms more, {PART} results after {ready} ms, consumers back after {consuming} ms"
        ));
        trial.expect(consuming <= BACK_WITHIN_MS, || format!("one back: consumers after {consuming} ms"));
        trial.expect(i64::try_from(paused).is_ok_and(|paused| paused <= BACK_WITHIN_MS), || {
            format!("one back: nothing sent for {paused} ms more")
        });
        let began = now_ms();
        first.start().await?;
        trial.recovers("both back", began).await
    })
    .await
}

/// The leader takes connections and does not answer.
pub(super) async fn node_frozen(place: Place<'_>) -> Result<Verdict, String> {
    trial("rabbit_cluster_node_frozen", place, async |trial| {
        let leader = trial.leader().await?;
        trial.consumer_on(leader).await?;
        let leader = &trial.cluster.nodes[leader];
        let (began, frozen) = (now_ms(), tokio::time::Instant::now());
        leader.freeze().await;
        let recovered = trial.loses_and_recovers("frozen", began, BACK_FROM_A_FROZEN_LEADER_MS).await;
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
            trial.consumer_on(nth - 1).await?;
            let began = now_ms();
            node.stop().await?;
            trial.loses_and_recovers(&format!("node {nth} stopped"), began, BACK_WITHIN_MS).await?;
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
